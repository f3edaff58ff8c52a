"""A database for the blocklist that instances share."""

from pathlib import Path

import pytest
from databases import ON_SERVERS


@pytest.fixture(params=["sqlite", *ON_SERVERS])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database for the shared blocklist."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'shared.sqlite'}"
    return str(request.getfixturevalue("server_url_of")(request.param))
