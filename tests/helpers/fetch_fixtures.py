"""Fixtures of the tests that fetch: a server on this machine, and who trusts it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from loopback import Fetcher, Server


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """A client's context that believes the tests' authority and nobody else."""
    context = ssl.create_default_context()
    context.load_default_certs()
    authority.configure_trust(context)
    return context


@pytest.fixture
def tls_server(authority: trustme.CA) -> Iterator[Server]:
    """Has a certificate for ``shop.example`` alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("shop.example").configure_cert(context)
    running = Server(context)
    yield running
    running.stop()


@pytest.fixture
def fetcher(tmp_path: Path, server: Server) -> Fetcher:
    return Fetcher(tmp_path / "fetched", server)
