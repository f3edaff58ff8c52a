"""The audit: what was taken down, by whom and why, found again; and the whole story of each."""

from __future__ import annotations

import calendar
import csv
import io
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response, StreamingResponse

from pipeline.csvs.writing import harmless
from pipeline.imaging import WEB_FORMATS, format_of_suffix
from pipeline.states import Role, TakedownEvent
from pipeline.storage.folder import inside
from pipeline.storage.opening import open_store
from pipeline.takedowns import takedown, takedowns
from pipeline.takedowns.audit import SOURCES, STATES, Wanted, names_in_audit, story_of
from pipeline.web import models
from pipeline.web.answers import answer, wants_json
from pipeline.web.documented import page_or
from pipeline.web.routes.files import media_type
from pipeline.web.security.roles import needs
from pipeline.web.service import service_of
from pipeline.web.stored import disposition, send

router = APIRouter()

PAGE = 20
CSV = "text/csv; charset=utf-8"
CSV_HEADER = (
    "Number",
    "Taken down",
    "By",
    "Reason",
    "State",
    "SHA-256",
    "Named as",
    "Originals",
    "Renditions deleted",
    "Reinstated",
    "Reinstated by",
    "Instance",
)
CSV_PAGE = 500
# A day of two centuries; one that a month does not have is its last.
DAY = "^((19|20)[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01]))?$"


async def _asked(
    text: models.Text = "",
    who: models.Text = "",
    reason: models.Text = "",
    source: str = Query("", pattern=f"^({'|'.join(SOURCES)})?$"),
    state: str = Query("", pattern=f"^({'|'.join(STATES)})?$"),
    since: str = Query("", pattern=DAY),
    until: str = Query("", pattern=DAY),
) -> dict[str, str]:
    """The filter of a request; ``since`` and ``until`` are days, both included."""
    words = {"text": text, "who": who, "reason": reason}
    asked = {"source": source, "state": state, "since": since, "until": until}
    return {name: value.strip() for name, value in words.items()} | asked


Asked = Annotated[dict[str, str], Depends(_asked)]


@router.get(
    "/takedowns", responses=page_or(models.Takedowns, 422), dependencies=[needs(Role.VIEWER)]
)
def takedown_list(
    request: Request,
    asked: Asked,
    before: int | None = Query(None, ge=1, le=models.ID_MAX),
    limit: int = Query(PAGE, ge=1, le=500),
) -> Response:
    """What was taken down: when, who, why, and which files; newest first.

    ``text`` is searched for in reasons, paths and hashes; ``who`` took it down or reinstated it.
    """
    context = service_of(request).app.takedowns
    # A page has one entry for many that were taken down at once, unless it looks for some of them.
    folded = not wants_json(request.scope) and not any(asked.values())
    acts = takedowns(context, limit, before, _wanted(asked), folded)
    more = acts[-1]["id"] if len(acts) == limit and acts[-1]["id"] > 1 else None
    narrowed = {name: value for name, value in asked.items() if value}
    people, reasons = names_in_audit(context.database)
    return answer(
        request,
        "takedowns.html",
        {"takedowns": acts, "next": more},
        asked=asked,
        narrowed=bool(narrowed),
        people=people,
        reasons=reasons,
        sources=SOURCES,
        states=STATES,
        pictures={act["id"]: _shown(act) for act in acts},
        more=f"/takedowns?{urlencode({**narrowed, 'before': more})}" if more else None,
        csv=f"/takedowns.csv?{urlencode(narrowed)}" if narrowed else "/takedowns.csv",
    )


@router.get(
    "/takedowns.csv",
    responses={
        **page_or(None, 422),
        200: {"description": "The audit", "content": {"text/csv": {}}},
    },
    dependencies=[needs(Role.VIEWER)],
)
def takedowns_csv(request: Request, asked: Asked) -> Response:
    """All that the filter finds, newest first, a takedown in each row."""
    context, wanted = service_of(request).app.takedowns, _wanted(asked)
    pieces = _as_csv(lambda limit, before: takedowns(context, limit, before, wanted))
    headers = {"content-disposition": 'attachment; filename="takedowns.csv"'}
    return StreamingResponse(pieces, 200, headers, CSV)


@router.get(
    "/takedowns/{number}",
    responses=page_or(models.TakedownStory, 404, 422),
    dependencies=[needs(Role.VIEWER)],
)
def one_takedown(request: Request, number: int) -> Response:
    """One takedown, with the whole story of its content: reports, holds, takedowns, and back."""
    return entry_page(request, found(request, number))


