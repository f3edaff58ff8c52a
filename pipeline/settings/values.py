"""Every setting, once: its field, its variable, its default and how its text is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import SettingsError
from pipeline.fetch.addresses import AllowList
from pipeline.fetch.types import FetchLimits
from pipeline.settings import parsing
from pipeline.settings.parsing import seconds, seconds_or_none, whole
from pipeline.storage.base import Store
from pipeline.storage.opening import open_store
from pipeline.storage.places import Place, place_of

PREFIX = "PIPELINE_"
# What happens to a new original that looks like a blocked one.
NEAR = ("hold", "takedown", "off")


class Variable(NamedTuple):
    """How one field is read. ``name`` lacks the prefix.

    ``default`` is the text that stands for an unset variable, or makes it from the values of the
    fields before; ``None`` keeps the default of the field itself. ``parse`` gets the working
    folder as well where the value ``is_place``. A secret never appears in a message.
    """

    name: str
    default: str | Callable[[Mapping[str, Any]], str] | None
    parse: Callable[..., Any]
    is_place: bool = False
    is_secret: bool = False


def _setting(
    name: str,
    default: str | Callable[[Mapping[str, Any]], str],
    parse: Callable[..., Any],
    is_secret: bool = False,
) -> Any:
    addresses = (parsing.database_url, parsing.database_url_or_none)
    is_place = parse in (parsing.path, place_of, parsing.paths, *addresses)
    variable = Variable(name, default, parse, is_place, is_secret)
    # `repr` of the settings may end in a log.
    return field(repr=not is_secret, metadata={"variable": variable})


def default_worker_memory_mb(max_pixels: int) -> int:
    """Megabytes of address space that one worker may map, from the pixel limit.

    A worker holds the decoded original (4 bytes a pixel), one working copy of it (orientation or
    colour), and renditions that are no larger: 12 bytes a pixel, beside 1,024 MB for the
    interpreter, its libraries and the file itself.
    """
    return 1024 + max_pixels * 12 // 1_000_000


@dataclass(frozen=True)
class JobSettings:
    """What jobs may hold and whom they notify.

    ``recipes_given`` and ``mappings_given`` are false for the defaults.
    """

    recipes: tuple[str, ...] = _setting("JOB_RECIPES", "half", parsing.names)
    recipes_given: bool = _setting("JOB_RECIPES", "", bool)
    result: str = _setting("JOB_RESULT", "add", parsing.one_of("add", "replace"))
    features: tuple[str, ...] = _setting("JOB_FEATURES", "", parsing.names_or_none)
    csv_drop: str = _setting("CSV_DROP", "lenient", parsing.one_of("off", "strict", "lenient"))
    max_rows: int = _setting("JOB_MAX_ROWS", "1000000", whole(1, 10**9, "rows", 1_000_000))
    max_images: int = _setting("JOB_MAX_IMAGES", "5000000", whole(1, 10**9, "images", 5_000_000))
    max_bytes: int = _setting(
        "JOB_MAX_BYTES", "1000000000", whole(1, 10**12, "bytes", 1_000_000_000)
    )
    require_images: bool = _setting("JOB_REQUIRE_IMAGES", "off", parsing.on_off)
    mappings_file: Path = _setting("CSV_MAPPINGS", "mappings.toml", parsing.path)
    mappings_given: bool = _setting("CSV_MAPPINGS", "", bool)
    fetch_s: float = _setting("JOB_FETCH_S", "21600", seconds)
    max_pixels: int = _setting(
        "FETCH_MAX_PIXELS", "100000000", whole(1, 10**11, "pixels", 100_000_000)
    )
    public_url: str = _setting("PUBLIC_URL", "", parsing.web_address)
    webhook_url: str = _setting("WEBHOOK_URL", "", parsing.web_address)
    webhook_secret: str = _setting("WEBHOOK_SECRET", "", parsing.webhook_secret, is_secret=True)
    webhook_timeout_s: float = _setting("WEBHOOK_TIMEOUT_S", "60", seconds)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where things are and how much may be used. Paths are absolute.

    ``jobs`` and ``fetch`` are tables of their own; see :class:`JobSettings` and
    :data:`FETCH_VARIABLES`.
    """

    input_place: Place = _setting("INPUT", "input", place_of)
    output_place: Place = _setting("OUTPUT", "output", place_of)
    database_url: str = _setting("DB", "sqlite:///db.sqlite", parsing.database_url)
    blocklist_url: str | None = _setting("BLOCKLIST_DB", "", parsing.database_url_or_none)
    instance: str = _setting(
        "INSTANCE",
        lambda values: parsing.instance_at(values["output_place"].text),
        parsing.instance,
    )
    recipes_file: Path = _setting("RECIPES", "recipes.toml", parsing.path)
    workers: int = _setting(
        "WORKERS", lambda values: str(parsing.processor_count()), parsing.workers
    )
    cluster: str = _setting("WORKERS", "", parsing.cluster)
    max_pixels: int = _setting("MAX_PIXELS", "200000000", whole(1, 10**11, "pixels", 200_000_000))
    max_frames: int = _setting("MAX_FRAMES", "1000", whole(1, 10**6, "frames", 1_000))
    max_removed_percent: float = _setting("MAX_REMOVED", "50", parsing.percent)
    render_timeout_s: float = _setting("RENDER_TIMEOUT_S", "60", seconds)
    worker_memory_mb: int = _setting(
        "WORKER_MEMORY_MB",
        lambda values: str(default_worker_memory_mb(values["max_pixels"])),
        whole(128, 10**6, "megabytes", 2_048),
    )
    sandbox: str = _setting("SANDBOX", "auto", parsing.one_of("auto", "off", "required"))
    function_reads: tuple[Path, ...] = _setting("FUNCTION_READS", "", parsing.paths)
    near: str = _setting("NEAR", "hold", parsing.one_of(*NEAR))
    quarantine_place: Place = _setting("QUARANTINE", "quarantine", place_of)
    quarantine_days: int | None = _setting("QUARANTINE_DAYS", "", parsing.days_or_none)
    moderation_webhook: str = _setting("MODERATION_WEBHOOK", "", parsing.web_address)
    moderation_webhook_secret: str = _setting(
        "MODERATION_WEBHOOK_SECRET", "", parsing.webhook_secret, is_secret=True
    )
    settle_ms: int = _setting("SETTLE_MS", "300", whole(10, 60_000, "milliseconds", 300))
    rescan_s: float = _setting("RESCAN_S", "300", seconds)
    state_dir: Path = _setting("STATE", ".lockstep", parsing.path)
    token: str = _setting("TOKEN", "", parsing.token, is_secret=True)
    user_header: str = _setting("USER_HEADER", "", parsing.header)
    roles_header: str = _setting("ROLES_HEADER", "", parsing.header)
    proxy_addresses: tuple[parsing.Network, ...] = _setting("PROXY_ADDRESSES", "", parsing.networks)
    hosts: tuple[str, ...] = _setting("HOSTS", "", parsing.hosts)
    max_connections: int = _setting(
        "MAX_CONNECTIONS",
        lambda values: str(parsing.connection_count()),
        whole(8, 10**6, "connections", 1_000),
    )
    x_accel: str = _setting("X_ACCEL", "", parsing.location)
    presign_s: int | None = _setting("PRESIGN", "off", parsing.on_off_or_seconds)
    report_token: str = _setting("REPORT_TOKEN", "", parsing.token, is_secret=True)
    notifications_token: str = _setting("NOTIFICATIONS_TOKEN", "", parsing.token, is_secret=True)
    reasons: tuple[str, ...] = _setting(
        "REASONS", "illegal,sexual,violence,harassment,copyright,privacy,other", parsing.phrases
    )
    jobs: JobSettings
    fetch: FetchLimits
    # What is odd about the variables, and wrong with none of them.
    warnings: tuple[str, ...] = ()

    @property
    def input_dir(self) -> Path:
        """The folder of originals.

        Raises:
            SettingsError: they are in a bucket, as for the two below.
        """
        return _folder("INPUT", self.input_place)

    @property
    def output_dir(self) -> Path:
        """The folder of renditions and result CSVs."""
        return _folder("OUTPUT", self.output_place)

    @property
    def quarantine_dir(self) -> Path:
        """The folder of originals that were taken down."""
        return _folder("QUARANTINE", self.quarantine_place)

    @property
    def journal_dir(self) -> Path:
        """The folder of the journal of takedowns: beside what was taken down, but for a bucket, to
        which nothing can be appended."""
        return self.quarantine_place.folder or self.state_dir

    @property
    def input_store(self) -> Store:
        """Where originals are. For one piece of work, as the two below: it remembers which folders
        are real."""
        return open_store(self.input_place)

    @property
    def output_store(self) -> Store:
        """Where renditions and result CSVs are published."""
        return open_store(self.output_place)

    @property
    def quarantine_store(self) -> Store:
        """Where originals are that were taken down."""
        return open_store(self.quarantine_place)


