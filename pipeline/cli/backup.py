"""``datapipe backup``: a copy of the database while runs go on."""

from __future__ import annotations

import os
from pathlib import Path

import click

from pipeline.cli.common import _open_for_reading, _print_json, json_option
from pipeline.cli.terminal import say


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
@click.pass_context
def backup(context: click.Context, file: Path, as_json: bool) -> None:
    """Copy the database to FILE, as it is at one moment, while runs and `serve` go on.

    It holds every table: originals, renditions, jobs, takedowns and the audit, reviews, users.
    It holds no pictures and no CSVs: copy those folders after it. FILE is replaced if it is an
    older backup. For a database server, it says the command of that server's own program.

    To restore it, stop the service, put FILE in the place of the database, and run
    `datapipe verify --fix`.

    \b
    Examples:
      datapipe backup /backup/lockstep.sqlite
      datapipe backup "/backup/lockstep-$(date +%F).sqlite" --json
    """
    # Imported here: `datapipe --help` does without the engine, which costs 80 ms.
    from pipeline.operations.backup import back_up
    from pipeline.storage.places import folder_place

    app = _open_for_reading(context)
    size_bytes = back_up(app, file)
    settings = app.settings
    places = settings.input_place, settings.quarantine_place, folder_place(settings.state_dir)
    if as_json:
        _print_json(
            {
                "file": str(file),
                "size_bytes": size_bytes,
                "not_in_it": [place.text for place in places],
            }
        )
        return
    shown = ", ".join(
        place.text if place.folder is None else f"{os.path.relpath(place.folder)}/"
        for place in places
    )
    say(
        f"{file}: the database, {size_bytes:,} bytes",
        f"not in it: {shown}; copy them now, with app.py, recipes.toml and .env",
    )
