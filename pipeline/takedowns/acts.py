"""Taking down and lifting: what people ask for, in steps that can be cut off anywhere.

1. The row of the takedown is written: from here on its SHA-256 is barred, whatever happens.
2. Renditions go, file first, row second. The publish lock keeps a run at work from publishing
   some of the same bytes meanwhile; the run lock is not needed.
3. Originals of the same bytes go into the quarantine, each noted before it is moved.
4. The row says that the takedown is in force.

What is cut off in between is finished by the next run or the next takedown.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from pipeline.engine.database import explain_database_error
from pipeline.engine.files import remove
from pipeline.engine.lock import publish_lock
from pipeline.engine.paths import key_below
from pipeline.engine.recovery import forget_content, sha256_of
from pipeline.engine.status import iso
from pipeline.engine.walk import Found, look_at, why_passed
from pipeline.errors import LockstepError, NotFoundError, OutputError
from pipeline.names import name_of
from pipeline.settings import check_quarantine
from pipeline.tables import State, TakedownState
from pipeline.takedowns.book import Kind, TakedownBook
from pipeline.takedowns.quarantine import free_place, make_private, move, remove_empty

if TYPE_CHECKING:
    from pipeline.app import Lockstep
    from pipeline.engine.render_step import RenderStep

_SHA256 = re.compile("[0-9a-fA-F]{64}")
TEXT_MAX = 2_000
# A file that changes while it is read is read again; one that never stands still is refused.
TRIES = 3


@dataclass
class TakenDown:
    """What a takedown did. ``originals`` are below ``input/``; ``renditions`` a number of files."""

    id: int
    sha256: str
    originals: list[str]
    renditions: int

    def as_json(self) -> dict[str, Any]:
        """The answer of ``datapipe takedown --json``."""
        return asdict(self)


@dataclass
class Lifted:
    """What a lift put back, as paths below ``input/``.

    ``set_apart``: from the old path to the new one, where something else is in its place now.
    ``missing``: kept no more, as after a purge.
    """

    sha256: str
    takedowns: list[int]
    originals: list[str] = field(default_factory=list)
    set_apart: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The answer of ``datapipe takedown lift --json``."""
        return asdict(self)


def take_down(app: Lockstep, target: str, reason: str, who: str, purge: bool = False) -> TakenDown:
    """Take an original, and every other one of the same bytes, out of ``input/`` for good.

    ``target`` is a path below ``input/`` or a SHA-256. The originals are kept in the quarantine
    folder, or deleted with ``purge``; their renditions are deleted. A SHA-256 that no original has
    is barred all the same.

    Raises:
        NotFoundError: there is no such original.
        SettingsError: the quarantine folder lies in the input or output folder.
        OutputError: a file cannot be removed; the bytes are barred, and the next run tries again.
    """
    reason, who = _said("reason", reason), _said("name", who)
    check_quarantine(app.settings)
    book = TakedownBook(app.connection)
    try:
        finish(app)
        wanted = _resolve(app, target)
        originals = [] if wanted.path is None else [wanted.path]
        number = book.add(wanted.sha256, wanted.size_bytes, target, reason, who, purge, originals)
        verified = {} if wanted.found is None else {wanted.found.path: wanted.found}
        _remove(app, book, number, verified)
        files = book.files_of([number])
    except sa.exc.SQLAlchemyError as error:
        raise explain_database_error(error, app.connection) from error
    return TakenDown(
        number,
        wanted.sha256,
        [row.path for row in files if row.kind == Kind.ORIGINAL.value and row.removed],
        sum(row.kind == Kind.RENDITION.value for row in files),
    )


