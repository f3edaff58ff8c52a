"""Jobs: uploading a CSV of products, finding it again, and downloading the results."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any

from fastapi import APIRouter, Query, Request
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response, StreamingResponse

from pipeline.errors import (
    CsvError,
    CsvRejectedError,
    JobNotFoundError,
    LockstepError,
    MappingsError,
    SettingsError,
)
from pipeline.jobs import acts, questions
from pipeline.jobs.forms import REPLACE
from pipeline.jobs.store import ENDED
from pipeline.states import JobState, Role
from pipeline.storage.at_hand import at_hand
from pipeline.storage.folder import inside
from pipeline.text import counted
from pipeline.web import models, submissions
from pipeline.web.addresses import files_url, with_whole_urls, write_with_whole_urls
from pipeline.web.answers import answer, back, wants_json
from pipeline.web.archive import zip_stream
from pipeline.web.documented import page_or
from pipeline.web.problems import unprocessable
from pipeline.web.security.roles import needs
from pipeline.web.service import Service, service_of
from pipeline.web.stored import encoded
from pipeline.web.submissions import BODY, FIELDS_MAX, RESULTS, Wanted, mapping_in

router = APIRouter()

PAGE = 50
FAILURES_SHOWN = 100
CSV = "text/csv; charset=utf-8"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
MEDIA_TYPES = {".xlsx": XLSX, ".tsv": "text/tab-separated-values; charset=utf-8"}


@router.get(
    "/jobs", responses=page_or(models.JobsJson, 404, 422), dependencies=[needs(Role.VIEWER)]
)
def job_list(
    request: Request,
    before: models.Text | None = None,
    limit: int = Query(PAGE, ge=1, le=500),
    reference: models.Text | None = None,
) -> Response:
    """Jobs, newest first. With ``reference``, as the form sends it, only that job."""
    jobs = service_of(request).app.jobs
    if reference is not None and not wants_json(request.scope):
        try:
            questions.found(jobs, reference.strip())
        except JobNotFoundError:
            return _page(request, looked_for=reference.strip(), status=404)
        return back(f"/jobs/{reference.strip()}")
    return _page(request, before=before, limit=limit)


@router.post(
    "/jobs",
    status_code=202,
    responses={
        **page_or(models.JobSubmitted, 413, 415, status=202),
        422: {"description": "The CSV has problems", "model": models.CsvProblemsJson},
    },
    openapi_extra=BODY,
    dependencies=[needs(Role.UPLOADER)],
)
async def hand_in(request: Request) -> Response:
    """Submit a CSV or an Excel workbook as ``file``.

    It is checked completely: it becomes a job, or all its problems are listed; a browser is asked
    which column is which if its headers are not known. 503 while many others are being checked.
    What is sent to ``webhook`` when the job ends is signed with ``webhook_secret``, which is in
    this answer alone. ``result`` says whether the new addresses are added as columns, or replace
    the old ones; by default PIPELINE_JOB_RESULT does. ``map``, such as ``number=SKU``, and
    ``grouped`` say which column is which, as `--map` and `--grouped` of `job submit` do.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise HTTPException(415, "send the CSV as the field `file` of multipart/form-data")
    service = service_of(request)
    service.checks.refuse_if_full()
    # The parts are written to a temporary file as they come; memory holds a megabyte at most.
    async with request.form(max_files=1, max_fields=FIELDS_MAX) as form:
        file, webhook = form.get("file"), form.get("webhook")
        if not isinstance(file, UploadFile) or not file.filename:
            return await run_in_threadpool(_refused, request, "", [_problem("choose a CSV")])
        result = str(form.get("result") or "")
        if wrong := _result_problem(service, result):
            return await run_in_threadpool(_refused, request, file.filename, [wrong])
        try:
            mapping = mapping_in(form)
        except SettingsError as error:
            wrong = _problem(str(error), "map")
            return await run_in_threadpool(_refused, request, file.filename, [wrong])
        may_ask = not wants_json(request.scope)
        wanted = Wanted(str(webhook or "").strip(), result, mapping, may_ask)
        submission = partial(submissions.submitted, service.app.jobs, file, wanted)
        try:
            submitted = await service.checks.run(submission)
        except MappingsError:
            raise  # nothing is wrong with what was sent
        except (CsvError, SettingsError) as error:
            return await run_in_threadpool(_refused, request, file.filename, *_faults_of(error))
    if isinstance(submitted, str):
        return back(f"/uploads/{submitted}")
    service.changed()
    address = f"/jobs/{submitted.reference}"
    data = {"reference": submitted.reference, "status_url": address}
    if submitted.webhook_secret:
        # Not on the page of the job: that can be opened again.
        data["webhook_secret"] = submitted.webhook_secret
    elif not wants_json(request.scope):
        return back(address)
    shown = answer(request, "submitted.html", data, 202)
    shown.headers["cache-control"] = "no-store"
    return shown


