"""A user's function in a recipe: in the workers, kept in step, and one bad picture costs one."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from a_project import Project
from a_watcher import Watching, wait_until
from PIL import Image

from pipeline.workers import sandbox

needs_landlock = pytest.mark.skipif(
    sandbox.why_not() is not None, reason=f"no sandbox here: {sandbox.why_not()}"
)

RECIPES = """
[plain]
fit = [40, 40]

[stamped]
fit = [40, 40]
function = "functions:stamp"
options = { colour = "red" }
"""
# It leaves its mark on the pixels, and writes down who ran it, which a sandbox refuses.
STAMP = """
import os
from PIL import Image

def stamp(image: Image.Image, *, colour: str) -> Image.Image:
    assert (image.mode, max(image.size)) == ("RGB", 40)
    image.info["process"] = os.getpid()
    image.paste(colour, (0, 0, 10, 10))
    return image
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path / "project", RECIPES)
    functions(project, STAMP)
    for name in ("a.png", "b.png"):
        project.add(name)
    return project


def functions(project: Project, text: str) -> None:
    (project.root / "functions.py").write_text(text, "utf-8")


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def reasons(project: Project) -> set[str]:
    return {f"{row['recipe']}: {row['reason']}" for row in project.cli("errors", "--json").json}


def test_a_function_gets_the_sized_picture_and_what_it_returns_is_encoded(project: Project) -> None:
    report = project.run()
    assert report["renditions"]["rendered"] == 4
    outputs = project.outputs()
    assert opened(outputs["stamped/a.png"]).getpixel((3, 3)) == (255, 0, 0)
    assert opened(outputs["plain/a.png"]).getpixel((3, 3)) != (255, 0, 0)
    assert project.run()["renditions"]["rendered"] == 0


def test_a_function_runs_in_the_workers_and_its_module_in_no_other_process(
    project: Project,
) -> None:
    project.env["PIPELINE_SANDBOX"] = "off"
    where = project.root / "processes"
    where.mkdir()
    write = f"import os, pathlib\npathlib.Path({str(where)!r}, str(os.getpid())).touch()\n"
    functions(project, write + STAMP)
    project.run("--dry-run")
    assert not list(where.iterdir())
    project.run()
    found = {int(file.name) for file in where.iterdir()}
    assert found
    assert os.getpid() not in found
    assert "functions" not in sys.modules


def test_a_changed_function_makes_again_what_it_made_and_nothing_else(project: Project) -> None:
    project.run()
    before = project.outputs()
    functions(project, STAMP + "\nVERSION = 2\n")
    assert project.run("--dry-run")["renditions"]["rendered"] == 2
    assert project.run()["renditions"]["rendered"] == 2
    assert project.outputs() == before
    project.recipes(RECIPES.replace("red", "blue"))
    assert project.run("--dry-run")["renditions"]["rendered"] == 2
    assert project.run()["renditions"]["rendered"] == 2
    assert opened(project.outputs()["stamped/b.png"]).getpixel((3, 3)) == (0, 0, 255)
    story = project.cli("explain", "a.png", "--json").json
    assert {each["verdict"] for each in story["renditions"]} == {"in step"}


def test_what_a_function_raises_is_one_failed_rendition_with_its_last_line(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    functions(project, "def stamp(image, *, colour):\n    raise ValueError(f'not in {colour}')\n")
    report = project.run(code=1)
    assert (report["renditions"]["rendered"], report["renditions"]["failed"]) == (2, 2)
    assert reasons(project) == {"stamped: functions:stamp: ValueError: not in red"}
    records = [record for record in caplog.records if record.name == "lockstep.workers"]
    assert len(records) == 1
    assert "raise ValueError(f'not in {colour}')" in (records[0].stack_info or "")
    # A failure stays as it is until the function changes.
    assert project.run()["renditions"]["failed"] == 0
    functions(project, STAMP)
    assert project.run()["renditions"]["rendered"] == 2


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("return None", "returned NoneType, and must return a PIL.Image.Image"),
        ("return image.convert('CMYK')", "returned an image in mode CMYK, and must return L, RGB"),
        ("return image.crop((0, 0, 0, 5))", "the picture has no pixels (0 x 5)"),
        ("raise SystemExit(3)", "functions:stamp: SystemExit: 3"),
        pytest.param(
            "import socket; socket.socket()",
            "functions:stamp: PermissionError: [Errno 13]",
            marks=needs_landlock,
        ),
        ("import os; os.abort()", "stamped: its worker was killed"),
        ("return nothing", "functions:stamp: NameError: name 'nothing' is not defined"),
    ],
)
def test_a_function_that_returns_no_picture_has_a_clear_reason(
    project: Project, body: str, reason: str
) -> None:
    functions(project, f"def stamp(image, *, colour):\n    {body}\n")
    project.run(code=1)
    (said,) = reasons(project)
    assert reason in said
    assert set(project.outputs()) == {"plain/a.png", "plain/b.png"}


def test_a_picture_of_any_size_and_mode_may_be_returned(project: Project) -> None:
    functions(
        project,
        "def stamp(image, *, colour):\n    return image.convert('L').resize((7, 90))\n",
    )
    project.run()
    image = opened(project.outputs()["stamped/a.png"])
    assert (image.size, image.mode) == ((7, 90), "L")
    story = project.cli("explain", "a.png", "--json").json
    sizes = {r["recipe"]: (r["width_px"], r["height_px"]) for r in story["renditions"]}
    assert sizes["stamped"] == (7, 90)


def test_a_function_that_draws_on_its_picture_draws_on_no_other(project: Project) -> None:
    """Where nothing is resampled, all recipes begin with the same pixels."""
    project.recipes(RECIPES.replace("fit = [40, 40]", "scale = 1"))
    body = "image.paste(colour, (0, 0, *image.size))\n    return image\n"
    functions(project, f"def stamp(image, *, colour):\n    {body}")
    project.run()
    outputs = project.outputs()
    assert opened(outputs["stamped/a.png"]).getextrema() == ((255, 255), (0, 0), (0, 0))
    assert (
        opened(outputs["plain/a.png"]).tobytes()
        == opened(project.input.joinpath("a.png").read_bytes()).tobytes()
    )


def test_problems_of_a_function_stop_the_run_before_anything_is_written(project: Project) -> None:
    project.recipes(RECIPES.replace("functions:stamp", "functions:stmp"))
    answer = project.cli("run")
    assert answer.code == 2
    assert f"{project.root}/functions.py has no stmp; did you mean stamp?" in answer.stderr
    assert not project.outputs()


def test_a_function_that_hangs_costs_its_own_rendition_alone(project: Project) -> None:
    project.env["PIPELINE_RENDER_TIMEOUT_S"] = "2"
    functions(project, "import time\ndef stamp(image, *, colour):\n    time.sleep(60)\n")
    (project.input / "b.png").unlink()
    report = project.run(code=1)
    assert (report["renditions"]["rendered"], report["renditions"]["failed"]) == (1, 1)
    assert reasons(project) == {"stamped: took longer than 2 s"}


@needs_landlock
def test_a_worker_reads_nothing_of_the_project_but_what_a_setting_names(project: Project) -> None:
    weights = project.root / "models" / "weights"
    weights.parent.mkdir()
    weights.write_text("blue")
    project.root.joinpath("palette.py").write_text(
        "def colour():\n    return open('models/weights').read()"
    )
    functions(project, "import palette\n" + STAMP.replace("paste(colour", "paste(palette.colour()"))
    report = project.run(code=1)
    assert report["renditions"]["failed"] == 2
    (said,) = reasons(project)
    assert "PermissionError: [Errno 13] Permission denied: 'models/weights'" in said
    assert "a function may read no other files" in said
    assert "PIPELINE_FUNCTION_READS" in project.cli("errors").stdout
    project.env["PIPELINE_FUNCTION_READS"] = f"models{os.pathsep}/srv/none"
    assert project.cli("retry").code == 0
    assert project.run()["renditions"]["rendered"] == 2
    assert opened(project.outputs()["stamped/a.png"]).getpixel((3, 3)) == (0, 0, 255)


def test_a_function_works_on_every_frame_of_an_animation(project: Project) -> None:
    frames = [Image.new("RGB", (80, 40), colour) for colour in ("white", "black")]
    frames[0].save(project.input / "m.gif", save_all=True, append_images=frames[1:], duration=50)
    project.run()
    with Image.open(io.BytesIO(project.outputs()["stamped/m.gif"])) as image:
        assert image.n_frames == 2
        for number, ground in ((0, 255), (1, 0)):
            image.seek(number)
            assert image.convert("RGB").getpixel((3, 3)) == (255, 0, 0)
            assert image.convert("RGB").getpixel((30, 15)) == (ground,) * 3


MADE_FROM = """
[stamped]
fit = [40, 40]
function = "functions:stamp"
options = { colour = "red" }

[small]
from = "stamped"
fit = [20, 20]
format = "webp"
"""


def test_a_rendition_of_a_rendition_shows_what_the_function_made(project: Project) -> None:
    project.recipes(MADE_FROM)
    assert project.run()["renditions"]["rendered"] == 4
    red, green, blue = opened(project.outputs()["small/a.png.webp"]).getpixel((1, 1))
    assert red > 240 > 20 > max(green, blue)
    assert max(opened(project.outputs()["small/a.png.webp"]).size) == 20


def test_what_is_made_again_alone_has_the_same_bytes(project: Project) -> None:
    photo = Image.effect_noise((1600, 1200), 90)
    for file in project.input.iterdir():
        file.unlink()
    photo.save(project.input / "a.jpg")
    project.recipes(MADE_FROM.replace("[40, 40]", "[700, 700]").replace("[20, 20]", "[300, 300]"))
    functions(project, STAMP.replace(' == ("RGB", 40)', ""))
    project.run()
    before = project.outputs()
    (project.output / "small/a.jpg.webp").unlink()
    assert project.cli("verify", "--fix").code == 0
    assert project.run()["renditions"]["rendered"] == 0
    assert project.outputs() == before


def test_a_changed_parent_makes_again_what_is_made_from_it(project: Project) -> None:
    project.recipes(MADE_FROM)
    project.run()
    functions(project, STAMP + "\nVERSION = 2\n")
    assert project.run("--dry-run")["renditions"]["rendered"] == 4
    assert project.run()["renditions"]["rendered"] == 4


def test_a_parent_that_fails_is_named_by_what_is_made_from_it(project: Project) -> None:
    project.recipes(MADE_FROM)
    functions(project, "def stamp(image, *, colour):\n    raise ValueError('no')\n")
    project.run(code=1)
    why = "functions:stamp: ValueError: no"
    assert reasons(project) == {
        f"stamped: {why}",
        f"small: [stamped], which it is made from, failed: {why}",
    }


def test_a_watcher_notices_that_a_function_has_changed(
    project: Project, watch: Callable[..., Watching]
) -> None:
    watching = watch()
    watching.wait_for_start()
    wait_until(lambda: len(project.outputs()) == 4)
    functions(project, "def stamp(image, *, colour):\n    return (\n")
    watching.wait_for_words("functions.py, line 2")
    functions(project, STAMP.replace("paste(colour", "paste('blue'"))

    def is_blue(name: str) -> bool:
        data = project.outputs().get(f"stamped/{name}")
        return data is not None and opened(data).getpixel((3, 3)) == (0, 0, 255)

    wait_until(lambda: is_blue("a.png") and is_blue("b.png"))
    # The workers are those that have loaded the function before.
    assert watching.stop() == 0
