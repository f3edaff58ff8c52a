"""The scan takes any name, passes over what is no original, and never leaves `input/`."""

import os
import sys
import unicodedata

import pytest
from a_project import Project, picture

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="file systems elsewhere refuse these")


def test_what_is_no_original_is_counted_by_reason(project: Project) -> None:
    project.add("a.jpg")
    project.add("B.JPG", seed=2)
    for name in (
        ".hidden.jpg",
        ".lockstep-1-1",
        ".git/x.jpg",
        "notes.txt",
        "Thumbs.db",
        "up.jpg.part",
        "~$office.jpg",
        "old.jpg~",
        "README",
    ):
        file = project.input / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"x")
    os.mkfifo(project.input / "pipe.jpg")
    report = project.run()
    assert report["originals"]["new"] == 2
    assert report["ignored"] == {
        "hidden": 3,
        "not a file": 1,
        "other suffix (.txt)": 1,
        "other suffix (none)": 1,
        "temporary": 4,
    }
    assert project.run()["ignored"] == report["ignored"]
    assert "half/B.JPG" in project.outputs()


def test_pictures_that_cannot_be_originals_are_ignored_with_what_to_do(project: Project) -> None:
    for name in ("a.CR2", "b.cr2", "c.dng", "logo.svg"):
        (project.input / name).write_bytes(b"x")
    said = project.cli("run").stdout
    assert ".cr2, .dng: export it as JPEG or TIFF, and use that file\n" in said
    assert ".svg: export it as PNG, and use that file\n" in said


def test_links_that_lead_out_or_around_are_not_followed(project: Project) -> None:
    outside = project.root / "secret"
    outside.mkdir()
    (outside / "s.jpg").write_bytes(picture(".jpg", "s"))
    project.add("real/a.jpg")
    links = {
        "out.jpg": outside / "s.jpg",
        "out": outside,
        "nowhere.jpg": project.input / "missing.jpg",
        "real/up": project.input,
        "self": project.input / "self",
        "inside.jpg": project.input / "real/a.jpg",
        "sibling": project.input / "real",
    }
    for name, target in links.items():
        (project.input / name).symlink_to(target)
    report = project.run()
    assert sorted(name for name in project.outputs() if name.startswith("half")) == [
        "half/inside.jpg",
        "half/real/a.jpg",
        "half/sibling/a.jpg",
    ]
    assert report["ignored"]["link that leads out of the input folder"] == 2
    assert report["ignored"]["link into a loop"] >= 2
    assert report["ignored"]["gone, or a link to nowhere"] == 1
    # A link that comes to lead out takes its renditions along.
    (project.input / "inside.jpg").unlink()
    (project.input / "inside.jpg").symlink_to(outside / "s.jpg")
    assert project.run()["renditions"]["deleted"] == 2


def test_the_input_folder_itself_may_be_a_link(project: Project) -> None:
    project.add("a.jpg")
    project.input.rename(project.root / "mounted")
    project.input.symlink_to(project.root / "mounted")
    assert project.run()["renditions"]["rendered"] == 2


