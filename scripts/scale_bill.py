"""The bill of docs/scale.md: what so many originals cost, from measured slopes and assumptions.

`python scripts/scale_bill.py` prints the tables; a test compares them with the page. Change a price
or an assumption here, run it, and put what it prints into the page.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

COUNTS = (10_000_000, 100_000_000, 1_000_000_000)
GIB, TIB, MONTH_DAYS = 2**30, 2**40, 30
KEYS_PER_LIST = 1_000


class Figure(NamedTuple):
    """A number of the bill: what it stands for, its unit, and where it comes from."""

    what: str
    value: float
    unit: str
    origin: str


# Measured on two cores; see benchmarks/README.md.
RENDERED = Figure("rendering, both recipes", 27.4, "originals/s a core", "54.8 on two cores")
FED = Figure("one coordinator feeds", 500, "originals/s", "0.7 ms a rendition, rounded")
COMPARED = Figure("a run with no change", 7.7, "us an original", "7.7 s at 1,000,000")
LISTED = Figure("listing a bucket", 16_400, "keys/s", "100,000 keys of Ceph in 6.1 s")
TABLES = Figure("tables", 1_770, "bytes an original", "PostgreSQL, two recipes")
MEASURED = (RENDERED, FED, COMPARED, LISTED, TABLES)

ORIGINAL = Figure("size of an original", 2_000_000, "bytes", "a photo of 4 to 12 MP")
RENDITIONS = Figure("renditions of an original", 2, "files", "`half` and 400 px")
RENDITION = Figure("size of a rendition", 175_000, "bytes", "mean of the two")
WANTED = Figure("first run within", 72, "hours", "as many cores as that takes")
SHARE = Figure("originals of one coordinator", 25_000_000, "at most", "half an hour to list")
CORES = Figure("cores of one machine", 8, "cores", "with 2 GB of memory each")
CHANGED = Figure("originals that change", 0.5, "% a day", "read and rendered again")
WHOLE = Figure("comparisons of the whole", 1, "a day", "changes come by notifications")
ASSUMED = (ORIGINAL, RENDITIONS, RENDITION, WANTED, SHARE, CORES, CHANGED, WHOLE)

PRICED_ON = "2026-11-01"
STORAGE = Figure("storage", 0.023, "$ a GB and month", "")
WRITE = Figure("PUT and LIST", 0.005, "$ for 1,000", "")
READ = Figure("GET", 0.0004, "$ for 1,000", "")
MACHINE = Figure("machine of 8 cores", 0.36, "$ an hour", "")
DATABASE = Figure("database server of a coordinator", 0.50, "$ an hour", "")
PRICES = (STORAGE, WRITE, READ, MACHINE, DATABASE)


class Bill(NamedTuple):
    """What ``originals`` need and cost: once, for the first run, and each month after that."""

    originals: int
    coordinators: int
    machines: int
    first_run_h: float
    listing_min: float
    comparing_min: float
    tables_gib: float
    stored_tib: float
    gets: float
    puts: float
    lists: float
    first_usd: float
    storage_usd: float
    month_usd: float


def bill(originals: int) -> Bill:
    """The bill of so many originals."""
    coordinators = math.ceil(originals / SHARE.value)
    cores = originals / (RENDERED.value * WANTED.value * 3_600)
    machines = math.ceil(cores / CORES.value)
    rendering_s = originals / (RENDERED.value * machines * CORES.value)
    first_run_s = max(rendering_s, originals / coordinators / FED.value)
    of_one = originals / coordinators
    stored = originals * (ORIGINAL.value + RENDITIONS.value * RENDITION.value)
    gets, puts, lists = originals, originals * RENDITIONS.value, originals / KEYS_PER_LIST
    storage_usd = stored / 1e9 * STORAGE.value
    changed = originals * CHANGED.value / 100 * MONTH_DAYS
    running_usd = coordinators * (MACHINE.value + DATABASE.value) * 24 * MONTH_DAYS
    return Bill(
        originals,
        coordinators,
        machines,
        first_run_s / 3_600,
        of_one / LISTED.value / 60,
        of_one * COMPARED.value / 1e6 / 60,
        originals * TABLES.value / GIB,
        stored / TIB,
        gets,
        puts,
        lists,
        _requests_usd(gets, puts + lists)
        + first_run_s / 3_600 * (machines * MACHINE.value + coordinators * DATABASE.value),
        storage_usd,
        storage_usd
        + running_usd
        + _requests_usd(changed, changed * RENDITIONS.value + lists * WHOLE.value * MONTH_DAYS),
    )


def _requests_usd(reads: float, writes: float) -> float:
    return (reads * READ.value + writes * WRITE.value) / 1_000


def tables() -> str:
    """All tables of the page, as Markdown."""
    bills = [bill(count) for count in COUNTS]
    sections = (
        _figures("measured", MEASURED),
        _figures("assumed", ASSUMED),
        _figures(f"price, {PRICED_ON}", PRICES),
        _bills(bills),
    )
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def _figures(title: str, figures: Sequence[Figure]) -> Iterator[str]:
    has_origin = any(each.origin for each in figures)
    yield f"| {title} | | |" + (" from |" if has_origin else "")
    yield "|---|---|---|" + ("---|" if has_origin else "")
    for each in figures:
        origin = f" {each.origin} |" if has_origin else ""
        yield f"| {each.what} | {each.value:,.10g} | {each.unit} |{origin}"


def _bills(bills: Sequence[Bill]) -> Iterator[str]:
    rows = {
        "coordinators, each with its database": [f"{each.coordinators:,}" for each in bills],
        "machines of 8 cores for the first run": [f"{each.machines:,}" for each in bills],
        "first run": [f"{each.first_run_h:,.0f} h" for each in bills],
        "listing all, per coordinator": [f"{each.listing_min:,.0f} min" for each in bills],
        "comparing all, per coordinator": [f"{each.comparing_min:,.1f} min" for each in bills],
        "tables, all together": [f"{each.tables_gib:,.0f} GiB" for each in bills],
        "originals and renditions": [f"{each.stored_tib:,.0f} TiB" for each in bills],
        "requests of the first run: GET": [f"{each.gets / 1e6:,.0f} million" for each in bills],
        "PUT": [f"{each.puts / 1e6:,.0f} million" for each in bills],
        "LIST": [f"{each.lists:,.0f}" for each in bills],
        "the first run costs": [f"${each.first_usd:,.0f}" for each in bills],
        "each month costs": [f"${each.month_usd:,.0f}" for each in bills],
        "of which storage": [f"${each.storage_usd:,.0f}" for each in bills],
    }
    yield "| originals | " + " | ".join(f"{each.originals:,}" for each in bills) + " |"
    yield "|---" * (len(bills) + 1) + "|"
    for what, cells in rows.items():
        yield f"| {what} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    print(tables(), end="")
