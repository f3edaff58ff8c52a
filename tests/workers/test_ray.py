"""Workers on the nodes of a Ray cluster: real nodes, which are processes of this machine."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from a_cluster import RayCluster, ray_cluster
from a_mount import MountNamespace
from a_project import Answer, Project, answer_of

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]
__all__ = ["ray_cluster"]

PHOTOS = 60
FAILED = "SELECT path, recipe, code, reason FROM renditions WHERE state = 'failed'"
CRASHED = "its worker crashed (SIGSEGV in a decoder)"
SLOW = """
[small]
fit = [20, 20]
format = "png"
function = "functions:slow"

[plain]
fit = [10, 10]
format = "png"
"""
FUNCTIONS = """
import time


def slow(image):
    time.sleep(0.1)
    return image
"""


@pytest.fixture
def photos(project: Project, ray_cluster: RayCluster) -> Project:
    """Photos that take a node of one process about six seconds."""
    project.recipes(SLOW)
    (project.root / "functions.py").write_text(FUNCTIONS)
    for number in range(PHOTOS):
        project.add(f"{number // 10}/{number:03}.png")
    project.env |= {"PIPELINE_WORKERS": "ray://auto", "RAY_ADDRESS": ray_cluster.address}
    return project


def until(is_so: Callable[[], object], timeout_s: float = 60) -> None:
    give_up_at = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < give_up_at, "it has not come"
        time.sleep(0.05)


def assert_each_is_there_once(project: Project, answer: Answer, photos: int = PHOTOS) -> None:
    """A row and a file for each photo and recipe, made once, and nothing else after a next run."""
    assert answer.code == 0, answer
    renditions = answer.json["renditions"]
    assert (renditions["rendered"], renditions["in_step"]) == (2 * photos, 2 * photos)
    rows = [row[0] for row in project.query("SELECT file FROM renditions WHERE state = 'ok'")]
    assert len(rows) == 2 * photos
    assert project.run()["renditions"]["rendered"] == 0
    assert set(project.outputs()) == set(rows)


def begun(project: Project) -> bool:
    return len(project.outputs()) >= 10


def test_a_run_waits_for_a_node_with_one_line_and_then_says_what_to_do(
    photos: Project,
    ray_cluster: RayCluster,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from pipeline.workers import crew

    ray_cluster.nodes(0)
    monkeypatch.setattr(crew, "SAY_AFTER_S", 0.5)
    monkeypatch.setattr(crew, "WAIT_FOR_NODES_S", 3.0)
    answer = photos.cli("run", "--json")
    assert answer.code == 2
    assert caplog.text.count("has no node to work on; waiting up to 3 s for one") == 1
    assert "has had no node to work on for 3 s; add one with `ray start" in answer.stderr


@pytest.mark.parametrize("way", ["auto", "client"])
def test_nodes_make_what_this_machine_makes_and_a_crash_costs_one_picture(
    project: Project, ray_cluster: RayCluster, way: str
) -> None:
    ray_cluster.nodes(1)
    project.recipes('[half]\nscale = 0.5\n\n[own]\nfit = [20, 20]\nfunction = "functions:touchy"\n')
    (project.root / "functions.py").write_text(
        "import ctypes\n\n\ndef touchy(image):\n"
        "    if image.size == (20, 20):\n        ctypes.string_at(0)\n    return image\n"
    )
    for number in range(8):
        project.add(f"{number}.jpg")
    project.add("crash.jpg", size=(30, 30))
    project.run(code=1)
    here, failed = project.outputs(), project.query(FAILED)
    shutil.rmtree(project.output)
    (project.root / "db.sqlite").unlink()
    ray = {"auto": "ray://auto", "client": ray_cluster.url}[way]
    project.env |= {"PIPELINE_WORKERS": ray, "RAY_ADDRESS": ray_cluster.address}
    answer = project.process("run", "--json")
    assert answer.code == 1, answer
    assert answer.stderr == ""
    assert answer.json["workers"] == {"place": "ray", "nodes": 1, "processes": 1}
    assert project.outputs() == here
    assert project.query(FAILED) == failed == [("crash.jpg", "own", "worker_crashed", CRASHED)]
    assert not ray_cluster.actors()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_actor_outlives_the_run_that_started_it(
    photos: Project, ray_cluster: RayCluster, number: int
) -> None:
    ray_cluster.nodes(1)
    running = photos.start("run", "--json")
    until(lambda: begun(photos))
    assert ray_cluster.actors()
    os.kill(running.pid, number)
    answer_of(running, 30)
    if number == signal.SIGINT:
        assert not ray_cluster.actors()
        assert not leftovers(photos)
    until(lambda: not ray_cluster.actors())
    answer = photos.process("run", "--json")
    assert answer.code == 0, answer
    assert not leftovers(photos)
    assert len(photos.outputs()) == 2 * PHOTOS


def test_a_node_that_joins_during_a_run_works_for_it(
    photos: Project, ray_cluster: RayCluster
) -> None:
    ray_cluster.nodes(1)
    gate = photos.root / "gate"
    gate.mkdir()
    photos.env["PIPELINE_FUNCTION_READS"] = str(gate)
    wait = f"while image.size == (20, 20) and not os.path.exists({str(gate / 'open')!r}):"
    text = FUNCTIONS.replace("import time", "import os\nimport time")
    text = text.replace(
        "    time.sleep(0.1)", f"    {wait}\n        time.sleep(0.1)\n    time.sleep(0.1)"
    )
    (photos.root / "functions.py").write_text(text)
    # Its only node waits at this photo, and then there is another one for those that are left.
    photos.add("0/005.png", size=(40, 40))
    running = photos.start("run", "--json")
    until(lambda: photos.outputs())
    ray_cluster.add_node()
    until(lambda: len(photos.outputs()) > PHOTOS)
    (gate / "open").touch()
    answer = answer_of(running, 60)
    assert answer.json["workers"] == {"place": "ray", "nodes": 2, "processes": 2}
    assert_each_is_there_once(photos, answer)


def test_a_node_that_is_killed_costs_nothing_but_time(
    photos: Project, ray_cluster: RayCluster
) -> None:
    nodes = ray_cluster.nodes(2)
    running = photos.start("run", "--json")
    until(lambda: begun(photos))
    nodes[0].kill()
    answer = answer_of(running, 90)
    assert_each_is_there_once(photos, answer)
    assert answer.json["workers"]["nodes"] == 2
    assert answer.stderr.count("was lost: it ") == 1, answer.stderr


def test_a_node_that_is_stopped_is_given_up_and_does_no_harm_when_it_goes_on(
    photos: Project,
    ray_cluster: RayCluster,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from pipeline.workers import crew

    monkeypatch.setattr(crew, "SILENT_S", 5.0)
    stopped = ray_cluster.nodes(2)[0]
    stopped.is_usable = False
    photos.env["PIPELINE_RENDER_TIMEOUT_S"] = "3"

    def stop() -> None:
        until(lambda: begun(photos))
        stopped.send(signal.SIGSTOP)

    stopping = threading.Thread(target=stop)
    stopping.start()
    try:
        answer = photos.cli("run", "--json")
        stopping.join()
        assert "is not used: no task of it has ended within 8 s" in caplog.text
        made = photos.outputs()
    finally:
        stopped.send(signal.SIGCONT)
    # What it was at ends by itself, and at most leaves temporary files.
    until(lambda: not stopped.processes("ray::Node"))
    late = set(photos.outputs()) - set(made)
    assert all("/.lockstep-" in name for name in late)
    assert_each_is_there_once(photos, answer)
    assert photos.outputs() == made


def test_a_node_that_does_not_see_the_folders_is_named_and_not_used(
    photos: Project, ray_cluster: RayCluster, namespace: MountNamespace
) -> None:
    (good,) = ray_cluster.nodes(1)
    photos.output.mkdir(exist_ok=True)
    namespace.sh("mount -t tmpfs tmpfs output")
    hidden = ray_cluster.add_node(inside=namespace.inside)
    hidden.is_usable = False
    said = f"it does not see the same {photos.output} as this machine; mount it there"
    answer = photos.process("run", "--json")
    assert said in answer.stderr
    assert_each_is_there_once(photos, answer)
    assert answer.json["workers"]["nodes"] == 1
    ray_cluster.remove(good)
    photos.add("new.png")
    answer = photos.process("run", "--json")
    assert answer.code == 2, answer
    assert "no node of the Ray cluster can be used: node " in answer.stderr
    assert said in answer.stderr


def leftovers(project: Project) -> list[Path]:
    return [file for file in project.output.rglob(".lockstep-*") if file.is_file()]
