"""The fixtures of the tests that fetch."""

from fetch_fixtures import authority, fetcher, server, tls_server, trusting

__all__ = ["authority", "fetcher", "server", "tls_server", "trusting"]
