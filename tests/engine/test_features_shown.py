"""Features in the commands, in an older `app.py` or database, and in steps of the users."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from a_feature import FUNCTIONS, a_project_with_features, differing, values, write
from a_project import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return a_project_with_features(tmp_path / "project")


def test_rehash_and_older_renderers_reach_features_as_well(project: Project) -> None:
    project.add("a.jpg")
    project.run()
    before = values(project)
    assert project.run("--rehash")["features"]["made"] == 0
    project.query("UPDATE features SET renderer = 1")
    assert project.cli("retry", "--older", "--json").json == {"retried": 2}
    project.run()
    assert differing(before, values(project)) == before.keys()


def test_status_explain_and_the_list_show_them(project: Project) -> None:
    project.add("a.jpg")
    project.run()
    status = project.cli("status", "--json").json
    assert (status["renditions"], list(status["recipes"])) == (1, ["half"])
    assert status["features"]["mine"] == {
        "ok": 1,
        "failed": 0,
        "held": 0,
        "taken_down": 0,
        "pending": 0,
    }
    assert "  feature mine: 1 ok, 0 failed, 0 pending\n" in project.cli("status").stdout
    assert project.cli("status", "--check").code == 0
    found = values(project)["a.jpg", "mine"]
    story = project.cli("explain", "a.jpg", "--json").json
    mine = story["features"][0]
    assert (mine["name"], mine["value"], mine["verdict"]) == ("mine", found, "in step")
    assert [of["recipe"] for of in story["renditions"]] == ["half"]
    assert "  feature mine: ok; in step" in project.cli("explain", "a.jpg").stdout
    (row,) = project.cli("features", "--name", "mine", "--json").json
    assert (row["path"], row["name"], row["state"], row["value"]) == (
        "a.jpg",
        "mine",
        "ok",
        found,
    )
    assert f"a.jpg [mine] {json.dumps(found)}\n" in project.cli("features").stdout
    assert len(project.cli("features", "--json").json) == 2
    write(project, FUNCTIONS + "\nVERSION = 2\n")
    story = project.cli("explain", "a.jpg", "--json").json
    assert story["features"][0]["verdict"] == "would be made: the feature changed"


def test_a_list_of_features_that_nobody_knows_says_which_there_are(project: Project) -> None:
    assert project.cli("features", "--json").json == []
    answer = project.cli("features", "--name", "palette")
    assert (answer.code, "no run has seen a feature palette" in answer.stderr) == (2, True)
    project.run()
    assert "there are mine, other" in project.cli("features", "--name", "palette").stderr


def test_status_says_that_a_feature_is_pending(project: Project) -> None:
    project.add("a.jpg")
    project.run()
    project.query("UPDATE render_meta SET is_success = 0 WHERE recipe = 'features.mine'")
    status = project.cli("status", "--json").json
    assert (status["pending"], status["features"]["mine"]["pending"]) == (0, 1)
    assert project.cli("status", "--check").code == 1


def test_an_app_without_the_table_goes_on_and_says_what_features_need(project: Project) -> None:
    app = (project.root / "app.py").read_text("utf-8")
    for line in (
        '    "features": tables.features_columns(),\n',
        '            features="features",\n',
    ):
        assert app.count(line) == 1
        app = app.replace(line, "")
    (project.root / "app.py").write_text(app, "utf-8")
    project.add("a.jpg")
    for dry in ((), ("--dry-run",)):
        answer = project.cli("run", *dry)
        assert answer.code == 2
        assert "has [features.mine], and app.py declares no table of features" in answer.stderr
    project.recipes("[half]\nscale = 0.5\n")
    assert project.run()["renditions"]["rendered"] == 1
    assert project.cli("features").code == 0
    assert project.cli("explain", "a.jpg").code == 0
    assert project.cli("takedown", "add", "a.jpg", "--reason", "withdrawn").code == 0


def test_a_database_from_before_features_gets_their_table(project: Project) -> None:
    project.add("a.jpg")
    recipes = (project.root / "recipes.toml").read_text("utf-8")
    project.recipes("[half]\nscale = 0.5\n")
    project.run()
    stamps = project.stamps()
    project.query("DROP TABLE features")
    project.query("DROP TABLE features_meta")
    project.recipes(recipes)
    report = project.run()
    assert (report["features"]["made"], report["renditions"]["rendered"]) == (2, 0)
    assert project.stamps() == stamps


def test_without_features_the_change_query_is_what_it_was(project: Project) -> None:
    project.env["PIPELINE_NEAR"] = "off"
    project.recipes("[half]\nscale = 0.5\n")
    project.add("a.jpg")
    assert project.run()["features"]["in_step"] == 0
    assert "features" not in project.cli("run").stdout
    assert project.query("SELECT recipe FROM render_meta") == [("half",)]


@pytest.mark.parametrize(
    ("recipes", "problem"),
    [
        ("[features]\nfit = [4, 4]\n", "[features]: holds features, such as [features.palette]"),
        ("[features.x]\nmax_side = 4\n", "[features.x] has no function"),
        (
            '[features.x]\nfunction = "size"\nmaxside = 4\n',
            "[features.x] maxside: is not a key of a feature; did you mean max_side?",
        ),
        ('[features.x]\nfunction = "size"\nmax_side = 0\n', "max_side = 0: must be a whole number"),
        ('[features."a b"]\nfunction = "size"\n', "the name of a feature has 1 to 64 letters"),
        ("features = 3\n", "[features]: holds features"),
    ],
)
def test_problems_of_features_are_told_with_those_of_recipes(
    project: Project, recipes: str, problem: str
) -> None:
    project.recipes(recipes)
    answer = project.cli("run")
    assert answer.code == 2
    assert problem in answer.stderr


STEP = """
from datapipe.step.batch_transform import BatchTransform


