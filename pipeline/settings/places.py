"""Folders that must not overlap."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.errors import SettingsError
from pipeline.settings.values import PREFIX, Settings
from pipeline.storage.places import Place, contains, folder_place


def check_folders(settings: Settings) -> None:
    """Create the output folder, and refuse one that is not writable, before any work.

    Raises:
        SettingsError: the output folder cannot be created or written.
    """
    output = settings.output_place.folder
    if output is None:
        return  # a bucket is not created, and the first request says what is wrong
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
    kept = settings.quarantine_place
    for name, other in (("INPUT", settings.input_place), ("OUTPUT", settings.output_place)):
        if contains(other, kept) or contains(kept, other):
            raise SettingsError(
                f"{PREFIX}QUARANTINE={kept.text!r}: the quarantine folder must "
                f"not overlap with {PREFIX}{name}={other.text!r}; name another folder"
            )


def refuse_nested(settings: Settings) -> None:
    """Refuse an output or state folder that overlaps with the input folder.

    Renditions inside it would be scanned as originals, and those rendered again, forever. The
    real paths count: one folder may be a link to the other.

    Raises:
        SettingsError
    """
    source, target = settings.input_place, settings.output_place
    if contains(source, target) and contains(target, source):
        how = "is the same folder as"
    elif contains(source, target):
        how = "lies inside"
    elif contains(target, source):
        how = "contains"
    else:
        _refuse_state(settings, source, target)
        return
    raise SettingsError(
        f"{PREFIX}OUTPUT={target.text!r}: the output folder {how} "
        f"{PREFIX}INPUT={source.text!r}; name two folders side by side"
    )


def _refuse_state(settings: Settings, source: Place, target: Place) -> None:
    # In output/ its files would be strays, to be removed; in input/ they would be originals, unless
    # they are hidden there. Around either, cleaning it up would delete them as well.
    state = folder_place(settings.state_dir)
    is_hidden = False
    if source.folder is not None and contains(source, state):
        below = Path(os.path.realpath(settings.state_dir)).relative_to(
            os.path.realpath(source.folder)
        )
        is_hidden = any(part.startswith(".") for part in below.parts)
    if (
        (contains(source, state) and not is_hidden)
        or contains(target, state)
        or contains(state, source)
        or contains(state, target)
    ):
        raise SettingsError(
            f"{PREFIX}STATE={str(settings.state_dir)!r}: the state folder must not overlap with "
            f"{PREFIX}INPUT or {PREFIX}OUTPUT; name another folder"
        )
