"""A user's own render step in `app.py`, beside ours: nothing takes it for one of ours."""

from __future__ import annotations

import pytest
from a_shop import Shop

EXTRA = """        Render(
            originals="originals",
            recipes="recipes",
            output="extra_renditions",
            sources=sources[:1],
            output_dir=settings.output_dir / "extra",
            settings=settings,
            name="extra",
        ),
"""
TABLE = '    "extra_renditions": tables.renditions_columns(),\n'
# What it is declared after: our render step, or the last of our steps.
PLACES = {
    "between": ("        ScanCsvs(", EXTRA + "        ScanCsvs("),
    "last": ("    ]\n)\n\napp = ", EXTRA + "    ]\n)\n\napp = "),
}


@pytest.fixture(params=PLACES)
def extended(request: pytest.FixtureRequest, shop: Shop) -> Shop:
    """A project whose `app.py` declares one more render step."""
    file = shop.root / "app.py"
    text = file.read_text("utf-8")
    for before, after in [("columns = {\n", "columns = {\n" + TABLE), PLACES[request.param]]:
        assert text.count(before) == 1
        text = text.replace(before, after)
    file.write_text(text, "utf-8")
    shop.env["PIPELINE_JOB_RECIPES"] = "half"
    return shop


def test_originals_have_the_renditions_of_both_steps_and_stay_in_step(extended: Shop) -> None:
    extended.add("a.jpg")
    extended.add("sub/b.png")
    extended.run()
    ours = extended.expected()
    assert extended.outputs() == ours | {f"extra/{name}": ours[name] for name in ours}
    status = extended.cli("status", "--json").json
    assert (status["originals"], status["renditions"], status["pending"]) == (2, 4, 0)
    stamps = extended.stamps()
    assert extended.run()["renditions"]["in_step"] == 4
    assert extended.stamps() == stamps
    (extended.input / "a.jpg").unlink()
    extended.run()
    assert not [name for name in extended.outputs() if "a.jpg" in name]
    # Both have seen it: nothing of it makes the change query of later runs longer.
    for table in ("originals_meta", "render_meta", "extra_meta"):
        assert extended.query(f"SELECT DISTINCT path FROM {table}") == [("sub/b.png",)]


def test_verify_fixes_what_either_step_lost(extended: Shop) -> None:
    extended.add("a.jpg")
    extended.run()
    before = set(extended.outputs())
    assert extended.cli("verify").code == 0
    for name in before:
        if name.startswith(("half/", "extra/thumb/")):
            (extended.output / name).unlink()
    assert extended.cli("verify").code == 1
    assert extended.cli("verify", "--fix").code == 0
    assert set(extended.outputs()) == before
    assert extended.cli("verify").code == 0


def test_a_takedown_removes_the_renditions_of_both_steps(extended: Shop) -> None:
    extended.add("a.jpg")
    extended.add("b.jpg")
    extended.run()
    kept = {name for name in extended.outputs() if "a.jpg" not in name}
    answer = extended.cli("takedown", "add", "a.jpg", "--reason", "withdrawn")
    assert answer.code == 0, answer
    assert set(extended.outputs()) == kept
    extended.run(code=None)
    assert set(extended.outputs()) == kept


def test_a_job_gets_its_answer_and_no_other_step_decides_when(extended: Shop) -> None:
    extended.add("a.jpg")
    file = extended.csv({"1": extended.urls("/pic/1"), "2": extended.urls("/pic/2")})
    reference = extended.submit(file)
    extended.run()
    assert extended.job(reference)["state"] == "completed"
    pictures = extended.pictures()
    assert [row[3] for row in extended.answer(reference)[1:]] == [f"jobs/{n}" for n in pictures]
    assert set(extended.run("--dry-run")["jobs"]["renditions"].values()) == {0}
    # Renditions of jobs that are lost are made again, and the answer waits for them.
    (extended.output / "jobs" / pictures[0]).unlink()
    assert extended.cli("verify", "--fix").code == 0
    assert extended.pictures() == pictures
    answer = extended.cli("job", "delete", reference, "--json")
    assert answer.json["removed"] is True
    assert extended.pictures() == []
    assert extended.cli("verify").code == 0


def test_a_job_can_be_worked_on_at_once(extended: Shop) -> None:
    extended.add("a.jpg")
    file = extended.csv({"1": extended.urls("/pic/1")})
    answer = extended.cli("job", "submit", str(file), "--wait", "--json")
    assert (answer.code, answer.json["state"]) == (0, "completed"), answer
    assert extended.pictures()


def test_a_dry_run_asks_both_steps(extended: Shop) -> None:
    extended.add("a.jpg")
    extended.add("b.jpg")
    extended.run()
    (extended.input / "a.jpg").unlink()
    extended.add("b.jpg", seed=2)
    said = extended.run("--dry-run")["renditions"]
    assert (said["rendered"], said["deleted"]) == (4, 4)
    done = extended.run()["renditions"]
    assert (done["rendered"], done["deleted"]) == (4, 4)


def test_two_render_steps_with_one_table_are_refused_at_the_start(extended: Shop) -> None:
    file = extended.root / "app.py"
    text = file.read_text("utf-8")
    for table in ("features", "output"):
        given = {"features": 'name="extra",\n            features="features",'}
        new = text.replace('name="extra",', given.get(table, 'name="extra",'))
        if table == "output":
            new = text.replace('output="extra_renditions"', 'output="renditions"')
        file.write_text(new, "utf-8")
        answer = extended.cli("run")
        name = {"features": "features", "output": "renditions"}[table]
        assert answer.code == 2
        assert f"the steps 'render' and 'extra' both write the table '{name}'" in (
            answer.stderr.replace("'extra' and 'render'", "'render' and 'extra'")
        )
