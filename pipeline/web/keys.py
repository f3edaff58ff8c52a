"""Paths from requests: each is a key of an original, or nothing at all."""

from __future__ import annotations

import os

from starlette.exceptions import HTTPException


def clean_key(path: str) -> str:
    """A path from a request, if it can be a key.

    Raises:
        HTTPException: 404, it leads elsewhere, or nowhere.
    """
    leads_on = path.startswith("/") or path != os.path.normpath(path) or ".." in path.split("/")
    if leads_on or "\0" in path:
        raise HTTPException(404, "there is no such original")
    return path
