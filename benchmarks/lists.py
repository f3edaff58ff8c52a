"""What importing a list of a million hashes costs, and removing it.

    python -m benchmarks.lists [--count 1000000] [--scratch FOLDER]

See README.md in this folder for what each number means.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks import lockstep, table
from benchmarks.lockstep import REPOSITORY
from benchmarks.measure import Measured, measure
from benchmarks.options import parsed
from benchmarks.table import Target

IMPORT_S, IMPORT_MB = 60.0, 250.0


def write_list(file: Path, count: int) -> None:
    """A third each of SHA-256, MD5 and PDQ."""
    draw = random.Random(count)
    kinds = (("sha256", 256), ("md5", 128), ("pdq", 256))
    with file.open("w", encoding="ascii") as lines:
        lines.write("kind,hash,reason\n")
        for number in range(count):
            kind, bits = kinds[number % 3]
            lines.write(f"{kind},{draw.getrandbits(bits):0{bits // 4}x},shared\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000, help="(default: %(default)s)")
    options = parsed(parser)
    if (reason := lockstep.missing()) is not None:
        sys.exit(reason)
    folder = options.scratch / "lists"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "input").mkdir(parents=True)
    for name in ("app.py", "recipes.toml"):
        shutil.copy(REPOSITORY / name, folder)
    write_list(folder / "list.csv", options.count)
    datapipe = str(lockstep.command())
    steps = {
        "import": ("import", "list.csv", "--source", "big"),
        "import again": ("import", "list.csv", "--source", "big"),
        "list": ("list",),
        "export": ("export",),
        "remove": ("remove", "big"),
    }
    found: dict[str, Measured] = {}
    for name, words in steps.items():
        found[name] = measure([datapipe, "blocklist", *words], cwd=folder)
        if not found[name].ok:
            sys.exit(f"{name}: {found[name].complaint}")
    rows = [
        [name, table.seconds(m.wall_s), table.seconds(m.cpu_s), table.mebibytes(m.peak_rss_bytes)]
        for name, m in found.items()
    ]
    print(table.render(f"{options.count:,} hashes", ["command", "wall", "CPU", "memory"], rows))
    first = found["import"]
    targets = [
        Target("import", first.wall_s, IMPORT_S * max(1.0, options.count / 1_000_000), False, " s"),
        Target("memory of it", first.peak_rss_bytes / 1_000_000, IMPORT_MB, False, " MB"),
    ]
    print(table.render_targets(targets))
    if options.json:
        figures = {name: {**asdict(m), "stdout": "", "stderr": ""} for name, m in found.items()}
        record = {"figures": figures, "targets": [target.record() for target in targets]}
        options.json.write_text(json.dumps(record, indent=2), "utf-8")


if __name__ == "__main__":
    main()
