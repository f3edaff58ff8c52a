"""One bad file costs one file: it is recorded with a reason, and its neighbours get theirs."""

import os
import struct
import zlib

import pytest
from a_project import Project, picture
from folder_entries import list_with


def huge_png() -> bytes:
    """A PNG of a few bytes whose header says 60,000 x 60,000 px."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    rows = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + rows + chunk(b"IEND", b"")


def test_bad_files_fail_alone_once_and_heal(project: Project) -> None:
    project.add("good.jpg")
    project.add("z/good.png")
    whole = picture(".jpg", 1, (400, 300))
    bad = {
        "corrupt.jpg": whole[:200] + b"\0" * 300,
        "cut.jpg": whole[: len(whole) // 2],
        "empty.png": b"",
        "huge.png": huge_png(),
        "notes.jpg": b"Remember the milk.\n" * 10,
    }
    for name, data in bad.items():
        (project.input / name).write_bytes(data)
    (project.input / "x.jpg").mkdir()
    project.add("x.jpg/inside.jpg")

    answer = project.cli("run", "--json")
    assert answer.code == 1
    assert answer.json["renditions"]["rendered"] == 6
    assert answer.json["renditions"]["failed"] == 10
    assert not [name for name in project.outputs() if "inside" not in name and "good" not in name]

    errors = project.cli("errors", "--json").json
    assert [(row["path"], row["recipe"]) for row in errors] == [
        (name, recipe) for name in sorted(bad) for recipe in ("half", "thumb")
    ]
    reasons = {row["path"]: row["reason"] for row in errors}
    assert "60,000 x 60,000 px" in reasons["huge.png"]
    codes = ["cut_off", "cut_off", "empty", "too_large", "not_an_image"]
    assert [row["code"] for row in errors[::2]] == codes
    assert reasons["empty.png"] == "empty file"
    assert reasons["notes.jpg"] == "not an image: the content is text"
    assert all("0x" not in reason and "Traceback" not in reason for reason in reasons.values())

    # Not tried again, and no reason to cry every night.
    report = project.run(code=0)
    assert report["renditions"]["failed"] == 0
    assert report["renditions"]["failed_before"] == 10
    assert project.cli("errors", "--json").json == errors

    # A touch is no change; a retry is tried once, and keeps since when it fails.
    os.utime(project.input / "cut.jpg")
    assert project.run(code=0)["renditions"]["failed_before"] == 10
    assert project.cli("retry", "cut.jpg", "--json").json == {"retried": 2}
    assert project.run(code=1)["renditions"]["failed"] == 2
    assert project.cli("errors", "--json").json == errors
    assert project.cli("retry", "--json").json == {"retried": 10}
    assert project.run(code=1)["renditions"]["failed"] == 10

    # A changed recipe tries its own again.
    project.recipes("[half]\nscale = 0.5\n[thumb]\nfit = [20, 20]\n")
    report = project.run(code=1)
    assert (report["renditions"]["failed"], report["renditions"]["failed_before"]) == (5, 5)

    for name in bad:
        project.add(name)
    assert project.run(code=0)["renditions"]["rendered"] == 10
    assert project.cli("errors", "--json").json == []
    assert project.cli("verify", "--deep").code == 0


def test_an_original_that_turns_bad_loses_its_old_renditions(project: Project) -> None:
    project.add("a.jpg")
    project.add("b.jpg")
    project.run()
    (project.input / "a.jpg").write_bytes(b"not any more")
    assert project.run(code=1)["renditions"]["failed"] == 2
    assert sorted(project.outputs()) == ["half/b.jpg", "thumb/b.jpg.webp"]
    (project.input / "a.jpg").unlink()
    report = project.run(code=0)
    assert report["renditions"]["deleted"] == 2
    assert project.cli("errors").stdout == "nothing failed\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_fails_until_it_can_be_read(project: Project) -> None:
    file = project.add("a.jpg")
    file.chmod(0)
    project.run(code=1)
    assert "Permission denied" in project.cli("errors").stdout
    file.chmod(0o644)
    assert project.run(code=0)["renditions"]["rendered"] == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read_keeps_its_renditions(project: Project) -> None:
    project.add("closed/a.jpg")
    project.run()
    before = project.stamps()
    for mode in (0o000, 0o400):
        (project.input / "closed").chmod(mode)
        answer = project.cli("run")
        assert "warning" in answer.stderr
        assert project.stamps() == before
    (project.input / "closed").chmod(0o755)
    project.run()
    assert project.stamps() == before


def test_a_disk_that_reports_errors_for_a_file_is_no_removal(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.add("a.jpg")
    project.add("b.jpg")
    project.run()
    before = project.stamps()

    class Failing:
        """A folder entry whose `stat` meets a bad sector."""

        def __init__(self, entry: os.DirEntry) -> None:
            self.entry = entry

        def __getattr__(self, name: str) -> object:
            return getattr(self.entry, name)

        def stat(self, follow_symlinks: bool = True) -> os.stat_result:
            raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        list_with(patch, lambda entry: Failing(entry) if entry.name == "a.jpg" else entry)
        answer = project.cli("run", "--json")
    assert answer.json["originals"]["removed"] == 0
    assert "a.jpg" in answer.stderr
    assert project.stamps() == before
