"""Features on the page and in the API of one original, and in the counts of Home."""

from __future__ import annotations

from a_project import Project
from a_server import HTML, serving

RECIPES = """
[half]
scale = 0.5

[features.said]
function = "functions:said"
"""
FUNCTION = """
def said(image):
    if image.width != 60:
        raise ValueError("<b>odd</b>")
    return {"word": "<i>red</i>", "many": ["a", 2]}
"""


def test_an_image_shows_what_features_say_of_it(project: Project) -> None:
    project.recipes(RECIPES)
    (project.root / "functions.py").write_text(FUNCTION, "utf-8")
    project.add("a.png")
    project.add("narrow.png", size=(40, 40))
    with serving(project) as server:
        server.until_counted(originals=2, renditions=2, failed=0, pending=0)
        told = server.get("/images/a.png").json()
        (feature,) = told["features"]
        assert feature["value"] == {"word": "<i>red</i>", "many": ["a", 2]}
        assert (feature["name"], feature["state"], feature["reason"]) == ("said", "ok", None)
        assert told["explain"]["features"][0]["verdict"] == "in step"
        assert "features" not in server.get("/images").json()["images"][0]
        shown = server.get("/images/a.png", headers=HTML).text
        assert "&lt;i&gt;red&lt;/i&gt;" in shown
        assert "a, 2" in shown

        why = "functions:said: ValueError: <b>odd</b>"
        (feature,) = server.get("/images/narrow.png").json()["features"]
        assert (feature["state"], feature["value"], feature["reason"]) == ("failed", None, why)
        shown = server.get("/images/narrow.png", headers=HTML).text
        assert "ValueError: &lt;b&gt;odd&lt;/b&gt;" in shown
        assert ">Retry</button>" in shown
        (group,) = server.get("/failed").json()["reasons"]
        assert (group["code"], group["count"]) == ("function_failed", 1)
        assert [(item["path"], item["reason"]) for item in group["items"]] == [("narrow.png", why)]
        counts = server.get("/status").json()["counts"]
        none = dict.fromkeys(("held", "taken_down", "pending"), 0)
        assert counts["features"]["said"] == {"ok": 1, "failed": 1, **none}
        assert server.get("/status").json()["in_step"] is False
        assert "In step, except for 1 that failed" in server.get("/", headers=HTML).text
        assert "2 features made" not in server.get("/", headers=HTML).text
        assert "1 features made" in server.get("/", headers=HTML).text
        recipes = server.get("/recipes").json()["recipes"]
        assert [of["recipe"] for of in recipes] == ["features.said", "half"]
        assert recipes[0]["spec"] == {
            "name": "features.said",
            "function": "functions:said",
            "max_side": 256,
        }
        assert "functions:said" in server.get("/recipes", headers=HTML).text
        metrics = server.get("/metrics").text
        assert 'lockstep_features{feature="said",state="failed"} 1.0' in metrics
        assert server.post("/retries", json={"paths": ["narrow.png"]}).json() == {"retried": 1}
