"""Keeping in step as files change.

``changes``       what changed, and whether it is still being written
``events``        the file system's events as keys of originals
``recipe_files``  whether the recipes, or the functions in them, have changed
``watcher``       the loop: wait, gather, run
"""

from pipeline.live.watcher import Watcher, WatchOptions

__all__ = ["WatchOptions", "Watcher"]
