"""Every error that Lockstep raises on purpose, in one tree.

::

    LockstepError                 exit code 2 unless said otherwise
    ├── SettingsError             a PIPELINE_* variable is wrong
    │   └── MappingsError         the file of named mappings of CSVs is wrong
    ├── NoProjectError            there is no project in the working folder
    ├── RecipeError               recipes.toml is wrong
    ├── DatabaseError             the database cannot be used
    │   └── SharedDatabaseError   the blocklist that instances share cannot be reached
    ├── OtherFoldersError         the database belongs to other folders
    ├── LockedError               another run holds the lock              exit code 3
    ├── StoppedError              the run was told to stop                  exit code 130
    │   └── YieldedError          a watcher's, which gave way to another run
    ├── TooManyRemovedError       the input folder looks unmounted        exit code 4
    ├── NotFoundError             what was named is not known
    ├── AlreadyReinstatedError    a takedown was reinstated before
    ├── DecidedError              somebody else has decided it already
    ├── FlatPictureError          a picture is too flat for anything to look like it
    ├── WorkersError              worker processes cannot be started
    ├── OutputError               a rendition could not be written (full disk, no permission)
    │   └── StoreError            a bucket cannot be used at all            exit code 4
    ├── LinkInTheWay              a link stands in output/ where a folder should be; an OSError
    ├── Unstable                  a file is being written while it is read
    ├── TooManyBytes              a file is larger than its reader can take
    ├── ImageError                one original cannot be made into a rendition; never ends a run
    │   └── FunctionError         a function raised something, or made no picture
    ├── JobNotFoundError          there is no job of that reference
    ├── JobNotReadyError          a job does not have what was requested (yet)
    ├── CsvError                  a CSV of products has problems
    │   ├── CsvRejectedError      it was submitted, and starts nothing
    │   │   └── UnknownColumnsError   nobody knows which of its columns is which
    │   └── UnreadableCsv         it cannot be read at all, from one line on (csvs.dialect)
    ├── HashListError             a list of hashes has problems; nothing of it is imported
    └── FetchError                one URL could not be fetched; never ends a run
        ├── UrlRefused            the URL is against the rules (fetch.urls)
        ├── AddressRefused        its host is not at public addresses (fetch.resolver)
        ├── DecodingFailed        its body has an unexpected compression (fetch.decoding)
        └── Ended, Again          how one attempt ended (fetch.attempt)

A message is a subject and a remedy: what is wrong, where, and what to do.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any

from pipeline.reasons import Code


class LockstepError(Exception):
    """Base of all errors that are meant for the person who runs Lockstep."""

    exit_code = 2

    @property
    def lines(self) -> tuple[str, ...]:
        """The message as it is printed: one line, but for a list of problems."""
        return (str(self),)


def in_one_line(error: BaseException) -> str:
    """What people read of ``error``: its message, and for an unexpected one its type as well.

    The traceback of the latter is for the log.
    """
    if isinstance(error, LockstepError):
        return " ".join(line.strip() for line in error.lines)
    text = " ".join(str(error).split())
    shown = text if len(text) <= 300 else f"{text[:297]}..."
    return f"unexpected error: {type(error).__name__}" + (f": {shown}" if shown else "")


class SettingsError(LockstepError):
    """A setting has an invalid value; the message names the variable."""


class MappingsError(SettingsError):
    """The file of named mappings is wrong; the message names the table, the key and the remedy."""


class NoProjectError(LockstepError):
    """There is no project in the working folder; nothing was created there."""


class RecipeError(LockstepError):
    """``recipes.toml`` is wrong; the message names the table, the key and what is allowed."""

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        self._lines = (message, *(f"  {problem}" for problem in problems))
        super().__init__("\n".join(self._lines))

    @property
    def lines(self) -> tuple[str, ...]:
        """The message, and a line for each problem."""
        return self._lines


class DatabaseError(LockstepError):
    """The database is unreachable, of another layout, or cannot be written."""


class SharedDatabaseError(DatabaseError):
    """``PIPELINE_BLOCKLIST_DB`` cannot be reached or used; what is done here is sent later."""


class OtherFoldersError(LockstepError):
    """The database belongs to other folders than those of the settings; says which, and the ways
    on."""

    def __init__(self, message: str, ways: Sequence[str]) -> None:
        self._lines = (message, *(f"  {way}" for way in ways))
        super().__init__("\n".join(self._lines))

    @property
    def lines(self) -> tuple[str, ...]:
        """The message, a line for each folder, and the ways on."""
        return self._lines


class LockedError(LockstepError):
    """Another run is in progress on the same database."""

    exit_code = 3


class TooManyRemovedError(LockstepError):
    """Originals are gone in such a way that a missing disk is more likely than intent."""

    exit_code = 4


class NotFoundError(LockstepError):
    """What a person named (an original, a takedown) is not known."""


class AlreadyReinstatedError(LockstepError):
    """The takedown of this ``number`` was reinstated before; the message says by whom, and when."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number


