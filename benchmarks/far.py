"""A TCP proxy on this machine that delays what passes, as a network between two machines does.

    python -m benchmarks.far PORT DELAY_MS

It forwards a port of its own, which it prints, to ``PORT``, and ends with its stdin.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import sys
import threading
import time

HOST = "127.0.0.1"


def main() -> None:
    port, delay_s = int(sys.argv[1]), float(sys.argv[2]) / 1000
    # A thread that wakes up must not wait for another one to give up the interpreter.
    sys.setswitchinterval(0.0001)
    with socket.create_server((HOST, 0)) as server:
        print(server.getsockname()[1], flush=True)
        threading.Thread(target=_accept, args=(server, port, delay_s), daemon=True).start()
        sys.stdin.read()


def _accept(server: socket.socket, port: int, delay_s: float) -> None:
    while True:
        near, _ = server.accept()
        far = socket.create_connection((HOST, port))
        for each in (near, far):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for source, target in ((near, far), (far, near)):
            on_the_way: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
            threading.Thread(target=_read, args=(source, on_the_way, delay_s), daemon=True).start()
            threading.Thread(target=_write, args=(target, on_the_way), daemon=True).start()


def _read(
    source: socket.socket, on_the_way: queue.SimpleQueue[tuple[float, bytes]], delay_s: float
) -> None:
    data = b"?"
    while data:
        try:
            data = source.recv(1 << 18)
        except OSError:
            data = b""
        on_the_way.put((time.perf_counter() + delay_s, data))


def _write(target: socket.socket, on_the_way: queue.SimpleQueue[tuple[float, bytes]]) -> None:
    """Send each piece at its time; an empty one is the end."""
    while True:
        due, data = on_the_way.get()
        time.sleep(max(0.0, due - time.perf_counter()))
        try:
            target.sendall(data) if data else target.shutdown(socket.SHUT_WR)
        except OSError:
            return
        if not data:
            return


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