@router.get(
    "/jobs/{reference}", responses=page_or(models.JobJson, 404), dependencies=[needs(Role.VIEWER)]
)
def one(request: Request, reference: str) -> Response:
    """One job: its state, its counts, and the first hundred of its images that failed."""
    jobs = service_of(request).app.jobs
    shown = questions.job(jobs, checked(reference))
    failures = list(islice(questions.failures(jobs, reference), FAILURES_SHOWN))
    has_answer = True
    try:
        questions.answer_key(jobs, reference)
    except LockstepError:
        has_answer = False
    if has_answer and shown["answer"]:
        # Without PIPELINE_PUBLIC_URL there is an address all the same: that of this server.
        shown["answer_url"] = (
            shown["answer_url"] or f"{request.base_url}jobs/{reference}/output.csv"
        )
    data = {
        **shown,
        "failures": failures,
        "output_url": f"/jobs/{reference}/output.csv" if has_answer else None,
    }
    over = shown["state"] in {JobState.DELETED.value, *(state.value for state in ENDED)}
    return answer(request, "job.html", data, over=over)


@router.get(
    "/jobs/{reference}/output.csv",
    responses={
        **page_or(None, 404, 409),
        200: {"description": "The result CSV", "content": {"text/csv": {}, XLSX: {}}},
    },
    dependencies=[needs(Role.VIEWER)],
)
def output(request: Request, reference: str) -> Response:
    """The result CSV, or workbook; for a job that was rejected, its problems.

    Without ``PIPELINE_PUBLIC_URL``, the addresses in it are those of the host that was asked.
    """
    jobs = service_of(request).app.jobs
    key, place = questions.answer_key(jobs, checked(reference)), jobs.settings.output_place
    suffix = Path(key).suffix
    media_type = MEDIA_TYPES.get(suffix, CSV)
    held = contextlib.ExitStack()
    file = held.enter_context(at_hand(place, key))
    if jobs.settings.jobs.public_url:
        sent, name = BackgroundTask(held.close), f"{reference}{suffix}"
        return FileResponse(file, media_type=media_type, filename=name, background=sent)
    headers = {"content-disposition": f'attachment; filename="{reference}{suffix}"'}
    if media_type == XLSX:
        with held:
            made = _written(partial(write_with_whole_urls, file, reference, files_url(request)))
        return StreamingResponse(_pieces(made), 200, headers, media_type)
    # What is no UTF-8 passes as it is.
    text = file.open(encoding="utf-8", errors="surrogateescape", newline="")
    pieces = with_whole_urls(text, reference, files_url(request))
    return StreamingResponse(encoded(pieces, held), 200, headers, media_type)


def _written(write: Callable[[IO[bytes]], object]) -> IO[bytes]:
    """A temporary file with what ``write`` writes to it."""
    # Not a spooled one: up to Python 3.10 that is no file to the wrapper which writes text into it.
    target = tempfile.TemporaryFile()  # noqa: SIM115 - the answer closes it
    try:
        write(target)
    except BaseException:
        target.close()
        raise
    target.seek(0)
    return target


def _pieces(made: IO[bytes]) -> Iterator[bytes]:
    with made:
        while piece := made.read(1 << 16):
            yield piece


@router.get(
    "/jobs/{reference}/failed.csv",
    responses={
        **page_or(None, 404, 409),
        200: {"description": "The rows that failed, to be fixed", "content": {"text/csv": {}}},
    },
    dependencies=[needs(Role.VIEWER)],
)
async def failed_csv(request: Request, reference: str) -> Response:
    """The rows with a failed image, in the format of the submitted CSV."""
    service = service_of(request)
    checked(reference)
    # The whole CSV is read for them.
    rows = partial(questions.failed_rows, service.app.jobs, reference)
    made = await service.checks.run(partial(_written, rows))
    headers = {"content-disposition": f'attachment; filename="{reference}-failed.csv"'}
    return StreamingResponse(_pieces(made), 200, headers, CSV)