def wide(df):
    return df[df["state"] == "ok"][["source", "path", "name", "value"]]

"""


def test_a_step_of_the_users_reads_them_and_sees_what_changes_and_goes(project: Project) -> None:
    app = (project.root / "app.py").read_text("utf-8")
    app = app.replace("\nsettings = load_settings()", f"{STEP}\nsettings = load_settings()")
    app = app.replace(
        '    "csv_rows":',
        '    "copied": [*tables.features_columns()[:4]],\n    "csv_rows":',
    )
    step = 'BatchTransform(wide, inputs=["features"], outputs=["copied"])'
    app = app.replace("    ]\n)\n\napp = ", f"        {step},\n    ]\n)\n\napp = ")
    (project.root / "app.py").write_text(app, "utf-8")
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        project.add(name)

    def copied() -> dict[tuple[str, str], Any]:
        rows = project.query("SELECT path, name, value FROM copied WHERE name <> 'lockstep:pdq'")
        return {(path, name): json.loads(value) for path, name, value in rows}

    project.run()
    assert len(copied()) == 6
    assert copied() == values(project)
    write(project, FUNCTIONS + "\nVERSION = 2\n")
    (project.input / "b.jpg").unlink()
    project.run()
    assert copied() == values(project)
    assert project.cli("takedown", "add", "c.jpg", "--reason", "withdrawn").code == 0
    project.run()
    assert {path for path, _ in copied()} == {"a.jpg"}
    assert copied() == values(project)


def test_since_is_when_the_state_began(project: Project) -> None:
    project.add("a.jpg")
    before = time.time()
    project.run()
    ((since,),) = project.query("SELECT DISTINCT since FROM features")
    assert before - 1 <= since <= time.time() + 1


def test_each_that_comes_with_lockstep_is_made_in_the_workers(project: Project) -> None:
    shipped = ("palette", "pdq", "size", "thumbhash")
    project.recipes("".join(f'[features.{name}]\nfunction = "{name}"\n' for name in shipped))
    project.add("a.png", size=(300, 200))
    project.run()
    found = values(project)
    assert {name for _, name in found} == set(shipped)
    assert found["a.png", "size"]["width"] == 300
    assert len(found["a.png", "pdq"]["pdq"]) == 64
