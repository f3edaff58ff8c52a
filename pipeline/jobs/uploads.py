"""Uploads whose headers are not known: kept for a day, until somebody says which column is which.

A browser sends a file once: it cannot send it again with the answer.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.csvs.cells import urls_of
from pipeline.csvs.dialect import detect_dialect
from pipeline.csvs.mapping import KNOWN, ROLES, Mapping, same_header
from pipeline.csvs.products import first_rows, iter_products
from pipeline.csvs.reading import CsvCheck, CsvForm, check_csv
from pipeline.errors import NotFoundError, OutputError
from pipeline.jobs.context import Jobs
from pipeline.jobs.reading import csv_limits
from pipeline.jobs.store import JobFolders
from pipeline.storage.folder import made

KEPT_S = 24 * 3600
# Each may have PIPELINE_JOB_MAX_BYTES; the oldest go first.
MAX_KEPT = 10
MAX_COLUMNS = 1_000
ROWS_SHOWN = 5
URLS_SHOWN = 5
_TOKEN = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Upload:
    """A CSV that waits; only who knows its ``token`` finds it."""

    token: str
    path: Path
    filename: str
    webhook: str
    result: str


@dataclass(frozen=True)
class Sample:
    """The header of a CSV, its first rows, and a guess at the role of each column."""

    header: tuple[str, ...]
    rows: list[list[str]]
    roles: list[str]


@dataclass(frozen=True)
class Reading:
    """What a CSV would be with a mapping, and its first URLs."""

    check: CsvCheck
    urls: list[str]


def can_be_asked(source: Path) -> bool:
    """Whether the columns of a CSV are few enough to choose from.

    Raises:
        CsvError: it cannot be read.
    """
    return len(detect_dialect(source)[0].header) <= MAX_COLUMNS


def keep(folders: JobFolders, source: Path, filename: str, webhook: str, result: str) -> str:
    """Keep a copy of an upload; returns its token. What is older than a day is deleted.

    Raises:
        OutputError: the disk is full, or permissions are missing.
    """
    folder = made(folders.uploads)
    _clear(folder)
    token = secrets.token_hex(16)
    path = _csv(folders, token)
    try:
        shutil.copyfile(source, path)
        about = {"filename": filename, "webhook": webhook, "result": result}
        path.with_suffix(".json").write_text(json.dumps(about), "utf-8")
    except OSError as error:
        forget(folders, token)
        raise OutputError(f"{path}: cannot be written ({error.strerror}); free space") from None
    return token


def kept(folders: JobFolders, token: str) -> Upload:
    """The upload of that token.

    Raises:
        NotFoundError: there is none any more.
    """
    try:
        if not _TOKEN.fullmatch(token):
            raise FileNotFoundError
        path = _csv(folders, token)
        about: dict[str, Any] = json.loads(path.with_suffix(".json").read_text("utf-8"))
        path.stat()
    except OSError:
        raise NotFoundError(
            "this upload is not there any more; uploads are kept for a day: upload the CSV again"
        ) from None
    return Upload(token, path, about["filename"], about["webhook"], about["result"])


def forget(folders: JobFolders, token: str) -> None:
    """Delete an upload; nothing happens where it is gone."""
    for path in (_csv(folders, token), _csv(folders, token).with_suffix(".json")):
        path.unlink(missing_ok=True)


def sample(upload: Upload) -> Sample:
    """The first rows of an upload.

    Raises:
        CsvError: it cannot be read.
    """
    dialect, _ = detect_dialect(upload.path)
    rows = first_rows(upload.path, dialect, ROWS_SHOWN)
    return Sample(dialect.header, rows, _guessed(dialect.header, rows))


def mapping_by(header: tuple[str, ...], roles: list[str], label: str, grouped: bool) -> Mapping:
    """The mapping that gives each column of ``header`` its role; roles may lack a column."""
    found: dict[str, list[str]] = {role: [] for role in ROLES}
    for name, role in zip(header, roles, strict=False):
        if role in found and name.strip() and name not in found[role]:
            found[role].append(name)
    number, name_, images = (tuple(found[role]) for role in ROLES)
    return Mapping(label, number, name_, images, grouped)


def read_by(jobs: Jobs, upload: Upload, mapping: Mapping) -> Reading:
    """What an upload would be with that mapping, which has a column for each role.

    Raises:
        CsvError: it cannot be read.
    """
    check = check_csv(upload.path, csv_limits(jobs.settings), CsvForm(given=mapping))
    urls: list[str] = []
    if check.dialect is not None and not check.problems:
        for product in iter_products(upload.path, check.dialect):
            urls += product.urls
            if len(urls) >= URLS_SHOWN:
                break
    return Reading(check, urls[:URLS_SHOWN])


def _guessed(header: tuple[str, ...], rows: list[list[str]]) -> list[str]:
    """A role for each column, or "": by known headers, and images where there are URLs."""
    roles = [""] * len(header)
    for role in ("number", "name"):
        known = {same_header(each) for k in KNOWN for each in getattr(k.mapping, role)}
        for at, cell in enumerate(header):
            if not roles[at] and same_header(cell) in known:
                roles[at] = role
                break
    for at, cell in enumerate(header):
        urls = [url for row in rows for url, *_ in urls_of(row[at])]
        if not roles[at] and cell.strip() and urls:
            is_url = all(url.lower().startswith(("http://", "https://")) for url in urls)
            roles[at] = "images" if is_url else ""
    return roles


def _csv(folders: JobFolders, token: str) -> Path:
    return folders.uploads / f"{token}.csv"


def _clear(folder: Path) -> None:
    found = sorted((path.stat().st_mtime, path) for path in folder.glob("*.csv"))
    for place, (since, path) in enumerate(found, start=1):
        if time.time() - since > KEPT_S or place <= len(found) - MAX_KEPT + 1:
            with contextlib.suppress(OSError):
                path.unlink()
                path.with_suffix(".json").unlink()
