"""Settings: environment variables (or ``.env``) with the prefix ``PIPELINE_``, read once at start.

A value that cannot work raises :class:`SettingsError` here, with the variable's name and the
remedy, so that nothing has been touched when a person reads it.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from dotenv import dotenv_values

from pipeline.errors import SettingsError

T = TypeVar("T")

PREFIX = "PIPELINE_"


@dataclass(frozen=True)
class JobSettings:
    """What jobs may hold and whom they tell. ``recipes_given`` is false for the default alone."""

    recipes: tuple[str, ...]
    recipes_given: bool
    max_rows: int
    max_images: int
    max_bytes: int
    public_url: str
    webhook_url: str
    webhook_secret: str = field(repr=False)
    webhook_timeout_s: float


@dataclass(frozen=True)
class FetchSettings:
    """What the fetch may ask for and take; see :class:`pipeline.jobs.fetch_types.FetchLimits`."""

    allow: str
    ports: frozenset[int]
    rate_per_s: float | None
    max_bytes: int
    max_pixels: int
    connect_timeout_s: float
    stall_timeout_s: float
    timeout_s: float
    slow_bytes_per_s: int
    slow_for_s: float
    concurrent: int
    per_host: int
    redirects: int
    retries: int
    backoff_s: float
    retry_after_max_s: float
    host_wait_max_s: float
    host_faults: int
    proxy: str | None = field(repr=False)


@dataclass(frozen=True)
class Settings:
    """Where things are and how much may be used. Paths are absolute.

    The field ``input_dir`` is ``PIPELINE_INPUT``, and so on: see :func:`load_settings`.
    """

    input_dir: Path
    output_dir: Path
    database_url: str
    recipes_file: Path
    workers: int
    max_pixels: int
    max_frames: int
    max_removed_percent: float
    render_timeout_s: float
    worker_memory_mb: int
    state_dir: Path
    jobs: JobSettings
    fetch: FetchSettings


def load_settings(environ: Mapping[str, str] | None = None, cwd: Path | None = None) -> Settings:
    """Read every ``PIPELINE_*`` variable; the environment wins over ``.env`` in ``cwd``.

    Raises:
        SettingsError: a value is wrong, or a ``PIPELINE_*`` variable in ``.env`` is unknown.
    """
    cwd = Path.cwd() if cwd is None else cwd
    environ = os.environ if environ is None else environ
    written = {k: v for k, v in _read_dotenv(cwd / ".env").items() if k.startswith(PREFIX)}
    values = written | {k: v for k, v in environ.items() if k.startswith(PREFIX)}

    known: set[str] = set()

    def read(name: str, default: str, parse: Callable[[str], T]) -> T:
        known.add(PREFIX + name)
        # An empty variable is how compose files and CI systems spell "not set".
        text = (values.get(PREFIX + name) or "").strip() or default
        try:
            return parse(text)
        except ValueError as error:
            raise SettingsError(f"{PREFIX}{name}={text!r}: {error}") from None

    max_pixels = read("MAX_PIXELS", "200000000", _whole(1, 10**11, "pixels, as 200000000"))
    settings = Settings(
        input_dir=read("INPUT", "input", lambda text: _path(text, cwd)),
        output_dir=read("OUTPUT", "output", lambda text: _path(text, cwd)),
        database_url=read("DB", "sqlite:///db.sqlite", lambda text: _database_url(text, cwd)),
        recipes_file=read("RECIPES", "recipes.toml", lambda text: _path(text, cwd)),
        workers=read("WORKERS", str(_processor_count()), _whole(1, 256, "processes, as 4")),
        max_pixels=max_pixels,
        max_frames=read("MAX_FRAMES", "1000", _whole(1, 10**6, "frames of an animation, as 1000")),
        max_removed_percent=read("MAX_REMOVED", "50", _percent),
        render_timeout_s=read("RENDER_TIMEOUT_S", "60", _seconds),
        worker_memory_mb=read(
            "WORKER_MEMORY_MB",
            str(default_worker_memory_mb(max_pixels)),
            _whole(128, 10**6, "megabytes, as 2048"),
        ),
        state_dir=read("STATE", ".lockstep", lambda text: _path(text, cwd)),
        jobs=_job_settings(read, (values.get(PREFIX + "JOB_RECIPES") or "").strip() != ""),
        fetch=_fetch_settings(read),
    )
    # A typo in `.env` is ours to tell. The environment may hold other programs' PIPELINE_* (some CI
    # systems set them), so an unknown one there is let be.
    for name in sorted(set(written) - known):
        near = difflib.get_close_matches(name, known, n=1)
        meant = f"did you mean {near[0]}?" if near else "take it out"
        raise SettingsError(f"{cwd / '.env'}: {name} is no setting of Lockstep; {meant}")
    _refuse_nested(settings)
    return settings


# Reads one variable: its name without the prefix, its default, and what turns it into a value.
_Read = Callable[[str, str, Callable[[str], Any]], Any]


def _job_settings(read: _Read, recipes_given: bool) -> JobSettings:
    many = _whole(1, 10**9, "rows or images, as 1000000")
    return JobSettings(
        recipes=read("JOB_RECIPES", "half", _names),
        recipes_given=recipes_given,
        max_rows=read("JOB_MAX_ROWS", "1000000", many),
        max_images=read("JOB_MAX_IMAGES", "5000000", many),
        max_bytes=read("JOB_MAX_BYTES", "1000000000", _whole(1, 10**12, "bytes, as 1000000000")),
        public_url=read("PUBLIC_URL", "", _web_address),
        webhook_url=read("WEBHOOK_URL", "", _web_address),
        webhook_secret=read("WEBHOOK_SECRET", "", str),
        webhook_timeout_s=read("WEBHOOK_TIMEOUT_S", "60", _seconds),
    )


def _fetch_settings(read: _Read) -> FetchSettings:
    return FetchSettings(
        allow=read("FETCH_ALLOW", "", _allow_list),
        ports=read("FETCH_PORTS", "80,443", _ports),
        rate_per_s=read("FETCH_RATE", "0", _rate),
        max_bytes=read("FETCH_MAX_BYTES", "50000000", _whole(1, 10**11, "bytes, as 50000000")),
        max_pixels=read("FETCH_MAX_PIXELS", "100000000", _whole(1, 10**11, "pixels, as 100000000")),
        connect_timeout_s=read("FETCH_CONNECT_TIMEOUT_S", "5", _seconds),
        stall_timeout_s=read("FETCH_STALL_TIMEOUT_S", "20", _seconds),
        timeout_s=read("FETCH_TIMEOUT_S", "120", _seconds),
        slow_bytes_per_s=read("FETCH_SLOW_BYTES_PER_S", "1000", _whole(0, 10**9, "bytes, as 1000")),
        slow_for_s=read("FETCH_SLOW_FOR_S", "20", _seconds),
        concurrent=read("FETCH_CONCURRENT", "32", _whole(1, 1000, "connections, as 32")),
        per_host=read("FETCH_PER_HOST", "6", _whole(1, 1000, "connections, as 6")),
        redirects=read("FETCH_REDIRECTS", "5", _whole(0, 20, "redirects, as 5")),
        retries=read("FETCH_RETRIES", "3", _whole(0, 20, "retries, as 3")),
        backoff_s=read("FETCH_BACKOFF_S", "0.5", _seconds_or_none),
        retry_after_max_s=read("FETCH_RETRY_AFTER_MAX_S", "120", _seconds_or_none),
        host_wait_max_s=read("FETCH_HOST_WAIT_MAX_S", "600", _seconds_or_none),
        host_faults=read("FETCH_HOST_FAULTS", "20", _whole(1, 10**6, "URLs, as 20")),
        proxy=read("FETCH_PROXY", "", _web_address) or None,
    )


def default_worker_memory_mb(max_pixels: int) -> int:
    """Megabytes of address space that one worker may map, from the pixel limit.

    A worker holds the decoded original (4 bytes a pixel), one working copy of it (orientation or
    colour), and renditions that are no larger: 12 bytes a pixel, beside 1,024 MB for the
    interpreter, its libraries and the file itself.
    """
    return 1024 + max_pixels * 12 // 1_000_000


def check_folders(settings: Settings) -> None:
    """Make the output folder, and refuse one that cannot be written, before any work.

    Raises:
        SettingsError: the output folder cannot be made or written.
    """
    output = settings.output_dir
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"{PREFIX}OUTPUT={str(output)!r}: the folder cannot be made ({error.strerror}); "
            "name a folder that can be written"
        ) from None
    if not os.access(output, os.W_OK | os.X_OK):
        raise SettingsError(
            f"{PREFIX}OUTPUT={str(output)!r}: the folder cannot be written; "
            "change its rights or name another"
        )


def _read_dotenv(path: Path) -> dict[str, str]:
    try:
        return {k: v for k, v in dotenv_values(path).items() if v is not None}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read ({error}); mend it or take it away") from None


def _processor_count() -> int:
    # A container or taskset may leave us fewer processors than the machine has.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _path(text: str, cwd: Path) -> Path:
    if "\0" in text:
        raise ValueError("a path cannot hold a NUL character; name a folder")
    return Path(os.path.normpath(cwd / Path(text).expanduser()))


def _database_url(text: str, cwd: Path) -> str:
    remedy = (
        "give sqlite:///FILE, as sqlite:///db.sqlite, or postgresql://USER:PASSWORD@HOST/DATABASE"
    )
    scheme, found, rest = text.partition("://")
    if not found or scheme.split("+")[0] not in ("sqlite", "postgresql"):
        raise ValueError(f"not a database that Lockstep knows; {remedy}")
    if not text.startswith("sqlite"):
        return text
    file = rest.removeprefix("/")
    if not rest.startswith("/") or file in ("", ":memory:"):
        raise ValueError(f"the tables must outlive the run, so a file is needed; {remedy}")
    path = _path(file, cwd)
    if path.is_dir():
        raise ValueError(f"this is a folder; {remedy}")
    if not path.parent.is_dir():
        raise ValueError(f"the folder {str(path.parent)!r} does not exist; make it, or {remedy}")
    return f"sqlite:///{path}"


def _whole(low: int, high: int, example: str) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text.replace("_", ""))
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise ValueError(f"give a whole number from {low} to {high} of {example}")
        return value

    return parse


def _percent(text: str) -> float:
    try:
        value = float(text.rstrip("% "))
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise ValueError("give a percentage from 0 to 100, as 50")
    return value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 86_400:
        raise ValueError("give seconds from 0.1 to 86400, as 60")
    return value


def _seconds_or_none(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 3_600:
        raise ValueError("give seconds from 0 to 3600, as 5")
    return value


def _rate(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100_000:
        raise ValueError("give requests a second for one host, as 5, or 0 for as many as come")
    return value or None


def _names(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part for part in re.split(r"[,\s]+", text) if part))
    if not names:
        raise ValueError("give names of recipes parted by commas, as half,thumb")
    return names


def _ports(text: str) -> frozenset[int]:
    try:
        ports = {int(part) for part in re.split(r"[,\s]+", text) if part}
    except ValueError:
        ports = {0}
    if not all(0 < port < 65_536 for port in ports):
        raise ValueError("give ports from 1 to 65535 parted by commas, as 8080,8443")
    return frozenset(ports | {80, 443})


def _web_address(text: str) -> str:
    if text and not text.lower().startswith(("http://", "https://")):
        raise ValueError("give an address that begins with https:// or http://")
    return text


def _allow_list(text: str) -> str:
    if text:
        from pipeline.jobs.addresses import AllowList

        AllowList.parse(text)
    return text


def _refuse_nested(settings: Settings) -> None:
    # Renditions inside input/ would be scanned as originals, and those rendered again, for ever.
    # The real paths count: one folder may be a link to the other.
    source = Path(os.path.realpath(settings.input_dir))
    target = Path(os.path.realpath(settings.output_dir))
    if source == target:
        how = "is the same folder as"
    elif source in target.parents:
        how = "lies inside"
    elif target in source.parents:
        how = "holds"
    else:
        _refuse_state(settings, source, target)
        return
    raise SettingsError(
        f"{PREFIX}OUTPUT={str(settings.output_dir)!r}: the output folder {how} "
        f"{PREFIX}INPUT={str(settings.input_dir)!r}; name two folders side by side"
    )


def _refuse_state(settings: Settings, source: Path, target: Path) -> None:
    # In output/ its files would be strays, to be removed; in input/ they would be originals, unless
    # they are hidden there. Around either, clearing it up would clear them up as well.
    state = Path(os.path.realpath(settings.state_dir))
    below = state.relative_to(source).parts if state.is_relative_to(source) else None
    if (
        (below is not None and not any(part.startswith(".") for part in below))
        or state.is_relative_to(target)
        or source.is_relative_to(state)
        or target.is_relative_to(state)
    ):
        raise SettingsError(
            f"{PREFIX}STATE={str(settings.state_dir)!r}: the state folder needs a place of its "
            f"own, apart from {PREFIX}INPUT and {PREFIX}OUTPUT; name another folder"
        )
