"""Somebody who types the examples of a page, one after another, into a project of their own."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any, NamedTuple

import trustme
from a_project import ROOT, Project, picture

TOKEN = "a-token-of-the-tests"
SECRET = "a-secret-of-the-tests"
REFERENCE = "202502230413203"
FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN = re.compile(r"<!-- not run: (.+?) -->\s*\Z")
# Addresses that the pages use: of a server for this machine alone, and of one for others.
HERE, PUBLIC = "http://127.0.0.1:8000", "https://images.example.com"
READY = {"serve": "Lockstep is at ", "watch": "watching"}


class Example(NamedTuple):
    place: str
    language: str
    text: str
    reason_not_run: str | None


def examples(page: str) -> list[Example]:
    text = (ROOT / page).read_text("utf-8")
    found = []
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        mark = NOT_RUN.search(text[: match.start()])
        found.append(Example(f"{page}:{line}", match[1], match[2], mark and mark[1]))
    marks = re.findall(r"^\s*(?:```|~~~)", text, re.MULTILINE)
    assert len(marks) == 2 * len(found), f"{page}: a block that is not seen here would not be run"
    return found


class Shop:
    """A web server of pictures, which also keeps the webhooks that it is sent."""

    def __init__(self) -> None:
        delivered: list[tuple[bytes, Message]] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(picture(".jpg", self.path))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                delivered.append((body, self.headers))
                self._answer(b"")

            def _answer(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self.delivered = delivered
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )
        self._thread.start()
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Reader:
    """Somebody who types a page's examples, and the servers and processes that these need."""

    def __init__(self, folder: Path, shop: Shop) -> None:
        self.project = Project(folder / "lockstep", (ROOT / "recipes.toml").read_text("utf-8"))
        self.root = self.project.root
        self.shop = shop
        self.project.add("shoes/red.jpg")
        self._install()
        photos = self.root / "srv/shop/photos"
        photos.mkdir(parents=True)
        shutil.copy(self.project.input / "shoes/red.jpg", photos)
        self._write_csv(f"S. No.,Product Name,Input Image Urls\n1,SKU1,{shop.url}1.jpg\n")
        (self.root / "list.csv").write_text(
            f"Code,Item,Photo 1,Photo 2\nA,Mug,{shop.url}2.jpg,{shop.url}3.jpg\n"
        )
        self.project.env |= {
            "PIPELINE_FETCH_ALLOW": "127.0.0.1",
            "PIPELINE_FETCH_PORTS": str(shop.port),
            "PIPELINE_WEBHOOK_URL": f"{shop.url}hook",
            "PIPELINE_WEBHOOK_SECRET": SECRET,
        }
        self.reference = REFERENCE
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.addresses = {HERE: HERE, PUBLIC: PUBLIC}
        self.site = ""
        self.namespace: dict[str, Any] = {}

    def _install(self) -> None:
        """What `make run` leaves behind, with the environment that the tests run in."""
        for name in ("Makefile", "pyproject.toml", "requirements.txt", "requirements-dev.txt"):
            shutil.copyfile(ROOT / name, self.root / name)
        (self.root / ".venv").mkdir()
        (self.root / ".venv/bin").symlink_to(Path(sys.executable).parent)
        for folder in ("var/log", "var/backups/lockstep"):
            (self.root / folder).mkdir(parents=True)
        for name in ("installed", "installed-dev"):
            (self.root / ".venv" / name).touch()

    def _write_csv(self, text: str) -> None:
        (self.root / "products.csv").write_text(text, "utf-8")

    def _here(self, text: str) -> str:
        """An example with its addresses, folders and secrets replaced by those of this test."""
        for there, here in {
            "https://images.example/": self.shop.url,
            **self.addresses,
            "/srv/lockstep": str(self.root),
            "/srv/shop": str(self.root / "srv/shop"),
            "/var/log": str(self.root / "var/log"),
            "/var/backups": str(self.root / "var/backups"),
            REFERENCE: self.reference,
            "…": TOKEN,
        }.items():
            text = text.replace(there, here)
        return text

    def follow(self, example: Example) -> None:
        follow = getattr(self, f"_{example.language}", None)
        assert follow is not None, (
            f"{example.place}: nothing knows how to run `{example.language}`; label what is no "
            "example `text`, or say in a comment above it why it is not run"
        )
        # A shell's lines may need what the lines above them gave.
        follow(example.text if example.language == "sh" else self._here(example.text))

    def _text(self, text: str) -> None:
        pass

    def _toml(self, text: str) -> None:
        """Recipes; what begins with the name of another file is that file."""
        file = re.match(r"# (\w+\.toml)\n", text)
        if file:
            (self.root / file[1]).write_text(text, "utf-8")
            return
        self.project.recipes(text)
        self.project.run("--dry-run")

    def _csv(self, text: str) -> None:
        self._write_csv(text)
        self._command(["job", "submit", "products.csv"])

    def _env(self, text: str) -> None:
        (self.root / ".env").write_text(text, "utf-8")
        self._command(["status"])

    def _cron(self, text: str) -> None:
        for line in text.splitlines():
            times, command = line.split()[:5], line.split(maxsplit=5)[5]
            assert all(re.fullmatch(r"[\d*/,-]+", time) for time in times), line
            # cron knows nothing of what was exported in a shell.
            assert self._shell(command, {"PATH": "/usr/bin:/bin"}) == ""

    def _ini(self, text: str) -> None:
        unit = self.root / "lockstep.service"
        unit.write_text(text, "utf-8")
        if shutil.which("systemd-analyze"):
            # It names the keys that it does not know, and ignores them.
            said = self._shell(f"systemd-analyze verify --man=no {unit} 2>&1")
            assert unit.name not in said, said

    def _nginx(self, text: str) -> None:
        is_whole = "server {" in text
        # What is no whole site is added to the one before it.
        self.site = text if is_whole else self.site.rstrip().removesuffix("}") + text + "}\n"
        if not shutil.which("nginx"):
            return
        pem = self.root / "site.pem"
        certificate = trustme.CA().issue_cert("images.example.com")
        certificate.private_key_and_cert_chain_pem.write_to_path(pem)
        site = re.sub(r"/etc/\S+\.pem", str(pem), self.site)
        # Checking a configuration takes its ports and makes its folders.
        for port in ("443", "80"):
            with socket.create_server(("127.0.0.1", 0)) as free:
                address = f"127.0.0.1:{free.getsockname()[1]}"
            site = re.sub(rf"listen {port}\b", f"listen {address}", site)
        built = self._shell("nginx -V 2>&1")
        folders = "".join(
            f"{name}_temp_path {self.root}/nginx-{name};\n"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            if f"--without-http_{name}_module" not in built
        )
        config = self.root / "nginx.conf"
        config.write_text(
            f"pid {self.root}/nginx.pid; error_log stderr; events {{}}\n"
            f"http {{ access_log off;\n{folders}{site}}}\n"
        )
        self._shell(f"nginx -t -c {config}")

    def _sql(self, text: str) -> None:
        self.project.run()
        assert self.project.query(text) == []

    def _python(self, text: str) -> None:
        """Run an example; one that begins with the name of a file is that file."""
        file = re.match(r"# (\w+\.py)\n", text)
        if file:
            (self.root / file[1]).write_text(text, "utf-8")
            return
        exec(compile(text, "<example>", "exec"), self.namespace)

    def _diff(self, text: str) -> None:
        """A change of `app.py`, wherever its lines are by now."""
        change = self.root / "change.diff"
        change.write_text(text, "utf-8")
        self._shell(f"patch --fuzz=3 --no-backup-if-mismatch {self.root}/app.py {change}")

    def _json(self, text: str) -> None:
        body, _ = self.shop.delivered[-1]
        assert _keys(json.loads(text)) == _keys(json.loads(body))

    def _sh(self, text: str) -> None:
        for line in text.replace("\\\n", "").splitlines():
            self._line(line)
        self.project.root = self.root

    def _line(self, line: str) -> None:
        """A line of a shell: commands of ours in this process, which is quick, others in `sh`."""
        line = self._here(line)
        words = shlex.split(line, comments=True)
        if words[:1] == ["export"]:
            self.project.env.update(word.split("=", 1) for word in words[1:])
            return
        if words[:1] == ["cd"] and len(words) == 2:
            # For the rest of the example: each begins in the project's folder.
            self.project.root = Path(words[1])
            return
        env = {}
        while words and re.match(r"[A-Z_]+=", words[0]):
            name, env[name] = words.pop(0).split("=", 1)
        if words[:1] == ["datapipe"] and not re.search(r"[|<>&;]", line.partition(" #")[0]):
            with self._exported(env):
                if words[1] in READY:
                    self._start(words[1:])
                else:
                    self._command(words[1:])
        elif words[:1] == ["make"] and words[1] != "run":
            # `make test` would run this very test.
            self._shell(shlex.join(["make", "--dry-run", *words[1:]]))
        elif words[:1] != ["curl"] or shutil.which("curl"):
            line = re.sub(r"^curl ", "curl --silent --show-error --fail-with-body ", line)
            path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
            own = {"PIPELINE_TOKEN": TOKEN, "PATH": path}
            self._shell(line, self.project._environment() | env | own)

    @contextlib.contextmanager
    def _exported(self, env: dict[str, str]) -> Iterator[None]:
        before = dict(self.project.env)
        self.project.env |= env
        yield
        self.project.env = before

    def _command(self, words: list[str]) -> None:
        answer = self.project.cli(*words)
        assert answer.code == 0, (words, answer)
        reference = re.search(r"\b\d{15,}\b", answer.stdout)
        if words[:2] == ["job", "submit"] and reference:
            self.reference = reference[0]

    def _start(self, words: list[str]) -> None:
        """A command that goes on, until the page starts another in its place, or ends."""
        address = PUBLIC if "--host" in words else HERE
        self.stop(address)
        port = ["--port", "0"] if words[0] == "serve" else []
        process = self.processes[address] = self.project.start_script(*words, *port)
        said = []
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line)
            if READY[words[0]] in line:
                break
        else:
            raise AssertionError((words, said))
        found = re.search(r"http://\S+", said[-1])
        if found:
            self.addresses[address] = found[0]

    def _shell(self, line: str, env: dict[str, str] | None = None) -> str:
        done = subprocess.run(
            ["sh", "-c", line], cwd=self.root, env=env, capture_output=True, text=True, timeout=90
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def stop(self, address: str) -> None:
        process = self.processes.pop(address, None)
        if process is not None:
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=60)
            assert process.returncode == 0, said

    def close(self) -> None:
        """Stop what is still started; that it ends well is part of what the pages promise."""
        try:
            for address in list(self.processes):
                self.stop(address)
        finally:
            for process in self.processes.values():
                process.kill()
                process.communicate()


def _keys(value: Any) -> Any:
    """The names in a JSON value, without what they hold."""
    if isinstance(value, dict):
        return {name: _keys(inner) for name, inner in value.items()}
    return [_keys(inner) for inner in value[:1]] if isinstance(value, list) else None
