"""``datapipe watch``: keeps everything in step as files change."""

from __future__ import annotations

import datetime
import functools
import signal
import threading
from typing import TYPE_CHECKING

import click

from pipeline.cli.common import (
    INTERRUPTED,
    _open_for_writing,
    _open_places,
    _say_if_not_confined,
    json_option,
)
from pipeline.cli.progress import for_stderr, progress_option
from pipeline.cli.quiet import one_line
from pipeline.cli.terminal import say, say_json, say_warnings

if TYPE_CHECKING:
    from pipeline.engine.report import Report


@click.command()
@click.option(
    "--poll",
    is_flag=True,
    help="Look at all files every second; for file systems "
    "that report no changes, such as network mounts.",
)
@progress_option
@json_option
@click.pass_context
def watch(context: click.Context, poll: bool, progress: bool, as_json: bool) -> None:
    """Keep the renditions in step as originals change, until stopped.

    Each run that did something prints a line on stderr; with --json also a line of JSON on stdout.
    SIGTERM (exit code 0) and Ctrl-C (130) stop it within a second; finished work is kept.

    \b
    Examples:
      datapipe watch
      datapipe watch --poll
      datapipe watch --json >> runs.jsonl
    """
    # Imported here: `datapipe --help` does without the engine, which costs 80 ms.
    from pipeline.live import Watcher, WatchOptions
    from pipeline.live.instances import Instances

    app = _open_for_writing(context)
    say_warnings(_open_places(app))
    _say_if_not_confined(app)
    stop = threading.Event()
    came: list[int] = []

    def on_signal(number: int, stack: object) -> None:
        if came and number == signal.SIGINT:
            raise KeyboardInterrupt
        came.append(number)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    is_first = True

    def on_run(report: Report) -> None:
        nonlocal is_first
        # The users' own steps are worked beside, and may be first to have done something.
        begins = is_first and not report.partial
        if not (report.did_anything or report.warnings or begins):
            return
        in_step = f"{report.in_step:,} in step; watching" if begins else ""
        moment = datetime.datetime.now().astimezone()
        say_warnings(report.warnings)
        say(f"{moment:%H:%M:%S}  {one_line(report, in_step)}", err=True)
        for path, reason in report.failures:
            say(f"          failed  {path}: {reason}", err=True)
        if as_json:
            when = {"when": moment.isoformat(timespec="milliseconds"), "partial": report.partial}
            say_json(when | report.as_json())
        is_first = is_first and not begins

    watcher = Watcher(
        app, WatchOptions(poll, functools.partial(say, err=True), for_stderr(progress))
    )
    instances = Instances(app, watcher.ask)
    instances.start()
    try:
        watcher.run(stop, on_run)
    finally:
        instances.end()
    context.exit(INTERRUPTED if came[:1] == [signal.SIGINT] else 0)
