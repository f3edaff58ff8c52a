"""The command ``python -m tests.kills``; see the docstring of the package."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from . import preload


def main() -> int:
    """Play rounds, shared out to processes; 1 where one of them has a problem."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--round", type=int, help="play this one alone, and keep its folder")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", type=Path, default=Path("kills-findings"))
    parser.add_argument("--leave-out", default="", help="changes, commands and acts, as a,b,c")
    parser.add_argument("--share", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.share is not None:
        _play_share(options)
        return 0
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        return _play_all(options, Path(folder))


def _play_all(options: argparse.Namespace, folder: Path) -> int:
    began = time.monotonic()
    library = preload.compiled(folder)
    if library is None:
        print("no C compiler, or no Linux: kills come at random moments, not at system calls")
    print(f"seed {options.seed}", flush=True)
    command = [sys.executable, "-m", "tests.kills", *sys.argv[1:], f"--seed={options.seed}"]
    shares = [
        subprocess.Popen(
            [*command, f"--share={share}", f"--folder={folder}"],
            env=preload.environment(library),
            stdout=(folder / f"share-{share}").open("wb"),
        )
        for share in range(1 if options.round is not None else options.jobs)
    ]
    codes = [share.wait() for share in shares]
    lines = [line for file in folder.glob("share-*") for line in file.read_text().splitlines()]
    played = sorted(map(json.loads, lines), key=lambda told: told["round"])
    failed = [told for told in played if told["faults"]]
    for told in failed if options.round is None else played:
        _tell(options, told)
    kinds = Counter(kind for told in failed for kind in {f.split(":")[0] for f in told["faults"]})
    for kind, count in kinds.most_common():
        print(f"{count:6,} rounds: {kind}")
    print(
        f"{len(played):,} rounds, {sum(told['kills'] for told in played):,} kills, "
        f"{len(failed):,} rounds failed, {time.monotonic() - began:.0f} s"
    )
    return int(bool(failed) or any(codes) or not played)


def _play_share(options: argparse.Namespace) -> None:
    from .rounds import Round
    from .shop import warm_up

    warm_up()
    left_out = set(options.leave_out.split(","))
    numbers = range(options.share, options.rounds, options.jobs)
    for number in numbers if options.round is None else [options.round]:
        played = Round(options.folder / f"round-{number}", options.seed, number, left_out)
        try:
            played.play()
        except Exception as error:
            played.faults.append(f"the test itself: {type(error).__name__}: {error}")
        if played.faults:
            print(f"round {number}: {played.faults[0]}", file=sys.stderr, flush=True)
        is_kept = played.faults or options.round is not None
        played.clear(options.keep / f"{options.seed}-{number}" if is_kept else None)
        told = {name: getattr(played, name) for name in ("story", "faults", "kills")}
        print(json.dumps({"round": number} | told), flush=True)


def _tell(options: argparse.Namespace, told: dict[str, Any]) -> None:
    """The story of a round, and how to play it again."""
    number, left_out = told["round"], options.leave_out and f" --leave-out {options.leave_out}"
    print(f"\nround {number}, kept in {options.keep}/{options.seed}-{number}; again with")
    print(f"  python -m tests.kills --seed {options.seed} --round {number}{left_out}")
    for line in told["story"]:
        print(f"    {line}")
    for fault in told["faults"]:
        print(f"  FAULT {fault}")


if __name__ == "__main__":
    sys.exit(main())
