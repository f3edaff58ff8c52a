"""Features: values that functions make of the originals stay in step with both."""

from __future__ import annotations

from pathlib import Path

import pytest
from a_feature import FUNCTIONS, RECIPES, a_project_with_features, differing, states, values, write
from a_project import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return a_project_with_features(tmp_path / "project")


def test_each_original_has_the_values_of_each_feature(project: Project) -> None:
    project.add("a.jpg")
    project.add("sub/b.png", size=(20, 40))
    report = project.run()
    assert report["features"] == {
        "made": 4,
        "reused": 0,
        "deleted": 0,
        "taken_down": 0,
        "failed": 0,
        "failed_before": 0,
        "in_step": 4,
    }
    assert report["renditions"]["rendered"] == report["renditions"]["in_step"] == 2
    widths = {key: value["width"] for key, value in values(project).items() if key[1] == "mine"}
    assert widths == {("a.jpg", "mine"): 32, ("sub/b.png", "mine"): 16}
    before = values(project)
    assert project.run()["features"]["made"] == 0
    assert values(project) == before


def test_a_project_may_have_features_and_no_recipe(project: Project) -> None:
    project.recipes('[features.size]\nfunction = "size"\n')
    file = project.add("a.jpg")
    project.run()
    assert values(project) == {
        ("a.jpg", "size"): {
            "width": 60,
            "height": 40,
            "format": "jpeg",
            "bytes": file.stat().st_size,
        }
    }
    assert project.outputs() == {}


def test_a_changed_function_makes_again_what_it_made_and_nothing_else(project: Project) -> None:
    project.add("a.jpg")
    project.add("b.jpg")
    project.run()
    before, stamps = values(project), project.stamps()
    write(project, FUNCTIONS + "\nVERSION = 2\n")
    foreseen = project.run("--dry-run")
    assert (foreseen["features"]["made"], foreseen["renditions"]["rendered"]) == (2, 0)
    report = project.run()
    assert (report["features"]["made"], report["renditions"]["rendered"]) == (2, 0)
    assert differing(before, values(project)) == {("a.jpg", "mine"), ("b.jpg", "mine")}
    assert project.stamps() == stamps
    assert project.run("--dry-run")["features"]["made"] == 0


@pytest.mark.parametrize("change", ["max_side = 33", "max_side = 32\noptions = { times = 2 }"])
def test_a_changed_option_makes_the_feature_again(project: Project, change: str) -> None:
    project.add("a.jpg")
    project.run()
    before = values(project)
    project.recipes(RECIPES.replace("max_side = 32", change))
    assert project.run("--dry-run")["features"]["made"] == 1
    project.run()
    assert differing(before, values(project)) == {("a.jpg", "mine")}


def test_a_changed_recipe_makes_no_feature_again(project: Project) -> None:
    project.add("a.jpg")
    project.run()
    before = values(project)
    project.recipes(RECIPES.replace("0.5", "0.25"))
    assert project.run()["renditions"]["rendered"] == 1
    assert values(project) == before


def test_a_feature_that_is_gone_from_the_file_loses_its_rows(project: Project) -> None:
    project.add("a.jpg")
    project.run()
    before, stamps = values(project), project.stamps()
    project.recipes(RECIPES.partition("[features.other]")[0])
    assert project.run("--dry-run")["features"]["deleted"] == 1
    report = project.run()
    assert (report["features"]["deleted"], report["renditions"]["deleted"]) == (1, 0)
    assert differing(before, values(project)) == {("a.jpg", "other")}
    assert project.stamps() == stamps
    assert project.query("SELECT path FROM features_meta WHERE delete_ts IS NOT NULL") == []


def test_they_follow_their_original(project: Project) -> None:
    project.add("a.jpg")
    project.add("b.jpg")
    project.run()
    before = values(project)
    project.add("a.jpg", seed=2)
    (project.input / "b.jpg").unlink()
    assert project.run("--dry-run")["features"]["deleted"] == 2
    report = project.run()
    assert (report["features"]["made"], report["features"]["deleted"]) == (2, 2)
    after = values(project)
    assert after.keys() == {("a.jpg", "mine"), ("a.jpg", "other")}
    assert not differing(before, after) & {("a.jpg", "x")}
    assert all(before[key] != after[key] for key in after)


def test_an_original_that_moves_takes_its_values_along(project: Project) -> None:
    project.add("a.jpg")
    project.run()
    before = values(project)
    (project.input / "a.jpg").rename(project.input / "moved.jpg")
    report = project.run()
    assert (report["features"]["made"], report["features"]["reused"]) == (0, 2)
    assert values(project) == {("moved.jpg", name): value for (_, name), value in before.items()}


