"""Uploads whose headers are not known: their first rows, and a role for each column."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from fastapi import APIRouter, Request
from starlette.responses import Response

from pipeline.csvs.mapping import GIVEN, ROLES, Mapping
from pipeline.csvs.mapping_file import add_mapping, name_problem, read_mappings
from pipeline.jobs import uploads
from pipeline.jobs.acts import Submitted, submit
from pipeline.states import Role
from pipeline.web.answers import back, show
from pipeline.web.security.roles import needs
from pipeline.web.service import Service, service_of

router = APIRouter()

# A table of a thousand columns, and a few fields more.
MAX_FIELDS = 1_020
PROBLEMS_SHOWN = 20


class _Asked(NamedTuple):
    """What the form says."""

    roles: list[str]
    grouped: bool = False
    label: str = ""
    starts: bool = False


class _Found(NamedTuple):
    """What a page shows, or the job that was created."""

    upload: uploads.Upload
    sample: uploads.Sample
    asked: _Asked
    missing: tuple[str, ...] = ()
    reading: uploads.Reading | None = None
    wrong: str = ""
    submitted: Submitted | None = None


@router.get("/uploads/{token}", include_in_schema=False, dependencies=[needs(Role.UPLOADER)])
async def choose(request: Request, token: str) -> Response:
    """The first rows of an upload, with a choice above each column."""
    service = service_of(request)
    found = await service.checks.run(partial(_first, service, token))
    return _page(request, found)


@router.post("/uploads/{token}", include_in_schema=False, dependencies=[needs(Role.UPLOADER)])
async def read(request: Request, token: str) -> Response:
    """What the upload would be with these columns; or the job, if it is to start."""
    service = service_of(request)
    async with request.form(max_files=0, max_fields=MAX_FIELDS) as form:
        asked = _Asked(
            [str(role) for role in form.getlist("role")],
            bool(form.get("grouped")),
            str(form.get("remember") or "").strip(),
            form.get("act") == "start",
        )
    found = await service.checks.run(partial(_read, service, token, asked))
    if found.submitted is None:
        return _page(request, found, 422 if found.wrong or found.missing else 200)
    service.changed()
    address = f"/jobs/{found.submitted.reference}"
    if not found.submitted.webhook_secret:
        return back(address)
    data = {
        "reference": found.submitted.reference,
        "status_url": address,
        "webhook_secret": found.submitted.webhook_secret,
    }
    shown = show(request.scope, "submitted.html", 202, **data)
    shown.headers["cache-control"] = "no-store"
    return shown


def _first(service: Service, token: str) -> _Found:
    upload = uploads.kept(service.app.jobs.folders, token)
    sample = uploads.sample(upload)
    return _Found(upload, sample, _Asked(sample.roles))


def _read(service: Service, token: str, asked: _Asked) -> _Found:
    jobs = service.app.jobs
    upload = uploads.kept(jobs.folders, token)
    sample = uploads.sample(upload)
    mapping = uploads.mapping_by(sample.header, asked.roles, asked.label or GIVEN, asked.grouped)
    missing = tuple(role for role in ROLES if not getattr(mapping, role))
    found = _Found(upload, sample, asked, missing)
    if missing:
        return found
    found = found._replace(reading=uploads.read_by(jobs, upload, mapping))
    if not asked.starts or found.reading is None or found.reading.check.problems:
        return found
    if wrong := _wrong(service, mapping):
        return found._replace(wrong=wrong)
    return found._replace(submitted=_start(service, upload, mapping))


def _start(service: Service, upload: uploads.Upload, mapping: Mapping) -> Submitted:
    jobs = service.app.jobs
    if mapping.label != GIVEN:
        add_mapping(service.settings.jobs.mappings_file, mapping)
    submitted = submit(
        jobs,
        upload.path,
        upload.filename,
        upload.webhook or None,
        mapping=mapping,
        result=upload.result or None,
    )
    uploads.forget(jobs.folders, upload.token)
    return submitted


def _wrong(service: Service, mapping: Mapping) -> str:
    """Why these columns cannot be remembered by that name."""
    if mapping.label == GIVEN:
        return ""
    there = read_mappings(service.settings.jobs.mappings_file, is_given=False)
    if mapping not in there and mapping.label in {each.label for each in there}:
        return f"There are other columns called {mapping.label!r} already; choose another name"
    return name_problem(mapping.label) or ""


def _page(request: Request, found: _Found, status: int = 200) -> Response:
    check = found.reading.check if found.reading else None
    columns: list[dict[str, Any]] = [
        {"header": header, "role": role}
        for header, role in zip(
            found.sample.header,
            [*found.asked.roles, *[""] * len(found.sample.header)],
            strict=False,
        )
    ]
    return show(
        request.scope,
        "columns.html",
        status,
        token=found.upload.token,
        filename=found.upload.filename,
        columns=columns,
        rows=found.sample.rows,
        roles=ROLES,
        asked=found.asked,
        missing=found.missing,
        wrong=found.wrong,
        check=check,
        problems=check.problems[:PROBLEMS_SHOWN] if check else [],
        urls=found.reading.urls if found.reading else [],
    )
