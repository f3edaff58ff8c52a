"""``datapipe takedown``: take originals down for good, list who did it and why, and reinstate
them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.common import _open_for_writing, _print_json, json_option
from pipeline.cli.terminal import say, say_warnings
from pipeline.states import Source
from pipeline.text import counted, login_name

if TYPE_CHECKING:
    from pipeline.app import Lockstep
    from pipeline.takedowns.acts import TakenDown
    from pipeline.takedowns.near import Lookalike

# Here as well as in `pipeline.near`: `datapipe --help` does without numpy.
PDQ_PREFIX = "pdq:"
DISTANCE = 31
MAX_DISTANCE = 128


# How long a command waits for the receiver of the webhook; what fails is sent by the next run.
NOTICE_S = 5.0


class _TargetOrCommand(click.Group):
    """``takedown PATH`` is short for ``takedown add PATH``; with ``--from-file``, for ``many``."""

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        first = arguments[0] if arguments else "--help"
        if first not in self.commands and first != "--help":
            is_list = any(word.startswith("--from-file") for word in arguments)
            arguments.insert(0, "many" if is_list else "add")
        return super().parse_args(context, arguments)


who_option = click.option("--who", help="Who decided it; by default, your login name.")


@click.group(
    cls=_TargetOrCommand,
    subcommand_metavar="PATH|SHA256|PDQ --reason TEXT | many | list | reinstate",
)
def takedown() -> None:
    """Take an original down: it and its duplicates leave the input folder for good.

    PATH is an original, relative to the input folder or to the current folder. Every original with
    the same bytes is moved to the quarantine folder with it; their renditions are deleted at once,
    even during a run, and the same bytes never get renditions again, whatever their name. With
    --near, what looks like it is blocked as well.

    \b
    Examples:
      datapipe takedown shoes/red.jpg --reason "withdrawn by its owner"
      datapipe takedown shoes/red.jpg --near --reason "withdrawn by its owner"
      datapipe takedown list
      datapipe takedown reinstate 3
    """


@takedown.command()
@click.argument("target", metavar="PATH|SHA256|PDQ")
@click.option("--reason", required=True, help="Why; recorded in the audit.")
@click.option(
    "--near",
    type=click.IntRange(0, MAX_DISTANCE),
    is_flag=False,
    flag_value=DISTANCE,
    metavar="[DISTANCE]",
    help="Block what looks like it, too: what differs in at most so many of the 256 bits of its "
    f"PDQ hash ({DISTANCE}).",
)
@click.option("--yes", is_flag=True, help="Take down what looks like it without asking.")
@click.option("--purge", is_flag=True, help="Delete the originals instead of keeping them.")
@click.option("--legal-hold", is_flag=True, help="Keep them, whatever PIPELINE_QUARANTINE_DAYS is.")
@who_option
@json_option
@click.pass_context
def add(
    context: click.Context,
    target: str,
    reason: str,
    near: int | None,
    yes: bool,
    purge: bool,
    legal_hold: bool,
    who: str | None,
    as_json: bool,
) -> None:
    """Take down the original at PATH, or every original with this SHA-256; `add` may be omitted.

    64 hexadecimal digits are a SHA-256; write pdq: before those of a PDQ hash. With --near, the
    originals that look like it are shown, and taken down if you agree; without a terminal, only
    with --yes. What comes later and looks like it is held for review.

    \b
    Examples:
      datapipe takedown shoes/red.jpg --reason "withdrawn by its owner"
      datapipe takedown shoes/red.jpg --near --yes --reason "withdrawn by its owner"
      datapipe takedown add list --reason "an original that is called list"
    """
    # Imported here: `datapipe --help` does without it, and it costs 35 ms.
    from pipeline.takedowns import take_down
    from pipeline.takedowns.near import lookalikes
    from pipeline.takedowns.notices import send_notices

    if purge and legal_hold:
        raise click.UsageError("--purge deletes what --legal-hold keeps; give one of them")
    app = open_for_takedowns(context)
    if near is None and target.strip().lower().startswith(PDQ_PREFIX):
        near = DISTANCE
    alike = None
    if near is not None:
        alike = lookalikes(app.takedowns, target, near)
        if alike.unknown:
            say(
                f"warning: {counted(alike.unknown, 'original has', 'originals have')} no PDQ hash "
                "yet, without which nothing is compared; "
                "after the next run, `datapipe similar --blocked` has them all",
                err=True,
            )
        if alike.found and not (yes or _agrees(alike.found)):
            alike = replace(alike, found=[])
    who = who or login_name()
    done = take_down(app.takedowns, target, reason, who, purge, alike, legal_hold)
    send_notices(app.takedowns, NOTICE_S)
    say_unsent(app)
    if as_json:
        _print_json(done.as_json())
        return
    for each in (done, *done.near):
        is_picture = alike is not None and each is done
        _say_taken_down(each, purge, target.strip() if is_picture else None)


def _agrees(found: Sequence[Lookalike]) -> bool:
    """Show what looks like it, and ask whether that goes as well."""
    say(f"{counted(len(found), 'original looks', 'originals look')} like it:", err=True)
    for each in found:
        kind = " (image of a job)" if each.source == Source.JOBS.value else ""
        say(f"  {each.path}{kind}: {each.distance} of 256 bits differ", err=True)
    if not sys.stdin.isatty():
        say("  they stay, as nobody can be asked; --yes takes them down, too", err=True)
        return False
    return click.confirm("Take them down, too?", err=True)


def _say_taken_down(done: TakenDown, purge: bool, picture: str | None) -> None:
    """Say what a takedown did; ``picture`` is the target where what looks like it is blocked."""
    is_hash = picture is not None and picture.lower().startswith(PDQ_PREFIX)
    say(f"takedown {done.id}: {picture if is_hash else done.sha256}")
    for path in done.originals:
        say(f"  {path}: {'deleted' if purge else 'kept in the quarantine'}")
    if not done.originals and not is_hash:
        say("  no original has these bytes now; they are blocked from now on")
    if picture is not None:
        say("  what looks like it is blocked from now on")
    say(f"  {counted(done.renditions, 'rendition')} deleted")


@takedown.command("list")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 100_000))
@click.option("--before", type=click.IntRange(1), help="Only takedowns before this number.")
@json_option
@click.pass_context
def list_(context: click.Context, limit: int, before: int | None, as_json: bool) -> None:
    """List takedowns, newest first: when, who, why, and which originals.

    \b
    Examples:
      datapipe takedown list
      datapipe takedown list --json --limit 1000
    """
    # Imported here: `datapipe --help` does without it, and it costs 35 ms.
    from pipeline.takedowns import takedowns

    answer = takedowns(open_for_takedowns(context).takedowns, limit, before)
    if as_json:
        _print_json(answer)
        return
    for act in answer:
        say(f"{act['id']}  {act['when']}  {act['state']}  {_by(act)}: {act['reason']}")
        is_hash = act["target"].lower().startswith(PDQ_PREFIX)
        say(f"   {act['target']}" if is_hash else f"   sha256 {act['sha256']}")
        for original in act["originals"]:
            if original["restored"] is not None:
                what = f"put back as {original['restored']}"
            elif original["kept"] is not None:
                what = f"kept as {original['kept']}"
            else:
                what = "deleted"
            say(f"   {original['path']}: {what}")
        say(f"   {counted(len(act['renditions']), 'rendition')} deleted")
        for event in act["events"]:
            note = f" {event['note']}" if event["note"] else ""
            say(f"   {event['what']} {event['when']} by {event['who']}{note}")
        if act["lifted"] is not None:
            say(f"   reinstated {act['lifted']} by {act['lifted_by']}")
    if not answer:
        say("nothing was taken down")


def _by(act: dict[str, Any]) -> str:
    """Who took it down, and at which instance, where that is another one."""
    return f"{act['who']} at {act['instance']}" if act["instance"] else str(act["who"])


@takedown.command("reinstate")
@click.argument("number", metavar="NUMBER|SHA256")
@who_option
@json_option
@click.pass_context
def reinstate(context: click.Context, number: str, who: str | None, as_json: bool) -> None:
    """Put the originals of a takedown back; the next run renders them.

    Nothing is overwritten: if another file has taken an original's place, the original gets a new
    name.

    \b
    Examples:
      datapipe takedown reinstate 3
      datapipe takedown reinstate 3 --json
    """
    # Imported here: `datapipe --help` does without it, and it costs 35 ms.
    from pipeline.takedowns import reinstate as put_back
    from pipeline.takedowns.notices import send_notices

    app = open_for_takedowns(context)
    done = put_back(app.takedowns, number, who or login_name())
    send_notices(app.takedowns, NOTICE_S)
    say_unsent(app)
    if as_json:
        _print_json(done.as_json())
        return
    apart = {new: old for old, new in done.set_apart.items()}
    for path in done.originals:
        note = f" (another file is now called {apart[path]})" if path in apart else ""
        say(f"{path}: put back{note}")
    for path in done.missing:
        say(f"{path}: was not kept, so it cannot be put back")
    numbers = ", ".join(str(number) for number in done.takedowns)
    say(f"reinstated: takedown {numbers}; the next run renders them")


@takedown.command("legal-hold")
@click.argument("number", type=click.IntRange(1))
@click.option("--release", is_flag=True, help="End the hold.")
@who_option
@json_option
@click.pass_context
def legal_hold(
    context: click.Context, number: int, release: bool, who: str | None, as_json: bool
) -> None:
    """Keep what takedown NUMBER has in the quarantine: nothing purges it until it is released.

    \b
    Examples:
      datapipe takedown legal-hold 3
      datapipe takedown legal-hold 3 --release
    """
    # Imported here: `datapipe --help` does without it, and it costs 35 ms.
    from pipeline.takedowns.purging import set_hold
    from pipeline.takedowns.sharing import send

    app = open_for_takedowns(context)
    changed = set_hold(app.takedowns, number, who or login_name(), release)
    send(app.takedowns)
    say_unsent(app)
    if as_json:
        _print_json({"takedown": number, "legal_hold": not release, "changed": changed})
        return
    state = "not under legal hold" if release else "under legal hold"
    say(f"takedown {number} is {state}" + ("" if changed else " already"))


# The earlier name of `reinstate`; scripts use it.
takedown.add_command(
    click.Command(
        "lift",
        callback=reinstate.callback,
        params=reinstate.params,
        help="Same as `reinstate`.\n\n\b\nExample:\n  datapipe takedown lift 3",
    )
)


def open_for_takedowns(context: click.Context) -> Lockstep:
    """The application with its tables made, and with the takedowns that only the journal had."""
    # Imported here: `datapipe --help` does without it, and it costs 35 ms.
    from pipeline.takedowns import take_over
    from pipeline.takedowns.following import follow

    app = _open_for_writing(context)
    say_warnings(take_over(app.database, app.settings))
    # What other instances took down is listed, and can be reinstated, as well.
    follow(app.takedowns)
    return app


def say_unsent(app: Lockstep) -> None:
    """Say, after an act, that other instances do not know of it yet."""
    # Imported here: `datapipe --help` does without it, and it costs 35 ms.
    from pipeline.takedowns.sharing import warnings_of_sharing

    say_warnings(warnings_of_sharing(app.takedowns))