def test_identical_originals_share_one_call_of_the_function(project: Project) -> None:
    data = project.add("a.jpg").read_bytes()
    (project.input / "b.jpg").write_bytes(data)
    report = project.run()
    assert (report["features"]["made"], report["features"]["reused"]) == (2, 2)
    found = values(project)
    assert found["a.jpg", "mine"] == found["b.jpg", "mine"]
    # Also where the one was there before, and where only a feature is made.
    (project.input / "c.jpg").write_bytes(data)
    project.run()
    assert values(project)["c.jpg", "mine"] == found["a.jpg", "mine"]
    write(project, FUNCTIONS + "\nVERSION = 2\n")
    assert project.run()["features"] | {"in_step": 0} == report["features"] | {
        "made": 1,
        "reused": 2,
        "in_step": 0,
    }


def test_what_a_function_raises_is_one_failed_feature(project: Project) -> None:
    project.add("a.jpg")
    write(project, FUNCTIONS.replace("return {", "raise ValueError('no colours')\n    return {", 1))
    report = project.run(code=1)
    assert (report["features"]["failed"], report["features"]["in_step"]) == (1, 1)
    assert (report["renditions"]["failed"], report["renditions"]["in_step"]) == (0, 1)
    why = "functions:mine: ValueError: no colours"
    assert states(project)["a.jpg", "mine"] == ("failed", why)
    (error,) = project.cli("errors", "--json").json
    assert (error["path"], error["recipe"], error["reason"]) == ("a.jpg", "features.mine", why)
    # Tried again on request, and when the function changes, but not by itself.
    assert project.run()["features"]["failed_before"] == 1
    assert project.cli("retry").code == 0
    assert "feature mine: functions:mine: ValueError" in project.cli("run").stdout
    write(project, FUNCTIONS)
    assert project.run()["features"]["made"] == 1
    assert project.cli("errors", "--json").json == []


def test_a_function_that_hangs_costs_its_feature_and_no_rendition(project: Project) -> None:
    project.add("a.jpg")
    project.env["PIPELINE_RENDER_TIMEOUT_S"] = "2"
    project.recipes(RECIPES.partition("[features.other]")[0])
    write(project, "import time\n\n\ndef mine(image):\n    time.sleep(600)\n")
    report = project.run(code=1)
    assert (report["features"]["failed"], report["renditions"]["in_step"]) == (1, 1)
    state, reason = states(project)["a.jpg", "mine"]
    assert (state, "took longer than" in str(reason)) == ("failed", True)


def test_the_traceback_is_logged(project: Project) -> None:
    project.add("a.jpg")
    write(project, FUNCTIONS.replace("return {", "raise ValueError('no colours')\n    return {", 1))
    answer = project.process("run")
    assert answer.code == 1
    assert 'functions.py", line 6, in mine' in answer.stderr


def test_what_cannot_be_decoded_has_no_values(project: Project) -> None:
    (project.input / "a.jpg").write_bytes(b"\xff\xd8\xff no picture")
    report = project.run(code=1)
    assert (report["features"]["failed"], report["renditions"]["failed"]) == (2, 1)
    project.add("a.jpg")
    assert project.run()["features"]["made"] == 2


def test_an_original_that_breaks_loses_its_values(project: Project) -> None:
    project.add("a.jpg")
    project.run()
    (project.input / "a.jpg").write_bytes(b"\xff\xd8\xff no picture")
    project.run(code=1)
    assert values(project) == {}
    assert project.query("SELECT value FROM features WHERE value IS NOT NULL") == []


def test_a_takedown_empties_the_values_and_reinstating_makes_them_again(project: Project) -> None:
    project.add("a.jpg")
    project.add("b.jpg")
    data = (project.input / "a.jpg").read_bytes()
    (project.input / "twin.jpg").write_bytes(data)
    project.run()
    moved = dict(project.query("SELECT path, update_ts FROM features_meta"))
    kept = {key: value for key, value in values(project).items() if key[0] == "b.jpg"}
    assert project.cli("takedown", "add", "a.jpg", "--reason", "withdrawn").code == 0
    assert values(project) == kept
    state, reason = states(project)["twin.jpg", "mine"]
    assert state == "taken_down"
    assert reason
    # Steps of users that read the table learn of it.
    after = dict(project.query("SELECT path, update_ts FROM features_meta"))
    assert after["a.jpg"] > moved["a.jpg"]
    assert after["b.jpg"] == moved["b.jpg"]
    project.run()
    assert values(project) == kept
    # Put there again under another name, it gets none either.
    (project.input / "again.jpg").write_bytes(data)
    assert project.run()["features"]["taken_down"] == 2
    assert values(project) == kept
    (project.input / "again.jpg").unlink()
    project.run()
    assert project.cli("takedown", "reinstate", "1").code == 0
    project.run()
    assert {path for path, _ in values(project)} == {"a.jpg", "b.jpg", "twin.jpg"}