def lift(app: Lockstep, id_or_sha256: str, who: str) -> Lifted:
    """Put the originals of a takedown back and let their bytes have renditions again.

    Every takedown of the same bytes is lifted: they cannot be barred by half. The next run renders.

    Raises:
        NotFoundError: there is no such takedown, or it is lifted already.
        OutputError: an original cannot be put back; the bytes stay barred until all of them are.
    """
    who = _said("name", who)
    book = TakedownBook(app.connection)
    try:
        finish(app)
        acts = _acts_to_lift(book, id_or_sha256)
        if not app.settings.input_dir.is_dir():
            raise LockstepError(
                f"{app.settings.input_dir}: the input folder is not there; mount it and lift again"
            )
        lifted = Lifted(acts[0].sha256, [act.id for act in acts])
        for act in acts:
            book.change(act.id, state=TakedownState.LIFTING.value, lifted_by=who)
        for act in acts:
            _put_back(app, book, act.id)
        for row in book.files_of(lifted.takedowns):
            if row.kind == Kind.ORIGINAL.value and row.removed:
                if row.restored is None:
                    lifted.missing.append(row.path)
                    continue
                lifted.originals.append(row.restored)
                if row.restored != row.path:
                    lifted.set_apart[row.path] = row.restored
    except sa.exc.SQLAlchemyError as error:
        raise explain_database_error(error, app.connection) from error
    return lifted


def takedowns(app: Lockstep, limit: int = 100, before: int | None = None) -> list[dict[str, Any]]:
    """The audit, the last takedown first; ``before`` is the last ``id`` of the page before."""
    book = TakedownBook(app.connection)
    acts = book.page(limit, before)
    by_number: dict[int, list[Any]] = {act.id: [] for act in acts}
    for row in book.files_of(by_number):
        by_number[row.takedown].append(row)
    return [_told(act, by_number[act.id]) for act in acts]


def was_taken_down(app: Lockstep, file: str) -> bool:
    """Whether the rendition at this key below ``output/`` is gone because it was taken down."""
    return TakedownBook(app.connection).has_removed(Kind.RENDITION, file)


def finish(app: Lockstep) -> list[str]:
    """Finish takedowns and lifts that were cut off; what still cannot be done, as warnings.

    Nothing happens while the input folder is missing: its disk may only not be mounted.
    """
    book = TakedownBook(app.connection)
    warnings: list[str] = []
    for number in book.unfinished():
        if not app.settings.input_dir.is_dir():
            break
        act = book.act(number)
        try:
            if act is not None and act.state == TakedownState.REMOVING.value:
                check_quarantine(app.settings)
                _remove(app, book, number, {})
            elif act is not None and act.state == TakedownState.LIFTING.value:
                _put_back(app, book, number)
        except LockstepError as error:
            warnings.append(f"takedown {number} is not finished: {error}")
    return warnings


# --- taking down ---------------------------------------------------------------------------------


class _Wanted(NamedTuple):
    """What the target of a takedown is. ``found`` is what ``stat`` told when it was hashed."""

    sha256: str
    size_bytes: int | None
    path: str | None = None
    found: Found | None = None


def _resolve(app: Lockstep, target: str) -> _Wanted:
    if not target.strip() or "\0" in target:
        raise NotFoundError(f"{target!r}: name an original below the input folder, or a SHA-256")
    path = _path_of(app, target)
    if path is None:
        named = target.strip().lower()
        return _Wanted(named, _size_of(app, named))
    found, digest = _hashed(app, path)
    if found is not None and digest is not None:
        return _Wanted(digest, found.size_bytes, path, found)
    table = app.render.pending.table
    query = sa.select(table.c.sha256, table.c.original_bytes).where(
        table.c.path == path, table.c.sha256.is_not(None)
    )
    with app.connection.con.begin() as con:
        row = con.execute(query.limit(1)).first()
    if row is None:
        raise NotFoundError(
            f"{target}: there is no such original below {app.settings.input_dir}; give its path "
            "there, or its SHA-256"
        )
    return _Wanted(row.sha256, row.original_bytes, path)


