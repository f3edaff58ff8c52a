"""The linear change query gives what datapipe-core's own gives, and on PostgreSQL as well."""

import os
import random
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa
from a_project import Project
from a_watcher import Watching
from databases import emptied
from datapipe.compute import ComputeInput, ComputeOutput
from datapipe.datatable import DataTable
from datapipe.meta.sql_meta import SQLTableMeta, SQLTransformMeta
from datapipe.store.database import DBConn, TableStoreDB
from datapipe.store.table_store import TableStore
from datapipe.types import IndexDF
from upstream import digest, upstream_rows

from pipeline.database.connection import Database
from pipeline.database.dialects import Key
from pipeline.database.forgetting import forget_deleted
from pipeline.database.tracked import TrackedTable, data_of, delete, meta_of, upsert
from pipeline.database.tracking import KIND, LinearTransformMeta, data_store
from pipeline.tables import connect

# The parts of datapipe-core that `pipeline/database/tracking.py` names,
# and those whose order of writes `Database.con` relies on. Where one of these digests changes,
# read what upstream changed, carry over what concerns us, and write the new digest here.
STOOD_IN_FOR = {
    SQLTransformMeta._build_changed_idx_sql: "63137ad0c65d2bcc",
    SQLTransformMeta.mark_rows_processed_success: "c5fad273ec92484e",
    SQLTransformMeta.mark_rows_processed_error: "4f74a7153444631e",
    SQLTableMeta.update_rows: "05b89f5ab1035614",
    SQLTableMeta._build_metadata_query: "1612410a065adfe3",
    SQLTableMeta.get_existing_idx: "44c08a669c5221a0",
    SQLTableMeta.get_changes_for_store_chunk: "3c44a6aa8f651de8",
    SQLTableMeta.mark_rows_deleted: "9e2958460be525db",
    SQLTransformMeta.compute_transform_schema: "e32af40cf807f545",
    TableStoreDB.read_rows: "45315ca339e197af",
    TableStoreDB.delete_rows: "9988be899fbe090c",
    TableStoreDB.update_rows: "4c6a4254500d9ef7",
    TableStore.hash_rows: "de1ece58deb2f7d0",
    DataTable.store_chunk: "624fdfb1931d7d0c",
    DataTable.delete_by_idx: "eda8714d5af6e2bf",
    DBConn._init: "f0b317ce1e794414",
}


@pytest.mark.parametrize("part", STOOD_IN_FOR, ids=lambda part: part.__qualname__)
def test_upstream_is_what_we_stand_in_for(part: object) -> None:
    assert digest(part) == STOOD_IN_FOR[part]


@pytest.mark.parametrize("seed", range(6))
def test_a_random_history_gives_the_same_keys_as_upstream(tmp_path: Path, seed: int) -> None:
    connection = connect(f"sqlite:///{tmp_path / 'db.sqlite'}")
    compare_with_upstream(connection, random.Random(seed))
    connection.engine.dispose()


def compare_with_upstream(connection: Database, chance: random.Random) -> None:
    """Random writes and marks; after each, both queries must give the same keys."""
    store = data_store(connection)
    if connection.dialect.name == "mysql":
        connection.func_greatest = sa.func.max  # upstream's query runs in a copy on SQLite
    tables = {}
    for name, key in (("images", "path"), ("recipes", "recipe"), ("made", "path recipe")):
        columns = [sa.Column(column, Key, primary_key=True) for column in key.split()]
        columns.append(sa.Column("value", sa.String))
        tables[name] = store.create_table(name, TrackedTable(connection, name, columns))
    meta = store.meta_plane.create_transform_meta(
        name="render",
        input_dts=[ComputeInput(tables["images"]), ComputeInput(tables["recipes"])],
        output_dts=[ComputeOutput(tables["made"])],
        transform_keys=["path", "recipe"],
    )
    assert isinstance(meta, LinearTransformMeta)
    connection.sqla_metadata.create_all(connection.con)
    now = 1_000.0
    # What is written has the time of the clock, whatever the caller says.
    connection.clock.now = lambda: now  # type: ignore[method-assign]
    for _ in range(60):
        now += 1
        name, key = chance.choice((("images", "path"), ("images", "path"), ("recipes", "recipe")))
        keys = chance.sample([f"{key}-{n}" for n in range(6)], chance.randint(1, 4))
        act = chance.random()
        if act < 0.5:
            rows = [{key: each, "value": str(chance.randrange(3))} for each in keys]
            if chance.random() < 0.5:
                with connection.writing() as write:
                    upsert(write, tables[name], rows)
            else:
                tables[name].store_chunk(pd.DataFrame(rows), now=now)
        elif act < 0.6:
            with connection.writing() as write:
                delete(write, tables[name], [(each,) for each in keys])
        elif act < 0.7:
            tables[name].delete_by_idx(pd.DataFrame({key: keys}), now=now)  # type: ignore[arg-type]
        else:
            pending = sorted(ours(connection, meta))
            done = chance.sample(pending, chance.randint(0, len(pending)))
            if done:
                idx = pd.DataFrame([row[:2] for row in done], columns=["path", "recipe"])
                if chance.random() < 0.7:
                    meta.mark_rows_processed_success(idx, process_ts=now)  # type: ignore[arg-type]
                else:
                    meta.mark_rows_processed_error(idx, process_ts=now, error="x")  # type: ignore[arg-type]
        mine = {row[:2] for row in ours(connection, meta)}
        assert mine == upstream(connection, store, meta)
    # When nothing is pending, forgetting what is gone changes no answer.
    idx = pd.DataFrame([row[:2] for row in ours(connection, meta)], columns=["path", "recipe"])
    meta.mark_rows_processed_success(idx, process_ts=now + 1)  # type: ignore[arg-type]
    forget_deleted(meta)
    assert ours(connection, meta) == set()
    assert upstream(connection, store, meta) == set()


