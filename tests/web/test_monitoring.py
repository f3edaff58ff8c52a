"""What docs/monitoring holds, tried with a real Prometheus, where one is installed."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from a_project import ROOT, Project
from a_server import Server, serving

MONITORING = ROOT / "docs/monitoring"
RULES = MONITORING / "alerts.yml"
TOKEN = "a-token-that-nobody-guesses"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    project = Project(tmp_path_factory.mktemp("monitored") / "shop")
    project.add("red.png")
    project.env["PIPELINE_TOKEN"] = TOKEN
    with serving(project) as running:
        running.client.headers["authorization"] = f"Bearer {TOKEN}"
        running.until_counted(originals=1, renditions=2, pending=0)
        yield running


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name}: install Debian's package `prometheus`")
    return found


def queries() -> list[str]:
    dashboard = json.loads((MONITORING / "grafana.json").read_text("utf-8"))
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def test_the_dashboard_and_the_alerts_name_metrics_that_there_are(server: Server) -> None:
    text = server.get("/metrics").text
    there = set(re.findall(r"^(lockstep_\w+)", text, re.M))
    rules = re.findall(r"expr: (\|\n(?: {10}.*\n)+|.*)", RULES.read_text("utf-8"))
    assert len(rules) == 10
    named = {name for query in [*queries(), *rules] for name in re.findall(r"lockstep_\w+", query)}
    # Those that have a line for each step, or feature, of a project have none without one.
    assert named - there <= {"lockstep_records", "lockstep_features"}
    states = set(re.findall(r'state=~?"([\w|]+)"', " ".join([*queries(), *rules])))
    for state in {each for found in states for each in found.split("|")}:
        assert f'state="{state}"' in text


def test_the_rules_are_valid_and_fire_when_they_should(tmp_path: Path) -> None:
    promtool = tool("promtool")
    shutil.copy(RULES, tmp_path)
    shutil.copy(Path(__file__).with_name("alerts_test.yml"), tmp_path)
    for command in (("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")):
        done = subprocess.run(
            [promtool, *command], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_real_prometheus_scrapes_it_and_answers_what_the_dashboard_asks(
    server: Server, tmp_path: Path
) -> None:
    program, checked = tool("prometheus"), [tool("promtool"), "check", "metrics"]
    text = server.get("/metrics").text
    done = subprocess.run(checked, input=text, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    (tmp_path / "token").write_text(TOKEN)
    shutil.copy(RULES, tmp_path / "lockstep-alerts.yml")
    config = (MONITORING / "prometheus.yml").read_text("utf-8")
    for there, here in {
        "/etc/prometheus/lockstep-token": f"{tmp_path}/token",
        "/etc/prometheus/lockstep-alerts.yml": f"{tmp_path}/lockstep-alerts.yml",
        "127.0.0.1:8000": server.url.removeprefix("http://"),
        "15s": "1s",
    }.items():
        assert there in config
        config = config.replace(there, here)
    (tmp_path / "prometheus.yml").write_text(config)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    options = (
        f"--config.file={tmp_path}/prometheus.yml",
        f"--storage.tsdb.path={tmp_path}/data",
        f"--web.listen-address={address}",
    )
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([program, *options], stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://{address}/api/v1/", timeout=10) as client:
            wait_for_scrape(client, process, tmp_path / "log")
            for query in queries():
                answer = client.get("query", params={"query": query}).json()
                assert answer["status"] == "success", (query, answer)
            assert value(client, "lockstep_originals") == 1
            assert value(client, "lockstep_render_seconds_count") == 2
            assert value(client, "lockstep_in_step") == 1
            rules = client.get("rules").json()["data"]["groups"][0]["rules"]
            assert len(rules) == 10
    finally:
        process.terminate()
        process.wait(timeout=30)


def value(client: httpx.Client, query: str) -> float | None:
    found = client.get("query", params={"query": query}).json()["data"]["result"]
    return float(found[0]["value"][1]) if found else None


def wait_for_scrape(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        assert process.poll() is None, log.read_text()
        try:
            if value(client, 'up{job="lockstep"}') == 1:
                return
        except (httpx.HTTPError, KeyError, ValueError):
            pass
        time.sleep(0.1)
    raise AssertionError(log.read_text())
