"""The webhook of moderation is told of each event once, whatever stops whoever tells it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from a_server import serving
from a_shop import Shop, wait_for
from a_takedown import lose_database, take_down
from fetch_fixtures import server
from loopback import Request, Server
from routes import route

from pipeline.fetch.signing import signature

# A fixture that these tests share with those of the fetch.
__all__ = ["server"]

SECRET = "between moderators"


@route
async def refusing_desk(server: Server, request: Request) -> None:
    await request.answer("503 Busy", b"")


@pytest.fixture
def shop(tmp_path: Path, server: Server) -> Shop:
    shop = Shop(tmp_path / "shop", server)
    shop.recipes("[half]\nscale = 0.5\n")
    shop.env |= {
        "PIPELINE_MODERATION_WEBHOOK": shop.urls("/hook/desk"),
        "PIPELINE_MODERATION_WEBHOOK_SECRET": SECRET,
        "PIPELINE_FETCH_RETRIES": "0",
    }
    for name in ("red.png", "blue.png"):
        shop.add(name)
    shop.run()
    return shop


def told(shop: Shop, path: str = "/hook/desk") -> list[Request]:
    return [request for request in shop.server.seen if request.path == path]


def bodies(shop: Shop) -> list[dict[str, Any]]:
    return [json.loads(request.body) for request in told(shop)]


def review(shop: Shop, kind: str, created_ts: float, **values: Any) -> None:
    row = {"kind": kind, "state": "open", "sha256": "0" * 64, "source": "input"}
    row |= {"path": "blue.png", "created_ts": created_ts, "reports": kind == "reported", **values}
    names, shown = ", ".join(row), ", ".join(map(repr, row.values()))
    shop.query(f"INSERT INTO reviews ({names}) VALUES ({shown})")


def test_a_takedown_and_its_reinstatement_are_told_at_once_signed_and_once(shop: Shop) -> None:
    take_down(shop, "red.png")
    (request,) = told(shop)
    headers, body = request.headers, json.loads(request.body)
    signed = signature(
        headers["webhook-id"], int(headers["webhook-timestamp"]), request.body, SECRET
    )
    assert headers["webhook-signature"] == signed
    assert (body["type"], body["data"]["who"]) == ("takedown", "mod")
    assert body["data"] == shop.cli("takedown", "list", "--json").json[0]
    shop.run()
    assert shop.cli("takedown", "reinstate", "1").code == 0
    shop.run()
    assert [body["type"] for body in bodies(shop)] == ["takedown", "reinstatement"]


def test_reports_holds_and_decisions_are_told_by_the_next_run(shop: Shop) -> None:
    import time

    now = time.time()
    review(shop, "held", now, near="f" * 64, near_source="partner", distance=12)
    review(shop, "reported", now + 1, reason="not mine", who="a customer", category="rights")
    shop.run()
    hold, report = bodies(shop)
    assert (hold["type"], hold["data"]["distance"]) == ("hold", 12)
    assert (report["type"], report["data"]["reason"]) == ("report", "not mine")
    assert report["data"]["decided"] is None
    shop.query(
        f"UPDATE reviews SET state = 'published', decided_ts = {now + 2}, decided_by = 'mod' "
        "WHERE kind = 'held'"
    )
    shop.run()
    shop.run()
    decision = bodies(shop)[-1]
    assert len(bodies(shop)) == 3
    assert (decision["type"], decision["data"]["state"]) == ("decision", "published")
    shop.query(
        f"UPDATE reviews SET state = 'open', decided_ts = NULL, undone_ts = {now + 3} "
        "WHERE kind = 'held'"
    )
    shop.run()
    undone = bodies(shop)[-1]
    assert (undone["type"], undone["data"]["state"]) == ("undone", "open")


def test_what_happened_long_before_the_webhook_was_configured_is_not_told(shop: Shop) -> None:
    shop.env["PIPELINE_MODERATION_WEBHOOK"] = ""
    take_down(shop, "red.png")
    shop.run()
    shop.query("UPDATE takedowns SET created_ts = created_ts - 7200")
    shop.env["PIPELINE_MODERATION_WEBHOOK"] = shop.urls("/hook/desk")
    shop.run()
    assert told(shop) == []


def test_a_receiver_that_is_down_is_told_later_and_holds_up_nothing(shop: Shop) -> None:
    shop.env["PIPELINE_MODERATION_WEBHOOK"] = shop.urls("/refusing-desk")
    take_down(shop, "red.png")
    take_down(shop, "blue.png")
    tries = "SELECT state, tries FROM notices ORDER BY subject"
    assert shop.query(tries) == [("pending", 1), ("pending", 1)]
    shop.query("UPDATE notices SET next_ts = 0")
    shop.run()
    # The second was not even tried: it would have been refused as well.
    assert shop.query(tries) == [("pending", 2), ("pending", 1)]
    shop.env["PIPELINE_MODERATION_WEBHOOK"] = shop.urls("/hook/desk")
    shop.run()
    shop.query("UPDATE notices SET next_ts = 0")
    shop.run()
    assert sorted(body["data"]["target"] for body in bodies(shop)) == ["blue.png", "red.png"]


def killed_after_delivery() -> None:
    from pipeline.takedowns import notices

    notices._note = lambda *args: os.kill(os.getpid(), signal.SIGKILL)


def killed_before_delivery() -> None:
    from pipeline.fetch import delivery

    delivery.deliver = lambda *args, **options: os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("prepare", "times"), [(killed_before_delivery, 1), (killed_after_delivery, 2)]
)
def test_what_a_killed_process_was_about_to_tell_is_told_by_a_later_run_with_the_same_id(
    shop: Shop, prepare: Callable[[], None], times: int
) -> None:
    arguments = ("takedown", "red.png", "--reason", "flagged")
    assert shop.in_child(prepare, *arguments) == -signal.SIGKILL
    shop.run()  # the claim of the dead process still holds
    assert len(told(shop)) == times - 1
    shop.query("UPDATE notices SET next_ts = 0")
    shop.run()
    shop.run()
    assert len(told(shop)) == times
    assert len({request.headers["webhook-id"] for request in told(shop)}) == 1


def test_what_a_lost_database_had_told_is_told_again_with_the_same_id_at_most(shop: Shop) -> None:
    take_down(shop, "red.png")
    lose_database(shop)
    shop.run()
    assert len({request.headers["webhook-id"] for request in told(shop)}) == 1


def test_old_events_that_were_told_are_forgotten(shop: Shop) -> None:
    take_down(shop, "red.png")
    shop.run()
    for table, column in (("notices", "ts"), ("takedowns", "created_ts")):
        shop.query(f"UPDATE {table} SET {column} = {column} - 100000")
    shop.query("UPDATE lockstep_state SET value = '0.0' WHERE name = 'notices_since'")
    shop.run()
    assert shop.query("SELECT * FROM notices") == []
    shop.run()
    assert len(told(shop)) == 1


def test_the_service_tells_of_a_report_without_a_run_and_counts_what_was_decided(
    shop: Shop,
) -> None:
    import time

    (shop.root / "list.txt").write_text("0" * 32, "utf-8")
    assert shop.cli("blocklist", "import", "list.txt", "--source", "partner").code == 0
    with serving(shop, "--no-watch") as site:
        now = time.time()
        review(shop, "reported", now - 100, reason="not mine")
        wait_for(lambda: told(shop), "the webhook")
        review(shop, "held", now - 600)
        shop.query(
            f"UPDATE reviews SET state = 'published', decided_ts = {now} WHERE kind = 'held'"
        )
        metrics = site.get("/metrics").text
    for line in (
        'lockstep_reviews{kind="reported",state="open"} 1.0',
        'lockstep_reviews{kind="held",state="published"} 1.0',
        'lockstep_decision_seconds_bucket{kind="held",le="300.0"} 0.0',
        'lockstep_decision_seconds_bucket{kind="held",le="900.0"} 1.0',
        'lockstep_decision_seconds_count{kind="held"} 1.0',
        'lockstep_decision_seconds_count{kind="reported"} 0.0',
        'lockstep_takedowns{state="in_force"} 0.0',
        'lockstep_blocked_hashes{kind="md5",source="partner"} 1.0',
    ):
        assert line in metrics


def test_notices_and_purges_work_on_a_server(
    shop: Shop, server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    shop.env["PIPELINE_DB"] = server_url
    shop.env["PIPELINE_QUARANTINE_DAYS"] = "1"
    shop.run()
    take_down(shop, "red.png")
    assert shop.cli("takedown", "reinstate", "1").code == 0
    take_down(shop, "blue.png")
    now = time.time
    monkeypatch.setattr("pipeline.takedowns.purging.time.time", lambda: now() + 100_000)
    shop.run()
    act, _ = shop.cli("takedown", "list", "--json").json
    assert [event["what"] for event in act["events"]] == ["purged"]
    assert [body["type"] for body in bodies(shop)] == ["takedown", "reinstatement", "takedown"]
