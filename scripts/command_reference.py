"""Write docs/commands.md from the commands themselves: `make docs`.

Walks the `datapipe` group with all of its plug-ins loaded, so a new command is in the reference
without being named here. Exit codes are the one thing that click does not know.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from pathlib import Path

import click
from datapipe.cli import cli

PAGE = Path(__file__).resolve().parent.parent / "docs" / "commands.md"
# click wraps to the terminal otherwise, and two machines would write two pages.
WIDTH = 90

EXIT_CODES = {
    0: (
        "Everything is in step, or the command did what was asked. A file that changed while it "
        "was read waits for the next run, and what failed before and has not changed is not "
        "reported again. `watch` and `serve` also end with 0 on SIGTERM."
    ),
    1: (
        "`run`: originals, images of jobs or records of your steps failed in this run, or a CSV "
        "was rejected. "
        "`status --check`: something is failed, pending or unverified. `verify`: something was "
        "found and not fixed. `explain`: nothing is known of that path. `job submit --wait` and "
        "`job refresh --wait`: the job did not end as `completed`."
    ),
    2: (
        "Usage, settings, recipes, the database, the disk, a CSV with errors, something that "
        "does not exist, such as an unknown job, a database that belongs to other folders, or a "
        "folder without a project. The message says what to do."
    ),
    3: (
        "Another run holds the lock; `run --wait` waits for it. Where neither stdout nor stderr is "
        "a terminal, `run` says so on stdout, as nothing is wrong."
    ),
    4: (
        "The input folder cannot be read, or originals or CSVs are gone in such a way that a "
        "missing disk is more likely than intent. "
        "Nothing was deleted; `run --allow-removed` goes ahead. Where neither stdout nor stderr is "
        "a terminal, `run` says what stops it, here and with 2, once until it is over."
    ),
    130: "Stopped by Ctrl-C. What was done is kept, and the next run continues.",
    143: "`run` and `job … --wait`: stopped by SIGTERM, as with Ctrl-C.",
}

HEAD = """# Commands

<!-- Generated from the commands by `make docs`; a test compares the two. Edit the help texts. -->

Answers go to stdout and everything else to stderr, so output can be piped. Every command takes
`--help`. `datapipe` has to be started in the project's folder, where `app.py` is; only
`datapipe init` starts a project elsewhere.

## Exit codes

| code | meaning |
|---|---|
"""


def page() -> str:
    """The whole page, the same on every machine."""
    rows = "".join(f"| {code} | {meaning} |\n" for code, meaning in EXIT_CODES.items())
    return HEAD + rows + "".join(_sections(cli, "datapipe", None))


def _sections(command: click.Command, name: str, parent: click.Context | None) -> Iterator[str]:
    context = click.Context(command, parent, name, terminal_width=WIDTH, max_content_width=WIDTH)
    level = "##" if parent is None or parent.parent is None else "###"
    path = context.command_path
    yield f"\n{level} `{path}`\n\n```text\n{_help(command, context)}\n```\n"
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            if found is not None and not found.hidden:
                yield from _sections(found, below, context)


def _help(command: click.Command, context: click.Context) -> str:
    text = command.get_help(context)
    return "\n".join(line.rstrip() for line in inspect.cleandoc(text).splitlines())


def main() -> None:
    PAGE.write_text(page(), "utf-8")
    print(f"wrote {os.path.relpath(PAGE)}")


if __name__ == "__main__":
    main()
