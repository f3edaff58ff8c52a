"""``datapipe job submit``: a CSV of products becomes a job."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.common import _open_for_writing, _print_json, json_option
from pipeline.cli.jobs import PROBLEMS_SHOWN, print_problems, work_now
from pipeline.cli.mapping import mapping_from, mapping_options
from pipeline.cli.terminal import say
from pipeline.errors import CsvRejectedError


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--wait", is_flag=True, help="Run the job to its end now, and print its state.")
@click.option("--webhook", metavar="URL", help="URL to notify when the job ends.")
@click.option(
    "--result",
    type=click.Choice(["add", "replace"]),
    help="Columns with the new addresses, or these in the place of the old ones.",
)
@mapping_options
@json_option
@click.pass_context
def submit(
    context: click.Context,
    file: Path,
    wait: bool,
    webhook: str | None,
    result: str | None,
    pairs: tuple[str, ...],
    grouped: bool,
    require_images: bool,
    base: str,
    as_json: bool,
) -> None:
    """Check the CSV in FILE and create a job from it; the next run works on it.

    Its columns are found by their headers: those of common shop systems are known, others are
    named with --map, or once for all in the file of PIPELINE_CSV_MAPPINGS.

    All problems are reported at once, each with its line, and nothing is started (exit code 2).
    With --wait, exit code 1 means that images failed. What is sent to --webhook is signed with a
    secret of its own, which is shown once, now: on stderr, or in the JSON.

    \b
    Examples:
      datapipe job submit products.csv
      datapipe job submit products.xlsx --result replace
      datapipe job submit products.csv --json
      datapipe job submit products.csv --wait --webhook https://shop.example/hook
      datapipe job submit list.csv --map number=SKU --map name=Title --map images="Photo 1"
    """
    # Imported here: only what changes a job needs it, and with httpx it costs 60 ms.
    from pipeline.jobs.acts import submit as hand_in

    mapping = mapping_from(pairs, grouped)
    jobs = _open_for_writing(context).jobs
    try:
        submitted = hand_in(
            jobs,
            file,
            file.name,
            webhook,
            mapping=mapping,
            require_images=require_images,
            result=result,
            base=base,
        )
    except CsvRejectedError as error:
        _report(error, as_json)
        context.exit(error.exit_code)
    if submitted.webhook_secret and (wait or not as_json):
        # Before the job ends: its receiver needs it then.
        say(f"webhook secret, shown only now: {submitted.webhook_secret}", err=True)
    if wait:
        context.exit(work_now(jobs, submitted.reference, as_json))
    if as_json:
        _print_json(submitted.as_json())
    else:
        say(submitted.reference)
        say("received; the next `datapipe run` works on it", err=True)


def _report(error: CsvRejectedError, as_json: bool) -> None:
    if as_json:
        _print_json({"errors": error.errors, "fault_count": error.fault_count})
        return
    say(f"Error: {error}", err=True)
    print_problems(error.errors[:PROBLEMS_SHOWN])
    if error.fault_count > PROBLEMS_SHOWN:
        say(f"and {error.fault_count - PROBLEMS_SHOWN:,} more: see --json", err=True)
