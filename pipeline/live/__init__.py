"""Keeping in step as files change.

``changes``    what changed, and whether it is still being written
``events``     the file system's events as keys of originals
``own_steps``  the lane of the users' own steps, beside the watcher
``watcher``    the loop: wait, gather, run
"""

from pipeline.live.watcher import Watcher, WatchOptions

__all__ = ["WatchOptions", "Watcher"]
