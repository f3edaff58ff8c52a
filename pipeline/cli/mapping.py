"""The options that say which columns of a CSV are which, and how they are shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pipeline.errors import SettingsError

if TYPE_CHECKING:
    from pipeline.csvs.mapping import Mapping

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _checked_base(context: click.Context, parameter: click.Parameter, value: str) -> str:
    if value:
        # Imported here: `datapipe --help` does without it, and it costs 50 ms.
        from pipeline.csvs.mapping_file import base_problem

        if problem := base_problem(value):
            raise SettingsError(f"--base: {problem}; begin it with https://")
    return value


def mapping_options(command: _Command) -> _Command:
    """Give a command the parameters ``pairs``, ``grouped``, ``require_images`` and ``base``."""
    for option in (
        click.option(
            "--base",
            metavar="URL",
            default="",
            callback=_checked_base,
            help="The address that images without a host are below, as Magento exports them.",
        ),
        click.option(
            "--require-images", is_flag=True, help="A product without an image is a problem."
        ),
        click.option(
            "--grouped",
            is_flag=True,
            help="With --map: rows below each other with the same number are one product.",
        ),
        click.option(
            "--map",
            "pairs",
            metavar="ROLE=HEADER",
            multiple=True,
            help="Which column is the number, the name, the images; images can be given again.",
        ),
    ):
        command = option(command)
    return command


def mapping_from(pairs: tuple[str, ...], grouped: bool) -> Mapping | None:
    """The mapping that the options give; None where there is none.

    Raises:
        SettingsError: they are wrong.
    """
    if not pairs and not grouped:
        return None
    # Imported here: `datapipe --help` does without it, and it costs 10 ms.
    from pipeline.csvs.mapping import given_mapping

    return given_mapping(pairs, grouped)


def columns_text(found: dict[str, Any]) -> str:
    """Which columns of a job's CSV were found, for people."""
    parts = (f"{role} {', '.join(found[role])}" for role in ("number", "name", "images"))
    sheet = f"sheet {found['sheet']!r}, " if found.get("sheet") else ""
    return f"{sheet}{found['mapping']} ({'; '.join(parts)})"
