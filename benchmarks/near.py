"""How long it takes to find near duplicates among blocked pictures.

    python -m benchmarks.near [--blocked 1000000] [--originals 1000000] [--scratch FOLDER]

See README.md in this folder for what each number means.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import table
from benchmarks.options import parsed
from benchmarks.peers.registry import REPOSITORY
from benchmarks.table import Target

ROUNDS = 21
FEW_BLOCKED = 1_000
CHUNK = 50_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocked", type=int, default=1_000_000)
    parser.add_argument("--originals", type=int, default=1_000_000)
    options = parsed(parser)
    folder = options.scratch / "near"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        targets = _measure(folder, options.blocked, options.originals)
    finally:
        shutil.rmtree(folder)
    print(table.render_targets(targets))
    return 0 if all(target.verdict == table.MET for target in targets) else 1


def _measure(folder: Path, blocked: int, originals: int) -> list[Target]:
    (folder / "input").mkdir()
    shutil.copy(REPOSITORY / "app.py", folder)
    (folder / "recipes.toml").write_text("[half]\nscale = 0.5\n", encoding="utf-8")
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    from app import app
    from pipeline.near import blocked_pictures
    from pipeline.tables import make_tables
    from pipeline.takedowns.near import near_blocked

    make_tables(app.database)
    pictures = blocked_pictures(app.database)
    _block(app, blocked, "a list")
    loading = _seconds(lambda: pictures.nearest([_hash()]))
    one = [_seconds(lambda: pictures.nearest([_hash()])) for _ in range(ROUNDS)]
    _forget(app)
    _block(app, FEW_BLOCKED, "another list")
    _hash_originals(app, originals)
    many = _seconds(lambda: list(near_blocked(app.takedowns)))
    return [
        Target(f"reading {blocked:,} blocked hashes, once", loading, 30, False, " s"),
        Target(
            f"one hash among {blocked:,} blocked", statistics.median(one) * 1000, 60, False, " ms"
        ),
        Target(f"{originals:,} originals among {FEW_BLOCKED:,} blocked", many, 60, False, " s"),
    ]


def _hash() -> str:
    return os.urandom(32).hex()


def _seconds(work: Any) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _block(app: Any, count: int, source: str) -> None:
    from pipeline.tables import blocked_hashes_table

    rows = (
        {"kind": "pdq", "hash": _hash(), "source": source, "added_ts": time.time()}
        for _ in range(count)
    )
    _insert(app, blocked_hashes_table(app.database.sqla_metadata), rows)


def _hash_originals(app: Any, count: int) -> None:
    from pipeline.database.tracked import data_of

    rows = (
        {
            "source": "input",
            "path": f"{number:08d}.jpg",
            "name": "lockstep:pdq",
            "value": f'{{"pdq": "{_hash()}", "quality": 100}}',
            "sha256": _hash(),
            "original_bytes": 1,
            "state": "ok",
            "since": 0.0,
            "fingerprint": "",
            "renderer": 1,
        }
        for number in range(count)
    )
    _insert(app, data_of(app.render.pending.features), rows)


def _insert(app: Any, into: Any, rows: Iterator[dict[str, Any]]) -> None:
    import sqlalchemy as sa

    from pipeline.database.paging import chunks

    for chunk in chunks(rows, CHUNK):
        with app.database.writing() as write:
            write.execute(sa.insert(into), chunk)


def _forget(app: Any) -> None:
    import sqlalchemy as sa

    from pipeline.tables import blocked_hashes_table

    with app.database.writing() as write:
        write.execute(sa.delete(blocked_hashes_table(app.database.sqla_metadata)))


if __name__ == "__main__":
    raise SystemExit(main())
