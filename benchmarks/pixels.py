"""How fast and how exact Lockstep's renditions are, beside other tools, in one run.

    python -m benchmarks.pixels --photos FOLDER --scratch FOLDER [--install-peers]

See README.md in this folder for what each number means and what is made equal.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks import contest, corpus, itself, lockstep, scenarios, table, targets
from benchmarks.contest import LOCKSTEP, Entrant
from benchmarks.job import Encoder, Job
from benchmarks.lockstep import UnexpectedRun
from benchmarks.options import parsed
from benchmarks.peers import registry
from benchmarks.quality import Judge, Quality
from benchmarks.scenarios import SCENARIOS, Scenario

_MIN_ORIGINALS = 10


def main() -> None:
    options = _options()
    if options.install_peers:
        registry.install(options.scratch)
    print(f"{platform.platform()}, Python {platform.python_version()}\n")
    here = {LOCKSTEP: lockstep.missing()}
    for name in options.peers:
        here[name] = registry.PEERS[name].missing(options.scratch)
    for name, reason in here.items():
        if reason is not None:
            print(f"left out: {name}: {reason}")
    present = [name for name, reason in here.items() if reason is None]
    records: dict[str, object] = {}
    for name in options.scenarios:
        if name in SCENARIOS:
            records[name] = _contest(SCENARIOS[name], options, present)
        elif LOCKSTEP in present:
            records[name] = itself.run(name, options)
    if options.json:
        options.json.write_text(json.dumps(records, indent=2) + "\n", encoding="utf-8")


def _contest(
    scenario: Scenario, options: argparse.Namespace, present: list[str]
) -> dict[str, object]:
    count = max(_MIN_ORIGINALS, round(options.count * scenario.share))
    wanted = corpus.Wanted(count, scenario.suffix, scenario.max_megapixels, options.photos)
    folder, originals = corpus.make(wanted, options.scratch)
    encoder = _encoder(options)
    job = Job(folder, originals, scenario.recipes, options.workers, encoder)
    if LOCKSTEP in present:
        try:
            job = replace(job, encoder=contest.seen_encoder(job, options.scratch, encoder))
        except UnexpectedRun as error:
            print(f"Lockstep failed on one photo: {error}")
    entrants = _entrants(job, options.scratch, present, scenario)
    contest.hold(list(entrants.values()), job, options.scratch, options.rounds)
    judge = Judge(job)
    whole = {recipe.name: judge.of_whole_decode(recipe) for recipe in job.recipes}
    found = targets.of_contest(scenario.name, entrants, job, whole)
    _print(scenario, options, job, entrants, whole)
    print(table.render_targets(found))
    return {
        "title": scenario.title,
        "originals": count,
        "encoder": asdict(job.encoder),
        "entrants": {name: _record(entrant, job) for name, entrant in entrants.items()},
        "whole_decode": {name: q and asdict(q) for name, q in whole.items()},
        "targets": [target.record() for target in found],
    }


def _encoder(options: argparse.Namespace) -> Encoder:
    """Lockstep's own settings where it is here, unless the command line says otherwise."""
    encoder = contest.lockstep_encoder()
    if options.webp_method is not None:
        encoder = replace(encoder, webp_method=options.webp_method)
    if options.avif_speed is not None:
        encoder = replace(encoder, avif_speed=options.avif_speed)
    return encoder


def _entrants(
    job: Job, scratch: Path, present: list[str], scenario: Scenario
) -> dict[str, Entrant]:
    entrants = {}
    for name in present:
        if name == LOCKSTEP:
            entrants[name] = contest.lockstep_entrant(job, scratch)
            continue
        peer = registry.PEERS[name]
        takes_part = set(job.formats()) <= set(peer.only_formats)
        if takes_part and not (peer.only_jpeg_in and scenario.suffix != ".jpg"):
            entrants[name] = contest.peer_entrant(peer, job, scratch)
    return entrants