def _path_of(app: Lockstep, target: str) -> str | None:
    """The key of the original that ``target`` names; ``None`` where it is a SHA-256."""
    folder = app.settings.input_dir
    typed = key_below(folder, target)
    # A page gives keys, a person may give a path from where they are: `input/a.jpg` can be both.
    as_key = target if target == os.path.normpath(target) else typed
    names = [key for key in dict.fromkeys((as_key, typed)) if _is_below(key)]
    names = [key for key in names if look_at(folder, key) is not None]
    if len(names) > 1:
        raise LockstepError(
            f"{target}: this is {names[0]} and also {names[1]} below {folder}; give the whole path "
            "from / on, or the SHA-256"
        )
    if not names and _SHA256.fullmatch(target.strip()):
        return None
    key = names[0] if names else typed
    if not _is_below(key):
        raise NotFoundError(f"{target}: this is outside of the input folder {folder}")
    passed = why_passed(folder, key, app.scan.suffixes)
    if passed is not None and names:
        raise NotFoundError(f"{target}: this is no original of Lockstep ({passed})")
    return key


def _is_below(key: str) -> bool:
    return not key.startswith("/") and ".." not in key.split("/")


def _hashed(app: Lockstep, path: str) -> tuple[Found | None, str | None]:
    folder = app.settings.input_dir
    for _ in range(TRIES):
        found = look_at(folder, path)
        if found is None:
            return None, None
        try:
            digest = sha256_of(folder / name_of(path))
        except FileNotFoundError:
            return None, None
        except OSError as error:
            raise LockstepError(
                f"{folder / name_of(path)}: cannot be read ({error.strerror}); change its rights, "
                "or give its SHA-256"
            ) from None
        if look_at(folder, path) == found:
            return found, digest
    raise LockstepError(f"{path}: it is being written; try again when it is whole")


def _size_of(app: Lockstep, digest: str) -> int | None:
    for step in app.renders:
        table = step.pending.table
        query = sa.select(table.c.original_bytes).where(
            table.c.sha256 == digest, table.c.original_bytes.is_not(None)
        )
        with app.connection.con.begin() as con:
            size: int | None = con.execute(query.limit(1)).scalar()
        if size is not None:
            return size
    return None


def _remove(app: Lockstep, book: TakedownBook, number: int, verified: dict[str, Found]) -> None:
    """Carry out what the row of a takedown says; harmless where it is done already."""
    act = book.act(number)
    assert act is not None
    with publish_lock(app.connection):
        _remove_renditions(app, book, number, act.sha256)
    # Hashing takes its time, so it is done while no run has to wait.
    twins = dict(_twins(app, act.sha256, act.size_bytes, verified))
    with publish_lock(app.connection):
        now = book.act(number)
        if now is None or now.state != TakedownState.REMOVING.value:
            return  # another process has finished it, or lifted it, meanwhile
        book.add_files(number, Kind.ORIGINAL, twins)
        _remove_renditions(app, book, number, act.sha256)
        for row in book.files_of([number]):
            if row.kind == Kind.ORIGINAL.value and not row.removed:
                _take_out(app, book, act, row, twins.get(row.path))
        book.change(number, state=TakedownState.IN_FORCE.value)


