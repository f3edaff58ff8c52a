"""Adding the commands to datapipe's own, through its entry point ``datapipe.cli``."""

from __future__ import annotations

import logging
import sys
from typing import Any

import click

from pipeline.cli.backup import backup
from pipeline.cli.blocklist import blocklist
from pipeline.cli.commands import (
    create_all,
    errors,
    explain,
    features,
    retry,
    run,
    status,
    verify,
)
from pipeline.cli.common import INTERRUPTED, _database_problem, _Shown
from pipeline.cli.init import init
from pipeline.cli.jobs import job
from pipeline.cli.project import load_from_here, version_option
from pipeline.cli.review import review
from pipeline.cli.serve import serve
from pipeline.cli.similar import similar
from pipeline.cli.submit import submit
from pipeline.cli.takedown import takedown
from pipeline.cli.takedown_many import many, resume
from pipeline.cli.terminal import log_to_stderr, say, show_crashes
from pipeline.cli.users import user
from pipeline.cli.watch import watch
from pipeline.errors import LockstepError
from pipeline.text import printable


def register(cli: click.Group) -> None:
    """Add our commands to datapipe's group; ``run`` replaces the one that is there."""
    pictures = (run, status, errors, retry, verify, explain, features, similar, job)
    moderation = (takedown, review, blocklist, user)
    for command in (init, *pictures, *moderation, backup, watch, serve):
        cli.add_command(command)
    for command in (many, resume):
        takedown.add_command(command)
    job.add_command(submit)
    database = cli.commands.get("db")
    if isinstance(database, click.Group):
        database.add_command(create_all)
    for group, name, text in _UPSTREAM_HELP:
        _explain_upstream(cli, group, name, text)
    cli.params.append(version_option)
    load_from_here(cli, without=init)
    _speak_plainly(cli)


def _speak_plainly(cli: click.Group) -> None:
    """Turn the errors that people can fix into messages, also those raised by ``app.py``.

    datapipe loads ``app.py`` in its group callback, before any command of ours is reached.
    """
    invoke = cli.invoke

    def invoke_and_explain(context: click.Context) -> Any:
        # datapipe logs "Running render ..." and the like at INFO for every step.
        log_to_stderr(logging.WARNING)
        show_crashes()
        try:
            return invoke(context)
        except LockstepError as error:
            raise _Shown(error) from error
        except click.ClickException as error:
            # One of click's own, which may quote an argument.
            setattr(error, "message", printable(error.message))  # noqa: B010 - declared final
            raise
        except Exception as error:
            shown = _database_problem(error, context)
            if shown is None:
                raise
            raise shown from error
        except KeyboardInterrupt:
            say("stopped; finished work is kept, the next run continues", err=True)
            sys.exit(INTERRUPTED)

    cli.invoke = invoke_and_explain  # type: ignore[method-assign, assignment]


_UPSTREAM_HELP = (
    ("", "db", "Create the tables.\n\n\b\nExample:\n  datapipe db create-all"),
    ("", "table", "Look at the tables.\n\n\b\nExample:\n  datapipe table list"),
    ("", "step", "Look at the steps, or run single ones.\n\n\b\nExample:\n  datapipe step list"),
    ("table", "list", "List the tables.\n\n\b\nExample:\n  datapipe table list"),
    ("step", "list", "List the steps.\n\n\b\nExample:\n  datapipe step list --status"),
    ("step", "run", "Run single steps.\n\n\b\nExample:\n  datapipe step --name=scan run"),
    (
        "step",
        "run-idx",
        "Run your own steps for one key; Lockstep's steps work on everything pending.\n\n\b\n"
        "Example:\n  datapipe step --name=mine run-idx path=a.jpg",
    ),
    (
        "step",
        "run-changelist",
        "Run your own steps from one onwards; Lockstep's steps work on everything pending.\n\n\b\n"
        "Example:\n  datapipe step run-changelist --start-step=mine",
    ),
    (
        "step",
        "fill-metadata",
        "Record what is pending without working on it.\n\n\b\nExample:\n"
        "  datapipe step --name=render fill-metadata",
    ),
    (
        "step",
        "reset-metadata",
        "Make steps process everything again.\n\n\b\nExample:\n"
        "  datapipe step --name=render reset-metadata",
    ),
    (
        "table",
        "migrate-transform-tables",
        "Migrate the transform tables of datapipe-core before 0.13.\n\n\b\nExample:\n"
        "  datapipe table migrate-transform-tables",
    ),
    ("", "lint", "Check the tracked tables.\n\n\b\nExample:\n  datapipe lint --fix"),
)


def _explain_upstream(cli: click.Group, group: str, name: str, text: str) -> None:
    """Add the help text that one of datapipe's commands lacks."""
    found = cli.commands.get(group) if group else cli
    command = found.commands.get(name) if isinstance(found, click.Group) else None
    if command is not None:
        command.help = command.help or text
        command.short_help = None
