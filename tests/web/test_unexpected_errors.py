"""A run that an unexpected error ends: the page says so, the log has why, and it is tried again."""

from __future__ import annotations

from typing import Any

import pytest
from a_project import Project
from a_server import HTML, serving
from failing_runs import FAILS_ONCE


@pytest.mark.parametrize("watches", [True, False])
@pytest.mark.parametrize("error", ["RuntimeError", "SystemExit"])
def test_the_service_survives_whatever_a_run_raises(
    project: Project, error: str, watches: bool
) -> None:
    project.own_step(FAILS_ONCE.format(error=error))
    project.add("a.png")
    told = f"unexpected error: {error}: the shelf fell over"
    with serving(project, *([] if watches else ["--no-watch"])) as server:
        if not watches:
            server.post("/retries", json={})

        def ended() -> dict[str, Any] | None:
            status = server.get("/status").json()
            # The error is told a moment before the run is over. Users' steps end no watcher's run.
            is_over = watches or status["now"]["state"] == "resting"
            return status if status["last_error"] and is_over else None

        status = server.until(ended)
        assert status["last_error"] == told
        assert "The last run was stopped" in (page := server.get("/", headers=HTML).text)
        assert told in page
        assert "Traceback" in "".join(server.log)
        assert told in "".join(server.log)
        # Nobody asks for it: it is tried again by itself, and all is well.
        server.until(lambda: server.get("/status").json()["last_error"] is None)
        server.until_counted(originals=1, renditions=2, pending=0)
        server.until(lambda: "All in step" in server.get("/", headers=HTML).text)
