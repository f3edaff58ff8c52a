"""Errors as responses: a status, and words that anybody may see.

What a person did wrong is reported as it is. What is wrong with this machine (its database, its
disk, its settings) has paths and addresses in it: that goes to the log, with the request's number.
"""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from pipeline.errors import LockstepError
from pipeline.web.answers import problem, wants_json

log = logging.getLogger("lockstep.web")

# Status and words by the error's class; ``None``: its own message is for everybody.
PUBLIC: dict[str, tuple[int, str | None]] = {
    "SettingsError": (503, "a setting of this service is wrong; the log says which"),
    "RecipeError": (503, None),
    "DatabaseError": (503, "the database cannot be used right now; the log says why"),
    "OutputError": (503, "a file cannot be written or removed right now; the log says why"),
    "LockedError": (409, "another run is in progress; try again when it is done"),
    "JobNotFoundError": (404, "there is no job with that number"),
    "JobNotReadyError": (409, "the job does not have that, at least not yet"),
    "DecidedError": (409, None),
    "NotFoundError": (404, "nothing of that name is known here"),
    "AlreadyReinstatedError": (409, None),
    "TooManyRemovedError": (503, "most originals are suddenly gone; the log says more"),
}


def public(error: Exception) -> tuple[int, str]:
    """The status and the words for one of our errors."""
    for kind in type(error).__mro__:
        if kind.__name__ in PUBLIC:
            status, words = PUBLIC[kind.__name__]
            return status, words or str(error)
    return 409, "that cannot be done now; the log says why"


def install(site: FastAPI) -> None:
    """Make this module handle every error of ``site``."""

    @site.exception_handler(HTTPException)
    async def _(request: Request, error: HTTPException) -> Response:
        answer = problem(request.scope, error.status_code, error.detail or "")
        for name, value in (error.headers or {}).items():
            answer.headers[name] = value
        if error.status_code == 405:
            answer.headers["allow"] = ", ".join(sorted(_allowed(request)))
        return answer

    @site.exception_handler(Exception)
    async def _(request: Request, error: Exception) -> Response:
        # The error goes on to the guard, which logs it.
        return problem(request.scope, 500, "something went wrong here; the log says what")

    @site.exception_handler(ClientDisconnect)
    async def _(request: Request, error: ClientDisconnect) -> Response:
        # The client is gone. Anybody could fill the log with such tracebacks.
        return Response(None, 400)

    @site.exception_handler(LockstepError)
    async def _(request: Request, error: LockstepError) -> Response:
        status, words = public(error)
        log.warning("request %s: %s", request.state.request_id, error)
        return problem(request.scope, status, words)

    @site.exception_handler(SQLAlchemyError)
    async def _(request: Request, error: SQLAlchemyError) -> Response:
        log.error("request %s: %s", request.state.request_id, error)
        return problem(request.scope, *PUBLIC["DatabaseError"])  # type: ignore[arg-type]

    @site.exception_handler(RequestValidationError)
    async def _(request: Request, error: RequestValidationError) -> Response:
        return unprocessable(request, [_problem(item) for item in error.errors()])


def _allowed(request: Request) -> set[str]:
    """The methods of every route of this path; Starlette only names those of the first."""
    found: set[str] = set()
    for route in request.app.state.routes:
        match, _ = route.matches(request.scope)
        if match != Match.NONE:
            found |= route.methods
    return found | ({"HEAD"} if "GET" in found else set())


def unprocessable(request: Request, faults: list[dict[str, Any]]) -> Response:
    """422: what is wrong with a request, in the same form as problems of a CSV."""
    if wants_json(request.scope):
        return JSONResponse({"errors": faults}, 422)
    words = "; ".join(
        f"{fault['column']}: {fault['message']}" if fault["column"] else fault["message"]
        for fault in faults
    )
    return problem(request.scope, 422, words)


def _problem(item: dict[str, Any]) -> dict[str, Any]:
    place = ".".join(str(part) for part in item["loc"][1:])
    return {"line": None, "column": place or None, "message": item["msg"]}