@router.get(
    "/jobs/{reference}/renditions.zip",
    responses={
        **page_or(None, 404),
        200: {"description": "The renditions", "content": {"application/zip": {}}},
    },
    dependencies=[needs(Role.VIEWER)],
)
def renditions(request: Request, reference: str) -> Response:
    """Every rendition of a job in one archive, which is created while it is sent."""
    jobs = service_of(request).app.jobs
    files = questions.renditions(jobs, checked(reference))
    folder = jobs.settings.output_place.folder
    headers = {"content-disposition": f'attachment; filename="{reference}.zip"'}
    if folder is None:
        sent = zip_stream(files, jobs.settings.output_store)
    else:
        paths = ((name, inside(folder, key)) for name, key in files)
        sent = zip_stream((name, path) for name, path in paths if path is not None)
    return StreamingResponse(sent, 200, headers, "application/zip")


@router.delete(
    "/jobs/{reference}",
    responses=page_or(models.JobDeleted, 404) | {202: {"description": "A run removes the rest"}},
    dependencies=[needs(Role.UPLOADER)],
)
def delete(request: Request, reference: str) -> Response:
    """Delete a job with its images, renditions and result CSV. 202: a run removes the rest."""
    return _delete(request, reference)


@router.post(
    "/jobs/{reference}/delete", include_in_schema=False, dependencies=[needs(Role.UPLOADER)]
)
def delete_by_form(request: Request, reference: str) -> Response:
    """The same, for a form."""
    return _delete(request, reference)


@router.post(
    "/jobs/{reference}/refresh",
    status_code=202,
    responses=page_or(models.RequestedJson, 404, 409, status=202),
    dependencies=[needs(Role.UPLOADER)],
)
def refresh(request: Request, reference: str) -> Response:
    """Fetch the images of a job again; unchanged ones are not downloaded."""
    service = service_of(request)
    count = acts.refresh_job(service.app.jobs, checked(reference))
    service.changed()
    if wants_json(request.scope):
        return answer(request, "", {"asked": count}, 202)
    return back(
        f"/jobs/{reference}", f"{counted(count, 'address is', 'addresses are')} fetched again"
    )


def checked(reference: str) -> str:
    """A reference from a request, if it can be one.

    Raises:
        HTTPException: 404, it cannot.
    """
    if not (reference.isascii() and reference.isdigit()):
        raise HTTPException(404, "there is no job with that number")
    return reference


def _result_problem(service: Service, result: str) -> dict[str, Any] | None:
    if result not in RESULTS:
        return _problem("must be add or replace", "result")
    if result == REPLACE and not service.app.jobs.settings.jobs.public_url:
        message = "a shop imports whole addresses; ask the operator of this service for one"
        return _problem(message, "result")
    return None


def _delete(request: Request, reference: str) -> Response:
    service = service_of(request)
    whole = acts.delete_job(service.app.jobs, checked(reference))
    service.changed()
    if wants_json(request.scope):
        return answer(
            request, "", {"reference": reference, "removed": whole}, 200 if whole else 202
        )
    return back("/jobs", f"Job {reference} is deleted")


def _page(
    request: Request,
    before: str | None = None,
    limit: int = PAGE,
    status: int = 200,
    looked_for: str = "",
) -> Response:
    jobs = service_of(request).app.jobs
    found = questions.jobs(jobs, limit, None if before is None else checked(before))
    more = found[-1]["reference"] if len(found) == limit else None
    return answer(
        request,
        "jobs.html",
        {"jobs": found, "next": more},
        status,
        filename="",
        faults=[],
        fault_count=0,
        looked_for=looked_for,
    )


def _refused(
    request: Request, filename: str, faults: list[dict[str, Any]], count: int = 1
) -> Response:
    if wants_json(request.scope):
        return unprocessable(request, faults)
    jobs = service_of(request).app.jobs
    return answer(
        request,
        "jobs.html",
        {"jobs": questions.jobs(jobs, PAGE), "next": None},
        422,
        filename=filename,
        faults=faults,
        fault_count=count,
        looked_for="",
    )


def _faults_of(error: CsvError | SettingsError) -> tuple[list[dict[str, Any]], int]:
    """The problems of a CSV that was not accepted, and the count of all."""
    if isinstance(error, CsvRejectedError):
        return error.errors, error.fault_count
    if isinstance(error, CsvError):
        return [_problem("this is not a readable CSV")], 1
    return [_problem("may not be requested", "webhook")], 1


def _problem(message: str, column: str = "file") -> dict[str, Any]:
    return {"line": None, "column": column, "message": message}
