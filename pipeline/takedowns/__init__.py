"""Takedowns: originals that must never have renditions again, and the audit of who decided it.

``book``        the rows
``quarantine``  moving originals out of the input folder and back
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