class DecidedError(LockstepError):
    """Somebody else has decided a review already; the message says who, what and when."""


class FlatPictureError(LockstepError):
    """A picture is nearly flat: what looks like it cannot be told from what does not."""


class StoppedError(LockstepError):
    """A run was told to stop; finished work is kept, the next run continues."""

    exit_code = 130


class YieldedError(StoppedError):
    """A watcher's run gave up the lock for another run; it goes on after that."""


class OutputError(LockstepError):
    """A rendition could not be written; the run stops, finished work is kept."""


class StoreError(OutputError):
    """A bucket is not there, refuses us, or does not answer; it never counts as empty.

    It ends a run as a missing input folder does: what is in the bucket is not known.
    """

    exit_code = 4


class LinkInTheWay(LockstepError, OSError):
    """A link stands where a folder should be; whatever it leads to is left alone.

    An ``OSError`` as well: for one rendition it is like any other name that cannot be written.
    """

    def __init__(self, place: str) -> None:
        said = f"a link stands where its folder should be: {place}; remove it and retry"
        super().__init__(errno.ELOOP, said)
        self.place = place

    def __str__(self) -> str:
        return str(self.strerror)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.place,)


class Unstable(LockstepError):
    """A file changed while it was read; the next look may find it settled."""


class TooManyBytes(LockstepError):
    """A file of ``size_bytes`` is larger than its reader can take."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(f"{size_bytes:,} bytes are too many")
        self.size_bytes = size_bytes


class WorkersError(LockstepError):
    """Worker processes cannot be started; the run stops, finished work is kept."""


class ImageError(LockstepError):
    """One original cannot be made into a rendition; the text is the reason people read."""

    code = Code.BROKEN

    def __init__(self, reason: str, code: Code | None = None) -> None:
        super().__init__(reason)
        if code is not None:
            self.code = code


class FunctionError(ImageError):
    """A function raised something, or made no picture. ``log_text`` is its whole traceback."""

    code = Code.FUNCTION_FAILED

    def __init__(self, reason: str, log_text: str = "") -> None:
        super().__init__(reason)
        self.log_text = log_text


class CsvError(LockstepError):
    """A CSV of products has problems and starts nothing."""


class CsvRejectedError(CsvError):
    """A submitted CSV has problems; nothing of it is kept.

    ``errors`` are the first thousand problems as ``{"line", "column", "message"}``, ``fault_count``
    counts all.
    """

    def __init__(self, filename: str, errors: list[dict[str, Any]], fault_count: int) -> None:
        count = "a problem" if fault_count == 1 else f"{fault_count:,} problems"
        super().__init__(f"{filename} has {count}; fix and submit it again")
        self.filename = filename
        self.errors = errors
        self.fault_count = fault_count


class UnknownColumnsError(CsvRejectedError):
    """The headers of a submitted CSV are not known: its columns have to be named."""


class HashListError(LockstepError):
    """A list of hashes has problems; the message names the first lines, nothing is imported."""

    def __init__(self, message: str, faults: Sequence[str] = ()) -> None:
        self._lines = (message, *(f"  {fault}" for fault in faults))
        super().__init__("\n".join(self._lines))

    @property
    def lines(self) -> tuple[str, ...]:
        """The message, and a line for each of the first problems."""
        return self._lines


class JobNotFoundError(LockstepError):
    """No job has that reference."""

    def __init__(self, reference: str) -> None:
        super().__init__(f"there is no job {reference}; `datapipe job list` lists them")


class JobNotReadyError(LockstepError):
    """A job does not have what was requested (yet); the message says in which state it is."""


class FetchError(LockstepError):
    """One URL could not be fetched; the text is the reason people read."""

    code = Code.OTHER