@LINUX
def test_any_name_is_an_original(project: Project) -> None:
    nfc, nfd = "caf\u00e9.png", unicodedata.normalize("NFD", "caf\u00e9.png")
    names = [
        nfc,
        nfd,
        "日本/写真.png",
        "a#b?c%20[d]{e}&f=g;h'i\"j`k$l*m|n<o>p\\q:r.png",
        "line\nbreak.png",
        "tab\tand\x1besc\x7f.png",
        " spaces .png",
        "-rf.png",
        "UPPER.PNG",
        "x" * 251 + ".png",
        "é" * 125 + ".png",
        "".join(f"{n:03}".ljust(200, "d") + "/" for n in range(4)) + "deep.png",
        "emoji-\U0001f600.png",
        "private-\ue000\uef80\uefff.png",
        "double.png.png",
        ".png".rjust(5, "n"),
    ]
    raw = [b"caf\xe9.png", b"\xff\xfe.png", b"caf\xc3\xa9\x80.png"]
    for number, name in enumerate(names):
        file = project.input / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture(".png", number))
    for number, name in enumerate(raw):
        with open(os.path.join(os.fsencode(project.input), name), "wb") as file:
            file.write(picture(".png", f"raw {number}"))
    total = len(names) + len(raw)
    report = project.run()
    assert report["originals"]["new"] == total
    assert report["renditions"]["rendered"] == 2 * total
    assert len(project.outputs()) == 2 * total
    halves = {os.fsencode(name) for name in project.outputs() if name.startswith("half/")}
    assert halves >= {b"half/" + name for name in raw}
    assert halves >= {os.fsencode("half/" + name) for name in names}
    # The names that grow past 255 bytes are cut, and told apart by a hash.
    cut = [name for name in project.outputs() if "~" in name]
    assert len(cut) == 2
    assert all(len(os.fsencode(os.path.basename(name))) <= 255 for name in cut)
    assert all(name.endswith(".webp") for name in cut)

    assert project.run()["originals"]["unchanged"] == total
    assert project.cli("verify", "--deep").code == 0
    assert project.cli("explain", "line\nbreak.png").stdout.startswith("line\\nbreak.png: ")
    # Each takes its own renditions along when it goes.
    (project.input / nfd).unlink()
    os.unlink(os.path.join(os.fsencode(project.input), raw[0]))
    assert project.run()["renditions"]["deleted"] == 4
    assert f"half/{nfc}" in project.outputs()
    assert f"half/{nfd}" not in project.outputs()
    project.assert_in_step()


def test_originals_whose_renditions_would_meet_are_told_apart(project: Project) -> None:
    # As WebP, `b.png` becomes `b.png.webp`: so does the original of that very name.
    project.add("b.png", seed=1)
    project.add("b.png.webp", seed=2)
    project.add("b.jpg", seed=3)
    project.run()
    thumbs = [name for name in project.outputs() if name.startswith("thumb/")]
    assert len(thumbs) == 3
    assert len(set(project.outputs().values())) == 6
    files = dict(project.query("SELECT path, file FROM renditions WHERE recipe = 'thumb'"))
    assert len(set(files.values())) == 3
    before = project.outputs()
    assert project.run()["renditions"]["rendered"] == 0
    project.add("b.png", seed=4)
    project.run()
    after = project.outputs()
    assert {name for name in after if after[name] != before[name]} == {"half/b.png", files["b.png"]}
    (project.input / "b.png").unlink()
    project.run()
    assert files["b.png.webp"] in project.outputs()
    assert len(project.outputs()) == 4
    assert project.cli("verify", "--deep").code == 0


@pytest.mark.parametrize("first", ["file", "folder", "both"])
def test_a_folder_with_the_name_of_a_rendition_is_no_obstacle(project: Project, first: str) -> None:
    if first != "folder":
        project.add("b.png", seed=1)
    if first != "file":
        project.add("b.png.webp/c.jpg", seed=2)
    project.run()
    project.add("b.png", seed=1)
    project.add("b.png.webp/c.jpg", seed=2)
    report = project.run(code=None)
    assert report["renditions"]["failed"] == 0, project.cli("errors").stdout
    assert len(project.outputs()) == 4
    assert project.cli("verify", "--deep").code == 0


def test_a_folder_named_as_an_image_is_a_folder(project: Project) -> None:
    project.add("x.jpg/y.png/z.gif")
    assert project.run()["originals"]["new"] == 1
    assert sorted(project.outputs()) == ["half/x.jpg/y.png/z.gif", "thumb/x.jpg/y.png/z.gif.webp"]


def test_only_the_output_of_renditions_is_ever_touched(project: Project) -> None:
    project.add("a.jpg")
    project.output.mkdir()
    (project.output / "17.csv").write_text("answer")
    (project.output / "half").mkdir()
    (project.output / "half/mine.txt").write_text("mine")
    project.run()
    (project.input / "a.jpg").unlink()
    project.run("--allow-removed")
    assert project.outputs() == {"17.csv": b"answer", "half/mine.txt": b"mine"}
