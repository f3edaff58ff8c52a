"""The commands that work on originals, added to datapipe's own through its entry point
``datapipe.cli``.

Answers go to stdout, everything else to stderr. The exit codes are in ``docs/commands.md``.
"""

from __future__ import annotations

import json
import signal
import sys
from typing import Any

import click

from pipeline.cli.common import (
    _app,
    _not_confined,
    _on_sigterm,
    _open_for_reading,
    _print_json,
    _print_json_list,
    _say_if_not_confined,
    _warnings,
    json_option,
)
from pipeline.cli.progress import for_stderr, progress_option
from pipeline.cli.quiet import say_error, say_report
from pipeline.cli.takedown import open_for_takedowns
from pipeline.cli.terminal import say, say_warnings
from pipeline.errors import LockstepError
from pipeline.reasons import Code
from pipeline.text import counted


@click.command()
@click.option("--dry-run", is_flag=True, help="Show what a run would do, and write nothing.")
@click.option(
    "--rehash", is_flag=True, help="Hash every original, even if its times are unchanged."
)
@click.option("--wait", is_flag=True, help="Wait for another run to end instead of giving up.")
@click.option("--allow-removed", is_flag=True, help="Continue even if a disk looks unmounted.")
@click.option(
    "--relocate",
    is_flag=True,
    help="The folders were moved: take those of the settings for the ones of this database.",
)
@click.option("--summary", is_flag=True, help="Print the summary even if stdout is no terminal.")
@progress_option
@json_option
@click.pass_context
def run(
    context: click.Context,
    dry_run: bool,
    rehash: bool,
    wait: bool,
    allow_removed: bool,
    relocate: bool,
    summary: bool,
    progress: bool,
    as_json: bool,
) -> None:
    """Bring the renditions and features in step with the originals.

    New and changed originals are rendered, removed ones lose their renditions, and nothing else
    is touched. Where stdout is no terminal, as under cron, a run that does nothing prints nothing,
    and any other one a line; stderr says what newly went wrong.

    Exit code 0: in step; 1: originals failed in this run; 2: usage or settings; 3: another run is
    in progress; 4: a disk looks unmounted; 130: Ctrl-C.

    \b
    Examples:
      datapipe run
      datapipe run --dry-run
      datapipe run --wait --json
    """
    # Imported here: `datapipe --help` does without the engine, which costs 80 ms.
    from pipeline.engine.context import RunOptions
    from pipeline.engine.run import run_once
    from pipeline.operations.preview import preview

    app = _app(context)
    options = RunOptions(rehash=rehash, wait=wait, allow_removed=allow_removed, relocate=relocate)
    warnings = _warnings(app)
    signal.signal(signal.SIGTERM, _on_sigterm)
    if not (dry_run or as_json or summary or sys.stdout.isatty()):
        warnings += _not_confined(app)
        try:
            report = run_once(app.plan, options, for_stderr(progress))
        except LockstepError as error:
            say_error(app.database, error, warnings)
            context.exit(error.exit_code)
        say_report(app.database, report, warnings)
    else:
        say_warnings(warnings)
        if dry_run:
            report = preview(app, options)
        else:
            _say_if_not_confined(app)
            report = run_once(app.plan, options, for_stderr(progress))
        say_warnings(report.warnings)
        _print_json(report.as_json()) if as_json else say(*report.as_lines())
    report.join()
    context.exit(1 if report.is_bad else 0)


