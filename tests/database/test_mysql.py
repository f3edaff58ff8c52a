"""What is different on MySQL and MariaDB, and what stands in for datapipe-core there."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from a_project import Project
from databases import rows_of
from datapipe.meta import sql_meta
from killing import apart, kill_at
from upstream import digest

from pipeline.database import locks, mysql
from pipeline.database.ahead import Ahead
from pipeline.database.connection import Database, open_database
from pipeline.database.keys import KEY_BYTES, ORDERED_BYTES, Key, in_order, stored_form
from pipeline.database.mysql_sql import Insert
from pipeline.database.paging import pages
from pipeline.errors import DatabaseError, LockedError
from pipeline.tables import connect, make_tables

# The parts of datapipe-core that `pipeline/database/mysql_sql.py` names, beside those of
# `test_tracking.py`. Where one of these digests changes, read what upstream changed, carry over
# what concerns us, and write the new digest here.
STOOD_IN_FOR = {
    sql_meta.SQLTransformMeta.insert_rows: "a79cfcf1cb886576",
    sql_meta._make_agg_of_agg: "65bf88fd157809ac",
}
on_mysql = [
    pytest.mark.databases,
    pytest.mark.parametrize("database_url", ["mysql"], indirect=True),
]


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = connect(database_url)
    make_tables(database)
    yield database
    database.engine.dispose()


def on_server(test: Callable[..., None]) -> Callable[..., None]:
    """For a test of what only MySQL and MariaDB do."""
    for mark in on_mysql:
        test = mark(test)
    return test


@pytest.mark.parametrize("part", STOOD_IN_FOR, ids=lambda part: part.__qualname__)
def test_upstream_is_what_we_stand_in_for_on_mysql(part: object) -> None:
    assert digest(part) == STOOD_IN_FOR[part]


def test_upstream_has_the_types_that_are_replaced() -> None:
    kinds = {
        column.name: type(column.type)
        for column in (*sql_meta.TABLE_META_SCHEMA, *sql_meta.TRANSFORM_META_SCHEMA)
    }
    times = ("create_ts", "update_ts", "process_ts", "delete_ts")
    assert kinds == {
        **dict.fromkeys(times, sa.Float),
        **dict.fromkeys(("hash", "priority"), sa.Integer),
        "is_success": sa.Boolean,
        "error": sa.String,
    }


def test_a_missing_driver_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mysql.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DatabaseError, match=r"pip install 'lockstep\[mysql\]'") as error:
        open_database("mysql://me:secret@127.0.0.1/shop")
    assert "secret" not in str(error.value)


def test_the_driver_that_an_address_names_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"pymysql", "MySQLdb"}
    monkeypatch.setattr(mysql.importlib.util, "find_spec", lambda name: name in there or None)

    def chosen(scheme: str) -> str:
        return mysql.MySQL(sa.make_url(f"{scheme}://a@b/c")).address.partition(":")[0]

    assert chosen("mysql") == chosen("mariadb") == chosen("mysql+pymysql") == "mysql+pymysql"
    assert chosen("mysql+mysqldb") == chosen("mariadb+mysqlclient") == "mysql+mysqldb"
    there.remove("pymysql")
    assert chosen("mariadb") == "mysql+mysqldb"


def test_a_lock_has_a_name_for_each_database_that_is_never_too_long() -> None:
    names = {value for name, value in vars(locks).items() if name.endswith("_LOCK")}
    of = {
        locks.NamedLocks(database).name(name).lower()
        for database in ("shop", "Shop", "s" * 64, "s" * 63, "läden")
        for name in names
    }
    assert len(of) == 5 * len(names)
    assert max(map(len, of)) <= 64


def test_only_a_key_that_no_index_holds_is_stored_by_its_hash() -> None:
    longest = "ü" * (KEY_BYTES // 2)
    assert stored_form(longest) == longest
    longer = [f"{longest}{n}" for n in range(3)]
    stored = [stored_form(key) for key in longer]
    assert len(set(stored)) == 3
    assert all(len(each.encode()) <= KEY_BYTES for each in stored)
    assert all(each.startswith("ü" * 400) for each in stored)


def test_rows_of_long_keys_are_given_in_order_whatever_the_order_of_their_hashes() -> None:
    long = "x" * ORDERED_BYTES
    keys = ["a", "b", *(f"{long}{n:02}" for n in range(20)), f"{long}y", "z"]
    # As they are read, in pages of five, in the order of what is stored.
    read = [(key,) for key in sorted(keys, key=lambda key: stored_form(f"{key}{key}"[:9999]))]
    found: list[tuple[str, ...]] = []
    held: list[tuple[str, ...]] = []
    for start in range(0, len(read), 5):
        ready, held = in_order(held + read[start : start + 5], start + 5 >= len(read))
        found += ready
    assert held == []
    assert sorted(found) == sorted(read)


@on_server
def test_times_keep_their_microseconds(database: Database) -> None:
    with database.writing() as first:
        before = first.now
    with database.writing() as second:
        after = second.now
    assert after > before
    assert database.clock.committed_ts() == after
    kinds = rows_of(
        database.connstr,
        "SELECT DISTINCT data_type FROM information_schema.columns "
        "WHERE table_schema = database() AND column_name LIKE '%\\_ts'",
    )
    assert kinds == [("double",)]


@on_server
def test_a_lock_is_of_one_database_and_ends_with_its_connection(
    database: Database, server_url_of: Callable[[str], str]
) -> None:
    other, second = open_database(server_url_of("mysql")), open_database(database.connstr)
    with database.lock(locks.RUN_LOCK), other.lock(locks.RUN_LOCK):
        assert str(second.holder()).startswith("connection ")
        with pytest.raises(LockedError, match="another run is in progress"), second.lock("run"):
            pass
        number = rows_of(database.connstr, f"SELECT IS_USED_LOCK('{_lock_of(database)}')")[0][0]
        rows_of(database.connstr, f"KILL {number}")
        with second.lock(locks.RUN_LOCK, wait=True):
            pass
    # Ended without an error, and free for the next one.
    with database.lock(locks.RUN_LOCK):
        assert second.is_wanted() is False
    for each in (other, second):
        each.engine.dispose()


def _lock_of(database: Database) -> str:
    held = database.dialect.locks
    assert isinstance(held, locks.NamedLocks)
    return held.name(locks.RUN_LOCK)


@on_server
def test_a_query_that_is_not_wanted_any_more_is_killed(database: Database) -> None:
    slow = sa.text("SELECT count(*) FROM seq_1_to_1000000000000 WHERE seq % 7 = 8")
    ahead = Ahead(database, lambda con: con.execute(slow).all())
    running = "SELECT count(*) FROM information_schema.processlist WHERE info LIKE '%seq\\_1%7 = 8'"
    while rows_of(database.connstr, running) == [(0,)]:
        pass
    ahead.close()
    with pytest.raises(sa.exc.SQLAlchemyError):
        ahead.result()
    assert rows_of(database.connstr, running) == [(0,)]


@on_server
def test_a_page_of_rows_is_found_by_the_index(database: Database) -> None:
    metadata = sa.MetaData()
    keys = [sa.Column(name, Key, primary_key=True) for name in ("source", "path", "recipe")]
    table = sa.Table("made", metadata, *keys)
    metadata.create_all(database.engine)
    rows = [
        {"source": "input", "path": f"{n:05}", "recipe": recipe}
        for n in range(4_000)
        for recipe in ("half", "thumb")
    ]
    plans: list[str] = []

    def note(con: sa.Connection, cursor: object, statement: str, parameters: object, *_: object):
        if statement.startswith("SELECT"):
            plan = con.connection.cursor()
            plan.execute(f"EXPLAIN {statement}", parameters)
            plans.extend(str(row[3]) for row in plan.fetchall())

    with database.writing() as write:
        write.execute(Insert(table).on_conflict_do_nothing(), rows)
    with database.reading() as con:
        con.execute(sa.text("ANALYZE TABLE made"))
    sa.event.listen(database.engine, "before_cursor_execute", note)
    found = [row.path for page in pages(database, sa.select(table), keys, 3_000) for row in page]
    assert found == [row["path"] for row in rows]
    assert plans[1:] == ["range", "range"]


@pytest.mark.parametrize("repeated", [7, 15])
def test_long_and_unusual_paths_stay_in_step(
    project: Project, database_url: str, repeated: int
) -> None:
    if repeated > 7 and database_url.startswith("postgresql"):
        return  # no index of its holds such a key
    project.env["PIPELINE_DB"] = database_url
    project.recipes("[half]\nscale = 0.5\n")
    deep = "/".join("d" * 200 for _ in range(repeated))
    names = [f"{deep}/{name}.png" for name in ("a", "B", "b ", "b", "é", "z" * 200)]
    names += [f"{deep[:-1]}/x.png", "a.png", "A.png", "b /a.png", "b/a.png", "ﬀ.png", "ff.png"]
    for name in names:
        _add(project, name)
    assert project.run()["renditions"]["rendered"] == len(names)
    assert project.run()["originals"]["unchanged"] == len(names)
    _remove(project, names.pop(1))
    _add(project, names[0], seed=2)
    _add(project, f"{deep}/ab.png")
    report = project.run()
    assert [report["originals"][n] for n in ("new", "changed", "removed")] == [1, 1, 1]
    assert (report["renditions"]["rendered"], report["renditions"]["deleted"]) == (2, 1)
    assert project.run()["originals"]["unchanged"] == len(names) + 1
    assert project.cli("verify", "--deep").code == 0
    taken = project.cli("takedown", names[1], "--reason", "flagged", "--json").json
    assert taken["originals"] == [names[1]]
    assert project.run()["renditions"]["in_step"] == len(names)


def _add(project: Project, path: str, seed: int | None = None) -> None:
    project.add("made.png", seed=path if seed is None else seed)  # type: ignore[arg-type]
    file = project.input / path
    file.parent.mkdir(parents=True, exist_ok=True)
    (project.input / "made.png").replace(file)


def _remove(project: Project, path: str) -> None:
    (project.input / path).unlink()


def test_a_run_killed_on_a_server_is_in_step_after_the_next(
    project: Project, server_url: str
) -> None:
    project.env["PIPELINE_DB"] = server_url
    project.recipes("[half]\nscale = 0.5\n")
    for name in ("a.png", "b.png", "sub/c.png"):
        project.add(name)
    moment, rounds = 1, 0
    while project.in_child(kill_at(moment), "run") != 0:
        moment += apart(23)
        rounds += 1
        if rounds % 2:
            project.add("b.png", seed=moment)
        else:
            (project.input / "sub/c.png").unlink(missing_ok=True)
    assert rounds > 1
    assert project.run()["renditions"]["pending"] == 0
    assert project.cli("verify", "--deep").code == 0
    have = project.outputs()
    del project.env["PIPELINE_DB"]
    project.assert_in_step()
    assert have == project.outputs()


@on_server
def test_for_mysql_it_says_the_command_of_a_backup_and_that_one_works(
    project: Project, database_url: str
) -> None:
    project.env["PIPELINE_DB"] = database_url
    project.add("a.png")
    project.run()
    answer = project.cli("backup", "backup.sql")
    assert answer.code == 2
    command = shlex.split(answer.stderr.strip().partition("backups: ")[2])
    assert command[0] in ("mariadb-dump", "mysqldump")
    assert "--password" in command
    url = sa.make_url(database_url)
    quiet = {**os.environ, "MYSQL_PWD": str(url.password)}
    command.remove("--password")
    subprocess.run(command, cwd=project.root, check=True, timeout=60, env=quiet)
    (project.input / "a.png").unlink()
    project.run("--allow-removed")
    before = rows_of(database_url, "SELECT count(*) FROM renditions")
    restore = [shutil.which("mariadb") or "mysql", *command[3:-2], command[-1]]
    with Path(project.root / "backup.sql").open() as dump:
        subprocess.run(restore, stdin=dump, check=True, timeout=60, env=quiet)
    assert before != rows_of(database_url, "SELECT count(*) FROM renditions")
    project.add("a.png")
    project.run()
    assert project.cli("verify", "--deep").code == 0
