"""A renderer that misbehaves, for the processes that a test starts."""

# For a `sitecustomize.py`, which every Python loads that is started with its folder on the path, so
# also the workers' fork server. What comes after it defines `patch(module)`, which is called as
# soon as the renderer is loaded.
FINDER = """
import importlib.abc
import importlib.machinery
import sys


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "pipeline.imaging.render":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def load_and_patch(module):
            load(module)
            patch(module)

        spec.loader.exec_module = load_and_patch
        return spec


sys.meta_path.insert(0, Finder())
"""