@router.get(
    "/takedowns/{number}/picture",
    responses={
        **page_or(None, 404, 422),
        200: {"description": "The original", "content": {"image/*": {}}},
    },
    dependencies=[needs(Role.MODERATOR)],
)
def picture(request: Request, number: int) -> Response:
    """The first original of a takedown that is kept in the quarantine."""
    kept = _kept(found(request, number))
    place = service_of(request).settings.quarantine_place
    file = None if kept is None or place.folder is None else inside(place.folder, kept)
    # No copy of it anywhere else.
    headers = {
        "content-security-policy": "default-src 'none'; sandbox",
        "cache-control": "no-store",
    }
    if kept is not None and place.is_bucket:
        suffix = os.path.splitext(kept)[1]
        form = format_of_suffix(suffix)
        headers["content-disposition"] = disposition(
            f"takedown-{number}{suffix}", form in WEB_FORMATS
        )
        return send(request, open_store(place), kept, media_type(form), headers)
    if file is None:
        raise HTTPException(404, "no original of this takedown is kept")
    form = format_of_suffix(os.path.splitext(file)[1])
    return FileResponse(
        file,
        headers=headers,
        media_type=media_type(form),
        filename=f"takedown-{number}{os.path.splitext(file)[1]}",
        content_disposition_type="inline" if form in WEB_FORMATS else "attachment",
    )


def found(request: Request, number: int) -> dict[str, Any]:
    """The entry of this number.

    Raises:
        HTTPException: 404, there is none.
    """
    entry = None
    if 1 <= number <= models.ID_MAX:
        entry = takedown(service_of(request).app.takedowns, number)
    if entry is None:
        raise HTTPException(404, "there is no such takedown")
    return entry


def entry_page(
    request: Request, entry: dict[str, Any], status: int = 200, told: str = ""
) -> Response:
    """The page of one takedown; ``told`` is why it is shown in place of what was asked for."""
    context = service_of(request).app.takedowns
    same = takedowns(context, 100, None, Wanted(sha256=entry["sha256"]))
    data = {**entry, "story": story_of(context.database, entry["sha256"], same)}
    return answer(
        request, "takedown.html", data, status, told=told, act=data, picture=_shown(entry)
    )


def _kept(entry: Mapping[str, Any]) -> str | None:
    """The place in the quarantine of the first original that is kept there."""
    for original in () if _is_purged(entry) else entry["originals"]:
        if original["kept"] is not None and original["restored"] is None:
            return str(original["kept"])
    return None


def _is_purged(entry: Mapping[str, Any]) -> bool:
    return any(event["what"] == TakedownEvent.PURGED.value for event in entry["events"])


def _shown(entry: Mapping[str, Any]) -> str:
    """Whether there is a picture: its address, or an empty text."""
    kept = _kept(entry)
    if kept is None or format_of_suffix(os.path.splitext(kept)[1]) not in WEB_FORMATS:
        return ""
    return f"/takedowns/{entry['id']}/picture"


def _wanted(asked: dict[str, str]) -> Wanted:
    return Wanted(
        asked["text"],
        asked["who"],
        asked["reason"],
        asked["source"],
        asked["state"],
        _midnight(asked["since"], 0),
        _midnight(asked["until"], 1),
    )


def _midnight(day: str, later_days: int) -> float | None:
    """When a day begins where the service runs, as Unix time in seconds."""
    if not day:
        return None
    year, month, number = map(int, day.split("-"))
    begins = datetime(year, month, min(number, calendar.monthrange(year, month)[1]))
    return (begins + timedelta(days=later_days)).timestamp()


def _as_csv(page: Callable[[int, int | None], list[dict[str, Any]]]) -> Iterator[str]:
    """Every takedown as CSV, a piece at a time; ``page`` gives up to so many before a number."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(CSV_HEADER)
    before: int | None = None
    while True:
        acts = page(CSV_PAGE, before)
        writer.writerows([harmless(cell) for cell in _cells(act)] for act in acts)
        yield file.getvalue()
        file.seek(0)
        file.truncate()
        if len(acts) < CSV_PAGE:
            return
        before = acts[-1]["id"]


def _cells(act: dict[str, Any]) -> list[str]:
    return [
        str(act["id"]),
        act["when"],
        act["who"],
        act["reason"],
        act["state"],
        act["sha256"],
        act["target"],
        "\n".join(original["path"] for original in act["originals"]),
        str(len(act["renditions"])),
        act["lifted"] or "",
        act["lifted_by"] or "",
        act["instance"] or "",
    ]
