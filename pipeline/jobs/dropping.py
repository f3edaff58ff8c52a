"""CSVs among the photos that are no lists of products: told once, and left alone.

A list of customers or an export of a camera is nobody's mistake: it makes no job, no file and no
exit code. ``PIPELINE_CSV_DROP`` says otherwise.
"""

from __future__ import annotations

import json

from pipeline.database.state import CSVS_LEFT
from pipeline.engine.context import Run
from pipeline.settings.values import Settings
from pipeline.storage.at_hand import at_hand
from pipeline.storage.walking import FoundFile
from pipeline.text import shortened

HEADER_SHOWN = 5


def leave(settings: Settings, run: Run, found: list[FoundFile]) -> list[FoundFile]:
    """Those of the CSVs ``found`` that a job is to be made of; the others are told, and counted.

    A dry run tells as well, and remembers nothing.
    """
    drop = settings.jobs.csv_drop
    if drop == "strict":
        return found
    before = {path: tuple(stat) for path, stat in json.loads(run.repository.get(CSVS_LEFT) or "[]")}
    left: dict[str, tuple[int, ...]] = {}
    taken = []
    for each in found:
        path, stat = each.path, (each.size_bytes, each.mtime_ns, each.ctime_ns, each.inode)
        said = "" if drop == "off" or before.get(path) == stat else why_left(settings, each)
        if said is None:
            taken.append(each)
            continue
        left[path] = stat
        if said:
            run.report.warnings.append(f"{settings.input_place.at(path)}: {said}")
    if left:
        run.passed.reasons["CSV that starts no job"] += len(left)
    if not run.report.dry_run:
        stored = json.dumps(sorted(left.items())) if left and drop == "lenient" else None
        run.repository.set(CSVS_LEFT, stored)
    return taken


def why_left(settings: Settings, found: FoundFile) -> str | None:
    """What is said of a CSV that is no list of products; ``None`` for one that is."""
    # Imported here: a run without a new CSV does without it, and with httpx it costs 60 ms.
    from pipeline.csvs.dialect import detect_dialect
    from pipeline.csvs.lines import UnreadableCsv
    from pipeline.csvs.mapping import NAME, NUMBER, URLS, same_header
    from pipeline.jobs.forms import form_of

    header: tuple[str, ...] = ()
    try:
        with at_hand(settings.input_place, found.path) as file:
            dialect, _ = detect_dialect(file, form_of(settings).mappings)
        # One of our three is chance, two are a list with a mistake, which its owner wants to know.
        ours = set(map(same_header, (NUMBER, NAME, URLS)))
        if dialect.mapping is not None or len(ours & set(map(same_header, dialect.header))) > 1:
            return None
        header = dialect.header
    except UnreadableCsv:
        pass
    except OSError:
        return None  # its job says what is wrong
    columns = ", ".join(repr(shortened(cell, 40)) for cell in header[:HEADER_SHOWN])
    return (
        "this CSV is no list of products, and starts no job"
        + (
            f" (its columns: {columns}{', …' if len(header) > HEADER_SHOWN else ''})"
            if columns
            else ""
        )
        + "; PIPELINE_CSV_DROP=strict rejects such files instead"
    )
