"""A link that somebody planted in `output/` is never followed for writing or deleting."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from a_project import Project
from killing import killed_run

HALF = "[half]\nscale = 0.5\n"
NAME = "a.jpg"
PLACES = {"sub": "half/sub", "recipe": "half"}


@pytest.fixture
def shop(project: Project) -> Project:
    """A project with `sub/a.jpg`, in step, and one recipe."""
    project.recipes(HALF)
    project.add(f"sub/{NAME}")
    project.run()
    return project


@pytest.fixture
def victim(shop: Project) -> Path:
    """A folder of somebody else, with files of the names that renditions have."""
    folder = shop.root / "victim"
    (folder / "sub").mkdir(parents=True)
    (folder / "empty").mkdir()
    for name in (NAME, f"sub/{NAME}", ".lockstep-1-2", "sub/.lockstep-1-2"):
        (folder / name).write_bytes(b"of somebody else")
    return folder


@contextlib.contextmanager
def untouched(folder: Path) -> Iterator[None]:
    def seen() -> dict[str, object]:
        return {
            path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
            for path in folder.rglob("*")
        }

    before = seen()
    yield
    assert seen() == before


def plant(shop: Project, victim: Path, place: str) -> str:
    """Put a link where a folder of the output was; its name below the project."""
    folder = shop.output / PLACES[place]
    shutil.rmtree(folder)
    folder.symlink_to(victim)
    return f"output/{PLACES[place]}"


def reason(shop: Project) -> str:
    ((found,),) = shop.query("SELECT reason FROM renditions WHERE reason IS NOT NULL")
    return str(found)


@pytest.mark.parametrize("place", PLACES)
def test_a_changed_original_fails_and_nothing_outside_is_overwritten(
    shop: Project, victim: Path, place: str
) -> None:
    link = plant(shop, victim, place)
    shop.add(f"sub/{NAME}", seed=2)
    shop.add("fine.png") if place == "sub" else None
    with untouched(victim):
        report = shop.run(code=1)
    assert report["renditions"]["failed"] == 1
    assert report["renditions"]["rendered"] == (1 if place == "sub" else 0)
    assert f"a link stands where its folder should be: {link}; remove it" in reason(shop)
    (shop.root / link).unlink()
    assert shop.cli("retry").code == 0
    shop.run()
    shop.assert_in_step()


@pytest.mark.parametrize("place", PLACES)
def test_a_removed_original_deletes_nothing_outside_and_says_so_until_the_link_is_gone(
    shop: Project, victim: Path, place: str
) -> None:
    shop.add("other.png")
    shop.run()
    link = plant(shop, victim, place)
    (shop.input / f"sub/{NAME}").unlink()
    for _ in range(2):
        with untouched(victim):
            answer = shop.cli("run")
        assert answer.code == 0, answer
        assert f"must go cannot be deleted: a link stands where its folder should be: {link}" in (
            answer.stderr
        )
    (shop.root / link).unlink()
    assert "a link stands" not in shop.cli("run").stderr
    assert shop.query("SELECT path FROM renditions") == [("other.png",)]


def test_a_link_at_the_name_of_a_rendition_is_replaced_and_deleted_as_a_link(
    shop: Project, victim: Path
) -> None:
    file = shop.output / "half/sub" / NAME
    for change in (lambda: shop.add(f"sub/{NAME}", seed=2), (shop.input / f"sub/{NAME}").unlink):
        file.unlink()
        file.symlink_to(victim / NAME)
        change()
        shop.add("other.png")
        with untouched(victim):
            shop.run()
        assert not file.is_symlink()
    shop.assert_in_step()


@pytest.mark.parametrize("place", PLACES)
def test_a_link_planted_between_staging_and_publishing_is_not_followed(
    shop: Project, victim: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.engine.publish import Publisher

    settle = Publisher._settle
    links: list[str] = []

    def planted(self: Publisher, *args: object) -> None:
        (staged,) = list(shop.output.rglob(".lockstep-*-*"))
        # The attacker knows the name of the temporary file.
        shutil.copy(staged, victim / staged.name)
        shutil.copy(staged, victim / "sub" / staged.name)
        links.append(plant(shop, victim, place))
        with untouched(victim):
            settle(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Publisher, "_settle", planted)
    shop.add(f"sub/{NAME}", seed=2)
    assert shop.run(code=1)["renditions"]["failed"] == 1
    assert f"a link stands where its folder should be: {links[0]}" in reason(shop)


@pytest.mark.parametrize("place", PLACES)
def test_verify_removes_nothing_outside(shop: Project, victim: Path, place: str) -> None:
    link = plant(shop, victim, place)
    with untouched(victim):
        found = shop.cli("verify", "--json").json
        assert found["missing"] == [f"half/sub/{NAME}"]
        shop.cli("verify", "--fix")
    if place == "sub":
        # A link where renditions lie is a stray itself.
        assert not (shop.root / link).is_symlink()
        shop.assert_in_step()


@pytest.mark.parametrize("place", PLACES)
def test_a_takedown_is_not_finished_while_a_link_may_hide_the_rendition(
    shop: Project, victim: Path, place: str
) -> None:
    link = plant(shop, victim, place)
    with untouched(victim):
        answer = shop.cli("takedown", f"sub/{NAME}", "--reason", "flagged")
    assert answer.code == 2
    assert f"a link stands where its folder should be: {link}; remove it" in answer.stderr
    with untouched(victim):
        assert "takedown 1 is not finished: a link stands" in shop.cli("run").stderr
    (shop.root / link).unlink()
    assert "not finished" not in shop.cli("run").stderr
    assert not (shop.input / f"sub/{NAME}").exists()


@pytest.mark.parametrize("cut_off_before", ["_settle", "_record"])
@pytest.mark.parametrize("place", PLACES)
def test_recovery_removes_nothing_outside(
    shop: Project, victim: Path, place: str, cut_off_before: str
) -> None:
    shop.add("sub/b.jpg")
    (victim / "b.jpg").write_bytes(b"of somebody else")
    (victim / "sub/b.jpg").write_bytes(b"of somebody else")
    killed_run(shop, cut_off_before)
    plant(shop, victim, place)
    with untouched(victim):
        report = shop.run(code=None)
    assert report["renditions"]["failed"] >= 1


def test_the_output_folder_itself_may_be_a_link(project: Project) -> None:
    (project.root / "disk").mkdir()
    project.output.symlink_to("disk")
    project.add("sub/a.jpg")
    project.run()
    project.add("sub/a.jpg", seed=2)
    project.run()
    project.assert_in_step()
    assert project.cli("verify", "--fix").code == 0
    (project.input / "sub/a.jpg").unlink()
    project.add("b.jpg")
    project.run()
    project.assert_in_step()
    assert project.output.is_symlink()


@pytest.mark.parametrize("change", ["overwrite", "delete", "sweep"])
def test_the_same_holds_where_folders_cannot_be_opened(
    tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.errors import LinkInTheWay
    from pipeline.storage import real_folders
    from pipeline.storage.folder_store import FolderStore

    monkeypatch.setattr(real_folders, "OPENS_FOLDERS", False)
    (tmp_path / "output/half").mkdir(parents=True)
    outside = tmp_path / "victim"
    outside.mkdir()
    (outside / "a.jpg").write_bytes(b"of somebody else")
    (outside / ".lockstep-1-2").write_bytes(b"of somebody else")
    (tmp_path / "output/half/sub").symlink_to(outside)
    store = FolderStore(tmp_path / "output")
    acts: dict[str, Callable[[], object]] = {
        "overwrite": lambda: store.stage("half/sub/a.jpg", b"ours", "me"),
        "delete": lambda: store.remove("half/sub/a.jpg"),
        "sweep": store.sweep,
    }
    with untouched(outside):
        if change == "sweep":
            assert store.sweep() == 0
        else:
            with pytest.raises(LinkInTheWay, match="output/half/sub; remove it"):
                acts[change]()
