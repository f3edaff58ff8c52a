"""Features on servers: the same statements, other rules for types, unions and sorting."""

from __future__ import annotations

import pytest
from a_shop import Shop

from pipeline.app import Lockstep
from pipeline.operations import gallery
from pipeline.operations.failures import by_reason

RECIPES = """
[half]
scale = 0.5

[features.size]
function = "size"

[features.said]
function = "functions:said"
options = { word = "grün" }
"""
SAID = """
def said(image, *, word):
    if image.width == 40:
        raise ValueError(word)
    return {"word": word}
"""


@pytest.fixture
def server_shop(shop: Shop, server_url: str) -> Shop:
    shop.env |= {"PIPELINE_DB": server_url, "PIPELINE_JOB_FEATURES": "said,size"}
    shop.recipes(RECIPES)
    (shop.root / "functions.py").write_text(SAID, "utf-8")
    return shop


def test_on_a_server_features_come_change_fail_and_go(server_shop: Shop) -> None:
    shop = server_shop
    shop.add("a.png")
    shop.add("twin.png", seed="a.png")
    shop.add("narrow.png", size=(40, 40))
    shop.submit(shop.csv({"1": shop.urls("/pic/1", "/pic/2")}))
    report = shop.run(code=1)
    assert [report["features"][n] for n in ("made", "reused", "failed")] == [3, 2, 1]
    assert shop.answer()[1][4] == '["grün", "grün"]'
    rows = shop.cli("features", "--json").json
    assert [(row["path"], row["name"]) for row in rows] == [
        (path, name) for path in ("a.png", "narrow.png", "twin.png") for name in ("said", "size")
    ]
    (error,) = shop.cli("errors", "--json").json
    assert error["reason"] == "functions:said: ValueError: grün"
    with shop._as_if_started_here():
        import app

        application: Lockstep = app.app
        pending = application.render.pending
        told = by_reason(application)
        described = gallery.describe(pending, "narrow.png")
        application.database.engine.dispose()
    assert (told["failed"], told["reasons"][0]["paths"]) == (1, ["narrow.png"])
    assert described is not None
    assert [of["state"] for of in described["features"]] == ["failed", "ok"]

    shop.recipes(RECIPES.replace("grün", "rot"))
    assert shop.run("--dry-run")["features"]["made"] == 3
    report = shop.run(code=1)
    assert [report["features"][n] for n in ("made", "reused", "failed")] == [1, 1, 1]
    assert shop.answer()[1][4] == '["rot", "rot"]'
    assert shop.cli("takedown", "add", "a.png", "--reason", "withdrawn").code == 0
    assert shop.cli("retry", "--json").json == {"retried": 1}
    shop.run(code=1)
    status = shop.cli("status", "--json").json
    assert status["features"]["size"]["ok"] == 1
    assert shop.cli("takedown", "reinstate", "1").code == 0
    shop.recipes(RECIPES.partition("[features.said]")[0])
    shop.env["PIPELINE_JOB_FEATURES"] = "size"
    shop.run()
    assert list(shop.cli("status", "--json").json["features"]) == ["size"]
    assert shop.run()["features"]["in_step"] == 3