@click.command()
@click.option(
    "--check", is_flag=True, help="Exit with 1 if anything is failed, pending or not verified."
)
@json_option
@click.pass_context
def status(context: click.Context, check: bool, as_json: bool) -> None:
    """Count what is in step, failed and pending: by recipe, feature and step, and jobs by state.

    What changed in the input folder since the last run is not known yet: see `run --dry-run`.

    \b
    Examples:
      datapipe status
      datapipe status --check || mail -s "renditions" me@example.com </dev/null
    """
    # Imported here: `datapipe --help` does without it, and it costs 17 ms.
    from pipeline.operations.status import status as count
    from pipeline.operations.verdict import verdict
    from pipeline.takedowns.sharing import warnings_of_sharing

    app = _open_for_reading(context)
    answer = count(app)
    say_warnings(warnings_of_sharing(app.takedowns))
    if as_json:
        _print_json(answer)
    else:
        say(
            f"{counted(answer['originals'], 'original')}, "
            f"{counted(answer['renditions'], 'rendition')} in step, "
            f"{answer['failed']:,} failed, {answer['pending']:,} pending"
            + (f", {answer['held']:,} held for review" if answer["held"] else "")
            + (f", {answer['taken_down']:,} taken down" if answer["taken_down"] else "")
        )
        features = {f"feature {name}": each for name, each in answer["features"].items()}
        for name, counts in (answer["recipes"] | features).items():
            say(
                f"  {name}: {counts['ok']:,} ok, {counts['failed']:,} failed, "
                f"{counts['pending']:,} pending"
                + (f", {counts['held']:,} held for review" if counts["held"] else "")
                + (f", {counts['taken_down']:,} taken down" if counts["taken_down"] else "")
            )
        for name, counts in answer["steps"].items():
            words = ", ".join(f"{count:,} {state}" for state, count in counts.items())
            say(f"  {name}: {words}")
        if answer["jobs"]:
            counts = ", ".join(f"{count:,} {state}" for state, count in answer["jobs"].items())
            say(f"  jobs: {counts}")
        if address := answer["workers"].get("address"):
            say(f"  workers: the nodes of the Ray cluster at {address}")
        if answer["unverified"] is not None:
            counts = ", ".join(f"{count:,} {what}" for what, count in answer["unverified"].items())
            say(
                "  the database was new, or older than the output folder, or that was another one "
                f"({counts or 'not compared yet'}): `datapipe verify --fix`"
            )
        if answer["reasons"]:
            counts = ", ".join(f"{count:,} {code}" for code, count in answer["reasons"].items())
            say(f"  failed: {counts} (`datapipe errors`)")
        say(answer["verdict"]["words"])
    context.exit(1 if check and not verdict(answer).is_in_step else 0)


reason_option = click.option(
    "--reason",
    "code",
    metavar="CODE",
    type=click.Choice([code.value for code in Code]),
    help="Only what failed for this reason, by its code, such as cut_off.",
)


@click.command()
@reason_option
@json_option
@click.pass_context
def errors(context: click.Context, code: str | None, as_json: bool) -> None:
    """List what failed or was taken down, by the code of its reason; images of jobs as well.

    For each: original, recipe, feature or step; of a job, what could not be fetched; the reason,
    and since when.

    \b
    Examples:
      datapipe errors
      datapipe errors --reason cut_off
      datapipe errors --json
    """
    # Imported here: `datapipe --help` does without it, and it costs 17 ms.
    from pipeline.operations.failures import errors as failed

    answer = failed(_open_for_reading(context), None if code is None else Code(code))
    if as_json:
        _print_json(answer)
        return
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in answer:
        groups.setdefault(row["code"], []).append(row)
    for of, rows in sorted(groups.items(), key=lambda group: -len(group[1])):
        say(f"{of}: {len(rows):,} ({Code(of).words})")
        if Code(of).hint:
            say(f"  {Code(of).hint}")
        say(*(f"  {_named(row)} {row['reason']} ({row['since']})" for row in rows))
    if not answer:
        say("nothing failed")


def _named(row: dict[str, Any]) -> str:
    """What failed, as people know it."""
    # Imported here: `datapipe --help` does without it, and it costs 17 ms.
    from pipeline.engine.own_step import record_name

    if "step" in row:
        return f"{record_name(row['record'])} [{row['step']}]".lstrip()
    return (
        f"{row['url']} [job {row['job']}]" if "url" in row else f"{row['path']} [{row['recipe']}]"
    )


