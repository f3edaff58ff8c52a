"""What looks like a picture: found by the PDQ hashes of the originals, to be taken down with it."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import sqlalchemy as sa

from pipeline.database.paging import pages
from pipeline.database.tracked import data_of
from pipeline.database.tracking import GONE, KIND
from pipeline.engine.context import make_workers
from pipeline.engine.holding import comparable
from pipeline.errors import FlatPictureError, LockstepError, NotFoundError
from pipeline.near import (
    DISTANCE,
    GOOD_QUALITY,
    BlockedPictures,
    Near,
    distances,
    turned,
    words_of,
)
from pipeline.states import Source, State
from pipeline.storage.at_hand import sha256_in
from pipeline.storage.opening import open_store
from pipeline.storage.places import Place
from pipeline.takedowns.context import Takedowns
from pipeline.takedowns.targets import SHA256, Target, resolve
from pipeline.transforms.features import PDQ, PREFIX, Feature, own_name
from pipeline.transforms.functions import Function
from pipeline.workers.tasks import Outcome, RenditionWanted, Task

PDQ_PREFIX = "pdq:"
# Rows that are read at once.
PAGE_ROWS = 10_000
# Made in a worker, as anything is that decodes a picture: never stored.
_TURNED = Feature(
    f"{PREFIX}lockstep:orientations",
    Function("orientations", "pipeline.imaging.pdq:orientations", content="1"),
)


@dataclass(frozen=True)
class Lookalike:
    """An original that looks like another picture, and in how many of 256 bits they differ."""

    source: str
    path: str
    sha256: str
    size_bytes: int | None
    distance: int

    def as_json(self) -> dict[str, Any]:
        """As ``datapipe similar --json`` prints it."""
        return asdict(self)


@dataclass(frozen=True)
class Lookalikes:
    """What to block with a picture: ``hashes``, each up to a distance in bits; and the originals
    that were ``found``, the nearest first. Of those that are ``unknown``, so many, no hash is made
    yet."""

    target: Target
    hashes: Mapping[str, int]
    found: Sequence[Lookalike] = field(default_factory=list)
    unknown: int = 0


def lookalikes(context: Takedowns, target: str, distance: int = DISTANCE) -> Lookalikes:
    """What looks like ``target``: a path below ``input/``, a SHA-256, or ``pdq:`` and a hash.

    Flipped and turned copies are found as well.

    Raises:
        NotFoundError: there is no such original, or nothing tells what it looks like.
        FlatPictureError: it is too flat to be compared.
        LockstepError: it cannot be decoded, or PIPELINE_NEAR is off.
    """
    if context.settings.near == "off":
        raise LockstepError(
            "PIPELINE_NEAR is off, so nothing that looks like it would be found or held; set it to "
            "hold, and run, or take it down without --near"
        )
    if context.own.pending.features is None:
        raise LockstepError(
            "app.py declares no table of features, which near duplicates are found by: add "
            '"features": tables.features_columns() to its columns, and features="features" to its '
            "Render step"
        )
    named = target.strip().lower()
    if named.startswith(PDQ_PREFIX):
        digest = named.removeprefix(PDQ_PREFIX)
        if not SHA256.fullmatch(digest):
            raise NotFoundError(f"{target}: a PDQ hash has 64 hexadecimal digits")
        # A takedown is of some content: of this one, there is none.
        wanted, hashes = Target(hashlib.sha256(named.encode()).hexdigest(), None), turned(digest)
    else:
        wanted = resolve(context, target)
        hashes = _orientations(context, wanted, target)
    found = similar_to(context, hashes, distance)
    found = [each for each in found if each.sha256 != wanted.sha256]
    return Lookalikes(wanted, dict.fromkeys(hashes, distance), found, _unknown(context))


def _unknown(context: Takedowns) -> int:
    """How many originals have no hash yet, or only one of what they were."""
    count = 0
    for pending in context.own.pending_of.values():
        changed = pending.changed().subquery()
        waiting = changed.c.recipe == PDQ, changed.c[KIND] != GONE
        with context.database.reading() as con:
            query = sa.select(sa.func.count()).select_from(changed).where(*waiting)
            count += con.execute(query).scalar_one()
    return count


def similar_to(context: Takedowns, hashes: Sequence[str], distance: int) -> list[Lookalike]:
    """The originals that differ from one of ``hashes`` in at most ``distance`` bits, the nearest
    first; not those that are nearly flat, or taken down."""
    found: list[Lookalike] = []
    for rows, theirs in _hashed_originals(context):
        words = words_of(theirs)
        apart = np.min([distances(one, words) for one in hashes], axis=0)
        for at in np.flatnonzero(apart <= distance):
            row = rows[at]
            found.append(
                Lookalike(row.source, row.path, row.sha256, row.original_bytes, int(apart[at]))
            )
    return sorted(found, key=lambda each: (each.distance, each.source, each.path))


def similar_listed(
    context: Takedowns, digest: str, distance: int, source: Source, path: str
) -> list[dict[str, Any]]:
    """What looks like an original with this hash, the nearest first: originals but for itself, and
    what is blocked, by ``blocked``, with no path."""
    hashes = turned(digest)
    found = [each.as_json() | {"blocked": None} for each in similar_to(context, hashes, distance)]
    found = [each for each in found if (each["source"], each["path"]) != (source.value, path)]
    for near in BlockedPictures(context.database).within([digest], distance):
        nobody = {"source": None, "path": None, "sha256": None, "size_bytes": None}
        found.append(nobody | {"distance": near.distance, "blocked": near.source})
    return sorted(found, key=lambda each: int(each["distance"]))


def near_blocked(context: Takedowns) -> Iterator[tuple[Lookalike, Near]]:
    """Originals that look like blocked content: those that are held, those that a person published,
    and those that were published before it was blocked."""
    blocked = BlockedPictures(context.database)
    if not blocked.any():
        return
    for rows, hashes in _hashed_originals(context):
        for row, near in zip(rows, blocked.nearest(hashes), strict=True):
            if near is not None:
                size, distance = row.original_bytes, near.distance
                yield Lookalike(row.source, row.path, row.sha256, size, distance), near


def hash_of(context: Takedowns, source: Source, path: str) -> str:
    """The PDQ hash of an original.

    Raises:
        NotFoundError: none is known.
        FlatPictureError: the picture is too flat to be compared.
    """
    table = _table(context)
    query = sa.select(table.c.value).where(
        table.c.source == source.value, table.c.path == path, table.c.name == own_name(PDQ)
    )
    row = context.database.first(query)
    if row is None or row.value is None:
        raise NotFoundError(
            f"{path}: no PDQ hash of this original is known: the next run makes it, unless "
            "PIPELINE_NEAR is off, or the original cannot be decoded"
        )
    digest = comparable(row.value)
    if digest is None:
        raise FlatPictureError(f"{path}: {_FLAT}")
    return digest


_FLAT = (
    f"it is nearly flat (quality under {GOOD_QUALITY} of 100): what looks like it cannot be told "
    "from what does not; only the very same bytes are found"
)


def _table(context: Takedowns) -> sa.Table:
    features = context.own.pending.features
    if features is None:
        raise NotFoundError("app.py declares no table of features, so there are no PDQ hashes")
    return data_of(features)


def _hashed_originals(context: Takedowns) -> Iterator[tuple[list[sa.Row[Any]], list[str]]]:
    """The rows of the hashes of all originals that can be compared, in pages, with the hashes."""
    table = _table(context)
    query = sa.select(table).where(
        table.c.name == own_name(PDQ),
        table.c.state == State.OK.value,
        table.c.sha256.is_not(None),
    )
    keys = (table.c.source, table.c.path)
    for page in pages(context.database, query, keys, PAGE_ROWS):
        hashes = [comparable(row.value) for row in page]
        rows = [row for row, digest in zip(page, hashes, strict=True) if digest]
        if rows:
            yield rows, [digest for digest in hashes if digest]


def _orientations(context: Takedowns, wanted: Target, target: str) -> list[str]:
    place = _place_of(context, wanted)
    if place is None:
        raise NotFoundError(
            f"{target}: no original has these bytes now, so nothing tells what they look like; "
            f"take them down without --near, or give {PDQ_PREFIX} and a PDQ hash"
        )
    said = _ask_worker(context, *place)
    if said["quality"] < GOOD_QUALITY:
        raise FlatPictureError(f"{target}: {_FLAT}; take it down without --near")
    return list(dict.fromkeys(said["pdq"]))


def _place_of(context: Takedowns, wanted: Target) -> tuple[Place, str] | None:
    """The place, and the key there, of a file that has the bytes of the target."""
    if wanted.found is not None:
        return context.settings.input_place, wanted.found.path
    for step in context.renders:
        for table in step.pending.tables:
            query = sa.select(table.c.source, table.c.path).where(table.c.sha256 == wanted.sha256)
            for row in context.database.rows(query.distinct()):
                originals = step.originals[Source(row.source)]
                key = originals.key(row.path, wanted.sha256)
                with contextlib.suppress(OSError):
                    if sha256_in(open_store(originals.place), key) == wanted.sha256:
                        return originals.place, key
    return None


def _ask_worker(context: Takedowns, place: Place, key: str) -> dict[str, Any]:
    wanted = RenditionWanted(_TURNED, None, None, None)
    task = Task(key, (wanted,), place.text, key, context.settings.output_place.text)
    one = replace(context.settings, workers=1, cluster="")
    with contextlib.closing(make_workers(one)) as workers:
        workers.submit(task)
        outcome: Outcome | None = None
        while outcome is None:
            outcome = workers.next_outcome(1.0)
    if not outcome.values:
        why = outcome.failed[0][1].text if outcome.failed else "it is being changed; try again"
        raise LockstepError(f"{key}: what it looks like is not known: {why}")
    said: dict[str, Any] = json.loads(outcome.values[0][1])
    return said