def test_rows_are_written_as_upstream_writes_them(tmp_path: Path) -> None:
    """Each row and what is remembered of it, after any history; a deleted row that comes back."""
    ways = ("ours", "upstream")
    connections = [connect(f"sqlite:///{tmp_path / way}.sqlite") for way in ways]
    tables = []
    for connection in connections:
        columns = [sa.Column(name, Key, primary_key=True) for name in ("source", "path")]
        columns.append(sa.Column("value", sa.String))
        table = TrackedTable(connection, "images", columns)
        tables.append(data_store(connection).create_table("images", table))
        connection.sqla_metadata.create_all(connection.con)
    chance, now = random.Random(7), 1_000.0
    for connection in connections:
        connection.clock.now = lambda: now  # type: ignore[method-assign]
    everything = [(source, f"{n}.png") for source in ("input", "jobs") for n in range(6)]
    for _ in range(60):
        now += 1
        keys = chance.sample(everything, chance.randint(0, 5))
        rows = [{"source": key[0], "path": key[1], "value": str(now)} for key in keys]
        if chance.random() < 0.6:
            with connections[0].writing() as write:
                upsert(write, tables[0], rows)
            tables[1].store_chunk(pd.DataFrame(rows, columns=["source", "path", "value"]), now=now)
        else:
            with connections[0].writing() as write:
                delete(write, tables[0], keys)
            tables[1].delete_by_idx(
                IndexDF(pd.DataFrame(keys, columns=["source", "path"])), now=now
            )
        for of in (data_of, meta_of):
            found = []
            for connection, table in zip(connections, tables, strict=True):
                columns_of = of(table).c
                query = sa.select(*[c for c in columns_of if c.name != "hash"])
                found.append(connection.rows(query.order_by(columns_of.source, columns_of.path)))
            assert found[0] == found[1]
    for connection in connections:
        connection.engine.dispose()


def ours(connection: Database, meta: LinearTransformMeta) -> set[tuple[str, str, int]]:
    query = meta.changed_sql().subquery()
    with connection.reading() as con:
        rows = con.execute(sa.select(query.c.path, query.c.recipe, query.c[KIND])).all()
    assert len(rows) == len({row[:2] for row in rows})
    return {(row[0], row[1], row[2]) for row in rows}


def upstream(
    connection: Database, store: object, meta: LinearTransformMeta
) -> set[tuple[str, str]]:
    query = SQLTransformMeta._build_changed_idx_sql(meta, ds=store)  # type: ignore[arg-type]
    rows = upstream_rows(connection, query)
    # Where one input is empty, upstream gives keys of the other alone: there is nothing to make.
    return {(row.path, row.recipe) for row in rows if None not in (row.path, row.recipe)}


def test_on_a_server_the_keys_are_the_same_as_well(server_url: str) -> None:
    connection = connect(server_url)
    compare_with_upstream(connection, random.Random(1))
    connection.engine.dispose()


