"""Reviews in a test: content that is held, and what is known of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from a_project import Project
from a_takedown import sha256

from pipeline.states import ReviewKind, ReviewState, State
from pipeline.tables import connect, renditions_columns, reviews_table

ADA, BEN = ("--who", "Ada"), ("--who", "Ben")
NEAR = "f" * 64
# A proxy that has logged people in: here the test itself.
BEHIND_A_PROXY = {
    "PIPELINE_USER_HEADER": "X-User",
    "PIPELINE_ROLES_HEADER": "X-Roles",
    "PIPELINE_PROXY_ADDRESSES": "127.0.0.1",
}


def by(name: str, role: str = "moderator") -> dict[str, str]:
    """The headers of somebody whom that proxy has logged in."""
    return {"x-user": name, "x-roles": role}


@contextlib.contextmanager
def tables(project: Project) -> Iterator[Any]:
    url = project.env.get("PIPELINE_DB", f"sqlite:///{project.root / 'db.sqlite'}")
    database = connect(url)
    try:
        yield database
    finally:
        database.engine.dispose()


def hold(project: Project, *paths: str, near_source: str = "list of a friend") -> None:
    """Hold originals, as a run does with what is near to blocked content: no renditions."""
    with tables(project) as database, database.engine.begin() as con:
        renditions = sa.Table("renditions", sa.MetaData(), *renditions_columns())
        reviews = reviews_table(database.sqla_metadata)
        for number, path in enumerate(paths):
            digest = sha256(project.input / path)
            files = sa.select(renditions.c.file).where(renditions.c.sha256 == digest)
            for file in con.execute(files).scalars():
                if file is not None:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(project.output / file)
            empty = dict.fromkeys(("file", "width_px", "height_px", "size_bytes", "file_sha256"))
            con.execute(
                sa.update(renditions)
                .where(renditions.c.sha256 == digest)
                .values(state=State.HELD.value, reason="held: near to blocked content", **empty)
            )
            con.execute(
                sa.insert(reviews).values(
                    kind=ReviewKind.HELD.value,
                    state=ReviewState.OPEN.value,
                    sha256=digest,
                    source="input",
                    path=path,
                    near=NEAR,
                    near_source=near_source,
                    distance=9,
                    created_ts=1_700_000_000.0 + number,
                )
            )


def waiting(project: Project) -> Any:
    answer = project.cli("review", "list", "--json")
    assert answer.code == 0, answer
    return answer.json
