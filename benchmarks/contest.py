"""One contest: Lockstep and its peers on the same originals, round after round, in turn.

Rounds alternate (A B C A B C), so that a machine that slows down slows all alike. Before each
process, what earlier ones wrote is flushed and the originals are in the page cache for everyone.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks import lockstep
from benchmarks.job import Encoder, Job
from benchmarks.lockstep import Project, UnexpectedRun
from benchmarks.measure import Measured, measure, median_of
from benchmarks.peers.registry import REPOSITORY, Peer
from benchmarks.probe import jpeg_facts
from benchmarks.quality import Judge, Quality

LOCKSTEP = "lockstep"


@dataclass
class Entrant:
    """One that takes part, and what it has shown so far."""

    name: str
    version: str
    once: Callable[[Path], Measured]  # one whole process that writes below the folder given
    runs: list[Measured] = field(default_factory=list)
    bytes_written: int = 0
    wrote: str = ""  # what the header of one of its JPEG files says
    quality: dict[str, Quality | None] = field(default_factory=dict)
    failed: str | None = None

    @property
    def cost(self) -> Measured:
        return median_of(self.runs)

    def images_per_s(self, job: Job) -> float:
        return len(job.originals) / self.cost.wall_s


def lockstep_entrant(job: Job, scratch: Path, name: str = LOCKSTEP) -> Entrant:
    def once(folder: Path) -> Measured:
        project = Project(folder, job.input, job.recipes, job.workers)
        project.prepare()
        run = project.run()
        lockstep.check(run, rendered=job.renditions)
        return run

    return Entrant(name, "this working tree", once)


def peer_entrant(peer: Peer, job: Job, scratch: Path) -> Entrant:
    def once(folder: Path) -> Measured:
        output = folder / "output"
        job_path = folder / "job.json"
        folder.mkdir(parents=True)
        job.write(job_path, output)
        command = [*peer.command(scratch), str(job_path), *peer.after(scratch)]
        return measure(command, cwd=REPOSITORY, env=peer.env(scratch))

    return Entrant(peer.name, peer.version(scratch), once)


def lockstep_encoder() -> Encoder:
    """The efforts that no file tells: Lockstep's own, or the usual ones where it is not here."""
    try:
        from pipeline.imaging.encode import AVIF_SPEED, WEBP_METHOD
    except ImportError:
        return Encoder()
    return Encoder(webp_method=WEBP_METHOD, avif_speed=AVIF_SPEED)


def seen_encoder(job: Job, scratch: Path, encoder: Encoder) -> Encoder:
    """`encoder` with the JPEG settings found in a file that Lockstep wrote: peers get the same."""
    recipe = next((recipe for recipe in job.recipes if recipe.format == "jpeg"), None)
    if recipe is None:
        return encoder
    folder = scratch / "probe"
    source = folder.parent / "probe-input"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    original = job.originals[0]
    shutil.copyfile(job.input / original.name, source / original.name)
    project = Project(folder, source, job.recipes, 1)
    project.prepare()
    run = project.run()
    lockstep.check(run, rendered=len(job.recipes))
    facts = jpeg_facts(project.output / recipe.name / recipe.file_name(original.name))
    return replace(
        encoder,
        jpeg_optimise_huffman=facts.optimised_huffman,
        jpeg_progressive=facts.progressive,
        jpeg_subsampling=facts.subsampling,
    )


def hold(entrants: Sequence[Entrant], job: Job, scratch: Path, rounds: int) -> None:
    """Run all entrants `rounds` times in turn; one that fails is dropped and says why."""
    judge = Judge(job)
    _warm(job)
    for number in range(rounds):
        for entrant in entrants:
            if entrant.failed is None:
                _one_run(entrant, job, scratch / "out" / entrant.name, judge, first=number == 0)
                _say(number, rounds, entrant, job)
    shutil.rmtree(scratch / "out", ignore_errors=True)


def _one_run(entrant: Entrant, job: Job, folder: Path, judge: Judge, *, first: bool) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.sync()
    try:
        run = entrant.once(folder)
    except UnexpectedRun as error:
        entrant.failed = str(error)
        return
    if not run.ok:
        entrant.failed = run.complaint
        return
    entrant.runs.append(run)
    if first:
        _look_at_files(entrant, job, folder / "output", judge)
    shutil.rmtree(folder, ignore_errors=True)


def _look_at_files(entrant: Entrant, job: Job, output: Path, judge: Judge) -> None:
    for recipe in job.recipes:
        paths = [output / recipe.name / recipe.file_name(o.name) for o in job.originals]
        lost = [path for path in paths if not path.is_file()]
        if lost:
            entrant.failed = f"{len(lost)} renditions were not written, such as {lost[0].name}"
            return
        entrant.bytes_written += sum(path.stat().st_size for path in paths)
        entrant.quality[recipe.name] = judge.of_folder(output, recipe)
        if recipe.format == "jpeg" and not entrant.wrote:
            entrant.wrote = jpeg_facts(paths[0]).describe()


def _warm(job: Job) -> None:
    for original in job.originals:
        with open(job.input / original.name, "rb") as file:
            while file.read(1 << 20):
                pass


def _say(number: int, rounds: int, entrant: Entrant, job: Job) -> None:
    shown = "failed" if entrant.failed else f"{entrant.runs[-1].wall_s:.2f} s"
    print(f"  round {number + 1} of {rounds}: {entrant.name}: {shown}", file=sys.stderr)
