"""Folders that must not overlap."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.errors import SettingsError
from pipeline.settings.values import PREFIX, Settings


def check_folders(settings: Settings) -> None:
    """Create the output folder, and refuse one that is not writable, before any work.

    Raises:
        SettingsError: the output folder cannot be created or written.
    """
    output = settings.output_dir
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"{PREFIX}OUTPUT={str(output)!r}: the folder cannot be created ({error.strerror}); "
            "name a folder that is writable"
        ) from None
    if not os.access(output, os.W_OK | os.X_OK):
        raise SettingsError(
            f"{PREFIX}OUTPUT={str(output)!r}: the folder is not writable; "
            "change its permissions or name another"
        )


def check_quarantine(settings: Settings) -> None:
    """Refuse a quarantine folder that overlaps with the originals or the renditions.

    The default is not refused before the first takedown: without takedowns it is not needed.

    Raises:
        SettingsError: what is kept there would become an original again, or be served.
    """
    kept = Path(os.path.realpath(settings.quarantine_dir))
    for name, folder in (("INPUT", settings.input_dir), ("OUTPUT", settings.output_dir)):
        other = Path(os.path.realpath(folder))
        if kept == other or other in kept.parents or kept in other.parents:
            raise SettingsError(
                f"{PREFIX}QUARANTINE={str(settings.quarantine_dir)!r}: the quarantine folder must "
                f"not overlap with {PREFIX}{name}={str(folder)!r}; name another folder"
            )


def refuse_nested(settings: Settings) -> None:
    """Refuse an output or state folder that overlaps with the input folder.

    Renditions inside it would be scanned as originals, and those rendered again, forever. The
    real paths count: one folder may be a link to the other.

    Raises:
        SettingsError
    """
    source = Path(os.path.realpath(settings.input_dir))
    target = Path(os.path.realpath(settings.output_dir))
    if source == target:
        how = "is the same folder as"
    elif source in target.parents:
        how = "lies inside"
    elif target in source.parents:
        how = "contains"
    else:
        _refuse_state(settings, source, target)
        return
    raise SettingsError(
        f"{PREFIX}OUTPUT={str(settings.output_dir)!r}: the output folder {how} "
        f"{PREFIX}INPUT={str(settings.input_dir)!r}; name two folders side by side"
    )


def _refuse_state(settings: Settings, source: Path, target: Path) -> None:
    # In output/ its files would be strays, to be removed; in input/ they would be originals, unless
    # they are hidden there. Around either, cleaning it up would delete them as well.
    state = Path(os.path.realpath(settings.state_dir))
    below = state.relative_to(source).parts if state.is_relative_to(source) else None
    if (
        (below is not None and not any(part.startswith(".") for part in below))
        or state.is_relative_to(target)
        or source.is_relative_to(state)
        or target.is_relative_to(state)
    ):
        raise SettingsError(
            f"{PREFIX}STATE={str(settings.state_dir)!r}: the state folder must not overlap with "
            f"{PREFIX}INPUT or {PREFIX}OUTPUT; name another folder"
        )
