"""``datapipe similar``: originals that look like one, or like what is blocked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from pipeline.cli.common import _print_json, json_option
from pipeline.cli.takedown import DISTANCE, MAX_DISTANCE, open_for_takedowns
from pipeline.cli.terminal import say
from pipeline.states import Source


@click.command()
@click.argument("path", required=False)
@click.option(
    "--distance",
    type=click.IntRange(0, MAX_DISTANCE),
    default=DISTANCE,
    show_default=True,
    help="In how many of 256 bits of their PDQ hashes they may differ.",
)
@click.option("--blocked", is_flag=True, help="Originals that look like what is blocked.")
@json_option
@click.pass_context
def similar(
    context: click.Context, path: str | None, distance: int, blocked: bool, as_json: bool
) -> None:
    """List the originals that look like the one at PATH, the nearest first.

    Images of jobs are among them, and blocked pictures. With --blocked instead of PATH: all
    originals that look like a blocked picture, such as those that were published before it was
    blocked.

    \b
    Examples:
      datapipe similar shoes/red.jpg
      datapipe similar shoes/red.jpg --distance 60 --json
      datapipe similar --blocked
    """
    # Imported here: `datapipe --help` does without it, and it costs 35 ms.
    from pipeline.storage.listing import key_at
    from pipeline.takedowns.near import hash_of, near_blocked, similar_listed

    if blocked == (path is not None):
        raise click.UsageError("give a PATH, or --blocked")
    app = open_for_takedowns(context)
    if path is None:
        found = [
            each.as_json() | {"blocked": near.source} for each, near in near_blocked(app.takedowns)
        ]
    else:
        key = key_at(app.settings.input_place, path)
        digest = hash_of(app.takedowns, Source.INPUT, key)
        found = similar_listed(app.takedowns, digest, distance, Source.INPUT, key)
    if as_json:
        _print_json(found)
        return
    _say(found)


def _say(found: Iterable[dict[str, Any]]) -> None:
    is_empty = True
    for each in found:
        is_empty = False
        name = each["path"] or each["blocked"]
        kind = " (image of a job)" if each["source"] == Source.JOBS.value else ""
        near = f", blocked by {each['blocked']}" if each["blocked"] and each["path"] else ""
        near = near or ("" if each["path"] else " (blocked)")
        say(f"{name}{kind}: {each['distance']} of 256 bits differ{near}")
    if is_empty:
        say("nothing looks like it")
