"""How compressed bodies are undone within limits."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest

from pipeline.fetch.decoding import PIECE_BYTES, DecodingFailed, decoder_for


def decoded(encoding: str, data: bytes, chunk_bytes: int = 1000) -> bytes:
    decoder = decoder_for(encoding)
    pieces = []
    for start in range(0, len(data), chunk_bytes):
        pieces += decoder.pieces(data[start : start + chunk_bytes])
    decoder.finish()
    assert all(len(piece) <= max(PIECE_BYTES, chunk_bytes) for piece in pieces)
    return b"".join(pieces)


PLAIN = bytes(range(256)) * 4000
RAW_DEFLATE = zlib.compress(PLAIN)[2:-4]


@pytest.mark.parametrize("chunk_bytes", [1, 7, 1000, 10**7])
@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("", PLAIN[:5000]),
        ("identity", PLAIN[:5000]),
        ("gzip", gzip.compress(PLAIN)),
        ("X-GZIP", gzip.compress(PLAIN)),
        ("identity, gzip", gzip.compress(PLAIN)),
        ("gzip", gzip.compress(PLAIN) + bytes(100)),
        ("gzip", gzip.compress(PLAIN[:3000]) + gzip.compress(PLAIN[3000:])),
        ("deflate", zlib.compress(PLAIN)),
        ("deflate", RAW_DEFLATE),
    ],
)
def test_encodings_are_undone_however_they_are_cut(
    encoding: str, data: bytes, chunk_bytes: int
) -> None:
    plain = PLAIN[:5000] if encoding in ("", "identity") else PLAIN
    assert decoded(encoding, data, chunk_bytes) == plain


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "nonsense"])
def test_encodings_that_were_not_asked_for_are_refused(encoding: str) -> None:
    with pytest.raises(DecodingFailed, match="not requested"):
        decoder_for(encoding)


@pytest.mark.parametrize(
    ("encoding", "data"),
    [("gzip", b"no gzip at all"), ("gzip", gzip.compress(PLAIN)[:-9]), ("deflate", b"\xff" * 50),
     ("deflate", zlib.compress(PLAIN)[:-9]), ("gzip", gzip.compress(PLAIN)[:50] + b"x" * 5000)],
)  # fmt: skip
def test_damaged_bodies_are_told(encoding: str, data: bytes) -> None:
    with pytest.raises(DecodingFailed):
        decoded(encoding, data)


def test_a_bomb_comes_in_small_pieces() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    decoder = decoder_for("gzip")
    tracemalloc.start()
    total = sum(len(piece) for piece in decoder.pieces(bomb))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 50_000_000
    assert peak_bytes < 2_000_000
