"""Whatever cuts a run off, at any moment, the next run brings all in step."""

import os
import random
import re
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest
from a_feature import OWN
from a_project import HALF_AND_THUMB, Project
from killing import alive_in_group, apart, kill_at, temporary_files


def assert_healed(project: Project, want: dict[str, bytes] | None = None) -> None:
    """One run fixes all; what it leaves is what a run that was never cut off would have left."""
    project.run()
    assert temporary_files(project) == []
    project.assert_in_step(want)
    assert project.cli("verify", "--deep").code == 0
    status = project.cli("status", "--json").json
    assert (status["pending"], status["failed"]) == (0, 0)
    assert project.cli("status", "--check").code == 0
    report = project.run()
    assert (report["renditions"]["rendered"], report["features"]["made"]) == (0, 0)
    assert_features_healed(project)
    interrupted = project.query("SELECT value FROM lockstep_state WHERE name = 'interrupted'")
    assert interrupted == []


def assert_features_healed(project: Project) -> None:
    """Each feature says of each original what it says of its present bytes."""
    names = re.findall(r"\[features\.(\w+)\]", (project.root / "recipes.toml").read_text("utf-8"))
    files = [file for file in project.input.rglob("*") if file.is_file()]
    rows = project.query(
        f"SELECT name, path, state, json_extract(value, '$.bytes') FROM features WHERE {OWN}"
    )
    assert sorted(rows) == sorted(
        (name, file.relative_to(project.input).as_posix(), "ok", file.stat().st_size)
        for name in names
        for file in files
    )


def change_a_bit_of_everything(project: Project) -> None:
    """A new, a changed, a moved, a copied and a removed original; changed recipes and features."""
    project.add("new/1.png", seed="n")
    project.add("changed.png", seed="c2")
    (project.input / "moved.png").rename(project.input / "elsewhere.png")
    shutil.copy(project.input / "kept.png", project.input / "copy.png")
    (project.input / "removed/1.png").unlink()
    project.recipes(
        "[half]\nscale = 0.5\n[thumb]\nfit = [24, 24]\n[more]\nwidth = 20\nformat = 'webp'\n"
        "[features.kept]\nfunction = 'size'\n"
        "[features.changed]\nfunction = 'size'\nmax_side = 9\n"
        "[features.added]\nfunction = 'size'\n"
    )


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in step, to be copied: each kill starts from the same state."""
    features = "".join(
        f"[features.{name}]\nfunction = 'size'\n" for name in ("kept", "changed", "gone")
    )
    project = Project(tmp_path_factory.mktemp("before") / "shop", HALF_AND_THUMB + features)
    for name in ("changed.png", "moved.png", "kept.png", "removed/1.png", "other.png"):
        project.add(name)
    project.run()
    change_a_bit_of_everything(project)
    return project.root


@pytest.fixture(scope="module")
def after(before: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run that nothing cuts off leaves of it, whatever came before."""
    return copy_of(before, tmp_path_factory.mktemp("after"), "whole").expected()


def copy_of(root: Path, tmp_path: Path, name: str) -> Project:
    shutil.copytree(root, tmp_path / name / "shop", copy_function=_with_times)
    project = Project.__new__(Project)
    project.__dict__.update(
        root=tmp_path / name / "shop",
        input=tmp_path / name / "shop/input",
        output=tmp_path / name / "shop/output",
        env={"PIPELINE_WORKERS": "2"},
    )
    # The copy stands for the folder itself, and not for another disk in its place.
    project.query("DELETE FROM lockstep_state WHERE name = 'input'")
    return project


def _with_times(source: str, target: str) -> str:
    return str(shutil.copy2(source, target))


# Samples of all moments, from each of three starts, until the run ends by itself.
@pytest.mark.parametrize("first", [1, 7, 13])
def test_a_kill_between_any_two_writes_is_healed(
    before: Path, after: dict[str, bytes], tmp_path: Path, first: int
) -> None:
    moment, killed = first, 0
    while True:
        project = copy_of(before, tmp_path, f"at-{moment}")
        code = project.in_child(kill_at(moment), "run")
        if code != -signal.SIGKILL:
            assert code == 0
            break
        assert_healed(project, after)
        killed += 1
        moment += apart(83)
    assert killed >= 1
    project.assert_in_step(after)


