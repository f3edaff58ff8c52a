"""A web server of images for `jobs`: each URL its own bytes, counted, and never the bottleneck.

    python -m benchmarks.image_server --hosts 8 --image-bytes 100000
    python -m benchmarks.image_server --hosts 2 --per-second 10

With `--per-second` the first host answers so slowly, for all connections together (`lanes`).

A few photo-like JPEGs are encoded once; an answer is one of them with a comment segment that names
the URL and fills it up, so every image has the same size and bytes of its own. The first line on
stdout is the port. `/stats` tells how often images were asked for. It ends with its standard input.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import struct
import sys
from collections import Counter
from functools import partial

import numpy as np
from PIL import Image

_SIZE = (800, 600)  # px
_TEMPLATES = 8
_COMMENT_OVERHEAD_BYTES = 4  # the marker and the length
_MAX_COMMENT_BYTES = 65_533
_STATS = b"/stats"


class Images:
    """The answers, and how many were given."""

    def __init__(self, image_bytes: int) -> None:
        self.asked = 0
        # By the first folder of their paths.
        self.by_folder: Counter[str] = Counter()
        self.connections = 0
        self._image_bytes = image_bytes
        self._templates = [_template(seed, image_bytes) for seed in range(_TEMPLATES)]

    def answer(self, path: bytes) -> list[bytes]:
        if path == _STATS:
            stats = {
                "images": self.asked,
                "connections": self.connections,
                "by_folder": self.by_folder,
            }
            body = json.dumps(stats).encode()
            return [_head(b"application/json", len(body)), body]
        self.asked += 1
        self.by_folder[path.split(b"/")[1].decode("ascii")] += 1
        template = self._templates[sum(path) % _TEMPLATES]
        room = self._image_bytes - len(template) - _COMMENT_OVERHEAD_BYTES
        comment = path.ljust(room, b".")
        return [
            _head(b"image/jpeg", self._image_bytes),
            template[:2] + b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment,
            template[2:],
        ]


class _Pace:
    """When the next answer is due, so that there are `per_second`; at once where that is 0."""

    def __init__(self, per_second: float) -> None:
        self._every_s = 1 / per_second if per_second else 0.0
        self._due_s = 0.0

    def next_in_s(self, now_s: float) -> float:
        self._due_s = max(now_s, self._due_s + self._every_s) if self._every_s else now_s
        return self._due_s - now_s


class _Client(asyncio.Protocol):
    def __init__(self, images: Images, pace: _Pace) -> None:
        self._images = images
        self._pace = pace
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._images.connections += 1

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head, self._received = self._received[:end], self._received[end + 4 :]
            path = head.split(b" ", 2)[1]
            loop = asyncio.get_running_loop()
            wait_s = 0.0 if path == _STATS else self._pace.next_in_s(loop.time())
            if wait_s:
                loop.call_later(wait_s, self._answer, path)
            else:
                self._answer(path)

    def _answer(self, path: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.writelines(self._images.answer(path))


def _head(kind: bytes, length: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n" % (kind, length)


def _template(seed: int, image_bytes: int) -> bytes:
    """A JPEG that leaves room for a comment, and no more room than one comment can fill."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize(_SIZE, Image.Resampling.BICUBIC))
    noise = random.standard_normal(smooth.shape[:2])[..., None]
    best = b""
    for amplitude in np.geomspace(0.5, 60, 40):
        pixels = (smooth + noise * amplitude).clip(0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=85)
        if len(file.getvalue()) > image_bytes - 200:
            break
        best = file.getvalue()
    if not best or image_bytes - len(best) > _MAX_COMMENT_BYTES:
        raise SystemExit(f"no image of {_SIZE[0]} x {_SIZE[1]} px has {image_bytes} bytes")
    return best


async def _serve(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    images = Images(options.image_bytes)
    port = 0
    for number in range(options.hosts):
        pace = _Pace(0 if number else options.per_second)
        server = await loop.create_server(
            partial(_Client, images, pace), f"127.0.0.{number + 1}", port, backlog=1000
        )
        port = server.sockets[0].getsockname()[1]
    print(port, flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.image_server")
    parser.add_argument("--hosts", type=int, default=8, help="addresses from 127.0.0.1 on")
    parser.add_argument("--image-bytes", type=int, default=100_000)
    parser.add_argument("--per-second", type=float, default=0, help="0: as fast as it can")
    asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
