"""How the folder of originals differs from its table."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.storage.walking import Passed


@dataclass
class Difference:
    """How the folder differs from the table.

    Paths of removed originals are collected, never files.
    """

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: list[str] = field(default_factory=list)
    passed: Passed = field(default_factory=Passed)
    # Originals were there, and now neither one of them nor a CSV is.
    is_empty: bool = False

    @property
    def known(self) -> int:
        """How many originals the table had."""
        return self.changed + self.unchanged + len(self.removed)
