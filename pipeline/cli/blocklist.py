"""``datapipe blocklist``: import, export, list and remove lists of hashes."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

import click

from pipeline.cli.common import _print_json, _print_json_list, json_option
from pipeline.cli.takedown import open_for_takedowns, say_unsent
from pipeline.cli.terminal import say, say_warnings
from pipeline.states import HashKind
from pipeline.text import counted

if TYPE_CHECKING:
    from pipeline.app import Lockstep
    from pipeline.takedowns.listed import Followed

FROM_STDIN = "-"


@click.group()
def blocklist() -> None:
    """Block content by lists of hashes: SHA-256, MD5 or PDQ, each list a source of its own.

    What is blocked by SHA-256 or MD5 never gets renditions; those that are there are deleted at
    once, even during a run. Originals stay where they are. Content is blocked as long as any list
    or takedown blocks it.

    \b
    Examples:
      datapipe blocklist import known.csv --source partner
      datapipe blocklist list
      datapipe blocklist remove partner
    """


@blocklist.command("import")
@click.argument("file", type=click.Path(allow_dash=True, dir_okay=False, exists=True))
@click.option("--source", help="The name of the list; by default, a column, or the file's name.")
@click.option("--reason", help="Why, for all of it; by default, the column `reason`.")
@click.option(
    "--kind",
    type=click.Choice([kind.value for kind in HashKind]),
    help="What hashes are of which the file does not say it: 64 digits can be SHA-256 or PDQ.",
)
@json_option
@click.pass_context
def import_(
    context: click.Context,
    file: str,
    source: str | None,
    reason: str | None,
    kind: str | None,
    as_json: bool,
) -> None:
    """Import a list of hashes, as CSV or as text with a hash a line; `-` reads stdin.

    Nothing is imported if any line is invalid. Importing a list again adds what is new. PDQ hashes
    of a quality below 50, and what the list itself calls harmless, are left out.

    \b
    Examples:
      datapipe blocklist import known.csv --source partner --reason "shared list"
      datapipe blocklist import hashes.txt --kind sha256
      threatexchange dataset -P --csv | datapipe blocklist import - --source threatexchange
    """
    # Imported here: `datapipe --help` does without it, and it costs 35 ms.
    from pipeline.csvs.hashes import lines_of
    from pipeline.takedowns.lists import import_list
    from pipeline.takedowns.sharing import send

    if file == FROM_STDIN and not source:
        raise click.UsageError("name the list with --source: standard input has no name")
    app = open_for_takedowns(context)
    of_kind = HashKind(kind) if kind else None
    default = source or Path(file).stem
    # A name or a tag that is not UTF-8 must not make its hash unreadable.
    with click.open_file(file, encoding="utf-8-sig", errors="replace") as stream:
        lines = lines_of(file, cast(TextIO, stream))
        done = import_list(app.database, file, lines, source, default, reason, of_kind)
    send(app.takedowns)
    followed = _follow(app)
    say_unsent(app)
    if as_json:
        _print_json(done.as_json() | followed)
        return
    added = ", ".join(f"{count:,} {name}" for name, count in done.kinds.items())
    say(
        f"{', '.join(done.sources)}: {counted(done.added, 'hash', 'hashes')} added, "
        f"{done.known:,} known ({added})"
    )
    left_out = {
        "PDQ hashes of a quality below 50": done.low_quality,
        "called harmless by the list": done.harmless,
        **{f"of kind {name}": count for name, count in done.other_kinds.items()},
    }
    for what, count in left_out.items():
        if count:
            say(f"  left out: {count:,} {what}")
    _say_followed(followed)
    if HashKind.PDQ.value in done.kinds:
        say("  what looks like the PDQ hashes: `datapipe similar --blocked`")


@blocklist.command()
@click.option("--source", help="Only this list.")
@json_option
@click.pass_context
def export(context: click.Context, source: str | None, as_json: bool) -> None:
    """Print all lists, or one, as a CSV that `import` reads back.

    \b
    Examples:
      datapipe blocklist export > blocked.csv
      datapipe blocklist export --source partner --json
    """
    # Imported here: `datapipe --help` does without it, and it costs 35 ms.
    from pipeline.takedowns.lists import hashes_of

    hashes = hashes_of(open_for_takedowns(context).database, source)
    if as_json:
        _print_json_list(each._asdict() for each in hashes)
        return
    say("kind,hash,source,reason")
    for each in hashes:
        line = io.StringIO()
        csv.writer(line).writerow(each)
        say(line.getvalue().rstrip("\r\n"))


@blocklist.command("list")
@json_option
@click.pass_context
def list_(context: click.Context, as_json: bool) -> None:
    """List the sources, each with its numbers of hashes.

    \b
    Examples:
      datapipe blocklist list
      datapipe blocklist list --json
    """
    # Imported here: `datapipe --help` does without it, and it costs 35 ms.
    from pipeline.takedowns.lists import sources_of

    found = sources_of(open_for_takedowns(context).database)
    if as_json:
        _print_json(found)
        return
    for each in found:
        counts = [f"{each[kind.value]:,} {kind.value}" for kind in HashKind if each[kind.value]]
        note = "" if each["complete"] else "; its import was interrupted, import it again"
        say(f"{each['source']}: {', '.join(counts)}, last added {each['last_added']}{note}")
    if not found:
        say("there are no blocklists")


@blocklist.command()
@click.argument("source")
@json_option
@click.pass_context
def remove(context: click.Context, source: str, as_json: bool) -> None:
    """Remove a list; what only it blocked is rendered by the next run.

    \b
    Examples:
      datapipe blocklist remove partner
      datapipe blocklist remove partner --json
    """
    # Imported here: `datapipe --help` does without it, and it costs 35 ms.
    from pipeline.takedowns.lists import find_source, remove_source
    from pipeline.takedowns.sharing import remove_shared_source

    app = open_for_takedowns(context)
    find_source(app.database, source)
    remove_shared_source(app.takedowns, source)
    removed = remove_source(app.database, source)
    followed = _follow(app)
    if as_json:
        _print_json({"source": source, "removed": removed} | followed)
        return
    say(f"{source}: {counted(removed, 'hash', 'hashes')} removed")
    _say_followed(followed)


def _follow(app: Lockstep) -> dict[str, Any]:
    """Bring what is published in step with the lists; what was done, for programs."""
    # Imported here: `datapipe --help` does without it, and it costs 35 ms.
    from pipeline.cli.progress import for_stderr
    from pipeline.takedowns.listed import Followed, follow_lists, warnings_of

    progress, begun = for_stderr(), 0

    def advance(done: int, total: int) -> None:
        nonlocal begun
        if progress is None:
            return
        if not begun:
            progress.start("originals hashed", total)
        progress.advance(done - begun)
        begun = done

    try:
        followed: Followed | None = follow_lists(app.takedowns, advance)
    finally:
        if progress is not None and begun:
            progress.stop()
    say_warnings(warnings_of(followed))
    done = followed or Followed()
    return {
        "renditions": done.renditions,
        "values": done.values,
        "released": done.released,
        "hashed": done.hashed,
        "unread": done.unread,
    }


def _say_followed(followed: dict[str, Any]) -> None:
    if followed["hashed"]:
        say(f"  {counted(followed['hashed'], 'original')} read for their MD5")
    say(f"  {counted(followed['renditions'], 'rendition')} deleted")
    if followed["values"]:
        say(f"  {counted(followed['values'], 'value')} of features deleted")
    if followed["released"]:
        say(f"  {followed['released']:,} may be made again: the next run does it")
