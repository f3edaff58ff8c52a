"""Bytes that are known already cost no decode: a rename, a move and a copy reuse renditions."""

import os
import shutil

import pytest
from a_project import Project


def made(report: dict) -> tuple[int, int, int]:
    done = report["renditions"]
    return done["rendered"], done["reused"], done["deleted"]


def inode(project: Project, name: str) -> int:
    return (project.output / name).stat().st_ino


def test_a_renamed_original_takes_its_renditions_along(project: Project) -> None:
    file = project.add("a.jpg")
    project.run()
    before = inode(project, "half/a.jpg")
    file.rename(project.input / "b.jpg")
    assert made(project.run()) == (0, 2, 2)
    assert sorted(project.outputs()) == ["half/b.jpg", "thumb/b.jpg.webp"]
    assert inode(project, "half/b.jpg") == before
    assert (project.output / "half/b.jpg").stat().st_nlink == 1


def test_a_moved_and_a_copied_original_cost_no_decode(project: Project) -> None:
    file = project.add("a.png")
    project.run()
    shutil.copy(file, project.input / "copy.png")
    (project.input / "deep/er").mkdir(parents=True)
    file.rename(project.input / "deep/er/a.png")
    assert made(project.run()) == (0, 4, 2)
    project.assert_in_step()
    assert inode(project, "half/copy.png") == inode(project, "half/deep/er/a.png")


def test_new_copies_of_one_another_are_decoded_once(project: Project) -> None:
    data = project.add("0.png").read_bytes()
    for number in range(1, 6):
        (project.input / f"{number}.png").write_bytes(data)
    assert made(project.run()) == (2, 10, 0)
    project.assert_in_step()


def test_copies_of_a_broken_file_fail_alike(project: Project) -> None:
    for number in range(5):
        (project.input / f"{number}.jpg").write_bytes(b"no picture, and always the same")
    report = project.run(code=1)
    assert report["renditions"]["failed"] == 10
    assert len(project.cli("errors", "--json").json) == 10


def test_a_change_of_a_copy_does_not_reach_the_other(project: Project) -> None:
    file = project.add("a.png")
    shutil.copy(file, project.input / "b.png")
    project.run()
    before = (project.output / "half/b.png").read_bytes()
    project.add("a.png", seed=2)
    assert made(project.run()) == (2, 0, 0)
    assert (project.output / "half/b.png").read_bytes() == before
    project.assert_in_step()


def test_content_of_another_format_than_its_name_says_keeps_its_suffix(project: Project) -> None:
    png = project.add("a.png").read_bytes()
    project.run()
    # The same PNG, named as a JPEG: a rendition in PNG must not be called .jpg.
    (project.input / "b.jpg").write_bytes(png)
    assert made(project.run()) == (0, 2, 0)
    assert sorted(n for n in project.outputs() if "b." in n) == [
        "half/b.jpg.png",
        "thumb/b.jpg.webp",
    ]
    (project.input / "b.jpg").rename(project.input / "c.png")
    (project.input / "a.png").unlink()
    assert made(project.run()) == (0, 2, 4)
    project.assert_in_step()


def test_a_new_recipe_is_rendered_once_for_all_copies(project: Project) -> None:
    data = project.add("0.png").read_bytes()
    for number in range(1, 4):
        (project.input / f"{number}.png").write_bytes(data)
    project.run()
    project.recipes("[half]\nscale = 0.5\n[wide]\nwidth = 30\n")
    assert made(project.run()) == (1, 3, 4)
    project.assert_in_step()


def test_a_rendition_that_is_missing_is_not_taken(project: Project) -> None:
    file = project.add("a.png")
    project.run()
    (project.output / "half/a.png").unlink()
    shutil.copy(file, project.input / "b.png")
    assert project.run()["renditions"]["rendered"] == 2
    assert project.cli("verify", "--fix").code == 0
    project.assert_in_step()


def test_without_hard_links_the_bytes_are_copied(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = project.add("a.png")
    project.run()
    shutil.copy(file, project.input / "b.png")

    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", refuse)
        assert made(project.run()) == (0, 2, 0)
    assert inode(project, "half/a.png") != inode(project, "half/b.png")
    project.assert_in_step()


def test_swapped_originals_swap_their_renditions(project: Project) -> None:
    one, two = project.add("1.png"), project.add("2.png")
    project.run()
    one.rename(project.input / "x.png")
    two.rename(one)
    (project.input / "x.png").rename(two)
    project.run()
    project.assert_in_step()
