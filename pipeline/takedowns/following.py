"""Following other instances: what they blocked goes here, and what they reinstated comes back."""

from __future__ import annotations

from pipeline.takedowns.acts import finish
from pipeline.takedowns.context import Takedowns
from pipeline.takedowns.listed import follow_lists
from pipeline.takedowns.sharing import Exchanged, exchange


def follow(context: Takedowns) -> Exchanged:
    """Exchange all that there is, and carry out what others blocked or unblocked.

    Takedowns are carried out after each page of a long list, and not after all of it.

    Raises:
        LockstepError: something cannot be carried out yet; the next run tries again.
    """
    done = Exchanged(is_more=True)
    while done.is_more and done.failed is None:
        one = exchange(context)
        if one.takedowns:
            finish(context)
        takedowns, hashes = done.takedowns + one.takedowns, done.hashes + one.hashes
        done = Exchanged(takedowns, hashes, one.is_more, one.failed)
    if done.hashes:
        follow_lists(context)
    return done
