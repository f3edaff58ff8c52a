from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from a_bucket import ceph
from a_bucket_project import BucketProject, Make

__all__ = ["ceph"]


@pytest.fixture
def make(ceph: str, tmp_path: Path) -> Iterator[Make]:
    """Makes projects in buckets of their own; folders stay for the settings that it is given."""
    made: list[BucketProject] = []

    def make(*folders: str, versions: bool = False) -> BucketProject:
        root = tmp_path / f"project-{len(made)}"
        made.append(BucketProject(root, ceph, *folders, versions=versions))
        return made[-1]

    yield make
    for project in made:
        project.close()
