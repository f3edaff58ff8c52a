"""What a run did, in numbers, and in words for the person who started it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.engine.timings import Timings
from pipeline.imaging import advice_of_suffix
from pipeline.states import State
from pipeline.storage.walking import OTHER_SUFFIX
from pipeline.text import counts_in_words
from pipeline.transforms.features import is_feature, is_listed, own_name
from pipeline.workers.base import Used

JOBS_SHOWN = 20
FAILURES_SHOWN = 20
SUFFIXES_SHOWN = 5


@dataclass
class MadeCounts:
    """What a run did for renditions, or for features; ``failed`` are those of this run alone."""

    rendered: int = 0
    reused: int = 0
    deleted: int = 0
    taken_down: int = 0
    held: int = 0
    failed: int = 0
    failed_before: int = 0
    in_step: int = 0

    def any(self) -> bool:
        """Whether there is, or was, any of them."""
        return any(vars(self).values())

    def add_withheld(self, state: State) -> None:
        """Count one that is not to be there, as it was taken down or is held."""
        if state is State.HELD:
            self.held += 1
        else:
            self.taken_down += 1

    def in_words(self, rendered: str, would: str, pending: int = 0) -> str:
        """What was done, and how many are in step; ``rendered`` is the word for the first."""
        return counts_in_words(
            [
                (self.rendered, f"{would}{rendered}"),
                (self.reused, f"{would}reused"),
                (self.deleted, f"{would}deleted"),
                (self.taken_down, "taken down"),
                (self.held, "held for review"),
                (self.failed, "failed"),
                (self.failed_before, "failed before"),
                (pending, "still to do"),
            ],
            rest=(self.in_step, "in step"),
        )


@dataclass
class Counts(MadeCounts):
    """What a run did for the originals of one source, and for their renditions.

    ``changed`` and ``unchanged`` are originals; ``pending`` are features as well.
    """

    changed: int = 0
    unchanged: int = 0
    pending: int = 0
    features: MadeCounts = field(default_factory=MadeCounts)
    # What near duplicates are found by; nobody asked for these.
    hashes: MadeCounts = field(default_factory=MadeCounts)
    failures: list[tuple[str, str]] = field(default_factory=list)
    # All of them, those as well that are not listed.
    failure_count: int = 0
    # What an original has failed for comes once for each recipe, one after another.
    _last_failure: tuple[str, str] = ("", "")

    def of(self, recipe: str) -> MadeCounts:
        """Where what this recipe, or feature, makes is counted."""
        if not is_listed(recipe):
            return self.hashes
        return self.features if is_feature(recipe) else self

    def add_made(self, recipe: str, reused: bool) -> None:
        """Count one rendition, or feature, that was made, or taken from another original."""
        made = self.of(recipe)
        if reused:
            made.reused += 1
        else:
            made.rendered += 1

    def add_failed(self, path: str, recipe: str, reason: str) -> None:
        """Count one rendition, or feature, that failed."""
        self.of(recipe).failed += 1
        if not is_listed(recipe):
            return  # what was asked for failed as well, and is listed
        of = f"feature {own_name(recipe)}: " if is_feature(recipe) else ""
        self.add_failure(path, of + reason)

    def add_failure(self, what: str, reason: str) -> None:
        """List what failed, each once."""
        if (what, reason) in self.failures or (what, reason) == self._last_failure:
            return
        self._last_failure = (what, reason)
        self.failure_count += 1
        if len(self.failures) < FAILURES_SHOWN:
            self.failures.append((what, reason))


@dataclass
class StepCounts:
    """What a run did for the records of a user's step; ``removed`` are those that were gone."""

    done: int = 0
    removed: int = 0
    failed: int = 0
    failed_before: int = 0

    @property
    def did_anything(self) -> bool:
        """Whether there was a record to work on."""
        return bool(self.done or self.removed or self.failed)


