"""What takedowns work on, put together by the application."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.database.connection import Database
from pipeline.engine.render_step import RenderStep
from pipeline.settings.values import Settings

if TYPE_CHECKING:
    from pipeline.takedowns.shared import SharedBlocklist


@dataclass(frozen=True)
class Takedowns:
    """``own`` is the step of the originals below the input folder, which have ``suffixes``.

    ``renders`` are all steps that make renditions, also those of users: what is withdrawn goes from
    each of them. ``shared`` is the blocklist of all instances, where there is one.
    """

    database: Database
    settings: Settings
    suffixes: frozenset[str]
    own: RenderStep
    renders: Sequence[RenderStep]
    shared: SharedBlocklist | None = None