def _remove_renditions(app: Lockstep, book: TakedownBook, number: int, digest: str) -> None:
    """Delete the renditions of these bytes, and of the originals that go: file, then row."""
    root = app.settings.output_dir
    named = [row.path for row in book.files_of([number]) if row.kind == Kind.ORIGINAL.value]
    reason = book.barred_among([digest]).get(digest)
    for step in app.renders:
        table = step.pending.table
        wanted = table.c.sha256 == digest
        if step is app.render:
            wanted = sa.or_(wanted, table.c.path.in_(named))
        query = sa.select(table.c.path, table.c.recipe, table.c.file, table.c.sha256).where(
            wanted, table.c.state != State.TAKEN_DOWN.value
        )
        with app.connection.con.begin() as con:
            rows = con.execute(query).all()
        below = step.output_dir.relative_to(root).as_posix()
        prefix = "" if below == "." else f"{below}/"
        book.add_files(
            number, Kind.RENDITION, [prefix + row.file for row in rows if row.file is not None]
        )
        for row in rows:
            if row.file is not None:
                remove(step.output_dir / name_of(row.file), root)
            # One row a transaction: a run at work writes the same rows in an order of its own, and
            # two transactions of many rows could wait for each other for ever.
            with app.connection.con.begin() as con:
                con.execute(
                    sa.update(table)
                    .where(table.c.path == row.path, table.c.recipe == row.recipe)
                    .values(
                        _emptied(step)
                        | {
                            "state": State.TAKEN_DOWN.value,
                            "reason": reason,
                            "since": time.time(),
                            # Other bytes than those that are barred are to be looked at anew.
                            "sha256": digest if row.sha256 == digest else None,
                        }
                    )
                )
            step.settled({row.path})


def _emptied(step: RenderStep) -> dict[str, None]:
    names = ("file", "width_px", "height_px", "size_bytes", "file_sha256")
    return {name: None for name in names if name in step.pending.table.c}


def _twins(
    app: Lockstep, digest: str, size_bytes: int | None, verified: dict[str, Found]
) -> Iterator[tuple[str, Found]]:
    """Every original that has these bytes now, with what ``stat`` told when it was hashed.

    Read are those whose row says so, and those of the same size of which no row says anything.
    """
    table, originals = app.render.pending.table, app.render.pending.original_table
    same = sa.select(table.c.path).where(table.c.sha256 == digest)
    with app.connection.con.begin() as con:
        paths = {*verified, *con.execute(same.distinct()).scalars()}
        if size_bytes is not None:
            unknown = (
                sa.select(originals.c.path)
                .outerjoin(table, table.c.path == originals.c.path)
                .where(originals.c.size_bytes == size_bytes, table.c.sha256.is_(None))
            )
            paths.update(con.execute(unknown.distinct()).scalars())
    folder = app.settings.input_dir
    for path in sorted(paths):
        found = look_at(folder, path)
        if found is None or why_passed(folder, path, app.scan.suffixes) is not None:
            continue
        if found == verified.get(path) or (
            size_bytes in (None, found.size_bytes) and _is_now(folder / name_of(path), digest)
        ):
            yield path, found


def _is_now(file: Path, digest: str) -> bool:
    try:
        return sha256_of(file) == digest
    except OSError:
        return False


def _take_out(
    app: Lockstep, book: TakedownBook, act: sa.Row[Any], row: sa.Row[Any], verified: Found | None
) -> None:
    """Move one original into the quarantine, or delete it, if it has the barred bytes still."""
    settings = app.settings
    source = settings.input_dir / name_of(row.path)
    if not os.path.lexists(source):
        # Where it was noted and is not there, a takedown that was cut off has moved it.
        moved = row.kept is not None and os.path.lexists(
            settings.quarantine_dir / name_of(row.kept)
        )
        book.change_file(act.id, row.path, removed=moved or act.purge)
        return
    if (verified is None or look_at(settings.input_dir, row.path) != verified) and not _is_now(
        source, act.sha256
    ):
        return  # it is another file by now
    try:
        if act.purge:
            source.unlink()
            book.change_file(act.id, row.path, removed=True)
            return
        make_private(settings.quarantine_dir)
        kept = row.kept or free_place(settings.quarantine_dir, row.path, f"{act.id}", book.is_kept)
        book.change_file(act.id, row.path, kept=kept)
        move(source, settings.quarantine_dir / name_of(kept))
        book.change_file(act.id, row.path, removed=True)
    except OSError as error:
        raise OutputError(
            f"{source}: its bytes are barred and its renditions are gone, but it cannot be taken "
            f"out of the input folder ({error.strerror}); change the rights, and the next run "
            "tries again"
        ) from None


