"""Keeping in step as files change.

``changes``       what changed, and whether it is still being written
``events``        the file system's events as keys of originals
``instances``     following the other instances that share a blocklist
``lanes``         the thread that runs the pipeline, when files change or the page asks for it
``notifications`` which originals a bucket's store says have changed
``notifier``      tells the webhook of moderation what happened outside of runs
``own_steps``     the lane of the users' own steps, beside the watcher
``recipe_files``  whether the recipes, or the functions in them, have changed
``watcher``       the loop: wait, gather, run
"""

from pipeline.live.watcher import Watcher, WatchOptions

__all__ = ["WatchOptions", "Watcher"]
