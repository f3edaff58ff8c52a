"""Which role each route needs."""

from __future__ import annotations

from fastapi.routing import APIRoute

from pipeline.states import Role
from pipeline.web.security.guard import OPEN, OPEN_BELOW
from pipeline.web.security.roles import roles_of
from pipeline.web.server import PAGES

ROUTES: list[APIRoute] = [route for module in PAGES for route in module.router.routes]

# What changes something, and the least role that may do it.
ACTS = {
    "POST /jobs": "uploader",
    "DELETE /jobs/{reference}": "uploader",
    "POST /jobs/{reference}/delete": "uploader",
    "POST /jobs/{reference}/refresh": "uploader",
    "POST /uploads/{token}": "uploader",
    "POST /retries": "uploader",
    "POST /bulks": "uploader",
    "POST /bulks/{number}/stop": "uploader",
    "POST /bulks/{number}/resume": "uploader",
    "POST /bulks/{number}/reinstate": "moderator",
    "POST /downloads": "viewer",
    "POST /reports": "viewer",
    "POST /review": "moderator",
    "POST /takedowns": "moderator",
    "POST /takedowns/{number}/lift": "moderator",
    "POST /takedowns/{number}/again": "moderator",
    "POST /logout": "viewer",
    "POST /login": None,
    "POST /notifications": None,
}


def test_every_route_declares_one_role() -> None:
    undeclared = [route.path for route in ROUTES if len(roles_of(route)) != 1]
    assert undeclared == [], "give each `dependencies=[needs(Role.…)]`"


def test_what_changes_something_needs_the_role_that_is_listed_here() -> None:
    found = {
        f"{method} {route.path.replace(':path', '')}": role and role.value
        for route in ROUTES
        for role in roles_of(route)
        for method in route.methods - {"GET", "HEAD"}
    }
    assert found == ACTS


def test_only_what_works_before_logging_in_needs_no_role() -> None:
    for route in ROUTES:
        is_open = route.path in OPEN or route.path.startswith(OPEN_BELOW)
        assert roles_of(route) == [None] if is_open else None not in roles_of(route), route.path


def test_a_role_includes_those_before_it() -> None:
    order = [Role.VIEWER, Role.UPLOADER, Role.MODERATOR, Role.ADMIN]
    for place, role in enumerate(order):
        assert [role.includes(other) for other in order] == [n <= place for n in range(4)]