# --- lifting -------------------------------------------------------------------------------------


def _acts_to_lift(book: TakedownBook, id_or_sha256: str) -> list[sa.Row[Any]]:
    named = id_or_sha256.strip()
    if _SHA256.fullmatch(named):
        acts = book.acts_on(named.lower())
    elif named.isascii() and named.isdigit() and (act := book.act(int(named[:15]))) is not None:
        acts = book.acts_on(act.sha256)
    else:
        acts = []
    if not acts:
        raise NotFoundError(
            f"{id_or_sha256}: there is no such takedown; `datapipe takedown list` shows their "
            "numbers"
        )
    in_force = [act for act in acts if act.state != TakedownState.LIFTED.value]
    if not in_force:
        last = acts[-1]
        raise NotFoundError(
            f"{id_or_sha256}: it was lifted already, by {last.lifted_by} ({iso(last.lifted_ts)})"
        )
    return in_force


def _put_back(app: Lockstep, book: TakedownBook, number: int) -> None:
    """Put the originals of one takedown back, then forget its bytes; harmless if done already."""
    with publish_lock(app.connection):
        act = book.act(number)
        if act is None or act.state != TakedownState.LIFTING.value:
            return
        for row in book.files_of([number]):
            if row.kind == Kind.ORIGINAL.value and row.kept is not None:
                _restore(app, book, number, row)
        # Rows that say "taken down" become pending. A run at work that has them in hand records
        # them after us, when it looks at the takedowns again.
        for step in app.renders:
            table = step.pending.table
            query = sa.select(table.c.path, table.c.recipe).where(
                table.c.sha256 == act.sha256, table.c.state == State.TAKEN_DOWN.value
            )
            with app.connection.con.begin() as con:
                pairs = [(row.path, row.recipe) for row in con.execute(query)]
            forget_content(step.pending, pairs)
        book.change(number, state=TakedownState.LIFTED.value, lifted_ts=time.time())


def _restore(app: Lockstep, book: TakedownBook, number: int, row: sa.Row[Any]) -> None:
    settings = app.settings
    source = settings.quarantine_dir / name_of(row.kept)
    if not os.path.lexists(source):
        return  # put back before we were cut off, or removed by hand
    path = free_place(settings.input_dir, row.path, f"{number}", lambda key: False)
    try:
        # Noted first: where the move is cut off, the file is at one of the two places.
        book.change_file(number, row.path, restored=path)
        move(source, settings.input_dir / name_of(path))
    except OSError as error:
        raise OutputError(
            f"{settings.input_dir / name_of(path)}: the original cannot be put back "
            f"({error.strerror}); it is kept as {source}. Make room or change the rights, "
            "and lift again"
        ) from None
    remove_empty(source.parent, settings.quarantine_dir)


# --- telling -------------------------------------------------------------------------------------


def _told(act: sa.Row[Any], files: list[sa.Row[Any]]) -> dict[str, Any]:
    originals = [row for row in files if row.kind == Kind.ORIGINAL.value and row.removed]
    return {
        "id": act.id,
        "sha256": act.sha256,
        "target": act.target,
        "state": act.state,
        "when": iso(act.created_ts),
        "who": act.who,
        "reason": act.reason,
        "purge": act.purge,
        "originals": [
            {"path": row.path, "kept": row.kept, "restored": row.restored} for row in originals
        ],
        "renditions": [row.path for row in files if row.kind == Kind.RENDITION.value],
        "lifted": None if act.lifted_ts is None else iso(act.lifted_ts),
        "lifted_by": act.lifted_by,
    }


def _said(what: str, text: str) -> str:
    said = text.strip().replace("\0", "")
    if not said:
        raise LockstepError(f"a takedown needs a {what}: it stands in the audit")
    if len(said) > TEXT_MAX:
        raise LockstepError(f"the {what} has {len(said):,} characters; {TEXT_MAX:,} are allowed")
    return said
