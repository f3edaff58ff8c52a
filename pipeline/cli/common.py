"""What the commands share: options, exit codes, the application, errors, JSON."""

from __future__ import annotations

import gc
import logging
import os
import shlex
from collections.abc import Iterable
from typing import IO, TYPE_CHECKING, Any

import click
from sqlalchemy.exc import SQLAlchemyError

from pipeline.cli.terminal import say, say_json, say_warnings
from pipeline.errors import LockstepError
from pipeline.storage.modes import open_to_others

if TYPE_CHECKING:
    from pipeline.app import Lockstep

json_option = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
INTERRUPTED = 130
TERMINATED = 143


class _Shown(click.ClickException):
    """An error of ours in click's terms: one message on stderr, and its exit code."""

    def __init__(self, error: LockstepError) -> None:
        super().__init__(str(error))
        self._lines = error.lines
        setattr(self, "exit_code", error.exit_code)  # noqa: B010 - click declares it for the class

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message on stderr."""
        first, *more = self._lines
        say(f"Error: {first}", *more, err=True)


def _database_problem(error: Exception, context: click.Context) -> _Shown | None:
    """The database error behind a failed statement of any command; ``None`` for other errors."""
    app = (context.obj or {}).get("pipeline")
    if app is None or not isinstance(error, SQLAlchemyError):
        return None
    return _Shown(app.database.explain(error))


def _app(context: click.Context) -> Lockstep:
    # Imported here: `datapipe --help` does without the engine, which costs 80 ms.
    from pipeline.app import Lockstep

    app = context.obj["pipeline"]
    if not isinstance(app, Lockstep):
        raise click.UsageError("app.py must create `app` with pipeline.app.Lockstep")
    # What imports have made lives as long as the process. Without this the collector walks through
    # all of it again and again, and once more at exit: 0.2 s of every command.
    gc.freeze()
    # Upstream's group callback sets INFO again, whatever the plug-in said.
    for name in (None, "datapipe", "tqdm_loggable"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return app


def _warnings(app: Lockstep) -> list[str]:
    """What is wrong with the settings and the places, and ends no command."""
    return [*app.settings.warnings, *_open_places(app)]


def _open_places(app: Lockstep) -> list[str]:
    """A warning if what Lockstep alone should read is open to every user of the machine."""
    files, settings = app.database.dialect.files, app.settings
    folders = open_to_others(
        folder for folder in (settings.state_dir, settings.quarantine_place.folder) if folder
    )
    names = [os.path.relpath(place) for place in folders]
    closing = [shlex.quote(name) for name in names]
    if open_to_others(files):
        # With the files beside it, which come and go.
        names.insert(0, os.path.relpath(files[0]))
        closing.insert(0, f"{shlex.quote(names[0])}*")
    if not names:
        return []
    return [
        f"other users of this machine can access {', '.join(names)}; to prevent that, run "
        f"`chmod o-rwx {' '.join(closing)}`"
    ]


def _not_confined(app: Lockstep) -> list[str]:
    """What people are told where decoders run without a sandbox.

    Raises:
        SettingsError: one is required.
    """
    # Imported here: `datapipe --help` does without the engine, which costs 80 ms.
    from pipeline.engine.context import no_sandbox

    line = no_sandbox(app.settings)
    return [] if line is None else [line]


def _say_if_not_confined(app: Lockstep) -> None:
    """Tell once where decoders run without a sandbox.

    Raises:
        SettingsError: one is required.
    """
    say(*_not_confined(app), err=True)


def _print_json(answer: Any) -> None:
    say_json(answer, indent=2)


def _print_json_list(answers: Iterable[Any]) -> None:
    """A list, an element a line as they come: it may be longer than fits into memory."""
    before: list[Any] = []
    say("[")
    for answer in answers:
        for each in before:
            say_json(each, end=",")
        before = [answer]
    for each in before:
        say_json(each)
    say("]")


def _on_sigterm(number: int, stack: object) -> None:
    # Like Ctrl-C: workers end, temporary files are deleted, finished work is kept.
    raise SystemExit(TERMINATED)


def _open_for_reading(context: click.Context) -> Lockstep:
    """The application, with its tables created: querying a new database is not an error."""
    # Imported here: `datapipe --help` does without it, and it costs 6 ms.
    from pipeline.tables import make_tables

    app = _app(context)
    say_warnings(app.settings.warnings)
    make_tables(app.database)
    return app


def _open_for_writing(context: click.Context) -> Lockstep:
    """The same for what writes files, or counts on those that are there.

    Raises:
        OtherFoldersError: the database belongs to other folders.
    """
    # Imported here: `datapipe --help` does without it, and it costs 20 ms.
    from pipeline.engine.known_folders import check_known

    app = _open_for_reading(context)
    check_known(app.settings, app.database)
    return app
