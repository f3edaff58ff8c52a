"""Takedowns: originals that must never have renditions again, and the audit of who decided it.

``book``        the rows
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

__all__ = ["Lifted", "TakenDown", "finish", "lift", "take_down", "takedowns", "was_taken_down"]
