"""Which conditions a bucket obeys: some stores ignore them and overwrite, and say nothing.

JuiceFS' gateway ignores all of them. Ceph 16 obeys ``If-None-Match`` in a bucket without versions
only, and takes the ETag of ``If-Match`` without its quotes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import obstore


class Conditions(NamedTuple):
    """Whether a PUT can be made to create only; how an ETag is written for one that replaces only.

    ``spelled`` is ``None`` where that cannot be.
    """

    creates: bool
    spelled: Callable[[str], str] | None

    def mode(self, there: Any) -> Any:
        """How obstore is to put an object; ``there`` is what it knows of the present one."""
        if there is None:
            return "create" if self.creates else "overwrite"
        if self.spelled is None or not there["e_tag"]:
            return "overwrite"
        return _only(self.spelled(there["e_tag"]), there)


def quoted(e_tag: str) -> str:
    """As HTTP has it."""
    return e_tag


def bare(e_tag: str) -> str:
    """Without quotes."""
    return e_tag.strip('"')


def _only(e_tag: str, there: Any) -> dict[str, str]:
    """The condition that an object is the one that was ``there``."""
    version = {"version": there["version"]} if there["version"] else {}
    return {"e_tag": e_tag, **version}


def probe(objects: Any, name: str) -> Conditions:
    """Try them on an object of this name, which nobody else uses; at most seven requests."""
    try:
        made = _put(objects, name, "create") or {}
        creates = _put(objects, name, "create") is None
        if not creates or not made.get("e_tag"):
            return Conditions(creates, None)
        for spelled in (quoted, bare):
            if _put(objects, name, _only(spelled('"0"'), made)) is not None:
                return Conditions(creates, None)
            if _put(objects, name, _only(spelled(made["e_tag"]), made)) is not None:
                return Conditions(creates, spelled)
        return Conditions(creates, None)
    finally:
        with contextlib.suppress(FileNotFoundError):
            obstore.delete(objects, [name])


def _put(objects: Any, name: str, mode: Any) -> Any:
    """What obstore says of a PUT; ``None`` where its condition was refused."""
    refused = (
        obstore.exceptions.AlreadyExistsError,
        obstore.exceptions.PreconditionError,
        obstore.exceptions.NotSupportedError,
        obstore.exceptions.NotModifiedError,
    )
    try:
        return obstore.put(objects, name, b"", mode=mode, use_multipart=False)
    except refused:
        return None
