"""Buckets of the tests' own, on a server of the tests' own."""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import a_ceph
import a_juicefs
import pytest
from a_ceph import Ceph
from a_juicefs import JuiceFS

from pipeline.storage.aws_access import AwsAccess
from pipeline.storage.places import Place, place_of
from pipeline.storage.s3 import S3, Answered, Version

_numbers = itertools.count()
_VERSIONED = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"


def environment(endpoint: str) -> dict[str, str]:
    """The variables by which a server of the tests is found."""
    return {
        "AWS_ACCESS_KEY_ID": a_ceph.KEY,
        "AWS_SECRET_ACCESS_KEY": a_ceph.SECRET,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


class Bucket:
    """A new bucket; its objects are looked at and changed by signed requests alone.

    obstore does not survive a fork, and tests fork processes that use it.
    """

    def __init__(self, endpoint: str, versions: bool = False) -> None:
        self.name = f"bucket-{os.getpid()}-{next(_numbers)}"
        self._s3 = S3(self.name, AwsAccess(environment(endpoint)))
        self._s3.ask("PUT", {})
        if versions:
            self._s3.ask("PUT", {"versioning": ""}, body=_VERSIONED)

    def place(self, prefix: str = "") -> Place:
        return place_of(f"s3://{self.name}/{prefix}", Path())

    def put(self, name: str, data: bytes = b"x") -> None:
        self._s3.ask("PUT", {}, name, data)

    def has_put(self, name: str) -> bool:
        """Put an object whose name not every store takes; whether it did."""
        with contextlib.suppress(Answered):
            self.put(name)
        return name in self.names()

    def get(self, name: str) -> bytes:
        return self._s3.ask("GET", {}, name)

    def delete(self, name: str) -> None:
        self._s3.ask("DELETE", {}, name)

    def names(self, prefix: str = "") -> list[str]:
        return [each.name for page in self._s3.objects(prefix) for each in page]

    def versions(self, name: str) -> list[Version]:
        return self._s3.versions(name)

    def close(self) -> None:
        self._s3.close()

    def drop(self) -> None:
        """Delete the bucket with all that is in it."""
        for name in self.names():
            self.delete(name)
        self._s3.ask("DELETE", {})


@functools.cache
def _started(kind: Callable[[], Ceph | JuiceFS]) -> str:
    """The endpoint of a server that all modules of tests share; it ends with the process."""
    try:
        server = kind()
    except (OSError, AssertionError):
        server = kind()  # somebody else took a port that was free a moment ago
    atexit.register(server.stop)
    return server.endpoint


@pytest.fixture
def ceph() -> str:
    """The endpoint of a gateway of Ceph, which obeys conditions."""
    # One that stays up while tests are written.
    if up := os.environ.get("LOCKSTEP_TESTS_CEPH"):
        return up
    if said := a_ceph.missing():
        pytest.skip(said)
    return _started(Ceph)


@pytest.fixture
def juicefs() -> str:
    """The endpoint of a gateway of JuiceFS, which ignores conditions."""
    if said := a_juicefs.missing():
        pytest.skip(said)
    return _started(JuiceFS)