def test_kills_in_a_row_are_healed(before: Path, tmp_path: Path) -> None:
    project = copy_of(before, tmp_path, "again")
    for moment in (12, 30, 7, 25):
        project.in_child(kill_at(moment), "run")
        project.add("changed.png", seed=moment)
        (project.input / "new/1.png").unlink(missing_ok=True)
    assert_healed(project)


def test_a_first_run_that_is_killed_is_healed(tmp_path: Path) -> None:
    for moment in (1, 8, 18, 26):
        project = Project(tmp_path / f"at-{moment}" / "shop")
        for number in range(4):
            project.add(f"{number}.png")
        project.in_child(kill_at(moment), "run")
        (project.input / "0.png").unlink()
        assert_healed(project)


def test_processes_killed_at_random_moments_leave_nothing_behind(project: Project) -> None:
    chance = random.Random(6)
    for number in range(60):
        project.add(f"{number % 5}/{number}.jpg", size=(600, 400))
    for _ in range(4):
        process = project.start_script("run", start_new_session=True)
        time.sleep(chance.uniform(1.0, 2.5))
        process.kill()
        process.communicate()
    # The lock died with its process; the workers went with it.
    answer = project.process("run", "--json")
    assert answer.code == 0, answer
    assert temporary_files(project) == []
    assert len(project.outputs()) == 120
    assert project.cli("verify", "--deep").code == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_stopped_keeps_what_is_done(
    project: Project, number: signal.Signals, code: int
) -> None:
    for index in range(150):
        project.add(f"{index}.jpg", size=(1200, 800))
    process = project.start("run", session=True)
    done = project.output / "half"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not any(done.glob("[0-9]*.jpg")):
        time.sleep(0.02)
    began = time.monotonic()
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == code, (out, err)
    assert time.monotonic() - began < 5
    assert "Traceback" not in err
    assert temporary_files(project) == []
    recorded = project.query("SELECT count(*) FROM renditions WHERE state = 'ok'")[0][0]
    assert recorded >= 1
    time.sleep(0.5)
    assert alive_in_group(process.pid) == []
    answer = project.cli("run", "--json")
    assert answer.code == 0
    assert len(project.outputs()) == 300
    assert project.cli("verify", "--deep").code == 0


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs to see the processes")
def test_ctrl_c_while_the_workers_load_leaves_nothing_behind(project: Project) -> None:
    # So slow that the run is not over before this process gets to see its workers.
    project.recipes("[half]\nscale = 0.5\nfunction = 'functions:slow'\n")
    slow = "import time\n\n\ndef slow(image):\n    time.sleep(2)\n    return image\n"
    (project.root / "functions.py").write_text(slow)
    for index in range(30):
        project.add(f"{index}.jpg")

    def obey() -> None:
        # Whoever runs these tests in the background of a shell has them ignore Ctrl-C.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    process = project.start_script("run", start_new_session=True, preexec_fn=obey)
    deadline = time.monotonic() + 60
    # The command, the resource tracker, and the fork server, which loads the decoders now.
    while time.monotonic() < deadline and len(alive_in_group(process.pid)) < 3:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert "stopped; finished work is kept, the next run continues\n" in err
    assert "KeyboardInterrupt" not in err
    time.sleep(0.5)
    assert alive_in_group(process.pid) == []
    assert temporary_files(project) == []


def test_a_full_disk_is_one_clear_error_and_heals(project: Project) -> None:
    for index in range(6):
        project.add(f"{index}.png")
    # As a full disk: no file may grow beyond this. The database is smaller.
    assert project.process("db", "create-all").code == 0

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))

    project.recipes("[copy]\nscale = 1.0\nformat = 'png'\n")
    noise = random.Random(1).randbytes(900 * 900 * 3)
    from PIL import Image

    Image.frombytes("RGB", (900, 900), noise).save(project.input / "large.bmp")
    answer = project.script("run", preexec_fn=limit)
    assert answer.code == 2, answer
    assert "large.bmp.png: cannot be written" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert temporary_files(project) == []
    assert project.run()["renditions"]["in_step"] == 7
    project.assert_in_step()
