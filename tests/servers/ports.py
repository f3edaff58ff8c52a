"""Ports of this machine that nobody uses."""

import socket


def free_port() -> int:
    """A port that was free a moment ago; the kernel gives it to nobody else for a while."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])
