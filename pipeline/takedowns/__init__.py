"""Takedowns: originals that must never have renditions again, and the audit of who decided it.

``book``        the rows
``journal``     the same in a file, which outlives the database
``takeover``    comparing both
``targets``     what a person named
``quarantine``  moving originals out of the input folder and back
``removing``    carrying a takedown out
``restoring``   putting back what it took
``acts``        taking down, lifting, and finishing what was cut off
"""

from pipeline.takedowns.acts import (
    Lifted,
    TakenDown,
    finish,
    lift,
    take_down,
    takedowns,
    was_taken_down,
)
from pipeline.takedowns.takeover import take_over

__all__ = [
    "Lifted",
    "TakenDown",
    "finish",
    "lift",
    "take_down",
    "take_over",
    "takedowns",
    "was_taken_down",
]
