"""Where originals, renditions and all else are kept: a folder, or a bucket and a prefix in it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

SCHEMES = ("s3", "gs", "az")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Place:
    """A folder, or a bucket; small and picklable, since every task of a worker names two.

    ``text`` is what the user wrote: for a folder its absolute path, for a bucket its address,
    without a slash at its end. Open it with :func:`pipeline.storage.opening.open_store`.
    """

    text: str
    folder: Path | None = None

    @property
    def is_bucket(self) -> bool:
        """Whether it is in a bucket, and no folder of this machine."""
        return self.folder is None

    @property
    def scheme(self) -> str:
        """``s3``, ``gs`` or ``az``; empty for a folder."""
        return self.text.partition("://")[0] if self.is_bucket else ""

    @property
    def bucket(self) -> str:
        """The name of the bucket; empty for a folder."""
        return self.text.split("/")[2] if self.is_bucket else ""

    @property
    def prefix(self) -> str:
        """What the names of its objects begin with: empty, or ending with ``/``."""
        if not self.is_bucket:
            return ""
        below = self.text.split("/", 3)[3:]
        return f"{below[0]}/" if below else ""

    def at(self, key: str) -> str:
        """One file or object in it, for messages."""
        return os.path.join(self.text, key) if self.folder is not None else f"{self.text}/{key}"

    def below(self, name: str) -> Place:
        """The folder ``name`` in it."""
        return Place(self.at(name), None if self.folder is None else self.folder / name)

    def __str__(self) -> str:
        return self.text


def place_of(text: str, cwd: Path) -> Place:
    """The place that a person wrote: a path, which may begin in ``cwd``, or ``s3://bucket/prefix``.

    Raises:
        ValueError: it is neither; says what is allowed.
    """
    if "\0" in text:
        raise ValueError("must be a path without NUL characters")
    found = _URL.fullmatch(text)
    if found is None:
        return folder_place(Path(os.path.normpath(cwd / Path(text).expanduser())))
    scheme, rest = found[1].lower(), found[2]
    if scheme not in SCHEMES:
        raise ValueError(
            "must be a folder, or a bucket with a prefix: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX "
            "or az://CONTAINER/PREFIX"
        )
    bucket, _, prefix = rest.rstrip("/").partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise ValueError(f"must name a bucket, for example {scheme}://photos/originals")
    parts = prefix.split("/") if prefix else []
    if not {"", ".", ".."}.isdisjoint(parts) or _CONTROL.search(prefix):
        raise ValueError(
            "must have a prefix whose parts are names, without // and .., for example "
            f"{scheme}://{bucket}/originals"
        )
    return Place("/".join([f"{scheme}://{bucket}", *parts]))


def folder_place(folder: Path) -> Place:
    """The place that is a folder of this machine."""
    return Place(str(folder), folder)


def contains(outer: Place, inner: Place) -> bool:
    """Whether ``inner`` lies in ``outer``, or is the same; by the real paths of folders."""
    if outer.folder is None or inner.folder is None:
        return (outer.scheme, outer.bucket) == (inner.scheme, inner.bucket) and (
            outer.is_bucket and inner.is_bucket and inner.prefix.startswith(outer.prefix)
        )
    return Path(os.path.realpath(inner.folder)).is_relative_to(os.path.realpath(outer.folder))
