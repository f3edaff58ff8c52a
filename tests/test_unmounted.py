"""The unmounted disk: so much is gone at once that nothing is deleted until a person says so."""

import shutil

import pytest
from a_project import Project


@pytest.fixture
def shop(project: Project) -> Project:
    """101 originals of the least work: one recipe, copies of one another."""
    project.recipes("[half]\nscale = 0.5\n")
    data = project.add("000.png").read_bytes()
    for number in range(1, 101):
        (project.input / f"{number:03}.png").write_bytes(data)
    project.run()
    return project


def test_a_missing_folder_deletes_nothing(shop: Project) -> None:
    before = shop.stamps()
    shop.input.rename(shop.root / "unplugged")
    for command in (("run", "--json"), ("run", "--dry-run")):
        answer = shop.cli(*command)
        assert answer.code == 4, answer
        assert answer.stdout == ""
        assert "cannot be read" in answer.stderr
        assert "--allow-removed" in answer.stderr
    assert shop.stamps() == before
    assert shop.process("run").code == 4

    (shop.root / "unplugged").rename(shop.input)
    report = shop.run()
    assert report["originals"]["unchanged"] == 101
    assert shop.stamps() == before

    shutil.rmtree(shop.input)
    assert shop.run("--allow-removed")["renditions"]["deleted"] == 101
    assert shop.outputs() == {}


def test_an_empty_mount_point_deletes_nothing(shop: Project) -> None:
    before = shop.stamps()
    shop.input.rename(shop.root / "unplugged")
    shop.input.mkdir()
    answer = shop.cli("run")
    assert answer.code == 4
    assert "101 of 101 originals are gone" in answer.stderr
    assert "PIPELINE_MAX_REMOVED" in answer.stderr
    assert shop.stamps() == before
    assert shop.cli("status", "--json").json["originals"] == 101

    said = shop.run("--dry-run", "--allow-removed")
    assert (said["originals"]["removed"], said["renditions"]["deleted"]) == (101, 101)
    assert shop.stamps() == before
    assert shop.run("--allow-removed")["renditions"]["deleted"] == 101
    assert shop.outputs() == {}


def test_the_share_and_the_least_number_are_both_needed(shop: Project) -> None:
    for number in range(99):
        (shop.input / f"{number:03}.png").unlink()
    # 99 of 101: fewer than a hundred.
    assert shop.run()["renditions"]["deleted"] == 99
    data = (shop.input / "100.png").read_bytes()
    for number in range(300):
        (shop.input / f"{number:03}.png").write_bytes(data)
    shop.run()
    for number in range(150):
        (shop.input / f"{number:03}.png").unlink()
    # 150 of 300: half, and not more.
    shop.env["PIPELINE_MAX_REMOVED"] = "49"
    assert shop.cli("run").code == 4
    shop.env["PIPELINE_MAX_REMOVED"] = "50"
    assert shop.run()["renditions"]["deleted"] == 150


def test_renaming_most_of_a_refused_folder_costs_no_decode_later(shop: Project) -> None:
    (shop.input / "moved").mkdir()
    for number in range(101):
        (shop.input / f"{number:03}.png").rename(shop.input / f"moved/{number:03}.png")
    assert shop.cli("run").code == 4
    done = shop.run("--allow-removed")["renditions"]
    assert (done["rendered"], done["reused"], done["deleted"]) == (0, 101, 101)
    shop.assert_in_step()


def test_thousands_are_removed_and_made_again_at_once(project: Project) -> None:
    project.recipes("[half]\nscale = 0.5\n")
    data = project.add("0.bmp", size=(8, 8)).read_bytes()
    for number in range(1, 5_200):
        (project.input / f"{number}.bmp").write_bytes(data)
    done = project.run()["renditions"]
    assert (done["rendered"], done["reused"]) == (1, 5_199)
    for number in range(0, 5_200, 2):
        (project.input / f"{number}.bmp").unlink()
    (project.input / "1.bmp").unlink()
    assert project.cli("run").code == 4
    assert project.run("--allow-removed")["renditions"]["deleted"] == 2_601
    assert len(project.outputs()) == 2_599
    assert project.cli("verify").code == 0
