"""Neither a clock that is put back nor a loss of power loses a change."""

import json
import shutil
import sqlite3
import time

import pytest
from a_project import Project


def test_a_clock_put_back_loses_no_change(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.add("a.png", seed=1)
    project.add("b.png", seed=1.5)
    project.run()
    now = time.time
    for back_s, seed in ((3_600, 2), (86_400, 3), (7_200, 4)):
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda back_s=back_s: now() - back_s)
            project.add("a.png", seed=seed)
            assert project.run()["renditions"]["rendered"] == 2
            project.recipes(f"[half]\nscale = 0.5\n[thumb]\nfit = [{20 + seed}, 20]\n")
            there = len(list(project.input.iterdir()))
            assert project.run()["renditions"]["rendered"] == there
            (project.input / "b.png").unlink(missing_ok=True)
            project.run()
        project.assert_in_step()
    assert project.run()["renditions"]["rendered"] == 0


def test_after_a_power_loss_damaged_renditions_are_made_again(project: Project) -> None:
    for number in range(4):
        project.add(f"{number}.png")
    project.run()
    whole = project.outputs()
    # What a file system may leave of files that were not written back: nothing, zeros, no name.
    (project.output / "half/0.png").write_bytes(b"")
    size = (project.output / "half/1.png").stat().st_size
    (project.output / "half/1.png").write_bytes(bytes(size))
    (project.output / "half/2.png").unlink()
    # The same boot: a run trusts its rows.
    assert project.run()["renditions"]["rendered"] == 0

    con = sqlite3.connect(project.root / "db.sqlite")
    ((value,),) = con.execute("SELECT value FROM lockstep_state WHERE name = 'boot'").fetchall()
    other = json.dumps(json.loads(value) | {"id": "another boot"})
    con.execute("UPDATE lockstep_state SET value = ? WHERE name = 'boot'", (other,))
    con.commit()
    con.close()
    assert project.run()["renditions"]["rendered"] == 3
    assert project.outputs() == whole
    assert project.run()["renditions"]["rendered"] == 0


def test_a_copy_of_the_database_alone_holds_what_a_run_wrote(project: Project) -> None:
    for number in range(4):
        project.add(f"{number}.png")
    assert project.process("run").code == 0
    copy = shutil.copy(project.root / "db.sqlite", project.root / "copy.sqlite")
    for file in project.root.glob("db.sqlite*"):
        file.unlink()
    shutil.move(copy, project.root / "db.sqlite")
    report = project.run()
    assert report["originals"]["unchanged"] == 4
    assert report["renditions"]["rendered"] == 0


def test_a_project_that_is_moved_or_restored_goes_on(project: Project) -> None:
    for number in range(4):
        project.add(f"{number}.png")
    project.run()
    before = project.outputs()
    moved = project.root.with_name("elsewhere")
    shutil.copytree(project.root, moved)
    project.root, project.input, project.output = moved, moved / "input", moved / "output"
    report = project.run()
    assert report["renditions"]["rendered"] == 0
    assert report["originals"]["unchanged"] == 4
    assert project.outputs() == before
