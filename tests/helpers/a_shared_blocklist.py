"""A database for the blocklist that instances share."""

from pathlib import Path

import pytest
from a_postgresql import emptied


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.databases)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database for the shared blocklist."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'shared.sqlite'}"
    return emptied(request.getfixturevalue("postgres"))
