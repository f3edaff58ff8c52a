"""``datapipe review``: what was held or reported; publish it, take it down, or undo that."""

from __future__ import annotations

from typing import Any

import click

from pipeline.cli.common import _print_json, json_option
from pipeline.cli.takedown import open_for_takedowns, who_option
from pipeline.cli.terminal import say
from pipeline.text import counted, login_name

number_argument = click.argument("number", metavar="ID", type=click.IntRange(1, 2**31 - 1))


@click.group()
def review() -> None:
    """Decide about what was held or reported: publish it, or take it down.

    A picture that is near to blocked content is held: it has no renditions until somebody decides.
    One that was reported keeps its renditions. Whatever is decided counts for all originals with
    the same content, and can be undone.

    \b
    Examples:
      datapipe review list
      datapipe review takedown 7 --reason "not ours to show"
    """


@review.command("list")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 100_000))
@click.option("--after", default=0, type=click.IntRange(0), help="Only what comes after this ID.")
@json_option
@click.pass_context
def list_(context: click.Context, limit: int, after: int, as_json: bool) -> None:
    """List what waits for a decision, oldest first, and how many originals have the same content.

    \b
    Examples:
      datapipe review list
      datapipe review list --json --limit 1000
    """
    # Imported here: `datapipe --help` does without it, and it costs 35 ms.
    from pipeline.takedowns.reviews import open_reviews

    answer = open_reviews(open_for_takedowns(context).takedowns, after, limit)
    if as_json:
        _print_json(answer)
        return
    for each in answer:
        twins = f", and {counted(each['twins'] - 1, 'more original')}" if each["twins"] > 1 else ""
        say(f"{each['id']}  {each['when']}  {' and '.join(each['kinds'])}: {each['path']}{twins}")
        if each["near"]:
            near = each["near"]
            say(f"   {near['distance']} of 256 bits from {near['hash']}, {near['source']}")
        for said in each["said"]:
            say(f"   reported {said['when']} by {said['who']}: {said['reason']}")
        if each["reports"] > len(each["said"]):
            say(f"   and {counted(each['reports'] - len(each['said']), 'more report')}")
        if each["undone_by"]:
            say(f"   decided before, undone {each['undone']} by {each['undone_by']}")
    if not answer:
        say("nothing waits for a decision")


@review.command()
@number_argument
@who_option
@json_option
@click.pass_context
def publish(context: click.Context, number: int, who: str | None, as_json: bool) -> None:
    """Publish what is held or was reported. Its content is never held again.

    \b
    Example:
      datapipe review publish 7
    """
    # Imported here: `datapipe --help` does without it, and it costs 35 ms.
    from pipeline.takedowns import reviews

    done = reviews.publish(open_for_takedowns(context).takedowns, number, who or login_name())
    _tell(done, as_json, "published; the next run renders what was held")


@review.command()
@number_argument
@click.option("--reason", required=True, help="Why; recorded in the audit.")
@who_option
@json_option
@click.pass_context
def takedown(
    context: click.Context, number: int, reason: str, who: str | None, as_json: bool
) -> None:
    """Take down what is held or was reported, as `datapipe takedown` does.

    \b
    Example:
      datapipe review takedown 7 --reason "not ours to show"
    """
    # Imported here: `datapipe --help` does without it, and it costs 35 ms.
    from pipeline.takedowns import reviews

    app = open_for_takedowns(context)
    done = reviews.take_down_reviewed(app.takedowns, number, who or login_name(), "", reason)
    _tell(done, as_json, f"taken down: takedown {done['takedown']}")


@review.command()
@number_argument
@who_option
@json_option
@click.pass_context
def undo(context: click.Context, number: int, who: str | None, as_json: bool) -> None:
    """Open a review again: its takedown is reinstated, or its publication taken back.

    \b
    Example:
      datapipe review undo 7
    """
    # Imported here: `datapipe --help` does without it, and it costs 35 ms.
    from pipeline.takedowns import reviews

    done = reviews.undo(open_for_takedowns(context).takedowns, number, who or login_name())
    _tell(done, as_json, "open again")


def _tell(done: dict[str, Any], as_json: bool, what: str) -> None:
    if as_json:
        _print_json(done)
    else:
        say(f"review {done['id']}: {done['path']}: {what}")