@dataclass
class JobCounts:
    """What a run did for jobs. ``failed_images`` are those that no run has reported before."""

    received: int = 0
    completed: int = 0
    completed_with_errors: int = 0
    rejected: int = 0
    failed: int = 0
    deleted: int = 0
    active: int = 0
    requested: int = 0
    fetched: int = 0
    not_modified: int = 0
    failed_images: int = 0
    images: Counts = field(default_factory=Counts)
    # A line for each job that ended badly in this run, up to `JOBS_SHOWN`.
    ends: list[str] = field(default_factory=list)

    def add_line(self, line: str) -> None:
        """Remember a job that ended badly."""
        if len(self.ends) < JOBS_SHOWN:
            self.ends.append(line)

    @property
    def any(self) -> bool:
        """Whether there was anything to do."""
        rest = {name: value for name, value in vars(self).items() if name != "images"}
        made = self.images.rendered + self.images.reused + self.images.deleted
        return bool(made or self.images.features.any() or any(rest.values()))

    @property
    def bad(self) -> int:
        """What went wrong in this run, for its exit code."""
        return self.failed_images + self.rejected + self.failed

    def as_json(self) -> dict[str, Any]:
        """The part ``jobs`` of the report."""
        return {
            "received": self.received,
            "completed": self.completed,
            "completed_with_errors": self.completed_with_errors,
            "rejected": self.rejected,
            "failed": self.failed,
            "deleted": self.deleted,
            "active": self.active,
            "images": {
                "asked": self.requested,
                "fetched": self.fetched,
                "not_modified": self.not_modified,
                "failed": self.failed_images,
            },
            "renditions": {
                "rendered": self.images.rendered,
                "reused": self.images.reused,
                "deleted": self.images.deleted,
            },
            "features": _features(self.images.features),
        }

    def as_lines(self) -> list[str]:
        """The lines of the summary; none where there was nothing to do."""
        if not self.any:
            return []
        jobs = counts_in_words(
            [
                (self.received, "received"),
                (self.completed, "completed"),
                (self.completed_with_errors, "completed with errors"),
                (self.rejected, "rejected"),
                (self.failed, "failed"),
                (self.deleted, "deleted"),
                (self.active, "still to do"),
            ]
        )
        images = counts_in_words(
            [
                (self.fetched, "fetched"),
                (self.not_modified, "not modified"),
                (self.failed_images, "failed"),
                (self.images.rendered, "renditions"),
                (self.images.reused, "renditions reused"),
                (self.images.deleted, "renditions deleted"),
                (self.images.features.rendered, "features"),
                (self.images.features.reused, "features reused"),
                (self.images.features.deleted, "features deleted"),
            ]
        )
        lines = [f"jobs        {jobs or 'none new'}"]
        if images:
            lines.append(f"job images  {images}")
        return lines + [f"job         {line}" for line in self.ends]


