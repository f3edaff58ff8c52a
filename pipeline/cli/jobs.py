"""``datapipe job``: follow CSVs of products, and fetch their results.

Exit codes: 0; 1 where images failed (``submit --wait``), or there was nothing to list; 2 for a CSV
with problems, an unknown job, and whatever else it means for other commands.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from pipeline.cli.common import (
    _on_sigterm,
    _open_for_reading,
    _open_for_writing,
    _print_json,
    json_option,
)
from pipeline.cli.mapping import columns_text
from pipeline.cli.progress import for_stderr
from pipeline.cli.terminal import say
from pipeline.csvs.lines import SPLIT
from pipeline.errors import OutputError
from pipeline.names import key_of
from pipeline.storage.base import replaced
from pipeline.storage.folder_store import FolderStore
from pipeline.text import counted

if TYPE_CHECKING:
    from pipeline.jobs.context import Jobs

PROBLEMS_SHOWN = 20

reference_argument = click.argument("reference", metavar="REF")
output_option = click.option(
    "-o",
    "--output",
    "target",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write it to this file instead of to stdout.",
)


@click.group()
def job() -> None:
    """CSVs of products in; their images fetched and resized; result CSVs out.

    A CSV below the input folder becomes a job in the next run; `submit` takes one from anywhere
    else. The result is the same CSV with the addresses of the new images.

    \b
    Examples:
      datapipe job submit products.csv --wait
      datapipe job status 202502230413203
      datapipe job output 202502230413203 -o answer.csv
    """


def print_problems(problems: Iterable[dict[str, Any]]) -> None:
    is_limited = False
    for problem in problems:
        column = f", {problem['column']}" if problem["column"] else ""
        say(f"  line {problem['line']}{column}: {problem['message']}", err=True)
        is_limited |= problem["message"].endswith(SPLIT)
    if is_limited:
        limits = "PIPELINE_JOB_MAX_ROWS, PIPELINE_JOB_MAX_IMAGES and PIPELINE_JOB_MAX_BYTES"
        say(f"  the limits are {limits}", err=True)


def work_now(jobs: Jobs, reference: str, as_json: bool) -> int:
    """Run one job to its end; returns the exit code."""
    # Imported here: only what changes a job needs it, and with httpx it costs 60 ms.
    from pipeline.jobs.acts import work_job

    signal.signal(signal.SIGTERM, _on_sigterm)
    answer = work_job(jobs, reference, for_stderr())
    _print_job(answer, as_json)
    return 0 if answer["state"] == "completed" else 1


@job.command("list")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 100_000))
@click.option("--before", metavar="REF", help="Only jobs created before this one.")
@json_option
@click.pass_context
def list_jobs(context: click.Context, limit: int, before: str | None, as_json: bool) -> None:
    """List jobs, newest first.

    \b
    Examples:
      datapipe job list
      datapipe job list --limit 10 --json
    """
    # Imported here: `datapipe --help` does without it, and it costs 30 ms.
    from pipeline.jobs.questions import jobs

    answer = jobs(_open_for_reading(context).jobs, limit, before)
    if as_json:
        _print_json(answer)
        return
    for found in answer:
        images = found["images"]
        failed = f", {images['failed']:,} failed" if images["failed"] else ""
        say(
            f"{found['reference']}  {found['state']:<21}  {images['done']:,} of "
            f"{counted(images['total'], 'image')}{failed}  {found['filename']}"
        )
    if not answer:
        say("no jobs", err=True)


@job.command()
@reference_argument
@json_option
@click.pass_context
def status(context: click.Context, reference: str, as_json: bool) -> None:
    """Show the state of a job: times, and images done and failed.

    \b
    Examples:
      datapipe job status 202502230413203
      datapipe job status 202502230413203 --json
    """
    # Imported here: `datapipe --help` does without it, and it costs 30 ms.
    from pipeline.jobs.questions import job as ask

    _print_job(ask(_open_for_reading(context).jobs, reference), as_json)


def _print_job(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _print_json(answer)
        return
    images = answer["images"]
    say(f"{answer['reference']}  {answer['filename']}: {answer['state']}")
    if answer["reason"]:
        say(f"  {answer['reason']}")
    say(
        f"  {counted(answer['rows'], 'row')}, {counted(images['total'], 'image')}: "
        f"{images['fetched']:,} fetched, "
        f"{images['done']:,} done, {images['failed']:,} failed"
        + (f", {images['withdrawn']:,} withdrawn" if images["withdrawn"] else "")
    )
    if answer["without_images"]:
        say(f"  {counted(answer['without_images'], 'product')} without an image, copied")
    if answer["columns"]:
        say(f"  columns: {columns_text(answer['columns'])}")
    ended = f", ended {answer['ended']}" if answer["ended"] else ""
    say(f"  received {answer['created']}{ended}")
    if answer["answer"]:
        say(f"  answer: {answer['answer']} in the output folder")
    if answer["webhook"]:
        why = f" ({answer['webhook']['reason']})" if answer["webhook"]["reason"] else ""
        say(f"  webhook: {answer['webhook']['state']}{why}")
    print_problems(answer["errors"][:PROBLEMS_SHOWN])


@job.command()
@reference_argument
@json_option
@click.pass_context
def errors(context: click.Context, reference: str, as_json: bool) -> None:
    """List the images of a job that failed: number, product, URL and reason.

    \b
    Examples:
      datapipe job errors 202502230413203
      datapipe job errors 202502230413203 --json
    """
    # Imported here: `datapipe --help` does without it, and it costs 30 ms.
    from pipeline.jobs.questions import failures
    from pipeline.jobs.questions import job as ask

    jobs = _open_for_reading(context).jobs
    answer = ask(jobs, reference)
    failed = failures(jobs, reference)
    if as_json:
        _print_json({"errors": answer["errors"], "images": list(failed)})
        return
    found = bool(answer["errors"])
    for problem in answer["errors"]:
        say(f"line {problem['line']} {problem['column']}: {problem['message']}")
    for failure in failed:
        found = True
        say(f"{failure['number']} {failure['product']}: {failure['url']}: {failure['reason']}")
    if not found:
        say("nothing failed", err=True)


@job.command()
@reference_argument
@output_option
@json_option
@click.pass_context
def output(context: click.Context, reference: str, target: Path | None, as_json: bool) -> None:
    """Print the result CSV of a job; with --json, where it is.

    For a CSV that was rejected and has no earlier result, print the list of its problems.

    \b
    Examples:
      datapipe job output 202502230413203 -o answer.csv
      datapipe job output 202502230413203 > answer.csv
    """
    # Imported here: `datapipe --help` does without it, and it costs 30 ms.
    from pipeline.jobs.questions import answer_key
    from pipeline.storage.at_hand import write_to

    jobs = _open_for_reading(context).jobs
    key, store = answer_key(jobs, reference), jobs.settings.output_store
    if as_json:
        found = store.look_at(key)
        size_bytes = found.size_bytes if found else 0
        _print_json({"reference": reference, "file": store.path_of(key), "bytes": size_bytes})
        if target is None:
            return
    with _writing(target) as file:
        write_to(store, key, file)


@job.command("failed-rows")
@reference_argument
@output_option
@json_option
@click.pass_context
def failed_rows(context: click.Context, reference: str, target: Path | None, as_json: bool) -> None:
    """Print the rows with a failed image, as a CSV in the format of the original one.

    Fix it, and submit it again. With --json, the rows are only counted unless -o names a file.

    \b
    Examples:
      datapipe job failed-rows 202502230413203 -o fixed.csv
    """
    # Imported here: `datapipe --help` does without it, and it costs 30 ms.
    from pipeline.jobs.questions import failed_rows as write

    jobs = _open_for_reading(context).jobs
    if as_json and target is None:
        with open(os.devnull, "wb") as nowhere:
            count = write(jobs, reference, nowhere)
    else:
        with _writing(target) as file:
            count = write(jobs, reference, file)
    if as_json:
        _print_json({"reference": reference, "rows": count})
    else:
        say(counted(count, "row"), err=True)


@job.command()
@reference_argument
@json_option
@click.pass_context
def delete(context: click.Context, reference: str, as_json: bool) -> None:
    """Delete a job with its fetched files, renditions and result CSV.

    A run in progress stops fetching for the job, and the next run removes the rest. A CSV below the
    input folder stays, and becomes a job again only when it changes.

    \b
    Example:
      datapipe job delete 202502230413203
    """
    # Imported here: only what changes a job needs it, and with httpx it costs 60 ms.
    from pipeline.jobs.acts import delete_job

    gone = delete_job(_open_for_writing(context).jobs, reference)
    if as_json:
        _print_json({"reference": reference, "state": "deleted", "removed": gone})
    else:
        say(
            f"{reference} is deleted"
            + ("" if gone else "; a run is in progress, the next one removes its files")
        )


@job.command()
@reference_argument
@click.option("--wait", is_flag=True, help="Fetch now, and print the state of the job afterwards.")
@json_option
@click.pass_context
def refresh(context: click.Context, reference: str, wait: bool, as_json: bool) -> None:
    """Fetch the images of a job again in the next run.

    Images that have not changed are not downloaded again; failed ones are retried.

    \b
    Examples:
      datapipe job refresh 202502230413203
      datapipe job refresh 202502230413203 --wait
    """
    # Imported here: only what changes a job needs it, and with httpx it costs 60 ms.
    from pipeline.jobs.acts import refresh_job

    jobs = _open_for_writing(context).jobs
    count = refresh_job(jobs, reference)
    if wait:
        context.exit(work_now(jobs, reference, as_json))
    if as_json:
        _print_json({"reference": reference, "urls": count})
    else:
        say(f"the next run fetches {counted(count, 'URL')} again")


@contextlib.contextmanager
def _writing(target: Path | None) -> Iterator[BinaryIO]:
    """stdout, or a file that replaces ``target`` once it is complete."""
    if target is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        # A folder that does not exist is rather a typing error.
        store = FolderStore(target.parent.resolve(strict=True))
        with replaced(store, key_of(target.name)) as file:
            yield file
    except OSError as error:
        raise OutputError(
            f"{target}: cannot be written ({error.strerror}); name another file"
        ) from error
