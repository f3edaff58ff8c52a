"""Runs that fail, and what is remembered of runs."""

from typing import Any

from a_project import Project

from pipeline.engine import history

# A step of the user's that fails in its first run.
FAILS_ONCE = """
def own():
    from pathlib import Path

    if not Path("failed").exists():
        Path("failed").touch()
        raise {error}("the shelf fell over")
"""


def remembered(project: Project, **options: Any) -> list[dict[str, Any]]:
    with project._as_if_started_here():
        import app

        return history.runs(app.app.database, **options)
