"""Paths from requests: each is a key of an original, or nothing at all."""

from __future__ import annotations

import os

from starlette.convertors import PathConvertor, register_url_convertor
from starlette.exceptions import HTTPException


class KeyConvertor(PathConvertor):
    """As Starlette's ``path``, for names with line breaks in them as well."""

    regex = "(?s:.*)"


register_url_convertor("key", KeyConvertor())
# The rest of a route, as the parameter `path`.
PATH = "{path:key}"


def clean_key(path: str) -> str:
    """A path from a request, if it can be a key.

    Raises:
        HTTPException: 404, it cannot be a key.
    """
    leads_on = path.startswith("/") or path != os.path.normpath(path) or ".." in path.split("/")
    if leads_on or "\0" in path:
        raise HTTPException(404, "there is no such original")
    return path
