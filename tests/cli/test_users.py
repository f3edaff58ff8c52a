"""`datapipe user`: who may use the page."""

from __future__ import annotations

from a_project import Project


def test_people_are_added_listed_and_removed(project: Project) -> None:
    assert project.cli("user", "list").stdout == "there are no users\n"
    added = project.cli("user", "add", " Ada ", "--role", "moderator")
    assert added.stdout.startswith("lockstep_")
    assert added.stderr == "the token of Ada (moderator); it is shown only now:\n"
    assert project.cli("user", "add", "bot", "--role", "viewer", "--json").json["name"] == "bot"
    for name, problem in (
        ("ada", "there is already a user Ada, with the role moderator"),
        ("Admin", "the holder of PIPELINE_TOKEN"),
        (" ", "a name has 1 to 100 characters"),
        ("a\nb", "all of them printable"),
    ):
        refused = project.cli("user", "add", name, "--role", "viewer")
        assert refused.code == 2
        assert problem in refused.stderr
    listed = project.cli("user", "list").stdout.splitlines()
    assert [line.split("  ")[:2] for line in listed] == [["Ada", "moderator"], ["bot", "viewer"]]
    assert project.cli("user", "remove", "Ada").code == 0
    assert "there is no such user" in project.cli("user", "remove", "Ada").stderr
    assert [each["name"] for each in project.cli("user", "list", "--json").json] == ["bot"]
    assert project.cli("user", "add", "Eve", "--role", "owner").code == 2


def test_people_are_kept_on_a_server_too(project: Project, server_url: str) -> None:
    project.env["PIPELINE_DB"] = server_url
    assert project.cli("user", "add", "Ada", "--role", "viewer").code == 0
    assert project.cli("user", "add", "ADA", "--role", "viewer").code == 2
    assert [each["name"] for each in project.cli("user", "list", "--json").json] == ["Ada"]
    assert project.cli("user", "remove", "Ada").code == 0
