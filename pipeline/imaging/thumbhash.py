"""ThumbHash: a placeholder of some 25 bytes, which a page shows while the picture loads.

By the published algorithm (https://evanw.github.io/thumbhash/): of luminance, yellow-blue (``p``),
red-green (``q``) and alpha the lowest frequencies of a cosine transform. The tests compare it with
what the reference implementation gives.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from operator import mul
from typing import NamedTuple

from PIL import Image

# The algorithm takes no larger picture: more pixels change nothing that 7 frequencies show.
MAX_SIDE_PX = 100
# Below it, a frequency is the rounding error of its sum; the least that the hash can say is 1/63.
_NOISE = 1e-9


class _Channel(NamedTuple):
    """The mean of a channel, and its other frequencies relative to the greatest of them."""

    mean: float
    rest: list[float]
    scale: float


def thumbhash(image: Image.Image) -> dict[str, str]:
    """The ThumbHash of a picture, as base64."""
    small = image.convert("RGBA")
    small.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX))
    return {"thumbhash": base64.b64encode(encode(small)).decode()}


def encode(image: Image.Image) -> bytes:
    """The ThumbHash of an RGBA picture of at most 100 x 100 px."""
    width, height = image.size
    red, green, blue, alpha = ([v / 255 for v in band.tobytes()] for band in image.split())
    visible = sum(alpha)
    has_alpha = visible < width * height
    if has_alpha:  # on the mean colour of what is visible
        red, green, blue = (_on_its_mean(band, alpha, visible) for band in (red, green, blue))
    most = 5 if has_alpha else 7  # alpha takes room from the luminance
    across = max(1, _rounded(most * width / max(width, height)))
    down = max(1, _rounded(most * height / max(width, height)))
    colours = list(zip(red, green, blue, strict=True))
    grey = [(r + g + b) / 3 for r, g, b in colours]
    light = _transformed(grey, image, max(3, across), max(3, down))
    p = _transformed([(r + g) / 2 - b for r, g, b in colours], image, 3, 3)
    q = _transformed([r - g for r, g, _ in colours], image, 3, 3)
    clear = _transformed(alpha, image, 5, 5) if has_alpha else _Channel(1, [], 1)

    is_wide = width > height
    colour = (
        _rounded(63 * light.mean)
        | _rounded(31.5 + 31.5 * p.mean) << 6
        | _rounded(31.5 + 31.5 * q.mean) << 12
        | _rounded(31 * light.scale) << 18
        | has_alpha << 23
    )
    shape = (
        (down if is_wide else across)
        | _rounded(63 * p.scale) << 3
        | _rounded(63 * q.scale) << 9
        | is_wide << 15
    )
    head = colour.to_bytes(3, "little") + shape.to_bytes(2, "little")
    if has_alpha:
        head += bytes([_rounded(15 * clear.mean) | _rounded(15 * clear.scale) << 4])
    rest = [_rounded(15 * value) for channel in (light, p, q, clear) for value in channel.rest]
    rest += [0] * (len(rest) % 2)
    return head + bytes(low | high << 4 for low, high in zip(rest[::2], rest[1::2], strict=True))


def _on_its_mean(band: list[float], alpha: list[float], visible: float) -> list[float]:
    mean = sum(map(mul, band, alpha)) / visible if visible else 0.0
    return [mean * (1 - a) + a * value for value, a in zip(band, alpha, strict=True)]


def _transformed(values: Sequence[float], image: Image.Image, across: int, down: int) -> _Channel:
    """The frequencies below the diagonal of ``across`` x ``down``, row by row."""
    width, height = image.size
    rows = [values[at : at + width] for at in range(0, width * height, width)]
    columns = [
        [sum(map(mul, row, cosines)) for row in rows]
        for cosines in (_cosines(width, x) for x in range(across))
    ]
    found = [
        sum(map(mul, columns[x], _cosines(height, y))) / (width * height)
        for y in range(down)
        for x in range(across)
        if x * down < across * (down - y)
    ]
    rest = found[1:]
    scale = max(map(abs, rest))
    if scale < _NOISE:
        return _Channel(found[0], [0.0] * len(rest), 0.0)
    return _Channel(found[0], [0.5 + 0.5 / scale * value for value in rest], scale)


def _cosines(length: int, frequency: int) -> list[float]:
    return [math.cos(math.pi / length * frequency * (at + 0.5)) for at in range(length)]


def _rounded(value: float) -> int:
    """To the nearest, halves upwards; what is a half but for the rounding of sums counts as one."""
    return math.floor(value + 0.5 + _NOISE)
