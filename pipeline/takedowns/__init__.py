"""Takedowns: originals that must never have renditions again, and the audit of who decided it.

``repository``  the rows
``journal``     the same in a file, which survives the loss of the database
``takeover``    comparing both
``targets``     what a person named
``quarantine``  moving originals out of the input folder and back
``removing``    carrying out a takedown
``restoring``   putting back what it removed
``acts``        taking down, reinstating, and finishing what was interrupted
``context``     what the parts of this room work with, by name
``holds``       what is held because it looks like blocked content: letting it go
``near``        what looks like a picture, to be taken down with it
``steps``       what a run does about takedowns before its own steps
"""

from pipeline.takedowns.acts import (
    Reinstated,
    TakenDown,
    finish,
    reinstate,
    take_down,
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
    "takedowns",
    "was_taken_down",
]
