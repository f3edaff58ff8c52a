"""Rendering: what is pending goes to the workers, what they made is published and recorded.

The order of a run, each in pages of bounded size:

1. renditions of originals and recipes that are gone are deleted, but for originals that may only
   have moved (a new one has the same size);
2. fresh originals are rendered, or take the renditions of an original with the same bytes;
3. what was held back in 1 is deleted;
4. the backlog that a recipe's change makes is rendered; old renditions serve until then.

File first, row second: a run that is killed between the two leaves a row that is still pending.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from functools import partial
from itertools import groupby

from pipeline.database.tracking import BACKLOG, FRESH, GONE
from pipeline.engine.context import STOP_POLL_S, Run
from pipeline.engine.pending import Look, Pending, PendingOriginal, PendingRendition, slices
from pipeline.engine.progress import Progress, Silent
from pipeline.engine.publish import FLUSH_S, Publisher
from pipeline.engine.sources import Originals
from pipeline.engine.verdicts import (
    KILLED_ONCE,
    KILLED_TWICE,
    recipes_of,
    wanted_of,
)
from pipeline.states import Lane, Source
from pipeline.transforms.features import Feature, is_listed, listed_features
from pipeline.workers.base import AnyWorkers
from pipeline.workers.tasks import Outcome, Task, Urgency, md5s_of


class _Bar:
    """Shows what is done; the hashes that nobody asked for only if there is nothing else."""

    def __init__(self, progress: Progress, look: Look, what: str) -> None:
        self._progress, self._look, self._what = progress, look, what
        self._shows_hashes = False

    def start(self, counts: Mapping[int, int]) -> None:
        """So much was counted a moment ago."""
        self._shows_hashes = not self._look.listed
        if self._shows_hashes:
            self._progress.start("hashes", sum(counts.values()))
        else:
            self._progress.start(self._what, self._look.listed)

    def show(self, done: Iterable[str]) -> None:
        """These are done, by the names of their recipes."""
        self._progress.advance(sum(self._shows_hashes or is_listed(recipe) for recipe in done))


def tasks_ahead(workers: AnyWorkers) -> int:
    """Enough tasks that no worker waits while a batch of rows is written."""
    return max(64, 32 * workers.count)


class Rendering:
    """One pass over the originals of a source; holds what lives no longer than a run."""

    def __init__(self, run: Run, pending: Pending, originals: Originals, below: str) -> None:
        """The keys of the renditions begin with ``below``, below the output folder."""
        self.run = run
        self.originals = originals
        self.pending = pending
        self.below = below
        is_for_jobs = pending.source is Source.JOBS
        self.progress = run.progress.lane(Lane.JOB_IMAGES) if is_for_jobs else run.progress
        self.look = run.look(self.pending)
        self.recipes = recipes_of(self.pending, run)
        self.fingerprints = {name: recipe.fingerprint for name, recipe in self.recipes.items()}
        what = "renditions and features" if listed_features(self.recipes) else "renditions"
        is_elsewhere = run.workers.used.place == "ray"
        self.bar = _Bar(self.progress, self.look, f"{what} on Ray" if is_elsewhere else what)
        self.publisher = Publisher(
            self.pending,
            self.fingerprints,
            run,
            self.originals.counts(run),
            partial(self.originals.settled, run.database),
        )
        # Originals whose worker was killed in the run before, too.
        self.killed_before: set[str] = set()
        self.urgency = Urgency.JOBS if is_for_jobs else run.urgency
        self.patience_s = FLUSH_S if run.options.stop is None else STOP_POLL_S

    def work(self) -> None:
        """Bring all renditions of the source in step.

        Raises:
            OutputError: a rendition cannot be written or deleted; what is done is kept.
        """
        try:
            self._bring_in_step()
            if self.run.options.rehash:
                self._look_at_all()
        finally:
            self.progress.stop()
            # Also on Ctrl-C and on a full disk: what is done is kept.
            self.publisher.flush()
        self.publisher.finish()

    def _bring_in_step(self) -> None:
        self.look.narrow(self.run.narrowed_to)
        touched = self.run.written_since_began(self.pending.source)
        counts = self.look.counts(touched=touched)
        if not counts:
            return
        self.publisher.begin()
        self.bar.start(counts)
        held = self._delete(hold=self.look.sizes_fresh()) if counts.get(GONE) else 0
        if counts.get(FRESH):
            self._render_all(FRESH)
        if held:
            # What has been deleted must not be deleted twice: there may be a new file in its place.
            self.look.look_again()
            self._delete(hold=set())
        if counts.get(BACKLOG):
            self._render_all(BACKLOG)

    def _look_at_all(self) -> None:
        """Hash every original, whatever its times say, and render those whose bytes changed."""
        self.publisher.flush()
        self.publisher.mark_unchanged = False
        counts = self.look.counts(everything=True)
        self.bar.start(counts)
        for kind in (FRESH, BACKLOG):
            if counts.get(kind):
                self.publisher.begin()
                self._render(self.look.pages(kind, everything=True))

    def _delete(self, hold: Set[int]) -> int:
        """Delete what is gone, but for originals of the sizes to ``hold``; how many were held."""
        held = 0
        for page in self.look.pages(GONE):
            gone: list[PendingRendition] = []
            for original in page:
                keep = [r for r in original.renditions if r.original_bytes in hold]
                if keep and self.originals.is_in_the_way(original.path):
                    keep = []
                held += len(keep)
                gone.extend(r for r in original.renditions if r not in keep)
            self.publisher.delete(gone)
            self.bar.show(rendition.recipe for rendition in gone)
        return held

    def _render_all(self, kind: int) -> None:
        """Render all of a kind; images of jobs in slices, between which other jobs go on."""
        pages, source, run = self.look.pages(kind), self.originals.source, self.run
        if source is not Source.JOBS or run.narrowed_to is not None:
            self._render(pages)
            return
        counts, options = self.publisher.counts, replace(run.options, rehash=False)
        counts.pending += self.publisher.unsettled
        for originals in slices(pages):
            paths, pending = [original.path for original in originals], counts.pending
            part = run.part(source=source, narrowed_to=paths, options=options, progress=Silent())
            Rendering(part, self.pending, self.originals, self.below).work()
            counts.pending += pending
            self.bar.show(each.recipe for original in originals for each in original.renditions)
            run.attend(Urgency.BACKLOG)
        self.publisher.unsettled = counts.pending

    def _render(self, pages: Iterable[list[PendingOriginal]]) -> None:
        for page in pages:
            # After an interrupted run, a file may hold other bytes than its row says: take none of
            # them.
            maybe_known = set() if self.run.recovering else self.pending.sizes_known(page)
            # Originals that were taken down are recognized by their hash, and not even decoded.
            sizes = {original.size_bytes for original in page}
            maybe_known |= self.publisher.takedowns.blocked_sizes(self.pending.tables, sizes)
            made_of = {each.sha256 for original in page for each in original.renditions}
            digested = self.publisher.takedowns.digested_among(made_of)
            # To compare each original with what is blocked.
            beside = self.publisher.holding.beside
            plain: list[Task] = []
            to_compare: list[Task] = []
            for original in page:
                if self.publisher.is_superseded(original.path):
                    continue
                task = self._task(original, digested, beside)
                (to_compare if original.size_bytes in maybe_known else plain).append(task)
            for outcome in self._through_workers(plain):
                self.publisher.add(outcome)
            if to_compare:
                self.publisher.flush()
                self._reuse_or_render(to_compare)
            self.publisher.flush()

    def _task(self, original: PendingOriginal, digested: Set[str], beside: Feature | None) -> Task:
        wanted = []
        for rendition in original.renditions:
            recipe = self.recipes.get(rendition.recipe)
            if recipe is None:
                continue  # of a feature that is gone from the file, nothing says how to make it
            wanted.append(wanted_of(rendition, recipe, self.run.recovering))
            if rendition.reason == KILLED_ONCE.text:
                self.killed_before.add(original.path)
        self.publisher.expect(original)
        return Task(
            original.path,
            tuple(wanted),
            self.originals.place.text,
            self.originals.key(original.path, original.stored_under),
            self.run.settings.output_place.text,
            self.below,
            max_pixels=self.originals.max_pixels,
            digested=tuple(digested & {each.sha256 or "" for each in original.renditions}),
            beside=beside,
        )

    def _through_workers(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        workers, urgency = self.run.workers, self.urgency
        alone = [task for task in tasks if task.path in self.killed_before]
        coming = (task for task in tasks if task.path not in self.killed_before)
        task = next(coming, None)
        while task is not None or workers.waiting(urgency):
            while task is not None and workers.waiting(urgency) < tasks_ahead(self.run.workers):
                if not self.publisher.is_superseded(task.path):
                    workers.submit(task, urgency)
                task = next(coming, None)
            self.run.check_stop()
            self.run.attend(urgency)
            outcome = workers.next_outcome(self.patience_s, urgency)
            if outcome is None:
                self.publisher.flush()
                continue
            if outcome.killed:
                alone += [again for again in tasks if again.path == outcome.path]
                continue
            self._advance(outcome)
            yield outcome
        for task in alone:
            yield self._alone(task)

    def _alone(self, task: Task) -> Outcome:
        """Run a task whose worker was killed, alone, so that no other task can be the cause.

        Killed again, it has failed; the next run retries it once, and then it stays failed.
        """
        workers = self.run.workers
        workers.submit(task, self.urgency)
        outcome: Outcome | None = None
        while outcome is None:
            self.run.check_stop()
            outcome = workers.next_outcome(self.patience_s, self.urgency)
        if outcome.killed:
            outcome.try_again = task.path not in self.killed_before
            reason = KILLED_ONCE if outcome.try_again else KILLED_TWICE
            outcome.failed = [(wanted.recipe.name, reason) for wanted in task.wanted]
        self._advance(outcome)
        return outcome

    def _advance(self, outcome: Outcome) -> None:
        named = [*outcome.unchanged, *outcome.unneeded, *(made.recipe for made in outcome.made)]
        self.bar.show(named + [name for name, _ in (*outcome.values, *outcome.failed)])
        self.run.report.timings.add(outcome.seconds, len(outcome.made))

    def _reuse_or_render(self, tasks: list[Task]) -> None:
        """Originals of a size that is known already: hash first, decode only unknown bytes."""
        by_path = {task.path: task for task in tasks}
        hashed: list[Outcome] = []
        for outcome in self._through_workers([task._replace(hash_only=True) for task in tasks]):
            complete = len(outcome.unchanged) == len(by_path[outcome.path].wanted)
            if outcome.sha256 is None or outcome.unsettled or complete:
                self.publisher.add(outcome)
            else:
                hashed.append(outcome)
        # Once a page: what is blocked after this is found when it is published.
        digests = [outcome.sha256 for outcome in hashed]
        blocked = self.publisher.takedowns.blocked_among(digests, md5s_of(hashed))
        for outcome in (each for each in hashed if each.sha256 in blocked):
            self.publisher.add(outcome)
        waiting = [outcome for outcome in hashed if outcome.sha256 not in blocked]
        # A second round for duplicates of what the first has made. Where that failed, they fail the
        # same way, and there is nothing to wait for.
        for is_last in (False, True):
            waiting.sort(key=lambda outcome: outcome.sha256 or "")
            known = self.publisher.reuse.known_content([outcome.sha256 for outcome in waiting])
            first_of_each: list[Task] = []
            rest: list[Outcome] = []
            for digest, same in groupby(waiting, key=lambda outcome: outcome.sha256):
                unlike = [
                    duplicate
                    for duplicate in same
                    if digest not in known or not self._reuse(duplicate, by_path[duplicate.path])
                ]
                now = unlike if is_last else unlike[:1]
                first_of_each.extend(by_path[duplicate.path] for duplicate in now)
                rest.extend(unlike[len(now) :])
            for outcome in self._through_workers(first_of_each):
                self.publisher.add(outcome)
            # Duplicates of what has just been made can now take its renditions.
            self.publisher.flush()
            waiting = rest

    def _reuse(self, outcome: Outcome, task: Task) -> bool:
        """Give ``outcome`` the renditions of other originals with the same bytes, if there are."""
        if task.beside is not None and self.publisher.holding.must_look(outcome.sha256):
            return False
        taken = self.publisher.reuse.stage(outcome, task)
        if taken is None:
            return False
        self.bar.show([made.recipe for made in taken.made] + [name for name, _ in taken.values])
        self.publisher.add(taken)
        return True
