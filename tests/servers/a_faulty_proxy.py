"""A proxy before a bucket store that answers 503, is slow, or cuts off in the middle."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass
class Fault:
    """What happens to the next ``times`` requests that are ``method`` and have ``part`` in their
    target: an answer of ``status``, a pause, or a body cut off after ``cut_bytes``."""

    times: int = 1
    method: str = ""
    part: str = ""
    status: int = 0
    pause_s: float = 0.0
    cut_bytes: int | None = None
    # Also where the store has done what was asked for.
    after: bool = False
    meanwhile: Callable[[], None] = lambda: None


@dataclass
class FaultyProxy:
    """Passes requests on to ``upstream``, which is an endpoint, but for its ``faults``."""

    upstream: str
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)

    # How many requests it was passing on at the same time, at most.
    most_at_once: int = 0
    _at_once: int = 0

    def __post_init__(self) -> None:
        proxy = self

        class Handler(_Handler):
            def handle_one(self) -> None:
                proxy._pass_on(self)

        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _fault(self, method: str, target: str) -> Fault | None:
        with self._lock:
            self.requests.append((method, target))
            for fault in self.faults:
                if fault.times and fault.method in ("", method) and fault.part in target:
                    fault.times -= 1
                    return fault
        return None

    def _pass_on(self, handler: _Handler) -> None:
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            self._answer(handler)
        finally:
            with self._lock:
                self._at_once -= 1

    def _answer(self, handler: _Handler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        fault = self._fault(handler.command, handler.path)
        if fault is not None:
            time.sleep(fault.pause_s)
        if fault is not None and not fault.after and (fault.status or fault.cut_bytes == 0):
            fault.meanwhile()
            handler.answer(fault.status, [], b"") if fault.status else handler.hang_up()
            return
        upstream = http.client.HTTPConnection(urlsplit(self.upstream).netloc, timeout=60)
        upstream.putrequest(handler.command, handler.path, True, True)
        for name, value in handler.headers.items():
            if name.lower() != "connection":
                upstream.putheader(name, value)
        upstream.endheaders(body)
        answer = upstream.getresponse()
        data, headers = answer.read(), answer.getheaders()
        upstream.close()
        length = int(answer.getheader("Content-Length") or len(data))
        if fault is not None:
            fault.meanwhile()
        if fault is not None and fault.after and fault.status:
            handler.answer(fault.status, [], b"")
            return
        cut = fault.cut_bytes if fault is not None else None
        handler.answer(answer.status, headers, data, length, cut)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_one(self) -> None:
        raise NotImplementedError

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = lambda self: self.handle_one()

    def answer(
        self,
        status: int,
        headers: list[tuple[str, str]],
        data: bytes,
        length: int | None = None,
        cut: int | None = None,
    ) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        self.wfile.write(data[:cut])
        if cut is not None:
            self.hang_up()

    def hang_up(self) -> None:
        self.wfile.flush()
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass
