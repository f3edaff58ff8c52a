"""Whatever happens to originals and recipes, one run brings the renditions in step."""

import os
import random
import shutil
from pathlib import Path

import pytest
from a_project import Project, picture


def counts(report: dict) -> dict[str, int]:
    """The counts of a report that are not zero, without `in_step` and `unchanged`."""
    both = report["originals"] | report["renditions"]
    return {k: v for k, v in both.items() if v and k not in ("in_step", "unchanged")}


def test_new_changed_and_removed_originals_move_their_own_renditions_only(project: Project) -> None:
    for name in ("a.jpg", "b.png", "deep/er/c.gif", "deep/d.webp", "deep/e.tif", "f.bmp"):
        project.add(name)
    assert counts(project.run()) == {"new": 6, "rendered": 12}
    assert sorted(project.outputs()) == [
        "half/a.jpg",
        "half/b.png",
        "half/deep/d.webp",
        "half/deep/e.tif.png",
        "half/deep/er/c.gif",
        "half/f.bmp.png",
        "thumb/a.jpg.webp",
        "thumb/b.png.webp",
        "thumb/deep/d.webp",
        "thumb/deep/e.tif.webp",
        "thumb/deep/er/c.gif.webp",
        "thumb/f.bmp.webp",
    ]
    rest = {k: v for k, v in project.stamps().items() if "b.png" not in k and "d.webp" not in k}

    project.add("b.png", seed=2)
    (project.input / "deep/d.webp").unlink()
    project.add("new/one.jpg")
    assert counts(project.run()) == {
        "new": 1,
        "changed": 1,
        "removed": 1,
        "rendered": 4,
        "deleted": 2,
    }
    after = project.stamps()
    assert {name: after[name] for name in rest} == rest
    project.assert_in_step()
    rows = project.query("SELECT path, recipe, file, state FROM renditions ORDER BY 1, 2 LIMIT 2")
    assert rows == [
        ("a.jpg", "half", "half/a.jpg", "ok"),
        ("a.jpg", "thumb", "thumb/a.jpg.webp", "ok"),
    ]


def test_many_change_at_once_and_the_last_original_goes(project: Project) -> None:
    for number in range(30):
        project.add(f"{number % 3}/{number:02}.png")
    assert counts(project.run()) == {"new": 30, "rendered": 60}
    for number in range(0, 30, 2):
        project.add(f"{number % 3}/{number:02}.png", seed=number)
    for number in range(1, 30, 2):
        (project.input / f"{number % 3}/{number:02}.png").unlink()
    assert counts(project.run()) == {"changed": 15, "removed": 15, "rendered": 30, "deleted": 30}
    project.assert_in_step()

    for number in range(2, 30, 2):
        (project.input / f"{number % 3}/{number:02}.png").unlink()
    assert counts(project.run()) == {"removed": 14, "deleted": 28}
    assert sorted(project.outputs()) == ["half/0/00.png", "thumb/0/00.png.webp"]

    (project.input / "0/00.png").unlink()
    assert counts(project.run("--allow-removed")) == {"removed": 1, "deleted": 2}
    assert [path.name for path in project.output.iterdir()] == [".lockstep.json"]
    assert project.query("SELECT count(*) FROM renditions") == [(0,)]

    project.add("0/00.png")
    assert counts(project.run()) == {"new": 1, "rendered": 2}
    project.assert_in_step()


def test_an_emptied_input_folder_empties_the_output(project: Project) -> None:
    for number in range(5):
        project.add(f"{number}.jpg")
    project.run()
    shutil.rmtree(project.input)
    project.input.mkdir()
    assert counts(project.run("--allow-removed")) == {"removed": 5, "deleted": 10}
    assert project.outputs() == {}


def test_a_renamed_folder_moves_its_renditions(project: Project) -> None:
    for number in range(4):
        project.add(f"shoes/red/{number}.jpg")
    project.run()
    (project.input / "shoes").rename(project.input / "boots")
    assert counts(project.run()) == {"new": 4, "removed": 4, "reused": 8, "deleted": 8}
    project.assert_in_step()
    assert not (project.output / "half/shoes").exists()


def test_touch_copy_and_chmod_cost_a_hash_and_rewrite_nothing(project: Project) -> None:
    for name in ("touched.jpg", "copied.png", "chmod.gif"):
        project.add(name)
    project.run()
    before = project.stamps()
    os.utime(project.input / "touched.jpg")
    data = (project.input / "copied.png").read_bytes()
    (project.input / "copied.png").unlink()
    (project.input / "copied.png").write_bytes(data)
    (project.input / "chmod.gif").chmod(0o600)
    report = project.run()
    assert counts(report) == {}
    assert report["originals"]["unchanged"] == 3
    assert project.stamps() == before
    assert counts(project.run()) == {}


def test_other_bytes_with_the_same_size_and_mtime_are_noticed(project: Project) -> None:
    file = project.add("a.bmp", seed=1)
    project.run()
    status = file.stat()
    data = picture(".bmp", 2)
    assert len(data) == status.st_size
    with open(file, "r+b") as stream:
        stream.write(data)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert counts(project.run()) == {"changed": 1, "rendered": 2}
    project.assert_in_step()


def test_a_replacement_with_an_older_mtime_is_noticed(project: Project) -> None:
    file = project.add("a.bmp", seed=1)
    project.run()
    other = project.root / "other.bmp"
    other.write_bytes(picture(".bmp", 2))
    os.utime(other, (1_000_000, 1_000_000))
    other.rename(file)
    assert counts(project.run()) == {"changed": 1, "rendered": 2}
    project.assert_in_step()


def test_a_change_right_after_the_run_is_noticed(project: Project) -> None:
    for seed in range(3):
        project.add("a.bmp", seed=seed)
        assert counts(project.run())["rendered"] == 2
    project.assert_in_step()


def test_only_the_renditions_of_a_recipe_that_moves_are_moved(project: Project) -> None:
    for number in range(3):
        project.add(f"{number}.png")
    project.run()
    half = {k: v for k, v in project.stamps().items() if k.startswith("half/")}

    def untouched() -> bool:
        return {k: v for k, v in project.stamps().items() if k.startswith("half/")} == half

    project.recipes("[half]\nscale = 0.5\n[thumb]\nfit = [30, 30]\nformat = 'webp'\n")
    assert counts(project.run()) == {"rendered": 3}
    assert untouched()
    project.assert_in_step()

    project.recipes("[half]\nscale = 0.5\n[thumb]\nfit = [30, 30]\n")
    assert counts(project.run()) == {"rendered": 3}
    assert not list(project.output.rglob("*.webp"))
    project.assert_in_step()

    project.recipes("[half]\nscale = 0.5\n[tiny]\nfit = [30, 30]\n[thumb]\nfit = [30, 30]\n")
    assert counts(project.run()) == {"rendered": 3}
    project.recipes("# renamed\n[small]\nfit = [30, 30]\n[half]\nscale = 0.5\n")
    assert counts(project.run()) == {"rendered": 3, "deleted": 6}
    assert untouched()
    project.assert_in_step()

    project.recipes("[half]\nscale = 0.5\n")
    assert counts(project.run()) == {"deleted": 3}
    project.recipes("[half]\nscale = 0.5\n[small]\nfit = [30, 30]\n")
    assert counts(project.run()) == {"rendered": 3}
    assert untouched()
    project.assert_in_step()


def test_a_comment_in_the_recipes_moves_nothing(project: Project) -> None:
    project.add("a.jpg")
    project.run()
    before = project.stamps()
    text = (project.root / "recipes.toml").read_text("utf-8")
    project.recipes("# a comment\n" + text)
    assert counts(project.run()) == {}
    assert project.stamps() == before


def test_a_path_that_becomes_a_folder_and_back_is_followed(project: Project) -> None:
    file = project.add("x.jpg")
    data = file.read_bytes()
    project.run()
    for _ in range(2):
        file.unlink()
        file.mkdir()
        (file / "y.jpg").write_bytes(data)
        assert project.run()["renditions"]["failed"] == 0
        project.assert_in_step()
        shutil.rmtree(file)
        file.write_bytes(data)
        assert project.run()["renditions"]["failed"] == 0
        project.assert_in_step()


def test_one_worker_is_enough(project: Project) -> None:
    project.env["PIPELINE_WORKERS"] = "1"
    for number in range(5):
        project.add(f"{number}.jpg")
    assert counts(project.run()) == {"new": 5, "rendered": 10}
    project.assert_in_step()


def test_fresh_originals_come_before_the_backlog_of_a_recipe(project: Project) -> None:
    for number in range(6):
        project.add(f"{number}.png")
    project.run()
    project.recipes("[half]\nscale = 0.5\n[thumb]\nfit = [30, 30]\nformat = 'webp'\nquality = 80\n")
    project.add("z-new.png")
    project.add("5.png", seed=9)
    project.env["PIPELINE_WORKERS"] = "1"
    order: list[str] = []
    old = (project.output / "thumb/0.png.webp").read_bytes()

    from pipeline.workers.local import Workers

    submit = Workers.submit

    def noting(self: Workers, task: object, *how: object) -> None:
        order.append(task.path)  # type: ignore[attr-defined]
        # The old rendition is served until the new one takes its place.
        if task.path == "0.png":  # type: ignore[attr-defined]
            assert (project.output / "thumb/0.png.webp").read_bytes() == old
        submit(self, task, *how)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Workers, "submit", noting)
        assert counts(project.run()) == {"new": 1, "changed": 1, "rendered": 9}
    assert order[:2] == ["5.png", "z-new.png"]
    assert sorted(set(order[2:])) == ["0.png", "1.png", "2.png", "3.png", "4.png"]
    assert (project.output / "thumb/0.png.webp").read_bytes() != old
    project.assert_in_step()


def test_all_recipes_of_an_original_are_made_from_one_decode(project: Project) -> None:
    project.add("a.jpg")
    from pipeline.workers.local import Workers

    tasks = []
    submit = Workers.submit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Workers,
            "submit",
            lambda self, task, *how: (tasks.append(task), submit(self, task, *how)),
        )
        project.run()
    assert [(task.path, len(task.wanted)) for task in tasks] == [("a.jpg", 3)]


@pytest.mark.parametrize("seed", range(3))
def test_any_history_ends_in_step_as_its_previews_said(project: Project, seed: int) -> None:
    chance = random.Random(seed)
    history = History(project, chance)
    for _ in range(8):
        for _ in range(chance.randint(1, 6)):
            history.change()
        said = project.run("--dry-run", "--allow-removed")
        report = project.run("--allow-removed", code=None)
        done = report["renditions"]
        made = done["rendered"] + done["reused"] + done["failed"]
        assert said["originals"] == report["originals"], history.log
        assert said["renditions"]["rendered"] == made, history.log
        assert said["renditions"]["deleted"] == done["deleted"], history.log
        again = project.run("--dry-run")
        assert counts(again) in ({}, {"failed_before": again["renditions"]["failed_before"]})
        assert counts(project.run()) == counts(again), history.log
    project.assert_in_step()
    assert project.cli("verify", "--deep").code == 0


class History:
    """Random changes to a project, in the kinds that people make."""

    def __init__(self, project: Project, chance: random.Random) -> None:
        self.project = project
        self.chance = chance
        self.log: list[str] = []

    def change(self) -> None:
        kinds = (self.add, self.add, self.alter, self.touch, self.rename, self.remove)
        kind = self.chance.choice((*kinds, self.break_one, self.copy, self.change_recipes))
        self.log.append(f"{kind.__name__} {kind()}")

    def name(self) -> str:
        folder = self.chance.choice(("", "a/", "a/b/", "Ünïcode/"))
        return f"{folder}{self.chance.randrange(12)}{self.chance.choice(('.webp', '.png', '.bmp'))}"

    def some(self) -> Path | None:
        files = sorted(p for p in self.project.input.rglob("*") if p.is_file())
        return self.chance.choice(files) if files else None

    def add(self) -> str:
        name = self.name()
        # A few contents only, so that copies come up by themselves.
        self.project.add(name, seed=self.chance.randrange(30))
        return name

    def alter(self) -> Path | None:
        file = self.some()
        if file is not None:
            file.write_bytes(picture(file.suffix, self.chance.randrange(30)))
        return file

    def touch(self) -> Path | None:
        file = self.some()
        if file is not None:
            os.utime(file)
        return file

    def rename(self) -> tuple[Path, str] | None:
        file = self.some()
        if file is None:
            return None
        name = str(Path(self.name()).with_suffix(file.suffix))
        target = self.project.input / name
        target.parent.mkdir(parents=True, exist_ok=True)
        file.rename(target)
        return file, name

    def copy(self) -> tuple[Path, str] | None:
        file = self.some()
        if file is None:
            return None
        # Also under the suffix of another format: the content decides what it is.
        target = self.project.input / self.name()
        target.parent.mkdir(parents=True, exist_ok=True)
        if target != file:
            shutil.copyfile(file, target)
        return file, target.name

    def remove(self) -> Path | None:
        file = self.some()
        if file is not None:
            file.unlink()
        return file

    def break_one(self) -> Path | None:
        file = self.some()
        if file is not None and self.chance.random() < 0.5:
            file.write_bytes(file.read_bytes()[: self.chance.randrange(60)])
        return file

    def change_recipes(self) -> str:
        pool = {
            "half": ("scale = 0.5", "scale = 0.4", "scale = 0.5\nformat = 'webp'"),
            "thumb": ("fit = [20, 20]\nformat = 'webp'", "fit = [24, 24]"),
            "wide": ("width = 30", "width = 30\nformat = 'png'"),
        }
        names = self.chance.sample(sorted(pool), self.chance.randint(1, 3))
        text = "".join(f"[{name}]\n{self.chance.choice(pool[name])}\n" for name in names)
        self.project.recipes(text)
        return text