def _print(
    scenario: Scenario,
    options: argparse.Namespace,
    job: Job,
    entrants: dict[str, Entrant],
    whole: dict[str, Quality | None],
) -> None:
    megapixels = sum(original.pixels for original in job.originals) / 1e6
    title = (
        f"\n{scenario.title}: {len(job.originals)} originals, "
        f"{megapixels / len(job.originals):.1f} MP on average, {job.workers} workers, "
        f"median of {options.rounds} alternating rounds\n"
        f"encoders: {job.encoder.describe(job.formats())}"
    )
    head = ["", "Lockstep is", "images/s", "CPU s", "peak PSS", "peak RSS", "written"]
    for recipe in job.recipes:
        head += [f"{recipe.name} PSNR", "SSIM"]
    base = entrants.get(LOCKSTEP)
    rows = [
        _row(entrant, base, job)
        for entrant in entrants.values()
        if entrant.runs and not entrant.failed
    ]
    best = ["(whole decode)", *["-"] * 6]
    for recipe in job.recipes:
        best += _quality_cells(whole[recipe.name])
    print(table.render(title, head, [*rows, best]))
    for entrant in entrants.values():
        if entrant.failed:
            print(f"failed: {entrant.name}: {entrant.failed}")
        else:
            print(f"{entrant.name}: {entrant.version}; {_says(entrant)}")
    print()


def _says(entrant: Entrant) -> str:
    peer = registry.PEERS.get(entrant.name)
    does = peer.does if peer else "datapipe run on a fresh database: scan, hash, render, track"
    return f"{does}. Wrote: {entrant.wrote}" if entrant.wrote else does


def _row(entrant: Entrant, base: Entrant | None, job: Job) -> list[str]:
    cost = entrant.cost
    rate = entrant.images_per_s(job)
    base_ran = base is not None and base.runs and not base.failed
    cells = [
        entrant.name,
        table.ratio(base.images_per_s(job) / rate) if base_ran else "-",
        f"{rate:.1f}",
        f"{cost.cpu_s:.1f}",
        table.mebibytes(cost.peak_pss_bytes),
        table.mebibytes(cost.peak_rss_bytes),
        table.mebibytes(entrant.bytes_written),
    ]
    for recipe in job.recipes:
        cells += _quality_cells(entrant.quality.get(recipe.name))
    return cells


def _quality_cells(quality: Quality | None) -> list[str]:
    if quality is None:
        return ["-", "-"]
    wrong = f" ({quality.wrong_size} of another size)" if quality.wrong_size else ""
    return [f"{quality.psnr_db:.2f}{wrong}", f"{quality.ssim:.4f}"]


def _record(entrant: Entrant, job: Job) -> dict[str, object]:
    if entrant.failed or not entrant.runs:
        return {"version": entrant.version, "failed": entrant.failed}
    cost = entrant.cost
    return {
        "version": entrant.version,
        "images_per_s": entrant.images_per_s(job),
        "wall_s": [run.wall_s for run in entrant.runs],
        "cpu_s": cost.cpu_s,
        "peak_pss_bytes": cost.peak_pss_bytes,
        "peak_rss_bytes": cost.peak_rss_bytes,
        "bytes_written": entrant.bytes_written,
        "wrote": entrant.wrote,
        "quality": {name: q and asdict(q) for name, q in entrant.quality.items()},
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pixels",
        description="Lockstep's renditions beside other tools: speed, memory, bytes, quality.",
        epilog="example: python -m benchmarks.pixels --photos ~/Pictures --scenarios two fit400",
    )
    add = parser.add_argument
    add("--photos", type=Path, help="make the corpus from this folder (default: generated)")
    add("--count", type=int, default=1000, help="originals (default: %(default)s)")
    add("--rounds", type=int, default=3, help="(default: %(default)s)")
    add("--workers", type=int, default=2, help="(default: %(default)s)")
    add("--scenarios", nargs="+", choices=scenarios.ALL, default=list(scenarios.ALL))
    add("--peers", nargs="*", choices=list(registry.PEERS), default=list(registry.PEERS))
    add("--install-peers", action="store_true", help="install sharp and pyvips into the scratch")
    add("--webp-method", type=int, help="of the peers (default: Lockstep's own)")
    add("--avif-speed", type=int, help="of the peers (default: Lockstep's own)")
    options = parsed(parser)
    if options.photos and not options.photos.is_dir():
        parser.error(f"--photos {options.photos} is no folder")
    return options


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
