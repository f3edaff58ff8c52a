"""What a written file says of its encoder, so that "the same settings" is checked, not claimed."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

# Number of codes of each length in the standard tables of ITU-T T.81, annex K.3: an encoder that
# did not optimise writes these.
_STANDARD_DC_LUMA = bytes([0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0])
_STANDARD_AC_LUMA = bytes([0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7D])
_SUBSAMPLING = {(2, 2): "4:2:0", (2, 1): "4:2:2", (1, 1): "4:4:4"}
_SOF_BASELINE, _SOF_EXTENDED, _SOF_PROGRESSIVE = 0xC0, 0xC1, 0xC2
_DHT, _DQT, _SOS = 0xC4, 0xDB, 0xDA


@dataclass(frozen=True)
class JpegFacts:
    subsampling: str
    progressive: bool
    optimised_huffman: bool
    luma_table: bytes  # the quantisation table, in zigzag order: the quality

    def describe(self) -> str:
        return (
            f"{self.subsampling}, {'progressive' if self.progressive else 'baseline'}, "
            f"{'optimised' if self.optimised_huffman else 'standard'} Huffman, "
            f"first quantisers {' '.join(str(n) for n in self.luma_table[:4])}"
        )


def jpeg_facts(path: Path) -> JpegFacts:
    """The facts in a JPEG's header; ValueError where it is none."""
    data = path.read_bytes()
    if data[:2] != b"\xff\xd8":
        raise ValueError(f"{path} is no JPEG")
    subsampling, progressive, optimised, luma = "?", False, False, b""
    at = 2
    while at < len(data):
        marker, length = data[at + 1], struct.unpack(">H", data[at + 2 : at + 4])[0]
        body = data[at + 4 : at + 2 + length]
        if marker in (_SOF_BASELINE, _SOF_EXTENDED, _SOF_PROGRESSIVE):
            progressive = marker == _SOF_PROGRESSIVE
            factors = body[7]
            subsampling = _SUBSAMPLING.get((factors >> 4, factors & 15), "?")
            if body[5] == 1:
                subsampling = "grey"
        elif marker == _DQT and not luma:
            luma = body[1:65]
        elif marker == _DHT:
            optimised = optimised or _has_own_tables(body)
        elif marker == _SOS:
            break
        at += 2 + length
    return JpegFacts(subsampling, progressive, optimised, luma)


def _has_own_tables(body: bytes) -> bool:
    """Whether a DHT segment holds a luma table (id 0) that is not the standard one."""
    at = 0
    while at < len(body):
        kind, lengths = body[at], body[at + 1 : at + 17]
        standard = {0x00: _STANDARD_DC_LUMA, 0x10: _STANDARD_AC_LUMA}.get(kind)
        if standard is not None and lengths != standard:
            return True
        at += 17 + sum(lengths)
    return False
