"""What the reference says about responses: the JSON model, a page beside it, and the errors."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from pipeline.web.models import Problem, Unusable

# What the guard may answer instead of any route.
ALWAYS = (400, 401, 403, 421, 429, 500, 503)
WORDS = {
    303: "Redirects a browser to a page",
    304: "Not modified",
    400: "Malformed HTTP",
    401: "A token is needed",
    403: "Your role does not permit it, or the request came from a page of another site",
    404: "Not found",
    409: "Not possible now",
    410: "Taken down",
    413: "Too large",
    414: "The address is too long",
    415: "Neither JSON nor a form",
    416: "No such part of the file",
    421: "The Host header names another service",
    422: "Something is wrong with what was sent",
    429: "Too many wrong tokens, or too many requests",
    500: "Something went wrong; the log says what",
    503: "Not possible for now; the log says why",
}


def page_or(
    model: type[BaseModel] | None, *errors: int, status: int = 200
) -> dict[int | str, dict[str, Any]]:
    """Answers of a route: ``model`` as JSON with ``status``, or a page; and the ``errors``."""
    answers: dict[int | str, dict[str, Any]] = {
        303: {"description": WORDS[303]},
        status: {"description": "OK", "content": {"text/html": {}}},
    }
    # From the server, before any route is known.
    answers[414] = {"description": WORDS[414], "content": {"text/plain": {}}}
    if model is not None:
        answers[status]["model"] = model
    for code in sorted({*errors, *ALWAYS} - {status}):
        answers[code] = {
            "description": WORDS[code],
            "model": Unusable if code == 422 else Problem,
            "content": {"text/html": {}},
        }
    return answers
