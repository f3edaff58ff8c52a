"""Environment variables, or ``.env``, to settings: read once at start.

An invalid value raises :class:`~pipeline.errors.SettingsError` here, with the variable's
name and the remedy, so that nothing has been touched when a person reads it.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from pipeline.errors import SettingsError
from pipeline.fetch.types import FetchLimits
from pipeline.settings.places import check_quarantine, refuse_nested
from pipeline.settings.values import (
    FETCH_VARIABLES,
    PREFIX,
    JobSettings,
    Settings,
    Variable,
    variables_of,
)


def load_settings(environ: Mapping[str, str] | None = None, cwd: Path | None = None) -> Settings:
    """Read every ``PIPELINE_*`` variable; the environment wins over ``.env`` in ``cwd``.

    Raises:
        SettingsError: a value is wrong, or a ``PIPELINE_*`` variable in ``.env`` is unknown.
    """
    cwd = Path.cwd() if cwd is None else cwd
    environ = os.environ if environ is None else environ
    written = {k: v for k, v in _read_dotenv(cwd / ".env").items() if k.startswith(PREFIX)}
    given = written | {k: v for k, v in environ.items() if k.startswith(PREFIX)}

    tables = (variables_of(Settings), variables_of(JobSettings), FETCH_VARIABLES)
    values, jobs, fetch = (_values(table, given, cwd) for table in tables)
    known = {PREFIX + variable.name for table in tables for variable in table.values()}
    _refuse_unknown(sorted(set(written) - known), known, cwd)
    settings = Settings(
        **values,
        jobs=JobSettings(**jobs),
        fetch=FetchLimits(**fetch),
        warnings=tuple(
            _unknown(name, known, "it has no effect") for name in sorted(set(given) - known)
        ),
    )
    refuse_nested(settings)
    _refuse_half_a_proxy(settings)
    if settings.jobs.result == "replace" and not settings.jobs.public_url:
        raise SettingsError(
            f"{PREFIX}JOB_RESULT=replace needs {PREFIX}PUBLIC_URL: a shop imports whole addresses; "
            "set it to the public address of the output folder"
        )
    if settings.blocklist_url == settings.database_url:
        raise SettingsError(
            f"{PREFIX}BLOCKLIST_DB and {PREFIX}DB name the same database; give the blocklist that "
            "instances share one of its own"
        )
    if settings.x_accel and settings.output_place.is_bucket:
        raise SettingsError(
            f"{PREFIX}X_ACCEL={settings.x_accel!r}: nginx sends files of a folder, and "
            f"{PREFIX}OUTPUT={settings.output_place.text!r} is a bucket; remove one of them, or "
            f"set {PREFIX}PRESIGN"
        )
    if _text(given, "QUARANTINE"):
        check_quarantine(settings)
    return settings


def _values(table: Mapping[str, Variable], given: Mapping[str, str], cwd: Path) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field, variable in table.items():
        text, default = _text(given, variable.name), variable.default
        if not text and default is None:
            continue
        if not text and default is not None:
            text = default if isinstance(default, str) else default(values)
        try:
            parse = variable.parse
            values[field] = parse(text, cwd) if variable.is_place else parse(text)
        except ValueError as error:
            shown = "" if variable.is_secret else f"={text!r}"
            raise SettingsError(f"{PREFIX}{variable.name}{shown}: {error}") from None
    return values


def _text(given: Mapping[str, str], name: str) -> str:
    # An empty variable is how compose files and CI systems spell "not set".
    return (given.get(PREFIX + name) or "").strip()


def _refuse_unknown(unknown: list[str], known: set[str], cwd: Path) -> None:
    """A typo in ``.env`` is an error. The environment may hold other programs' variables.

    Some CI systems set ``PIPELINE_...`` themselves, so of an unknown one there people are warned.
    """
    for name in unknown:
        raise SettingsError(f"{cwd / '.env'}: {_unknown(name, known, 'remove it')}")


def _unknown(name: str, known: set[str], otherwise: str) -> str:
    """What is said of a variable that is no setting: the nearest that is one, if any is near."""
    # Without the prefix, which would make all of them alike.
    near = difflib.get_close_matches(
        name.removeprefix(PREFIX), [each.removeprefix(PREFIX) for each in known], n=1
    )
    meant = f"did you mean {PREFIX}{near[0]}?" if near else otherwise
    return f"{name} is not a setting of Lockstep; {meant}"


def _refuse_half_a_proxy(settings: Settings) -> None:
    """Names without roles, or from anybody, would let people in whom nobody has logged in."""
    given = {
        "USER_HEADER": settings.user_header,
        "ROLES_HEADER": settings.roles_header,
        "PROXY_ADDRESSES": settings.proxy_addresses,
    }
    missing = [f"{PREFIX}{name}" for name, value in given.items() if not value]
    if missing and len(missing) < len(given):
        there = " and ".join(f"{PREFIX}{name}" for name, value in given.items() if value)
        raise SettingsError(
            f"{there}: this works only with {' and '.join(missing)} as well; set all three, or none"
        )


def _read_dotenv(path: Path) -> dict[str, str]:
    try:
        return {k: v for k, v in dotenv_values(path).items() if v is not None}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read ({error}); fix it or remove it") from None
