"""Takedowns: originals that must never have renditions again, and the audit of who decided it.

``repository``  the rows
``journal``     the same in a file, which survives the loss of the database
``takeover``    comparing both
``targets``     what a person named
``quarantine``  moving originals out of the input folder and back
``removing``    carrying out a takedown
``restoring``   putting back what it removed
``acts``        taking down, reinstating, and finishing what was interrupted
``audit``       finding takedowns, and the whole story of one
``context``     what the parts of this room work with, by name
``steps``       what a run does about takedowns before its own steps
"""

from pipeline.takedowns.acts import (
    Reinstated,
    TakenDown,
    finish,
    reinstate,
    take_down,
    takedown,
    takedowns,
    was_taken_down,
)
from pipeline.takedowns.takeover import take_over

__all__ = [
    "Reinstated",
    "TakenDown",
    "finish",
    "reinstate",
    "take_down",
    "take_over",
    "takedown",
    "takedowns",
    "was_taken_down",
]
