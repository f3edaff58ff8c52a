"""A recipe with several widths: a rendition for each that the original has, and no more."""

from __future__ import annotations

from pathlib import Path

import pytest
from a_project import Project

RECIPES = '[hero]\nwidths = [20, 40, 80]\nformat = "webp"\n[plain]\nwidths = [10]\n'


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path / "project", RECIPES)
    project.add("shoes/wide.jpg", size=(100, 50))
    project.add("shoes/some.jpg", size=(60, 50))
    project.add("narrow.png", size=(20, 50))
    return project


WIDE = [f"hero/shoes/wide.jpg@{width}.webp" for width in (20, 40, 80)]
SOME = [f"hero/shoes/some.jpg@{width}.webp" for width in (20, 40, 80)]
PLAIN = ["plain/narrow.png@10.png", "plain/shoes/some.jpg@10.jpg", "plain/shoes/wide.jpg@10.jpg"]


def widths(project: Project) -> dict[str, int]:
    query = "select file, width_px from renditions where state = 'ok'"
    return dict(project.query(query))


def verdicts(project: Project) -> dict[str, str]:
    story = project.cli("explain", "narrow.png", "--json").json
    return {each["recipe"]: each["verdict"] for each in story["renditions"]}


def test_each_width_is_a_file_and_none_is_wider_than_the_original(project: Project) -> None:
    assert project.run()["renditions"]["rendered"] == 10
    assert sorted(project.outputs()) == sorted([*WIDE, *SOME, "hero/narrow.png@20.webp", *PLAIN])
    found = widths(project)
    assert [found[file] for file in WIDE] == [20, 40, 80]
    assert [found[file] for file in SOME] == [20, 40, 60]
    assert found["hero/narrow.png@20.webp"] == 20
    assert project.run("--dry-run")["renditions"]["rendered"] == 0
    again = project.run()
    assert again["renditions"]["rendered"] == again["renditions"]["pending"] == 0
    assert project.cli("status", "--check").code == 0
    assert project.cli("verify", "--deep").code == 0


def test_widths_that_an_original_does_not_have_are_explained(project: Project) -> None:
    project.run()
    assert verdicts(project)["hero@20"] == "in step"
    assert verdicts(project)["hero@80"] == "nothing to do: a smaller width shows all of it"
    (project.input / "narrow.png").unlink()
    assert verdicts(project)["hero@20"] == "would be deleted: the original is gone"


def test_a_narrower_original_loses_the_widths_that_it_has_no_more(project: Project) -> None:
    project.run()
    project.add("shoes/wide.jpg", seed=5, size=(30, 30))
    report = project.run()
    assert (report["renditions"]["rendered"], report["renditions"]["deleted"]) == (3, 1)
    found = widths(project)
    assert [found.get(file) for file in WIDE] == [20, 30, None]
    assert not (project.output / WIDE[2]).exists()
    project.add("shoes/wide.jpg", seed=6, size=(90, 30))
    project.run()
    assert [widths(project)[file] for file in WIDE] == [20, 40, 80]
    assert project.cli("verify", "--deep").code == 0


def test_all_widths_go_with_the_original(project: Project) -> None:
    project.run()
    (project.input / "shoes/wide.jpg").unlink()
    assert project.run()["renditions"]["deleted"] == 4
    assert not [name for name in project.outputs() if "wide" in name]
    assert project.cli("takedown", "shoes/some.jpg", "--reason", "sold").code == 0
    assert not [name for name in project.outputs() if "some" in name]


def test_another_width_makes_nothing_again_but_the_next_larger_one(project: Project) -> None:
    project.run()
    project.recipes(RECIPES.replace("[20, 40, 80]", "[20, 40, 60, 80]"))
    report = project.run()
    # The two of 60 px, and the one of 80; of the other original, 60 px is all that there is.
    assert (report["renditions"]["rendered"], report["renditions"]["deleted"]) == (3, 1)
    assert widths(project)["hero/shoes/some.jpg@60.webp"] == 60
    project.recipes(RECIPES.replace("[20, 40, 80]", "[40]"))
    project.run()
    assert sorted(name for name in project.outputs() if name.startswith("hero/")) == [
        "hero/narrow.png@40.webp",
        "hero/shoes/some.jpg@40.webp",
        "hero/shoes/wide.jpg@40.webp",
    ]


def test_a_copy_takes_the_widths_of_its_twin(project: Project) -> None:
    project.run()
    (project.input / "copy.jpg").write_bytes((project.input / "shoes/wide.jpg").read_bytes())
    report = project.run()
    assert (report["renditions"]["rendered"], report["renditions"]["reused"]) == (0, 4)
    assert widths(project)["hero/copy.jpg@80.webp"] == 80


def test_a_name_that_is_too_long_is_cut_for_each_width_apart(project: Project) -> None:
    name = "n" * 240 + ".jpg"
    project.add(name, size=(100, 50))
    project.run()
    made = [file for file in project.outputs() if file.startswith("hero/nnn")]
    assert len(made) == 3
    assert project.cli("verify").code == 0


def test_widths_may_be_made_from_another_rendition(project: Project) -> None:
    project.recipes('[half]\nscale = 0.5\n[hero]\nfrom = "half"\nwidths = [20, 40, 80]\n')
    project.run()
    found = widths(project)
    assert found["hero/shoes/wide.jpg@80.jpg"] == 50
    assert found["hero/shoes/some.jpg@40.jpg"] == 30
    assert "hero/shoes/some.jpg@80.jpg" not in found
