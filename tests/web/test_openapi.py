"""The OpenAPI document is true: schemathesis asks for all that it allows, and for the rest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from a_project import Project
from a_server import serving

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
CONFIG = Path(__file__).with_name("schemathesis.toml")
EXAMPLES = 4


def test_the_api_does_what_its_document_says(project: Project) -> None:
    project.add("shoes/red.png")
    (project.input / "bad.png").write_bytes(b"no picture")
    project.run(code=1)
    with serving(project, "--no-watch") as server:
        command = [str(SCHEMATHESIS), "--config-file", str(CONFIG), "run"]
        command += [f"{server.url}/openapi.json", f"--max-examples={EXAMPLES}"]
        command += ["--generation-deterministic", "--phases=coverage,fuzzing", "--warnings=off"]
        done = subprocess.run(
            command, cwd=project.root, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr
        assert " 0 generated" not in done.stdout
        assert "Traceback" not in "".join(server.log)
