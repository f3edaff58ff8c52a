"""Reading request bodies: JSON from programs, a form from a page, into one model."""

from __future__ import annotations

import json
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

ModelT = TypeVar("ModelT", bound=BaseModel)


async def read(request: Request, model: type[ModelT], max_fields: int = 1200) -> ModelT:
    """The body as ``model``, at most ``max_fields`` of a form. An empty body has no fields.

    Raises:
        RequestValidationError: it does not fit.
        HTTPException: it is too large, or of an unsupported type.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ("application/x-www-form-urlencoded", "multipart/form-data"):
        values: dict[str, Any] = {}
        async with request.form(max_files=0, max_fields=max_fields) as form:
            for name, value in form.multi_items():
                field = model.model_fields.get(name)
                if field is not None and "list" in str(field.annotation):
                    values.setdefault(name, []).append(value)
                else:
                    values[name] = value
    else:
        body = await request.body()
        if kind not in ("application/json", "") and body:
            raise HTTPException(415, "send JSON, or a form")
        try:
            values = json.loads(body) if body.strip() else {}
        except (ValueError, RecursionError):
            raise _invalid([{"loc": ("body",), "msg": "this is not JSON"}]) from None
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _invalid(
            [{"loc": ("body", *item["loc"]), "msg": item["msg"]} for item in error.errors()]
        ) from None


def body_of(model: type[BaseModel], required: bool = True) -> dict[str, Any]:
    """What the reference says about a body that :func:`read` reads."""
    schema = model.model_json_schema()
    return {
        "requestBody": {
            "required": required,
            "content": {
                "application/json": {"schema": schema},
                "application/x-www-form-urlencoded": {"schema": schema},
            },
        }
    }


def _invalid(faults: list[dict[str, Any]]) -> RequestValidationError:
    return RequestValidationError(faults)


def not_modified(request: Request, etag: str, mtime_s: float) -> bool:
    """Whether the client already has it; the ETag, if there is one, decides (RFC 9110)."""
    tags = request.headers.get("if-none-match")
    if tags is not None:
        given = [tag.strip().removeprefix("W/") for tag in tags.split(",")]
        return etag in given or "*" in given
    since = request.headers.get("if-modified-since")
    if since is None:
        return False
    try:
        return int(mtime_s) <= parsedate_to_datetime(since).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return False
