"""Who sends a request, and which role each route needs.

A route declares its role beside its path: ``dependencies=[needs(Role.MODERATOR)]``. A test walks
all routes: one without a role fails it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fastapi import Depends, Request
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute
from starlette.types import Scope

from pipeline.states import Role


class Person(NamedTuple):
    """Who sends a request; ``name`` is what the audit records."""

    name: str
    role: Role

    def may(self, role: Role) -> bool:
        """Whether this person may do what needs ``role``."""
        return self.role.includes(role)


class Needs:
    """A dependency of a route: refuses people without the role."""

    def __init__(self, role: Role | None) -> None:
        self.role = role

    async def __call__(self, request: Request) -> None:
        """Let the request through.

        Raises:
            HTTPException: 403, the person does not have the role.
        """
        if self.role is not None:
            refuse_without(request, self.role)


def needs(role: Role | None) -> Any:
    """Declare the role that a route needs; ``None`` where it has to work before logging in."""
    return Depends(Needs(role))


def refuse_without(request: Request, role: Role, what: str = "this") -> None:
    """Refuse people without ``role``; for a part of what a route does.

    Raises:
        HTTPException: 403, in words that name the role.
    """
    person = person_of(request)
    if not person.may(role):
        raise HTTPException(
            403,
            f"{what} needs the role {role.value}; {person.name} has the role {person.role.value}",
        )


def person_of(request: Request) -> Person:
    """Who sends this request; the guard has made sure that somebody does.

    Raises:
        HTTPException: 401, the route needs nobody to be logged in.
    """
    person = known_person(request.scope)
    if person is None:
        raise HTTPException(401, "log in first")
    return person


def known_person(scope: Scope) -> Person | None:
    """Who sends a request; ``None`` before logging in."""
    person: Person | None = scope.get("state", {}).get("person")
    return person


def roles_of(route: BaseRoute) -> list[Role | None]:
    """The roles that a route declares: one, or it is not declared right."""
    declared = [depends.dependency for depends in getattr(route, "dependencies", ())]
    return [each.role for each in declared if isinstance(each, Needs)]
