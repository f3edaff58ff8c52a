"""Runs over buckets on a real store: kills at every step, late main processes, notifications."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from a_bucket import Bucket, ceph, environment
from a_faulty_proxy import Fault, FaultyProxy
from a_project import Project, picture
from a_server import serving

pytest.importorskip("obstore", reason="obstore is not installed (pip install 'lockstep[cloud]')")
pytestmark = pytest.mark.buckets
__all__ = ["ceph"]

HALF = "[half]\nscale = 0.5\n"
TOKEN = "a-token-of-notifications"


class Buckets:
    """A project whose originals and renditions are in one bucket each, behind a proxy."""

    def __init__(self, endpoint: str, root: Path) -> None:
        self.proxy = FaultyProxy(endpoint)
        self.originals, self.renditions = Bucket(endpoint), Bucket(endpoint)
        self.project = Project(root, HALF)
        self.project.env |= environment(self.proxy.endpoint) | {
            "PIPELINE_INPUT": f"s3://{self.originals.name}/in",
            "PIPELINE_OUTPUT": f"s3://{self.renditions.name}",
            "PIPELINE_QUARANTINE": f"s3://{self.originals.name}/withheld",
        }

    def add(self, *names: str) -> None:
        for number, name in enumerate(names):
            self.originals.put(f"in/{name}", picture(".png", number))

    def shown(self) -> list[str]:
        return [name for name in self.renditions.names() if ".lockstep" not in name]

    def staged(self) -> list[str]:
        return self.renditions.names(".lockstep-staged/")

    def close(self) -> None:
        self.proxy.close()
        self.originals.close()
        self.renditions.close()


@pytest.fixture
def buckets(ceph: str, tmp_path: Path) -> Iterator[Buckets]:
    made = Buckets(ceph, tmp_path)
    yield made
    made.close()


def test_a_run_brings_a_bucket_in_step_with_another(buckets: Buckets) -> None:
    buckets.add("a.png", "sub/b.png", "odd//c.png")
    run = buckets.project.script("run")
    assert run.code == 0, run.stderr
    assert buckets.shown() == ["half/a.png", "half/sub/b.png"]
    writes = [target for method, target in buckets.proxy.requests if method in ("PUT", "DELETE")]
    assert buckets.staged() == []
    # PUT, copy and DELETE for each rendition, and for the mark of the folder, which changes twice.
    assert len(writes) <= 3 * (2 + 2)
    buckets.originals.delete("in/a.png")
    assert buckets.project.script("run").code == 0
    assert buckets.shown() == ["half/sub/b.png"]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("method", "part"),
    [("PUT", ".lockstep-staged"), ("PUT", "/half/"), ("DELETE", ".lockstep-staged")],
    ids=["stage", "copy", "drop"],
)
def test_a_run_killed_at_any_step_of_a_publish_is_made_good_by_the_next(
    buckets: Buckets, method: str, part: str, after: bool
) -> None:
    buckets.add("a.png", "b.png")
    process = buckets.project.start_script("run")
    fault = Fault(method=method, part=part, after=after, status=503, meanwhile=process.kill)
    buckets.proxy.faults.append(fault)
    process.communicate(timeout=60)
    assert fault.times == 0
    buckets.proxy.faults.clear()
    again = buckets.project.script("run")
    assert again.code == 0, again.stderr
    assert (buckets.shown(), buckets.staged()) == (["half/a.png", "half/b.png"], [])
    assert buckets.project.script("verify", "--deep").code == 0


def test_a_bucket_that_is_gone_ends_a_run_with_4_and_keeps_every_rendition(
    buckets: Buckets,
) -> None:
    buckets.add("a.png", "b.png")
    assert buckets.project.script("run").code == 0
    buckets.originals.drop()
    gone = buckets.project.script("run")
    assert gone.code == 4
    assert "there is no such bucket; nothing was deleted" in gone.stderr
    assert buckets.shown() == ["half/a.png", "half/b.png"]


def test_a_listing_that_breaks_off_ends_a_run_with_4(buckets: Buckets) -> None:
    buckets.add("a.png", "b.png")
    assert buckets.project.script("run").code == 0
    part = f"/{buckets.originals.name}?"
    buckets.proxy.faults.append(Fault(times=999, method="GET", part=part, cut_bytes=400))
    assert buckets.project.script("run").code == 4
    assert buckets.shown() == ["half/a.png", "half/b.png"]


def test_what_is_notified_is_rendered_and_removed_at_once(buckets: Buckets) -> None:
    project = buckets.project
    project.env |= {"PIPELINE_NOTIFICATIONS_TOKEN": TOKEN, "PIPELINE_RESCAN_S": "3600"}
    buckets.add("a.png")

    def notify(name: str, event: str) -> None:
        what = {"bucket": {"name": buckets.originals.name}, "object": {"key": f"in/{name}"}}
        body = {"Records": [{"eventName": event, "s3": what}]}
        answer = server.post(f"/notifications?token={TOKEN}", json=body)
        assert (answer.status_code, answer.json()) == (200, {"keys": 1})

    with serving(project) as server:
        server.until(lambda: buckets.shown() == ["half/a.png"])
        bad = server.post("/notifications?token=another-token-of-16", json={"Records": []})
        assert bad.status_code == 401
        time.sleep(1)  # after a wrong one the next is only taken a second later
        headers = {"authorization": f"Bearer {TOKEN}"}
        assert server.post("/notifications", content=b"{", headers=headers).status_code == 422
        buckets.add("new.png")
        notify("new.png", "ObjectCreated:Put")
        server.until(lambda: buckets.shown() == ["half/a.png", "half/new.png"])
        buckets.originals.delete("in/new.png")
        notify("new.png", "ObjectRemoved:Delete")
        server.until(lambda: buckets.shown() == ["half/a.png"])
