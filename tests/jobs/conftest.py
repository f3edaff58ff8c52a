from __future__ import annotations

from pathlib import Path

import pytest
from a_shop import Shop
from fetch_fixtures import authority, fetcher, server, tls_server, trusting
from loopback import Server

# Fixtures that these tests share with those of the fetch.
__all__ = ["authority", "fetcher", "server", "tls_server", "trusting"]


@pytest.fixture
def shop(tmp_path: Path, server: Server) -> Shop:
    return Shop(tmp_path / "shop", server)
