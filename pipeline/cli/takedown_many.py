"""``datapipe takedown many`` and ``resume``: many originals as one entry of the audit."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

import click

from pipeline.cli.common import _print_json, json_option
from pipeline.cli.takedown import open_for_takedowns, who_option
from pipeline.cli.terminal import say
from pipeline.text import counted, login_name

if TYPE_CHECKING:
    from pipeline.app import Lockstep


@click.command()
@click.argument("targets", metavar="PATH|SHA256...", nargs=-1)
@click.option(
    "--from-file",
    "listed",
    type=click.File(encoding="utf-8"),
    help="Also those that a file names, one on each line; `-` reads standard input.",
)
@click.option("--reason", required=True, help="Why; recorded in the audit.")
@click.option("--purge", is_flag=True, help="Delete the originals instead of keeping them.")
@who_option
@json_option
@click.pass_context
def many(
    context: click.Context,
    targets: tuple[str, ...],
    listed: TextIO | None,
    reason: str,
    purge: bool,
    who: str | None,
    as_json: bool,
) -> None:
    """Take many originals down at once, as one entry of the audit.

    With --from-file, `many` may be omitted. If one of them is not known, nothing is taken down.
    Killed in between, `datapipe takedown resume` or the running service goes on with the rest.

    \b
    Examples:
      datapipe takedown many shoes/red.jpg shoes/blue.jpg --reason "withdrawn by their owner"
      datapipe takedown --from-file withdrawn.txt --reason "the season is over"
    """
    # Imported here: `datapipe --help` does without it, and it costs 35 ms.
    from pipeline.operations.bulks import BulkRepository, Chosen, Order
    from pipeline.states import BulkAct, Source
    from pipeline.takedowns.targets import resolve

    app = open_for_takedowns(context)
    names = [*targets, *_names_in(listed)]
    if not names:
        raise click.UsageError("name at least one original, or a file that names them")
    found = [(name, resolve(app.takedowns, name)) for name in names]
    items = [
        Chosen(Source.INPUT, name if target.path is None else target.path, target.sha256)
        for name, target in found
    ]
    order = Order(
        BulkAct.TAKE_DOWN, who or login_name(), reason, purge, "named on the command line"
    )
    number = BulkRepository(app.database).add(order, items)
    _finish(context, app, number, as_json)


@click.command()
@json_option
@click.pass_context
def resume(context: click.Context, as_json: bool) -> None:
    """Go on with what was being done with many originals when its process was killed.

    What a person stopped on the page stays stopped. The service does the same by itself.

    \b
    Example:
      datapipe takedown resume
    """
    _finish(context, open_for_takedowns(context), None, as_json)


def _names_in(listed: TextIO | None) -> list[str]:
    lines = [] if listed is None else [line.strip() for line in listed]
    return [line for line in lines if line and not line.startswith("#")]


def _finish(context: click.Context, app: Lockstep, number: int | None, as_json: bool) -> None:
    """Do what is left of all bulks, and report the one of this number, or each that was left."""
    # Imported here: `datapipe --help` does without it, and it costs 35 ms.
    from pipeline.operations.bulk_work import work
    from pipeline.operations.bulks import BulkRepository
    from pipeline.operations.bulks import as_json as bulk_as_json

    repository = BulkRepository(app.database)
    numbers = repository.unfinished() if number is None else [number]
    # Where the service is at work on bulks, it does this one, too: then nothing is left.
    work(app, wait=True)
    rows = [row for each in numbers if (row := repository.bulk(each)) is not None]
    bulks = [bulk_as_json(row) for row in rows]
    if as_json:
        _print_json(bulks if number is None else bulks[0])
    else:
        for bulk in bulks:
            failed = f", {bulk['failed']:,} failed" if bulk["failed"] else ""
            of = counted(bulk["total"], "original")
            say(f"bulk {bulk['id']}: {bulk['done']:,} of {of}{failed}")
        if not bulks:
            say("nothing was interrupted")
    if any(bulk["failed"] for bulk in bulks):
        context.exit(1)
