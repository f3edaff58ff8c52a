"""Notifications over HTTP: who may send them, and what is refused."""

from __future__ import annotations

from a_project import Project
from a_server import serving

TOKEN = "a-token-of-notifications"


def test_they_are_taken_with_their_own_token_and_only_for_a_bucket(project: Project) -> None:
    project.env["PIPELINE_NOTIFICATIONS_TOKEN"] = TOKEN
    with serving(project) as server:
        answer = server.post(f"/notifications?token={TOKEN}", json={"Records": []})
        assert answer.status_code == 404
        assert "need a bucket" in answer.json()["error"]
