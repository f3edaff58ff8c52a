"""Attention: where the most interesting part of a picture is, as libvips' smartcrop sees it.

A picture of 32 x 32 px is scored by edges, by nearness to the colour of skin, and by saturation;
the scores are blurred by the size of the crop, and the crop is centred on the brightest spot.
Constants and order are those of ``vips_smartcrop_attention``.
"""

from __future__ import annotations

import math

from PIL import Image

from pipeline.imaging.colour import flatten
from pipeline.imaging.geometry import Size
from pipeline.imaging.resize import resize

_GRID = 32
_SKIN = (0.78, 0.57, 0.44)
_DARKEST_Y = 5.0


def attention_offset(image: Image.Image, size: Size) -> tuple[int, int]:
    """Return left and top of the ``size`` px to show of a picture that has its final scale."""
    scaled = image.size
    image = flatten(image, "#000000")
    small = resize(image, (0, 0, *image.size), (_GRID, _GRID)).convert("RGB")
    rgb = small.tobytes()
    xyz = [_xyz(*rgb[at : at + 3]) for at in range(0, len(rgb), 3)]
    scores = _blur(_scores(xyz), _sigma(scaled, size))
    best = max(range(len(scores)), key=scores.__getitem__)
    x, y = best % _GRID, best // _GRID
    left = int(x * scaled[0] / _GRID - size[0] // 2)
    top = int(y * scaled[1] / _GRID - size[1] // 2)
    return (
        min(max(left, 0), scaled[0] - size[0]),
        min(max(top, 0), scaled[1] - size[1]),
    )


def _sigma(scaled: Size, size: Size) -> float:
    across = math.hypot(size[0] * _GRID / scaled[0], size[1] * _GRID / scaled[1])
    return max(across / 10, 1.0)


def _scores(xyz: list[tuple[float, float, float]]) -> list[float]:
    luminance = [y for _, y, _ in xyz]
    scores = []
    for at, (x, y, z) in enumerate(xyz):
        row, column = divmod(at, _GRID)
        edge = 4 * y - sum(
            luminance[
                min(max(row + down, 0), _GRID - 1) * _GRID + min(max(column + right, 0), _GRID - 1)
            ]
            for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1))
        )
        score = abs(5 * edge)
        if y > _DARKEST_Y:
            length = math.sqrt(x * x + y * y + z * z)
            score += 100 - 100 * math.dist((x / length, y / length, z / length), _SKIN)
            score += _lab_a(x, y)
        scores.append(score)
    return scores


def _blur(scores: list[float], sigma: float) -> list[float]:
    reach = max(1, int(sigma * math.sqrt(-2 * math.log(0.2))))  # vips' min_ampl of 0.2
    kernel = [math.exp(-(d * d) / (2 * sigma * sigma)) for d in range(-reach, reach + 1)]
    for _ in range(2):  # once along each axis; the result is transposed twice, so it stands right
        scores = [
            sum(
                weight * scores[row * _GRID + min(max(column + step - reach, 0), _GRID - 1)]
                for step, weight in enumerate(kernel)
            )
            for column in range(_GRID)
            for row in range(_GRID)
        ]
    return scores


def _linear(value: int) -> float:
    unit = value / 255
    return unit / 12.92 if unit <= 0.04045 else ((unit + 0.055) / 1.055) ** 2.4


_LINEAR = [_linear(value) for value in range(256)]


def _xyz(red: int, green: int, blue: int) -> tuple[float, float, float]:
    r, g, b = _LINEAR[red], _LINEAR[green], _LINEAR[blue]
    return (
        100 * (0.4124 * r + 0.3576 * g + 0.1805 * b),
        100 * (0.2126 * r + 0.7152 * g + 0.0722 * b),
        100 * (0.0193 * r + 0.1192 * g + 0.9505 * b),
    )


def _lab_a(x: float, y: float) -> float:
    return 500 * (_cube_root(x / 95.047) - _cube_root(y / 100))


def _cube_root(t: float) -> float:
    return t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116
