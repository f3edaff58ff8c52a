"""Plain tables and target lines for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MET, MISSED, UNKNOWN = "met", "MISSED", "not measured"
_MIB = 1024 * 1024


@dataclass(frozen=True)
class Target:
    """A number that was promised, beside the number that was measured (None: not measured)."""

    what: str
    measured: float | None
    bound: float
    at_least: bool
    unit: str = ""

    @property
    def verdict(self) -> str:
        if self.measured is None:
            return UNKNOWN
        holds = self.measured >= self.bound if self.at_least else self.measured <= self.bound
        return MET if holds else MISSED

    def cells(self) -> list[str]:
        measured = "-" if self.measured is None else f"{self.measured:.3g}{self.unit}"
        sign = ">=" if self.at_least else "<="
        return [self.what, measured, f"{sign} {self.bound:g}{self.unit}", self.verdict]

    def record(self) -> dict[str, object]:
        return {
            "what": self.what,
            "measured": self.measured,
            "bound": self.bound,
            "at_least": self.at_least,
            "unit": self.unit.strip(),
            "verdict": self.verdict,
        }


def render(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with a title, its first column left and the others right aligned."""
    lines = [list(head), *[list(row) for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = [title]
    for number, line in enumerate(lines):
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        text.append("  ".join(cells).rstrip())
        if number == 0:
            text.append("  ".join("-" * width for width in widths))
    return "\n".join(text) + "\n"


def render_targets(targets: Sequence[Target]) -> str:
    return render(
        "Targets", ["target", "measured", "bound", "verdict"], [t.cells() for t in targets]
    )


def seconds(value: float) -> str:
    return f"{value:.2f} s" if value < 100 else f"{value:.0f} s"


def mebibytes(value: float) -> str:
    return f"{value / _MIB:.1f} MiB" if value else "-"


def ratio(value: float) -> str:
    return f"{value:.2f} x"