def test_on_a_server_a_project_stays_in_step(server_url: str, project: Project) -> None:
    project.env["PIPELINE_DB"] = server_url
    for name in ("a.png", "B.png", "a b.png", "Ünï.png", "a/z.png", "a-b.png", "line\nbreak.png"):
        project.add(name)
    (project.input / "bad.png").write_bytes(b"bad")
    # An inode and a time beyond 32 bits.
    os.utime(project.input / "B.png", (2**33, 2**33))
    report = project.run(code=1)
    assert (report["renditions"]["rendered"], report["renditions"]["failed"]) == (14, 2)
    assert project.run()["originals"]["unchanged"] == 8
    (project.input / "a.png").rename(project.input / "c.png")
    project.add("B.png", seed=2)
    (project.input / "bad.png").unlink()
    said = project.run("--dry-run")
    assert said["originals"]["removed"] == 2
    done = project.run()["renditions"]
    assert (done["rendered"], done["reused"], done["deleted"]) == (2, 2, 4)
    project.recipes("[half]\nscale = 0.5\n[wide]\nwidth = 20\n")
    assert project.run()["renditions"]["rendered"] == 7
    assert project.cli("verify", "--deep").code == 0
    assert project.cli("status", "--json").json["renditions"] == 14
    assert project.cli("explain", "B.png").code == 0
    assert project.cli("retry", "--older").code == 0
    for command in ("step list --status", "table list", "lint", "db create-all"):
        answer = project.cli(*command.split())
        assert answer.code == 0, answer
    have = project.outputs()
    project.env.pop("PIPELINE_DB")
    assert have == project.expected()


def test_on_a_server_a_second_run_is_refused(server_url: str, project: Project) -> None:
    from pipeline.database.locks import RUN_LOCK

    project.env["PIPELINE_DB"] = server_url
    project.add("a.png")
    connection = connect(server_url)
    with connection.lock(RUN_LOCK):
        answer = project.cli("run")
        assert answer.code == 3
        assert "another run is in progress (connection " in answer.stderr
    assert project.run()["renditions"]["rendered"] == 2
    connection.engine.dispose()


def test_a_server_that_is_away_is_a_clear_error(project: Project) -> None:
    pytest.importorskip("psycopg2", reason="the driver psycopg2 is not installed")
    project.env["PIPELINE_DB"] = "postgresql://me:secret@127.0.0.1:1/shop"
    answer = project.cli("run")
    assert answer.code == 2
    assert "PIPELINE_DB" in answer.stderr
    assert "secret" not in answer.stderr


def test_on_a_server_a_takedown_does_not_wait_for_a_run(server_url: str, project: Project) -> None:
    from pipeline.database.locks import RUN_LOCK

    project.env["PIPELINE_DB"] = server_url
    project.add("a.png", seed=1)
    project.add("b/twin.png", seed=1)
    project.run()
    connection = connect(server_url)
    with connection.lock(RUN_LOCK):
        answer = project.cli("takedown", "a.png", "--reason", "flagged", "--json")
        assert answer.json["originals"] == ["a.png", "b/twin.png"]
        assert project.outputs() == {}
    connection.engine.dispose()
    project.add("c.png", seed=1)
    assert project.run()["renditions"]["taken_down"] == 2
    assert project.cli("takedown", "lift", "1").code == 0
    assert project.run()["renditions"]["in_step"] == 6
    assert [act["state"] for act in project.cli("takedown", "list", "--json").json] == ["lifted"]


def test_on_a_server_a_lost_database_takes_the_takedowns_over(
    server_url: str, project: Project
) -> None:
    project.env["PIPELINE_DB"] = server_url
    for name, seed in (("a.png", 1), ("twin.png", 1), ("b.png", 2)):
        project.add(name, seed=seed)
    project.run()
    for name in ("a.png", "b.png"):
        assert project.cli("takedown", name, "--reason", "x", "--who", "mod").code == 0
    assert project.cli("takedown", "lift", "2").code == 0
    assert project.cli("run").stderr == ""
    before = project.cli("takedown", "list", "--json").json
    emptied(server_url)
    project.add("again.png", seed=1)
    answer = project.cli("run", "--json")
    assert "added 2 takedowns from the journal" in answer.stderr
    assert answer.json["renditions"]["taken_down"] == 2
    assert sorted(project.outputs()) == ["half/b.png", "thumb/b.png.webp"]
    assert project.cli("takedown", "list", "--json").json == before
    assert project.cli("run").stderr == ""
    assert project.cli("takedown", "lift", "1").code == 0
    assert project.run()["renditions"]["in_step"] == 8


def test_on_a_server_a_watcher_and_runs_share_the_lock(server_url: str, project: Project) -> None:
    project.env["PIPELINE_DB"] = server_url
    project.add("a.png")
    watching = Watching(project)
    try:
        watching.wait_for("a.png")
        watching.wait_for_start()
        for name in ("b.png", "c.png"):
            project.add(name)
            assert project.process("run").code == 0
        watching.wait_for("a.png", "b.png", "c.png")
        (project.input / "a.png").unlink()
        watching.wait_for("b.png", "c.png")
        assert watching.stop() == 0
    finally:
        watching.kill()
    assert project.run()["renditions"]["in_step"] == 4
