"""docs/scale.md and the files of docs/deploy: the bill is computed, and the files are read by the
tools that they are for."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml
from a_project import ROOT

from pipeline.settings.load import load_settings

DEPLOY = ROOT / "docs/deploy"
COMPOSE, KUBERNETES = DEPLOY / "docker-compose.yml", DEPLOY / "lockstep-ray.yml"
SECRETS = {"LOCKSTEP_DB_PASSWORD": "secret", "LOCKSTEP_TOKEN": "0123456789abcdef"}


def test_the_bill_of_the_page_is_the_one_that_the_script_prints() -> None:
    page = (ROOT / "docs/scale.md").read_text("utf-8")
    begin, end = (f"<!-- scale_bill.py: {word} -->" for word in ("begin", "end"))
    shown = page[page.index(begin) + len(begin) : page.index(end)]
    script = runpy.run_path(str(ROOT / "scripts/scale_bill.py"))
    assert shown.strip() == script["tables"]().strip()


def test_the_measured_slopes_of_the_bill_are_those_of_the_benchmarks() -> None:
    measured = (ROOT / "benchmarks/README.md").read_text("utf-8")
    script = runpy.run_path(str(ROOT / "scripts/scale_bill.py"))
    assert f"{script['COMPARED'].value} s, 133 MB" in measured
    assert f"{script['RENDERED'].value * 2:g} to 68.5" in measured


def test_more_machines_never_make_a_coordinator_faster_than_it_can_feed() -> None:
    script = runpy.run_path(str(ROOT / "scripts/scale_bill.py"))
    for count in (1, 1_000_000, *script["COUNTS"]):
        of_one = count / script["bill"](count).coordinators
        fastest_h = of_one / script["FED"].value / 3_600
        assert script["bill"](count).first_run_h >= fastest_h * 0.999


def test_the_compose_file_starts_instances_that_share_a_blocklist(tmp_path: Path) -> None:
    services = yaml.safe_load(COMPOSE.read_text("utf-8"))["services"]
    instances = {name: each for name, each in services.items() if each["image"] == "lockstep"}
    settings = {name: _settings(each["environment"], tmp_path) for name, each in instances.items()}
    assert {name: each.instance for name, each in settings.items()} == {
        name: name for name in instances
    }
    assert len({each.database_url for each in settings.values()}) == len(settings) == 2
    assert len({each.blocklist_url for each in settings.values()}) == 1
    made = re.findall(r"CREATE DATABASE (\w+);", (DEPLOY / "databases.sql").read_text("utf-8"))
    used = {str(url).rpartition("/")[2] for each in settings.values() for url in _urls(each)}
    assert set(made) == used
    if (docker := shutil.which("docker")) is not None:
        _parsed_by(docker, "stack", "config", "-c", str(COMPOSE))


def test_the_kubernetes_manifest_fits_together(tmp_path: Path) -> None:
    documents = list(yaml.safe_load_all(KUBERNETES.read_text("utf-8")))
    named = {each["kind"]: each for each in documents}
    assert [each["kind"] for each in documents] == [
        *("PersistentVolumeClaim", "RayCluster", "Deployment", "Service")
    ]
    pod = named["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    workers = {each["name"]: each["value"] for each in container["env"]}["PIPELINE_WORKERS"]
    # KubeRay names the service of a head after its cluster.
    cluster = named["RayCluster"]["metadata"]["name"]
    head = named["RayCluster"]["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    ports = {each["name"]: each["containerPort"] for each in head["ports"]}
    assert workers == f"ray://{cluster}-head-svc:{ports['client']}"
    (group,) = named["RayCluster"]["spec"]["workerGroupSpecs"]
    node = group["template"]["spec"]
    # Nodes see the same folder at the same path, as the same user, with the same packages.
    assert node["containers"][0]["volumeMounts"] == container["volumeMounts"]
    assert node["volumes"] == pod["volumes"]
    assert node["securityContext"] == pod["securityContext"]
    assert node["containers"][0]["image"] == container["image"] == head["image"]
    claim = named["PersistentVolumeClaim"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert named["Deployment"]["spec"]["replicas"] == 1
    if (kubectl := shutil.which("kubectl")) is not None:
        shutil.copy(KUBERNETES, tmp_path / "all.yml")
        (tmp_path / "kustomization.yaml").write_text("resources: [all.yml]\n")
        _parsed_by(kubectl, "kustomize", str(tmp_path))


def _settings(environment: dict[str, str], folder: Path) -> Any:
    """What Lockstep makes of the environment of a service; a wrong setting raises an error."""
    filled = {
        name: re.sub(r"\$\{(\w+)[^}]*\}", lambda found: SECRETS[found[1]], value)
        for name, value in environment.items()
    }
    return load_settings(filled, folder)


def _urls(settings: Any) -> tuple[str, str]:
    return settings.database_url, settings.blocklist_url


def _parsed_by(*command: str) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=os.environ | SECRETS
    )
    assert done.returncode == 0, done.stderr
