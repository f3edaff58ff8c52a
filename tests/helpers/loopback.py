"""A real HTTP server on loopback, with the manners that the internet has."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ssl
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from routes import JPEG, ROUTES, not_found

from pipeline.fetch.addresses import AllowList
from pipeline.fetch.client import fetch_all
from pipeline.fetch.types import Fetched, FetchLimits, FetchRequest
from pipeline.storage.folder_store import FolderStore


class Request:
    def __init__(self, head: bytes, writer: asyncio.StreamWriter, body: bytes) -> None:
        lines = head.decode("latin-1").split("\r\n")
        self.method, self.path, _ = lines[0].split(" ")
        pairs = (line.split(": ", 1) for line in lines[1:] if line)
        self.headers = {name.lower(): value for name, value in pairs}
        self.writer = writer
        self.body = body

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(
        self, status: str = "200 OK", body: bytes = JPEG, headers: tuple[str, ...] = ()
    ) -> None:
        length = f"Content-Length: {len(body)}"
        head = "\r\n".join([f"HTTP/1.1 {status}", length, *headers, "", ""])
        await self.send(head.encode() + body)


class Server:
    """Runs in a thread of its own; ``hits`` counts by path, ``seen`` keeps every request.

    A route may return False: then its connection is closed.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.hits: Counter[str] = Counter()
        self.seen: list[Request] = []
        self.connections = 0
        self.at_once = 0
        self.most_at_once = 0
        self.redirect_to = ""
        self._tls = tls
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._started.wait(10)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        scheme = "https" if self._tls else "http"
        return f"{scheme}://{host}:{self.port}{path}"

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._client, "127.0.0.1", 0, ssl=self._tls)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._over.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n"))[:-4]
                length = 0
                for line in head.lower().split(b"\r\n"):
                    if line.startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                body = await reader.readexactly(length)
                request = Request(head, writer, body)
                self.hits[request.path] += 1
                self.seen.append(request)
                name = request.path.split("?")[0].strip("/").split("/")[0].replace("-", "_")
                self.at_once += 1
                self.most_at_once = max(self.at_once, self.most_at_once)
                try:
                    going_on = await ROUTES.get(name, not_found)(self, request)
                finally:
                    self.at_once -= 1
                if going_on is False:
                    break
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()


class Fetcher:
    """Fetches from the loopback server, with short limits, into a folder of the test's own."""

    def __init__(self, folder: Path, *servers: Server) -> None:
        self.folder, self.store = folder, FolderStore(folder)
        self.limits = FetchLimits(
            max_bytes=10_000_000,
            connect_timeout_s=2,
            stall_timeout_s=5,
            total_timeout_s=20,
            slow_for_s=5,
            retries=2,
            backoff_s=0.001,
            retry_after_max_s=0.05,
            ports=frozenset({80, 443, *(s.port for s in servers)}),
            allow=AllowList.parse("127.0.0.1"),
        )

    def limit(self, **changes: Any) -> Fetcher:
        self.limits = dataclasses.replace(self.limits, **changes)
        return self

    def all(self, *requests: str | FetchRequest, **options: Any) -> list[Fetched]:
        asked = [FetchRequest(r) if isinstance(r, str) else r for r in requests]

        async def collect() -> list[Fetched]:
            async with contextlib.aclosing(
                fetch_all(asked, self.limits, self.store, **options)
            ) as results:
                return [fetched async for fetched in results]

        return asyncio.run(collect())

    def one(self, request: str | FetchRequest, **options: Any) -> Fetched:
        (fetched,) = self.all(request, **options)
        return fetched

    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file())


def names(*addresses: str) -> Callable[[str], Awaitable[list[str]]]:
    """A resolver that knows these addresses for every name; none: no name resolves."""

    async def resolve(host: str) -> list[str]:
        if not addresses:
            raise OSError("no such name")
        return list(addresses)

    return resolve
