"""The preview of a run: what it would render and delete, counted without writing anything."""

from __future__ import annotations

import time

import sqlalchemy as sa

from pipeline.app import Lockstep
from pipeline.database.paging import chunks, known_among
from pipeline.database.state import StateRepository
from pipeline.database.tracking import GONE, KIND
from pipeline.engine.context import RunOptions
from pipeline.engine.difference import Difference
from pipeline.engine.history import count_states
from pipeline.engine.pending import Pending
from pipeline.engine.recipe_step import compare_recipes
from pipeline.engine.report import Report
from pipeline.engine.scan import compare_folder
from pipeline.engine.unmounted import InputFolder, refuse_too_many
from pipeline.jobs.foresight import preview_jobs
from pipeline.names import name_of
from pipeline.states import Source, State
from pipeline.storage.folder import sha256_of
from pipeline.storage.walking import CSV_SUFFIXES, Passed
from pipeline.tables import make_tables
from pipeline.takedowns.repository import TakedownRepository
from pipeline.takedowns.takeover import has_unknown
from pipeline.transforms.recipes import load_recipes


def preview(app: Lockstep, options: RunOptions) -> Report:
    """What a run would do now. Files whose times changed are hashed, for they may be the same.

    Raises:
        LockstepError: whatever would stop the run before its first write.
    """
    began = time.monotonic()
    try:
        repository = StateRepository(app.database)
        make_tables(app.database)
        report = _preview(app, options, repository)
    except sa.exc.SQLAlchemyError as error:
        raise app.database.explain(error) from error
    report.seconds = time.monotonic() - began
    return report


def _preview(app: Lockstep, options: RunOptions, repository: StateRepository) -> Report:
    pending, settings = app.render.pending, app.settings
    recipes = load_recipes(settings.recipes_file)
    recipe_changes = compare_recipes(recipes, pending.recipes, Source.INPUT)
    moved = {*recipe_changes.added, *recipe_changes.changed}

    difference = Difference(passed=Passed(deferred_suffixes=CSV_SUFFIXES))
    folder = settings.input_dir
    input_folder = InputFolder(folder, repository, options.allow_removed)
    takedowns = TakedownRepository(app.database)
    blocked_sizes = takedowns.blocked_sizes()
    found: list[str] = []
    suspects: list[str] = []
    for file in compare_folder(
        folder, app.scan.suffixes, app.scan.table, difference, options.allow_removed
    ):
        found.append(file.path)
        if file.size_bytes in blocked_sizes:
            suspects.append(file.path)
    input_folder.look_again(difference.passed.mounts)
    if not options.allow_removed:
        refuse_too_many(difference, settings.max_removed_percent, input_folder, takedowns)
    removed = set(difference.removed)
    same = _only_touched(app, found)
    looked_at = set(found) - same
    blocked = _blocked(app, takedowns, [path for path in suspects if path in looked_at])

    waiting = _waiting(pending)
    current = {
        (path, recipe)
        for path, recipe in waiting
        if recipe in recipes and path not in removed and path not in looked_at
    }
    kept = (
        difference.known
        - len(removed)
        - len(
            looked_at
            & known_among(
                app.database, pending.original_table.c.path, looked_at, pending.our_originals
            )
        )
    )
    report = Report(dry_run=True, warnings=_warnings(app))
    report.new = difference.new
    report.changed = difference.changed - len(same)
    report.unchanged = difference.unchanged + len(same)
    report.removed = len(removed)
    report.passed = difference.passed.reasons
    report.taken_down = len(blocked) * len(recipes)
    report.rendered = (
        (len(looked_at) - len(blocked)) * len(recipes)
        + kept * len(moved)
        + sum(recipe not in moved for _, recipe in current)
    )
    report.deleted = _deleted(pending, difference.removed, recipe_changes.removed)
    states = count_states(pending)
    report.failed_before = states.get(State.FAILED, 0)
    report.in_step = states.get(State.OK, 0)
    if difference.passed.deferred or app.jobs.repository.counts():
        others = None if options.allow_removed else input_folder.moved
        report.jobs = preview_jobs(app.jobs, recipes, difference.passed, report.there, others)
    return report


def _warnings(app: Lockstep) -> list[str]:
    if not has_unknown(app.database, app.settings):
        return []
    return [
        "the database may lack takedowns that are in the journal; a run adds them, and "
        "renders nothing that is taken down"
    ]


def _only_touched(app: Lockstep, paths: list[str]) -> set[str]:
    """Those whose bytes all their renditions were made of."""
    table = app.render.pending.table
    same: set[str] = set()
    for chunk in chunks(paths):
        with app.database.reading() as con:
            rows = con.execute(
                sa.select(table.c.path, table.c.sha256)
                .where(app.render.pending.ours, table.c.path.in_(chunk))
                .distinct()
            ).all()
        made_of: dict[str, set[str | None]] = {}
        for row in rows:
            made_of.setdefault(row.path, set()).add(row.sha256)
        for path, digests in made_of.items():
            try:
                if digests == {sha256_of(app.settings.input_dir / name_of(path))}:
                    same.add(path)
            except OSError:
                continue
    return same


def _blocked(app: Lockstep, takedowns: TakedownRepository, paths: list[str]) -> list[str]:
    """Those whose bytes were taken down."""
    digests: dict[str, str] = {}
    for path in paths:
        try:
            digests[path] = sha256_of(app.settings.input_dir / name_of(path))
        except OSError:
            continue
    blocked = takedowns.blocked_among(list(digests.values()))
    return [path for path, digest in digests.items() if digest in blocked]


def _waiting(pending: Pending) -> set[tuple[str, str]]:
    changed = pending.changed().subquery()
    query = sa.select(changed.c.path, changed.c.recipe).where(changed.c[KIND] != GONE)
    with pending.meta.dbconn.reading() as con:
        return {(row.path, row.recipe) for row in con.execute(query)}


def _deleted(pending: Pending, paths: list[str], recipes: list[str]) -> int:
    """Rows of renditions whose original or recipe goes, also where an earlier run was
    interrupted."""
    table = pending.table
    changed = pending.changed().subquery()
    gone: set[tuple[str, str]] = set()
    with pending.meta.dbconn.reading() as con:
        keys = sa.select(table.c.path, table.c.recipe).where(pending.ours)
        cut_off = keys.join_from(
            table,
            changed,
            sa.and_(changed.c.path == table.c.path, changed.c.recipe == table.c.recipe),
        ).where(changed.c[KIND] == GONE)
        gone.update(con.execute(cut_off).tuples())
        if recipes:
            gone.update(con.execute(keys.where(table.c.recipe.in_(recipes))).tuples())
        for chunk in chunks(paths):
            gone.update(con.execute(keys.where(table.c.path.in_(chunk))).tuples())
    return len(gone)
