"""Entry: logging in and out, the files of the pages themselves, and the reference of the API."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response

from pipeline.states import Role
from pipeline.web.answers import Asset, assets, show
from pipeline.web.security.attempts import TOO_MANY, WRONG_TOKEN_S, TokenCheck
from pipeline.web.security.guard import session_in
from pipeline.web.security.roles import needs, roles_of
from pipeline.web.security.sessions import COOKIE, SESSION_S
from pipeline.web.service import service_of

router = APIRouter(include_in_schema=False)

FOREVER = "public, max-age=31536000, immutable"


@router.get("/login", dependencies=[needs(None)])
def log_in_page(request: Request, next: str = "/") -> Response:
    """The page that asks for a token."""
    access = service_of(request).access
    if access.is_open or not access.has_tokens:
        return RedirectResponse("/", 303)
    return show(request.scope, "login.html", next=local(next), wrong=False)


@router.post("/login", dependencies=[needs(None)])
async def log_in(request: Request) -> Response:
    """Begin a session for somebody who has a token."""
    access = service_of(request).access
    if access.is_open or not access.has_tokens:
        return RedirectResponse("/", 303)
    async with request.form(max_files=0, max_fields=4) as form:
        token, target = str(form.get("token", "")), local(str(form.get("next", "/")))
    await access.refresh()
    check, account = await access.check(token.strip(), request.scope)
    if check is TokenCheck.NOT_CHECKED:
        raise HTTPException(429, TOO_MANY, {"retry-after": "1"})
    if check is TokenCheck.WRONG:
        await asyncio.sleep(WRONG_TOKEN_S)
        return show(request.scope, "login.html", 401, next=target, wrong=True)
    answer = RedirectResponse(target, 303)
    answer.set_cookie(
        COOKIE,
        access.sessions.begin(account),
        max_age=SESSION_S,
        httponly=True,
        samesite="strict",
        # Behind a proxy with TLS, or with TLS of our own; on plain HTTP the browser would drop it.
        secure=request.url.scheme == "https",
    )
    return answer


@router.post("/logout", dependencies=[needs(Role.VIEWER)])
def log_out(request: Request) -> Response:
    """End the session of this browser, for every copy of its cookie."""
    service = service_of(request)
    service.access.sessions.end(session_in(request.headers))
    # Streams of this session end now.
    service.listeners.notify()
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer


def local(target: str) -> str:
    """``target`` if it is a path of this service, and Home otherwise: a login never redirects
    elsewhere."""
    is_local = target.startswith("/") and not target.startswith(("//", "/\\"))
    return target if is_local and target.isprintable() else "/"


@router.get("/static/{name}", dependencies=[needs(None)])
def static(request: Request, name: str) -> Response:
    """A style sheet, a script or a picture of the pages."""
    found: Asset | None = assets().get(name)
    if found is None:
        raise HTTPException(404, "there is no such file")
    headers = {"etag": f'"{found.tag}"', "vary": "Accept-Encoding"}
    if request.url.query == found.tag:
        headers["cache-control"] = FOREVER
    if f'"{found.tag}"' in request.headers.get("if-none-match", ""):
        return Response(None, 304, headers)
    body = found.body
    if "gzip" in request.headers.get("accept-encoding", ""):
        body = found.packed
        headers["content-encoding"] = "gzip"
    return Response(body, 200, headers, found.media_type)


@router.get("/favicon.ico", dependencies=[needs(Role.VIEWER)])
def favicon() -> Response:
    """Browsers request it by themselves."""
    return RedirectResponse("/static/lockstep.svg", 301)


@router.get("/openapi.json", dependencies=[needs(Role.VIEWER)])
def document(request: Request) -> Response:
    """The description of the API for programs."""
    return JSONResponse(request.app.openapi())


@router.get("/docs", dependencies=[needs(Role.VIEWER)])
def reference(request: Request) -> Response:
    """The API, as ``/openapi.json`` describes it."""
    document: dict[str, Any] = request.app.openapi()
    roles = {
        (route.path_format, method): role.value
        for route in request.app.state.routes
        for role in roles_of(route)
        if role is not None
        for method in route.methods
    }
    routes = [
        {
            "path": path,
            "method": method.upper(),
            "role": roles.get((path, method.upper())),
            **_described(operation),
        }
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    return show(
        request.scope,
        "docs.html",
        routes=routes,
        title=document["info"]["title"],
        about=document["info"]["description"],
        schemas=document.get("components", {}).get("schemas", {}),
    )


def _described(operation: dict[str, Any]) -> dict[str, Any]:
    bodies = operation.get("requestBody", {}).get("content", {})
    return {
        "id": operation["operationId"],
        "about": operation.get("description", ""),
        "parameters": [
            {
                "name": item["name"],
                "place": item["in"],
                "required": item.get("required", False),
                "schema": item.get("schema", {}),
            }
            for item in operation.get("parameters", [])
        ],
        "body": [
            {"type": kind, "fields": _fields(content.get("schema", {}))}
            for kind, content in bodies.items()
        ],
        "answers": [
            {
                "status": status,
                "about": item["description"],
                "model": _model_of(item),
            }
            for status, item in sorted(operation["responses"].items())
        ],
    }


def _fields(schema: dict[str, Any]) -> list[str]:
    required = schema.get("required", [])
    return [
        name if name in required else f"{name} (optional)" for name in schema.get("properties", {})
    ]


def _model_of(answer: dict[str, Any]) -> str:
    schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
    return str(schema.get("$ref", "")).rpartition("/")[2]
