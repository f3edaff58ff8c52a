"""What a cluster needs of both sides, as far as it shows without one."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from a_project import Project

from pipeline.errors import SettingsError
from pipeline.reasons import Code
from pipeline.settings.load import load_settings
from pipeline.storage.owners import is_alive, is_of, on_node, owner
from pipeline.transforms.recipes import Recipe
from pipeline.workers.board import Board
from pipeline.workers.reasons import node_lost
from pipeline.workers.shared import probe, release
from pipeline.workers.tasks import Outcome, RenditionWanted, Task, Urgency


@pytest.mark.parametrize("text", ["ray://auto", "ray://head:10001", "ray://[::1]:10001"])
def test_the_address_of_a_cluster_stands_for_a_number_of_processes(
    text: str, tmp_path: Path
) -> None:
    settings = load_settings({"PIPELINE_WORKERS": text}, tmp_path)
    assert (settings.cluster, settings.workers >= 1) == (text, True)
    assert load_settings({"PIPELINE_WORKERS": "3"}, tmp_path).cluster == ""


@pytest.mark.parametrize("text", ["ray://", "ray://head", "ray:head:1", "ray://head:port"])
def test_an_address_that_is_none_is_refused_with_an_example(text: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Ray cluster, for example ray://ray-head:10001"):
        load_settings({"PIPELINE_WORKERS": text}, tmp_path)


def test_without_ray_the_run_names_the_extra(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *at: None if name == "ray" else find(name, *at)
    )
    project.env["PIPELINE_WORKERS"] = "ray://auto"
    answer = project.cli("run")
    assert answer.code == 2
    assert answer.stderr.startswith("Error: PIPELINE_WORKERS names a Ray cluster, and Ray is not")
    assert "pip install 'lockstep[ray]'" in answer.stderr


def test_status_says_which_cluster_is_set_without_connecting(project: Project) -> None:
    project.add("a.png")
    project.run()
    project.env["PIPELINE_WORKERS"] = "ray://nowhere.invalid:10001"
    assert "  workers: the nodes of the Ray cluster at ray://nowhere.invalid:10001\n" in (
        project.cli("status").stdout
    )
    workers = project.cli("status", "--json").json["workers"]
    assert workers == {"place": "ray", "address": "ray://nowhere.invalid:10001"}


def test_what_nodes_write_lives_as_long_as_their_run() -> None:
    ours = owner()
    assert is_alive(on_node(ours, "a1"))
    assert is_of(on_node(ours, "a1"), ours)
    assert not is_of(on_node(ours, "a1"), on_node(ours, "a2"))
    assert not is_of(ours + "5", ours)
    host, boot, pid, _ = ours.split(".")
    assert not is_alive(on_node(f"{host}.{boot}.{pid}.1", "a1"))


def test_folders_are_shared_if_the_file_of_the_run_and_the_originals_are_seen(
    tmp_path: Path,
) -> None:
    source, target, other = tmp_path / "input", tmp_path / "output", tmp_path / "other"
    for folder in (source, target, other):
        folder.mkdir()
    (source / "a.jpg").write_bytes(b"12345")
    asked = probe(str(target), [str(source), str(tmp_path / "fetched")])
    assert asked.why_not_shared() is None
    (sample,) = asked.samples
    elsewhere = asked._replace(output_dir=str(other))
    assert f"does not see the same {other}" in str(elsewhere.why_not_shared())
    # On another machine the inode may be another one; then the names count.
    moved = sample._replace(inode=0)
    assert asked._replace(samples=(moved,)).why_not_shared() is None
    empty = moved._replace(folder=str(other))
    assert f"same {other}" in str(asked._replace(samples=(empty,)).why_not_shared())
    asked.remove()
    assert not asked.is_there
    assert list(target.iterdir()) == []


def test_a_node_with_another_release_is_refused_with_both_versions() -> None:
    here = release()
    assert here.difference(here) is None
    said = here._replace(renderer="0").difference(here)
    assert said is not None
    assert said.startswith(f"it has the renderer 0, and this machine has {here.renderer}; install")


def test_a_task_whose_node_was_lost_is_tried_once_more_and_then_fails_for_now() -> None:
    board, recipe = Board(), Recipe("half", scale=0.5)
    wanted = (RenditionWanted(recipe, None, None, None),)
    for path in ("a.jpg", "b.jpg"):
        board.submit(Task(path, wanted, "input", path, "output"), Urgency.BACKLOG)
    board.submit(Task("urgent.jpg", wanted, "input", "u", "output"), Urgency.FRESH)
    assert board.next().task.path == "urgent.jpg"
    given = board.next()
    board.put_back(given, node_lost("left the cluster"))
    assert board.next() == given
    board.put_back(given, node_lost("left the cluster"))
    outcome = board.take(Urgency.BACKLOG, 0)
    assert outcome is not None
    assert (outcome.path, outcome.try_again) == ("a.jpg", True)
    assert outcome.failed[0][1].code is Code.NODE_LOST
    # What a node says of it later is too late.
    board.end(given.number, Outcome("a.jpg"))
    assert board.take(Urgency.BACKLOG, 0) is None
    assert board.waiting(Urgency.BACKLOG) == 1
