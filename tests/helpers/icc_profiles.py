"""A tiny writer of ICC profiles, and the float arithmetic that they stand for.

The tests compare our output with this arithmetic, which knows nothing of LittleCMS.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from itertools import product

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)

D65_XY, D50_XY = (0.3127, 0.3290), (0.3457, 0.3585)
SRGB_XY = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
ADOBE_XY = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
P3_XY = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
PROPHOTO_XY = ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001))


def matrix_to_d50(primaries: tuple[tuple[float, float], ...], white: tuple[float, float]) -> Array:
    """Linear RGB to XYZ relative to D50, adapted by Bradford, as the ICC asks."""

    def xyz(point: tuple[float, float]) -> Array:
        x, y = point
        return np.array([x / y, 1.0, (1 - x - y) / y])

    columns = np.stack([xyz(point) for point in primaries], axis=1)
    columns = columns * np.linalg.solve(columns, xyz(white))
    cone_src, cone_dst = _BRADFORD @ xyz(white), _BRADFORD @ D50
    adapt = np.linalg.inv(_BRADFORD) @ np.diag(cone_dst / cone_src) @ _BRADFORD
    return np.asarray(adapt @ columns)


def srgb_decode(v: Array) -> Array:
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def srgb_encode(v: Array) -> Array:
    v = v.clip(0, 1)
    return np.where(v <= 0.0031308, v * 12.92, 1.055 * v ** (1 / 2.4) - 0.055)


def to_srgb(values: Array, to_d50: Array, decode: Callable[[Array], Array]) -> Array:
    """The reference conversion: 0..255 of a profile to 0..255 of sRGB, in floats."""
    linear = decode(values / 255)
    srgb = np.linalg.inv(matrix_to_d50(SRGB_XY, D65_XY))
    return srgb_encode(linear @ to_d50.T @ srgb.T) * 255


def _tag_table(tags: dict[bytes, bytes]) -> bytes:
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        content += b"\0" * (-len(content) % 4)
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content
    return table + body


def _profile(space: bytes, tags: dict[bytes, bytes], *, kind: bytes, pcs: bytes) -> bytes:
    tags = {
        b"desc": _text_description("Lockstep test"),
        b"wtpt": _xyz([D50]),
        b"cprt": b"text\0\0\0\0none\0",
    } | tags
    body = _tag_table(tags)
    header = struct.pack(
        ">I4sI4s4s4s12s4s4sIIIIIIII",
        128 + len(body),
        b"\0\0\0\0",
        0x02400000,
        kind,
        space,
        pcs,
        struct.pack(">6H", 2026, 1, 1, 0, 0, 0),
        b"acsp",
        b"\0\0\0\0",
        0,
        0,
        0,
        0,
        0,
        0,
        0xF6D6,
        0x10000,
    )
    header = header + struct.pack(">I", 0xD32D)
    return header.ljust(128, b"\0") + body


def _text_description(text: str) -> bytes:
    raw = text.encode() + b"\0"
    return b"desc\0\0\0\0" + struct.pack(">I", len(raw)) + raw + b"\0" * (4 + 4 + 2 + 1 + 67)


def _fixed(value: float) -> int:
    return round(value * 65536)


def _xyz(rows: Iterable[Array]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(struct.pack(">3i", *(_fixed(v) for v in r)) for r in rows)


def _curve(decode: Callable[[Array], Array]) -> bytes:
    table = np.rint(decode(np.linspace(0, 1, 1024)) * 65535).astype(">u2")
    return b"curv\0\0\0\0" + struct.pack(">I", len(table)) + table.tobytes()


def rgb_profile(to_d50: Array, decode: Callable[[Array], Array]) -> bytes:
    """A matrix profile: a curve a channel, and the XYZ of each primary."""
    curve = _curve(decode)
    tags = {b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
    for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), to_d50.T, strict=True):
        tags[name] = _xyz([column])
    return _profile(b"RGB ", tags, kind=b"mntr", pcs=b"XYZ ")


def grey_profile(decode: Callable[[Array], Array]) -> bytes:
    return _profile(b"GRAY", {b"kTRC": _curve(decode)}, kind=b"mntr", pcs=b"XYZ ")


def cmyk_profile(to_lab: Callable[[Array], Array], grid: int = 9) -> bytes:
    """A table profile (lut8) from CMYK (0..1, 1 is full ink) to Lab."""
    steps = np.linspace(0, 1, grid)
    lab = to_lab(np.array(list(product(steps, repeat=4))))
    packed = np.stack([lab[:, 0] * 2.55, lab[:, 1] + 128, lab[:, 2] + 128], axis=1)
    table = np.rint(packed).clip(0, 255).astype(np.uint8).tobytes()
    identity = bytes(range(256))
    unit = struct.pack(">9i", *(_fixed(float(v)) for v in np.eye(3).ravel()))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, grid, 0]) + unit + identity * 4 + table + identity * 3
    return _profile(b"CMYK", {b"A2B0": lut}, kind=b"prtr", pcs=b"Lab ")


def gamma(power: float) -> Callable[[Array], Array]:
    return lambda v: np.asarray(v**power)


def prophoto_decode(v: Array) -> Array:
    return np.where(v < 16 / 512, v / 16, v**1.8)


def lab_to_srgb(lab: Array) -> Array:
    """Lab relative to D50 to 0..255 of sRGB, in floats."""
    fy = (lab[..., 0] + 16) / 116
    f = np.stack([fy + lab[..., 1] / 500, fy, fy - lab[..., 2] / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * D50
    linear = xyz @ np.linalg.inv(matrix_to_d50(SRGB_XY, D65_XY)).T
    return srgb_encode(linear) * 255
