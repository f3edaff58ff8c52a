"""The whole pipeline with originals and renditions in a bucket of a real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from a_bucket import ceph
from a_bucket_project import BucketProject

pytest.importorskip("obstore", reason="obstore is not installed (pip install 'lockstep[cloud]')")
pytestmark = pytest.mark.buckets
__all__ = ["ceph"]

Make = Callable[..., BucketProject]


@pytest.fixture
def make(ceph: str, tmp_path: Path) -> Iterator[Make]:
    made: list[BucketProject] = []

    def make(*folders: str) -> BucketProject:
        made.append(BucketProject(tmp_path / f"project-{len(made)}", ceph, *folders))
        return made[-1]

    yield make
    for project in made:
        project.close()


@pytest.mark.parametrize("folders", [(), ("INPUT",), ("OUTPUT",)], ids=["both", "output", "input"])
def test_what_changes_in_a_bucket_changes_its_renditions(
    make: Make, folders: tuple[str, ...]
) -> None:
    project = make(*folders)
    for path in ("a.jpg", "shoes/b c.png", "shoes/ü.jpg"):
        project.put(path)
    first = project.run()
    assert counts(first) == {"new": 3, "rendered": 6, "in_step": 6}
    project.assert_in_step()
    assert counts(project.run()) == {"unchanged": 3, "in_step": 6}
    project.put("a.jpg", seed="other")
    project.take("shoes/b c.png")
    project.put("new.png")
    project.put("twice.jpg", seed="shoes/ü.jpg")
    assert counts(project.run()) == {
        **{"new": 2, "changed": 1, "removed": 1, "unchanged": 1},
        **{"rendered": 4, "reused": 2, "deleted": 2, "in_step": 8},
    }
    project.assert_in_step()


def counts(report: dict[str, Any]) -> dict[str, int]:
    """What a run did to originals and renditions, without zeros."""
    said = report["originals"] | report["renditions"]
    return {name: count for name, count in said.items() if count}
