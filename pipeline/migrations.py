"""Migrations: tables of a layout before this one are brought forward, and lose no row.

Each is one transaction, on every database: killed at any moment, the tables are of the layout
before, or of this one. Renditions stay as they are.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from pipeline.database.connection import Database
from pipeline.database.state import INTERRUPTED, PUBLISHING, StateRepository
from pipeline.reasons import Code
from pipeline.states import State, UrlState

# Tables of layout 2, and for each the tables of layout 1 with the source of the originals that they
# were about.
_OF_LAYOUT_1 = {
    "originals": {"input_images": "input", "fetched_images": "jobs"},
    "recipes": {"recipes": "input", "job_recipes": "jobs"},
    "renditions": {"renditions": "input", "job_renditions": "jobs"},
    "render_meta": {"render_meta": "input", "render_jobs_meta": "jobs"},
}


def originals_of_one_world(database: Database) -> None:
    """From layout 1, which had tables of their own for the images of jobs, to layout 2.

    Renditions of a render step of a user's own are forgotten, and made again: their files had
    other keys.
    """
    repository = StateRepository(database)
    published = json.loads(repository.get(PUBLISHING) or "{}")
    below = published.get("below", ".")
    files = [f"{below}/{file}".removeprefix("./") for file in published.get("files", ())]
    # A statement that writes comes first: SQLite's driver begins no transaction for the others.
    repository.set(PUBLISHING, json.dumps(files) if files else None)
    if repository.get(INTERRUPTED) is None:
        # The next run sweeps the state folder, where the images of jobs had a name each.
        repository.set(INTERRUPTED, repr(time.time()))
    with database.writing() as write:
        there = set(sa.inspect(write.con).get_table_names(schema=database.schema))
        for new, before in _before(database.sqla_metadata, there).items():
            _rebuild(write.con, new, before)
        if "jobs" in there:
            _add(write.con, database.sqla_metadata, "webhook_secret", to="jobs")


def _before(metadata: sa.MetaData, there: set[str]) -> dict[sa.Table, dict[str, str]]:
    """The tables that have a source now, and those that their rows come from."""
    found: dict[sa.Table, dict[str, str]] = {}
    for table in metadata.tables.values():
        if "source" not in table.primary_key.columns:
            continue
        base = table.name.removesuffix("_meta")
        if table.name in _OF_LAYOUT_1:
            found[table] = _OF_LAYOUT_1[table.name]
        elif base in _OF_LAYOUT_1:
            found[table] = {f"{name}_meta": of for name, of in _OF_LAYOUT_1[base].items()}
        elif table.name in there:
            found[table] = {}
    return found


def _rebuild(con: sa.Connection, new: sa.Table, before: dict[str, str]) -> None:
    """Create ``new`` with the rows of other tables, one of which may have its name."""
    copies: list[tuple[sa.Table, str]] = []
    names = set(sa.inspect(con).get_table_names(schema=new.schema))
    for name, source in before.items():
        if name in names:
            old = sa.Table(name, sa.MetaData(), schema=new.schema, autoload_with=con)
            copy = sa.Table(f"{name}_before", sa.MetaData(), schema=new.schema)
            con.execute(sa.text(f"CREATE TABLE {_quoted(con, copy)} AS {_all(con, old)}"))
            copies.append((copy, source))
            old.drop(con)
    if new.name in names and new.name not in before:
        sa.Table(new.name, sa.MetaData(), schema=new.schema).drop(con)
    new.create(con)
    for copy, source in copies:
        rows = sa.Table(copy.name, sa.MetaData(), schema=new.schema, autoload_with=con)
        values = {column.name: _value(rows, column.name, source) for column in new.columns}
        con.execute(sa.insert(new).from_select(list(values), sa.select(*values.values())))
        rows.drop(con)


def _add(con: sa.Connection, metadata: sa.MetaData, name: str, to: str) -> None:
    """Add a column, empty or with its default in every row, to a table that is there."""
    (table,) = (table for table in metadata.tables.values() if table.name == to)
    column = sa.schema.CreateColumn(table.c[name]).compile(dialect=con.dialect)
    con.execute(sa.text(f"ALTER TABLE {_quoted(con, table)} ADD COLUMN {column}"))


def _value(rows: sa.Table, name: str, source: str) -> Any:
    """What a column of the new table is, for each row of the old one."""
    if name == "source":
        return sa.literal(source)
    if name not in rows.columns:
        return sa.null()
    if name == "file" and source == "jobs":
        return sa.literal("jobs/") + rows.c.file
    return rows.c[name]


def _quoted(con: sa.Connection, table: sa.Table) -> str:
    return con.dialect.identifier_preparer.format_table(table)


def _all(con: sa.Connection, table: sa.Table) -> str:
    return str(sa.select(table).compile(con))


# What failures of layout 2 said, as patterns of SQL, and their codes; the first that fits counts.
_CODES = (
    ("%the rendition would be too large%", Code.RESULT_TOO_LARGE),
    ("% can hold (%", Code.RESULT_TOO_LARGE),
    ("%(PIPELINE_MAX_PIXELS)%", Code.TOO_LARGE),
    ("%bytes are too many%", Code.TOO_LARGE),
    ("larger than %", Code.TOO_LARGE),
    ("%(PIPELINE_MAX_FRAMES)%", Code.TOO_MANY_FRAMES),
    ("%cut off: %", Code.CUT_OFF),
    ("%empty file%", Code.EMPTY),
    ("not an image (empty)%", Code.EMPTY),
    ("%not an image%", Code.NOT_AN_IMAGE),
    ("%lockstep[heif]%", Code.UNSUPPORTED),
    ("not a valid URL%", Code.BAD_URL),
    ("port %", Code.BAD_URL),
    ("%not a valid %", Code.BROKEN),
    ("%broken %", Code.BROKEN),
    ("cannot be read (%", Code.UNREADABLE),
    ("%out of memory%, or over%", Code.OUT_OF_MEMORY),
    ("its worker was killed%", Code.WORKER_KILLED),
    ("its worker %", Code.WORKER_CRASHED),
    ("%needs more memory than %", Code.OUT_OF_MEMORY),
    ("%out of memory while%", Code.OUT_OF_MEMORY),
    ("%took longer than %", Code.TIMED_OUT),
    ("%the renderer failed: %", Code.RENDERER_FAILED),
    ("%could not be rendered: %", Code.RENDERER_FAILED),
    ("the rendition cannot be written%", Code.NOT_WRITTEN),
    ("not fetched within %", Code.NOT_FETCHED),
    ("%not at a public address%", Code.REFUSED_ADDRESS),
    ("redirect to %", Code.BAD_REDIRECT),
    ("more than % redirects", Code.BAD_REDIRECT),
    ("404 %", Code.NOT_FOUND),
    ("410 %", Code.NOT_FOUND),
    ("401 %", Code.ACCESS_DENIED),
    ("403 %", Code.ACCESS_DENIED),
    ("429 %", Code.TOO_MANY_REQUESTS),
    ("5__ %", Code.SERVER_ERROR),
    ("4__ %", Code.HTTP_ERROR),
    ("no bytes for %", Code.TIMED_OUT),
    ("under % bytes/s for %", Code.TIMED_OUT),
    ("not done within %", Code.TIMED_OUT),
    ("no connection within %", Code.TIMED_OUT),
    ("not requested: %", Code.NO_CONNECTION),
    ("%connection%", Code.NO_CONNECTION),
)
# What they said of settings: customers read the texts as well.
_OF_SETTINGS = (
    (" of PIPELINE_WORKER_MEMORY_MB", " of a worker"),
    (" for PIPELINE_WORKER_MEMORY_MB", ""),
    *((f" (PIPELINE_{name})", "") for name in ("MAX_PIXELS", "MAX_FRAMES", "RENDER_TIMEOUT_S")),
    (" (PIPELINE_JOB_FETCH_S)", ""),
    ("; PIPELINE_FETCH_PORTS lists further ports", ""),
    ("; PIPELINE_FETCH_ALLOW lists hosts and networks that are allowed anyway", ""),
)


def forms_and_codes(database: Database) -> None:
    """From layout 2, whose CSVs all had the same three columns, and whose failures had a text
    alone, to layout 3, where they have a code as well.

    The code of each is told by its text; of a function's own text it is ``other``.
    """
    with database.writing() as write:
        inspector = sa.inspect(write.con)
        there = set(inspector.get_table_names(schema=database.schema))
        if "jobs" in there:
            for name in ("options", "without_images"):
                _add(write.con, database.sqla_metadata, name, to="jobs")
        for table in database.sqla_metadata.tables.values():
            if table.name not in there or not {"state", "reason", "code"} <= set(table.c.keys()):
                continue
            known = {each["name"] for each in inspector.get_columns(table.name, table.schema)}
            if "code" not in known:
                _add(write.con, database.sqla_metadata, "code", to=table.name)
            text: sa.ColumnElement[str] = table.c.reason
            for said, instead in _OF_SETTINGS:
                text = sa.func.replace(text, said, instead)
            found = [(table.c.reason.like(pattern), code.value) for pattern, code in _CODES]
            failed = table.c.state.in_((State.FAILED.value, UrlState.REFUSED.value))
            code = sa.case(*found, else_=Code.OTHER.value)
            write.con.execute(sa.update(table).where(failed).values(reason=text, code=code))


def takedowns_to_share(database: Database) -> None:
    """From layout 3, whose takedowns were all of this instance, to layout 4.

    A shared blocklist is told of all of them when there is one.
    """
    with database.writing() as write:
        inspector = sa.inspect(write.con)
        if "takedowns" not in inspector.get_table_names(schema=database.schema):
            return
        for name in ("instance", "unsent"):
            _add(write.con, database.sqla_metadata, name, to="takedowns")
        (acts,) = (t for t in database.sqla_metadata.tables.values() if t.name == "takedowns")
        for index in acts.indexes:
            index.create(write.con, checkfirst=True)


# From each layout to the one that follows it.
MIGRATIONS: dict[int, Callable[[Database], None]] = {
    1: originals_of_one_world,
    2: forms_and_codes,
    3: takedowns_to_share,
}