@dataclass
class Report(Counts):
    """Counts of one run: of the originals below ``input/``, and of ``jobs``.

    ``failed`` are those of this run alone.
    """

    new: int = 0
    removed: int = 0
    workers: Used | None = None
    seconds: float = 0.0
    # Of renditions that workers made in this run, also for jobs.
    timings: Timings = field(default_factory=Timings)
    dry_run: bool = False
    # Some changed paths were looked at, and not the whole folder: nothing is known of the rest.
    partial: bool = False
    # CSVs that such a look found, and left to a scan of the whole folder.
    csvs_left: int = 0
    passed: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)
    jobs: JobCounts = field(default_factory=JobCounts)
    # By the names of the users' own steps.
    steps: dict[str, StepCounts] = field(default_factory=dict)
    # They deliver webhooks after the run. Before the process ends, `join` them.
    threads: list[threading.Thread] = field(default_factory=list)

    @property
    def is_bad(self) -> bool:
        """Whether something failed in this run that no run has reported before."""
        failed = [self.failed, self.features.failed, *(c.failed for c in self.steps.values())]
        return not self.dry_run and bool(sum(failed) or self.jobs.bad)

    @property
    def there(self) -> int:
        """How many originals the folder holds."""
        return self.new + self.changed + self.unchanged

    def join(self) -> None:
        """Wait until all webhooks of the run are delivered; each has a deadline."""
        for thread in self.threads:
            thread.join()

    @property
    def did_anything(self) -> bool:
        """Whether an original, a rendition or a feature changed, or failed."""
        done = self.new + self.changed + self.removed
        for made in (self, self.features):
            done += made.rendered + made.reused + made.deleted + made.taken_down + made.failed
            done += made.held
        return bool(done) or any(each.did_anything for each in self.steps.values())

    def as_json(self) -> dict[str, Any]:
        """The report as ``datapipe run --json`` prints it."""
        return {
            "originals": {
                "new": self.new,
                "changed": self.changed,
                "removed": self.removed,
                "unchanged": self.unchanged,
            },
            "renditions": {
                "rendered": self.rendered,
                "reused": self.reused,
                "deleted": self.deleted,
                "taken_down": self.taken_down,
                "held": self.held,
                "failed": self.failed,
                "failed_before": self.failed_before,
                "in_step": self.in_step,
                "pending": self.pending,
            },
            "features": _features(self.features)
            | {"failed_before": self.features.failed_before, "in_step": self.features.in_step},
            "jobs": self.jobs.as_json(),
            "steps": {n: asdict(c) for n, c in self.steps.items() if any(vars(c).values())},
            "ignored": dict(sorted(self.passed.items())),
            "workers": None if self.workers is None else self.workers._asdict(),
            "seconds": round(self.seconds, 3),
        } | ({"dry_run": True} if self.dry_run else {})

    def as_lines(self) -> list[str]:
        """The summary that a person reads at the end of a run."""
        would = "would be " if self.dry_run else ""
        originals = counts_in_words(
            [(self.new, "new"), (self.changed, "changed"), (self.removed, "removed")],
            rest=(self.unchanged, "unchanged"),
        )
        renditions = self.in_words("rendered", would, self.pending)
        lines = [f"originals   {originals}", f"renditions  {renditions}"]
        if self.features.any():
            lines.append(f"features    {self.features.in_words('made', would)}")
        if self.hashes.rendered > self.new + self.changed:
            # Those of originals that were there before: otherwise nothing says why it took so long.
            count = self.hashes.rendered
            lines.append(f"hashes      {count:,} {would}made, to find near duplicates")
        lines += self.jobs.as_lines()
        if steps := self.steps_in_words():
            lines.append(f"steps       {steps}")
        if self.passed:
            lines.append(f"ignored     {self._ignored()}")
            lines += [f"            {advice}" for advice in _advice(self.passed)]
        for path, reason in self.failures:
            lines.append(f"failed      {path}: {reason}")
        if self.failure_count > len(self.failures):
            lines.append("            and more: see `datapipe errors`")
        lines.append(f"{self._verdict()} ({self.seconds:.1f} s)")
        return lines

    def steps_in_words(self) -> str:
        """What was done for the records of the users' steps, by name."""
        counted = {
            name: counts_in_words(
                [
                    (each.done, "done"),
                    (each.removed, "removed"),
                    (each.failed, "failed"),
                    (each.failed_before, "failed before"),
                ]
            )
            for name, each in self.steps.items()
        }
        return "; ".join(f"{name}: {words}" for name, words in counted.items() if words)

    def _ignored(self) -> str:
        """What the scan skipped, and why; other suffixes summed up, the most frequent named."""
        counts = [(count, reason) for reason, count in self.passed.most_common()]
        others = [each for each in counts if each[1].startswith(OTHER_SUFFIX)]
        rest = [each for each in counts if each not in others]
        if others:
            suffixes = [_suffix_in(reason) for _, reason in others]
            named = ", ".join(suffixes[:SUFFIXES_SHOWN])
            named += ", …" if len(suffixes) > SUFFIXES_SHOWN else ""
            total = sum(count for count, _ in others)
            rest.append((total, f"{'file' if total == 1 else 'files'} of other kinds ({named})"))
        return counts_in_words(rest)

    def _verdict(self) -> str:
        if self.dry_run:
            return "nothing was written: this was a dry run"
        if self.pending:
            return "not yet in step: some originals changed while they were read; run again"
        if self.jobs.active:
            return "not yet in step: some jobs are not finished; run again"
        if self.is_bad:
            return "in step, except for what failed in this run"
        before = [self.failed_before, self.features.failed_before]
        if any(before) or any(each.failed_before for each in self.steps.values()):
            return "in step, except for what failed before (`datapipe errors`)"
        return "in step"


def _features(made: MadeCounts) -> dict[str, int]:
    """The counts of features as JSON: of one run, those of a job as well."""
    return {
        "made": made.rendered,
        "reused": made.reused,
        "deleted": made.deleted,
        "taken_down": made.taken_down,
        "failed": made.failed,
    }


def _suffix_in(reason: str) -> str:
    """The suffix that a file was passed for, as its reason says it."""
    return reason.removeprefix(OTHER_SUFFIX).strip(" ()")


def _advice(passed: Iterable[str]) -> list[str]:
    """What to do with the pictures among the ignored files, a line for each kind."""
    suffixes: dict[str, list[str]] = {}
    for suffix in map(_suffix_in, sorted(passed)):
        if advice := advice_of_suffix(suffix):
            suffixes.setdefault(advice, []).append(suffix)
    return [f"{', '.join(each)}: {advice}" for advice, each in suffixes.items()]