def _folder(name: str, place: Place) -> Path:
    if place.folder is None:
        raise SettingsError(
            f"{PREFIX}{name}={place.text!r}: this works with a folder only, and it is a bucket"
        )
    return place.folder


# Field of FetchLimits: its variable. Its default is that of the field.
FETCH_VARIABLES: dict[str, Variable] = {
    name: Variable(f"FETCH_{variable}", None, parse)
    for name, variable, parse in (
        ("allow", "ALLOW", AllowList.parse),
        ("ports", "PORTS", parsing.ports),
        ("rate_per_host_per_s", "RATE", parsing.rate),
        ("max_bytes", "MAX_BYTES", whole(1, 10**11, "bytes", 50_000_000)),
        ("connect_timeout_s", "CONNECT_TIMEOUT_S", seconds),
        ("stall_timeout_s", "STALL_TIMEOUT_S", seconds),
        ("total_timeout_s", "TIMEOUT_S", seconds),
        ("slow_bytes_per_s", "SLOW_BYTES_PER_S", whole(0, 10**9, "bytes", 1_000)),
        ("slow_for_s", "SLOW_FOR_S", seconds),
        ("concurrent", "CONCURRENT", whole(1, 1_000, "connections", 32)),
        ("concurrent_per_host", "PER_HOST", whole(1, 1_000, "connections", 6)),
        ("max_redirects", "REDIRECTS", whole(0, 20, "redirects", 5)),
        ("retries", "RETRIES", whole(0, 20, "retries", 3)),
        ("backoff_s", "BACKOFF_S", seconds_or_none),
        ("retry_after_max_s", "RETRY_AFTER_MAX_S", seconds_or_none),
        ("host_wait_max_s", "HOST_WAIT_MAX_S", seconds_or_none),
        ("host_faults_max", "HOST_FAULTS", whole(1, 10**6, "URLs", 20)),
        ("proxy_url", "PROXY", parsing.web_address),
    )
}


def variables_of(kind: type[Any]) -> dict[str, Variable]:
    """The variables of a dataclass whose fields are settings, by field."""
    return {
        known.name: known.metadata["variable"]
        for known in fields(kind)
        if "variable" in known.metadata
    }
