"""Takedowns: originals that must never have renditions again, and the audit of who decided it.

``repository``  the rows
``journal``     the same in a file, which survives the loss of the database
``takeover``    comparing both
``targets``     what a person named
``quarantine``  moving originals out of the input folder and back
``notices``     the webhook that is told of takedowns, reports, holds and decisions
``purging``     deleting what was in the quarantine for long enough, and legal holds
``removing``    carrying out a takedown
``restoring``   putting back what it removed
``acts``        taking down, reinstating, and finishing what was interrupted
``audit``       finding takedowns, and the whole story of one
``review_rows`` the rows of reviews: what waits for a person, and what was decided
``reviews``     what was held or reported: publishing it, taking it down, undoing that
``pages``       the audit a page at a time
``twins``       other originals with the same bytes, or that look the same
``context``     what the parts of this room work with, by name
``events``      what happened to takedowns besides their states
``shared``      the database of the blocklist that instances share
``sharing``     taking over what other instances did, and telling them what was done here
``following``   carrying out what other instances did
``lists``       the rows of lists of hashes: importing, exporting, removing
``listed``      taking away what lists block, and releasing what they block no more
``holds``       what is held because it looks like blocked content: letting it go
``blocking``    pictures that takedowns block by their PDQ
``near``        what looks like a picture, to be taken down with it
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
