"""What the errors of obstore, and of :mod:`pipeline.storage.s3`, mean for us: decided here alone.

obstore tells little by classes: a bucket that is not there is a ``FileNotFoundError`` for one call
and a ``GenericError`` for another, with the store's own code in the text.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator

from pipeline.errors import LockstepError, StoreError, Unstable
from pipeline.storage.places import Place

_STATUS = re.compile(r"status code: (\d{3})|status: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z0-9.]+)</Code>|ErrorCode:([A-Za-z]+)")
_NO_BUCKET = frozenset(("NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted"))
# The object is there, and only it cannot be read: in an archive, or its key of encryption is gone.
_OBJECT_ALONE = frozenset(("InvalidObjectState", "BlobArchived", "KMS.DisabledException"))
_TOO_LONG = frozenset(("KeyTooLongError", "InvalidURI", "XMinioInvalidObjectName"))


@contextlib.contextmanager
def explained(place: Place, key: str = "") -> Iterator[None]:
    """Raise what an error of obstore, or of :mod:`pipeline.storage.s3`, means for us.

    Raises:
        FileNotFoundError: there is no object of this ``key``.
        PermissionError: this very object cannot be read.
        OSError: there can be no object of this key.
        Unstable: it is another object meanwhile.
        StoreError: the bucket is not there, refuses us, or does not answer.
    """
    try:
        yield
    except (LockstepError, PermissionError, TypeError, LookupError, AttributeError, AssertionError):
        raise
    except Exception as error:
        raise meaning(error, place, key) from error


def meaning(error: Exception, place: Place, key: str) -> Exception:
    """The error to raise instead; see :func:`explained`."""
    kind, text = type(error).__name__, str(error)
    status, code = getattr(error, "status", 0), getattr(error, "code", "")
    if found := _STATUS.search(text):
        status = int(found[1] or found[2])
    if found := _CODE.search(text):
        code = found[1] or found[2]
    if code in _NO_BUCKET or (not key and status == 404):
        return _unusable(place, "there is no such bucket", "create it, or name another")
    if code in _OBJECT_ALONE:
        return PermissionError(errno.EACCES, f"the bucket does not give it out: {code}", key)
    if key and (code in _TOO_LONG or kind in ("InvalidPathError", "ValueError")):
        return OSError(errno.ENAMETOOLONG, f"not a name for an object of this bucket: {code}", key)
    if isinstance(error, FileNotFoundError) or status == 404:
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), key)
    if kind in ("PreconditionError", "NotModifiedError", "AlreadyExistsError") or status == 412:
        return Unstable(f"{place.at(key)}: was replaced meanwhile; run again")
    if status in (401, 403):
        said = code or f"status {status}"
        return _unusable(
            place,
            f"the bucket refuses us ({said})",
            "check the credentials, and the rights that docs/buckets.md lists",
        )
    said = code or (f"status {status}" if status else first_line(error))
    return _unusable(place, f"the bucket does not answer ({said})", "try again when it does")


def _unusable(place: Place, what: str, remedy: str) -> StoreError:
    return StoreError(f"{place.text}: {what}; nothing was deleted. {remedy[0].upper()}{remedy[1:]}")


def first_line(error: Exception) -> str:
    """The first line of what an error says, which obstore follows up with many."""
    text = str(error).strip().split("\n")[0]
    return text[:300] or type(error).__name__