@click.command()
@click.option("--name", help="Only the feature of this name.")
@json_option
@click.pass_context
def features(context: click.Context, name: str | None, as_json: bool) -> None:
    """List what the features in recipes.toml say of each original.

    \b
    Examples:
      datapipe features
      datapipe features --name palette --json
    """
    # Imported here: `datapipe --help` does without it, and it costs 17 ms.
    from pipeline.operations.features import features as listed

    rows = listed(_open_for_reading(context).render.pending, name)
    if as_json:
        _print_json_list(rows)
        return
    for row in rows:
        said = row["reason"] or json.dumps(row["value"], ensure_ascii=False)
        say(f"{row['path']} [{row['name']}] {said}")


@click.command()
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@click.option("--older", is_flag=True, help="Also renditions made by an older renderer.")
@reason_option
@json_option
@click.pass_context
def retry(
    context: click.Context,
    paths: tuple[str, ...],
    older: bool,
    code: str | None,
    as_json: bool,
) -> None:
    """Retry in the next run what `datapipe errors` lists as failed: all, of one reason, or of PATH.

    Renditions, features and records of your steps are made again, images of jobs fetched again or
    rendered again, whichever failed. PATH is an original or a folder of originals, relative to the
    input folder or to the current folder.

    \b
    Examples:
      datapipe retry
      datapipe retry --reason timed_out
      datapipe retry shoes/red.jpg
      datapipe retry --older
    """
    # Imported here: `datapipe --help` does without the engine, which costs 80 ms.
    from pipeline.operations.retry import retry as mark

    if code is not None and (paths or older):
        raise click.UsageError("--reason goes with neither PATH nor --older")
    count = mark(_open_for_reading(context), paths, older, None if code is None else Code(code))
    if as_json:
        _print_json({"retried": count})
    else:
        say(f"{counted(count, 'failure')} will be retried in the next run")


@click.command()
@click.option("--fix", is_flag=True, help="Render again what is missing or altered; delete strays.")
@click.option("--deep", is_flag=True, help="Compare contents (SHA-256), not just sizes.")
@json_option
@click.pass_context
def verify(context: click.Context, fix: bool, deep: bool, as_json: bool) -> None:
    """Compare the output folder with the tables: missing, altered, and unknown files.

    After a backup was restored, --fix begins with a run and brings everything in step.
    Exit code 1 if something was found and not fixed.

    \b
    Examples:
      datapipe verify
      datapipe verify --deep --fix
    """
    # Imported here: `datapipe --help` does without the engine, which costs 80 ms.
    from pipeline.operations.verify import verify as compare

    app = open_for_takedowns(context)
    found = compare(app, deep=deep, fix=fix)
    if as_json:
        _print_json(found.as_json())
    else:
        if found.run is not None:
            say_warnings(found.run.warnings)
            say("the database is older than the output folder, so a run came first:")
            say(*found.run.as_lines())
        for kind, files in (
            ("missing", found.missing),
            ("altered", found.altered),
            ("stray", found.strays),
        ):
            for file in files:
                say(f"{kind}  {file}")
        say(found.as_text())
    context.exit(0 if found.all_fixed else 1)


@click.command()
@click.argument("path")
@json_option
@click.pass_context
def explain(context: click.Context, path: str, as_json: bool) -> None:
    """Show what is known about one original, what the next run would do with it, and why.

    \b
    Examples:
      datapipe explain shoes/red.jpg
      datapipe explain input/shoes/red.jpg --json
    """
    # Imported here: `datapipe --help` does without the engine, which costs 80 ms.
    from pipeline.operations.explain import explain as explained

    answer = explained(_open_for_reading(context), path)
    if as_json:
        _print_json(answer.as_json())
    else:
        say(*answer.as_lines())
    context.exit(0 if answer.known or answer.exists else 1)


@click.command("create-all")
@click.pass_context
def create_all(context: click.Context) -> None:
    """Create the tables that are missing; existing ones are left alone.

    Tables of another release are refused, not changed.

    \b
    Example:
      datapipe db create-all
    """
    _open_for_reading(context)
