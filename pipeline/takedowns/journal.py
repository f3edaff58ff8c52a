"""The journal of takedowns, ``journal.jsonl`` in the quarantine folder: it survives the loss of the
database.

Each line is a JSON object about one takedown: all of its columns, or those that changed, and the
files concerned. A line is on the disk before the database has the same, and before any file is
removed. Lines are only ever added. States only move forward, so lines can be merged in any order,
and merged twice.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import OutputError
from pipeline.states import TakedownState
from pipeline.storage.folder import explained, make_private, sync_folder
from pipeline.takedowns.targets import SHA256

NAME = "journal.jsonl"
# The value in `lockstep_state` that says how much of the journal the database has taken over.
JOURNAL = "takedown_journal"

STATES = [state.value for state in TakedownState]
# The columns of `takedowns` except its number, which each database assigns itself.
COLUMNS: dict[str, tuple[type, ...]] = {
    "sha256": (str,),
    "size_bytes": (int,),
    "target": (str,),
    "state": (str,),
    "purge": (bool,),
    "reason": (str,),
    "who": (str,),
    "created_ts": (int, float),
    "lifted_ts": (int, float),
    "lifted_by": (str,),
    "instance": (str,),
}
EVENT_COLUMNS: dict[str, tuple[type, ...]] = {
    "what": (str,),
    "ts": (int, float),
    "who": (str,),
    "note": (str, type(None)),
}
FILE_COLUMNS: dict[str, tuple[type, ...]] = {"kept": (str,), "removed": (bool,), "restored": (str,)}


def identity(act: Mapping[str, Any]) -> str:
    """Identifies a takedown in every database: a hash of what never changes about it."""
    named = [act["sha256"], float(act["created_ts"]), act["who"], act["target"]]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()[:32]


@dataclass
class Act:
    """All that is known of one takedown.

    ``files`` are by kind and path, ``events`` by what happened and when; ``near`` says how near to
    each PDQ hash a picture is blocked.
    """

    columns: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(COLUMNS))
    files: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    events: dict[tuple[str, float], dict[str, Any]] = field(default_factory=dict)
    near: dict[str, int] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether the line that says who took what down is among those merged."""
        needed = ("sha256", "target", "state", "purge", "reason", "who", "created_ts")
        return all(self.columns[name] is not None for name in needed)

    @property
    def rank(self) -> int:
        """How far it has progressed."""
        return STATES.index(self.columns["state"])

    def merge(
        self,
        columns: Mapping[str, Any],
        files: list[dict[str, Any]],
        events: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        """Add what a line says. What is known is never forgotten, and no state goes back."""
        for name in COLUMNS.keys() & columns.keys():
            value, known = columns[name], self.columns[name]
            if name == "state" and value is not None and known is not None:
                value = max(value, known, key=STATES.index)
            if value is not None:
                self.columns[name] = value
        for file in files:
            mine = self.files.setdefault(
                (file["kind"], file["path"]), {"kept": None, "removed": False, "restored": None}
            )
            mine.update({name: file[name] for name in FILE_COLUMNS if file.get(name)})
        for event in events:
            its = {name: event.get(name) for name in EVENT_COLUMNS}
            self.events.setdefault((event["what"], float(event["ts"])), its)
        self.near |= {each["hash"]: each["distance"] for each in columns.get("near", [])}

    def as_entry(self) -> dict[str, Any]:
        """The line that says all of it."""
        files = [
            {"kind": kind, "path": path} | {name: value for name, value in file.items() if value}
            for (kind, path), file in self.files.items()
        ]
        columns = {name: value for name, value in self.columns.items() if value is not None}
        entry = {"takedown": identity(self.columns), **columns, "files": files}
        entry |= {"events": list(self.events.values())} if self.events else {}
        return entry | near_entry(self.near)


def near_entry(near: Mapping[str, int]) -> dict[str, Any]:
    """The part of a line that says which pictures are blocked, by PDQ hash and distance in bits."""
    said = [{"hash": digest, "distance": distance} for digest, distance in sorted(near.items())]
    return {"near": said} if said else {}


class Journal:
    """The journal below one quarantine folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / NAME

    def stamp(self) -> str | None:
        """What differs as soon as a line was added; ``None`` where there is no journal.

        Raises:
            OutputError: it cannot be examined.
        """
        try:
            return _stamp(os.stat(self.file))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._unreadable(error) from None

    def read(self) -> tuple[dict[str, Act], list[int]]:
        """The takedowns by identity, oldest first, and the numbers of unreadable lines.

        Raises:
            OutputError: the file cannot be read.
        """
        acts: dict[str, Act] = {}
        unreadable = []
        try:
            with open(self.file, "rb") as lines:
                for number, line in enumerate(lines, 1):
                    if not line.strip():
                        continue
                    entry = _read_line(line)
                    if entry is None:
                        unreadable.append(number)
                    else:
                        act = acts.setdefault(entry["takedown"], Act())
                        act.merge(entry, entry["files"], entry["events"])
        except FileNotFoundError:
            pass
        except OSError as error:
            raise self._unreadable(error) from None
        return {name: act for name, act in acts.items() if act.is_whole}, unreadable

    @contextlib.contextmanager
    def held(self) -> Iterator[Held]:
        """Keep every other process from writing, for the length of a ``with`` block.

        In there the database is brought up to the journal, so that two processes never both add
        the row of the same takedown.

        Raises:
            OutputError: the journal cannot be created or written.
        """
        try:
            make_private(self.folder)
            handle = os.open(self.file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            # Some network file systems know no locks; a takedown must be possible there as well.
            with contextlib.suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield Held(self, handle)
        finally:
            os.close(handle)

    def _unreadable(self, error: OSError) -> OutputError:
        return OutputError(
            f"{self.file}: the journal of takedowns cannot be read ({error.strerror}); change its "
            "permissions or check its disk and run again: what was taken down could be published "
            "otherwise"
        )

    def _unwritable(self, error: OSError) -> OutputError:
        known = explained(error, self.file)
        if isinstance(known, OutputError):
            return known
        return OutputError(
            f"{self.file}: the journal of takedowns cannot be written ({error.strerror}); name a "
            "writable folder in PIPELINE_QUARANTINE, and run again"
        )


class Held:
    """The journal while nobody else writes it."""

    def __init__(self, journal: Journal, handle: int) -> None:
        self._journal, self._handle = journal, handle

    def stamp(self) -> str:
        """See :meth:`Journal.stamp`."""
        return _stamp(os.fstat(self._handle))

    def append(self, *entries: dict[str, Any]) -> None:
        """Add lines; they are on the disk when this returns.

        Raises:
            OutputError: they are not, and none of them counts.
        """
        lines = [json.dumps(entry, ensure_ascii=False, separators=(",", ":")) for entry in entries]
        data = "".join(f"{line}\n" for line in lines).encode()
        size = os.fstat(self._handle).st_size
        try:
            # After a truncated line (a power cut, a full disk), begin a new one.
            if size and os.pread(self._handle, 1, size - 1) != b"\n":
                data = b"\n" + data
            view = memoryview(data)
            while view:
                view = view[os.write(self._handle, view) :]
            os.fsync(self._handle)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._handle, size)
            raise self._journal._unwritable(error) from error
        if not size:
            sync_folder(self._journal.folder)
            sync_folder(self._journal.folder.parent)


def _stamp(status: os.stat_result) -> str:
    return f"{status.st_size}:{status.st_ino}"


def _read_line(line: bytes) -> dict[str, Any] | None:
    """One line, checked; ``None`` if it is truncated, or not ours."""
    try:
        entry = json.loads(line)
        # No database takes lone surrogates.
        json.dumps(entry, ensure_ascii=False).encode()
        files, events = entry.setdefault("files", []), entry.setdefault("events", [])
        sound = (
            isinstance(entry["takedown"], str)
            and _are(entry, COLUMNS)
            and all(_are(file, FILE_COLUMNS) for file in files)
            and all(isinstance(file[name], str) for file in files for name in ("kind", "path"))
            and all(_are(event, EVENT_COLUMNS) for event in events)
            and all(event[name] for event in events for name in ("what", "ts", "who"))
            and all(_is_near(each) for each in entry.get("near", []))
            and entry.get("state", STATES[0]) in STATES
            and SHA256.fullmatch(entry.get("sha256", "0" * 64)) is not None
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return entry if sound else None


def _is_near(each: dict[str, Any]) -> bool:
    return SHA256.fullmatch(each["hash"]) is not None and 0 <= int(each["distance"]) <= 256


def _are(entry: dict[str, Any], columns: dict[str, tuple[type, ...]]) -> bool:
    return all(isinstance(entry[name], kinds) for name, kinds in columns.items() if name in entry)
