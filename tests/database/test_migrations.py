"""Tables of a release before are brought forward: no row is lost, nothing is made again."""

import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from a_shop import Shop
from fetch_fixtures import server
from killing import apart, kill_at
from layout_1 import downgrade, dump
from loopback import Server

from pipeline.tables import LAYOUT_VERSION

__all__ = ["server"]

NOW = str(LAYOUT_VERSION)

# No other database had tables of those layouts.
pytestmark = pytest.mark.parametrize(
    "database_url",
    ["sqlite", pytest.param("postgresql", marks=pytest.mark.databases)],
    indirect=True,
)


@pytest.fixture
def shop(tmp_path: Path, server: Server) -> Shop:
    return Shop(tmp_path / "shop", server)


@pytest.fixture
def url(shop: Shop, database_url: str) -> str:
    """The address of the database of a shop in step, with originals and a finished job."""
    shop.env["PIPELINE_DB"] = database_url
    # The release before knew no hashes.
    shop.env["PIPELINE_NEAR"] = "off"
    shop.add("a.jpg")
    shop.add("sub/b.png")
    shop.submit(shop.csv({"1": shop.urls("/pic/1"), "2": shop.urls("/pic/2", "/pic/3")}))
    shop.run()
    (shop.input / "broken.jpg").write_bytes(b"no picture")
    shop.run(code=1)
    return database_url


def layout(url: str) -> str:
    engine = sa.create_engine(url)
    with engine.begin() as con:
        value: str = con.execute(
            sa.text("SELECT value FROM lockstep_state WHERE name = 'layout'")
        ).scalar_one()
    engine.dispose()
    return value


def test_no_row_is_lost_and_nothing_is_made_or_fetched_again(shop: Shop, url: str) -> None:
    before, stamps, hits, answer = dump(url), shop.stamps(), shop.hits(), shop.answer()
    downgrade(url, shop.state)
    assert "input_images" in dump(url)
    assert (shop.state / "originals").is_dir()

    status = shop.cli("status", "--json").json
    assert (status["originals"], status["renditions"], status["pending"]) == (3, 4, 0)
    assert (layout(url), dump(url)) == (NOW, before)

    report = shop.run()
    assert (report["renditions"]["rendered"], report["renditions"]["in_step"]) == (0, 4)
    assert (shop.stamps(), shop.hits(), shop.answer()) == (stamps, hits, answer)
    assert not (shop.state / "originals").exists()
    assert shop.cli("verify").code == 0
    # What comes later works on the rows of both kinds.
    (shop.input / "a.jpg").unlink()
    shop.run()
    assert shop.cli("job", "delete", str(shop.job()["reference"])).code == 0
    assert {name.rpartition("/")[2] for name in shop.outputs()} == {"b.png", "b.png.webp"}


def test_killed_at_any_statement_the_tables_are_of_one_layout_or_the_other(
    shop: Shop, url: str
) -> None:
    whole = dump(url)
    downgrade(url, shop.state)
    old, moment = dump(url), 0
    # The transaction is the same on both; a statement of a server takes longer.
    step = apart(17 if url.startswith("sqlite") else 31)
    while True:
        moment += step
        if shop.in_child(kill_at(moment), "status") >= 0:
            break
        if layout(url) not in ("2", "3"):  # between two steps, each of which is whole
            assert (layout(url), dump(url)) in (("1", old), (NOW, whole)), moment
    assert moment > 40
    assert (layout(url), dump(url)) == (NOW, whole)
    assert shop.run()["renditions"]["rendered"] == 0


def test_during_a_run_of_the_release_before_the_tables_stay_as_they_are(
    shop: Shop, url: str
) -> None:
    downgrade(url, shop.state)
    old = dump(url)
    from pipeline.database.connection import open_database
    from pipeline.database.locks import RUN_LOCK

    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        database = open_database(url)
        with database.lock(RUN_LOCK):
            held.set()
            done.wait(60)
        database.engine.dispose()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert held.wait(60)
        answer = shop.cli("status")
    finally:
        done.set()
        thread.join()
    assert (answer.code, dump(url)) == (3, old), answer
    assert shop.cli("status").code == 0
    assert layout(url) == NOW


def test_what_was_about_to_be_published_is_known_after_the_move(shop: Shop, url: str) -> None:
    """A run of the release before that was killed between a file and its row is cleaned up."""
    downgrade(url, shop.state)
    (shop.output / "jobs/half/stray.jpg").write_bytes(b"half a batch")
    engine = sa.create_engine(url)
    with engine.begin() as con:
        for name, value in {
            "interrupted": "1.0",
            "publishing": '{"below": "jobs", "files": ["half/stray.jpg"]}',
        }.items():
            con.execute(
                sa.text("INSERT INTO lockstep_state (name, value) VALUES (:name, :value)"),
                {"name": name, "value": value},
            )
    engine.dispose()
    shop.run()
    assert not (shop.output / "jobs/half/stray.jpg").exists()
    assert shop.cli("verify").code == 0


def test_takedowns_of_layout_3_stay_and_are_to_be_sent_to_a_shared_blocklist(
    shop: Shop, url: str
) -> None:
    answer = shop.cli("takedown", "a.jpg", "--reason", "flagged", "--who", "mod")
    assert answer.code == 0, answer
    before = shop.cli("takedown", "list", "--json").json
    engine = sa.create_engine(url)
    with engine.begin() as con:
        con.execute(sa.text("DROP INDEX ix_takedowns_unsent"))
        for column in ("instance", "unsent"):
            con.execute(sa.text(f"ALTER TABLE takedowns DROP COLUMN {column}"))
        con.execute(sa.text("UPDATE lockstep_state SET value = '3' WHERE name = 'layout'"))
    assert shop.cli("takedown", "list", "--json").json == before
    with engine.begin() as con:
        found = con.execute(sa.text("SELECT instance, unsent FROM takedowns")).all()
        names = {index["name"] for index in sa.inspect(con).get_indexes("takedowns")}
    engine.dispose()
    assert (layout(url), [tuple(row) for row in found]) == (NOW, [(None, 1)])
    assert "ix_takedowns_unsent" in names
    assert shop.run()["renditions"]["rendered"] == 0
