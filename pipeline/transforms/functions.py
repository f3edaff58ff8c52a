"""Functions of pixels: the user's own, and those that come with Lockstep.

The main process reads the source of a function's module and never runs it. A worker gets that text
with the task, so what it runs is what the fingerprint says, whatever happens to the file meanwhile;
and a confined worker needs no access to the project's folder, where the database is as well.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import inspect
import json
import linecache
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType
from typing import Any, NamedTuple

from pipeline.errors import FunctionError
from pipeline.text import shortened


class Module(NamedTuple):
    """A module as text."""

    name: str
    file: str
    source: str
    is_package: bool


class OptionFile(NamedTuple):
    """The content of the file that an option names."""

    option: str
    file: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Function:
    """A function with its options: plain data, which can be pickled and sent to a worker.

    ``name`` is what the key ``function`` says, ``target`` is ``module:function``, and ``options``
    is JSON. ``content`` says what it is made of: the SHA-256 of its module's source, or the version
    of one that comes with Lockstep and the SHA-256 of the files that its options name.
    """

    name: str
    target: str
    options: str = "{}"
    content: str = ""
    # Its module, and what that imports from beside itself.
    modules: tuple[Module, ...] = field(default=(), compare=False, repr=False)
    files: tuple[OptionFile, ...] = field(default=(), compare=False, repr=False)

    @property
    def fingerprint(self) -> str:
        """16 hex characters that change when what it makes could."""
        said = json.dumps([self.name, self.options, self.content])
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    @property
    def sources(self) -> list[str]:
        """The files that it was read from."""
        return [*(each.file for each in self.modules), *(each.file for each in self.files)]


class _Sent(MetaPathFinder, Loader):
    """Imports modules from the text that was sent with tasks."""

    def __init__(self) -> None:
        self.modules: dict[str, Module] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if (module := self.modules.get(name)) is None:
            return None
        spec = spec_from_loader(name, self, origin=module.file, is_package=module.is_package)
        assert spec is not None
        spec.has_location = True
        if spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(os.path.dirname(module.file))
        return spec

    def exec_module(self, module: ModuleType) -> None:
        _, file, source, _ = self.modules[module.__name__]
        # Tracebacks show the lines that run; a confined worker cannot read them from the file.
        linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file
        exec(compile(source, file, "exec", dont_inherit=True), vars(module))

    def add(self, modules: Sequence[Module]) -> bool:
        """Import these from now on; true if any was another before, and all are imported anew."""
        is_other = any(self.modules.get(module.name, module) != module for module in modules)
        if is_other:
            for name in self.modules:
                sys.modules.pop(name, None)
            self.modules.clear()
        for module in modules:
            if module.name not in self.modules:
                self.modules[module.name] = module
                sys.modules.pop(module.name, None)
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)
        return is_other


_sent = _Sent()
_loaded: dict[Function, Callable[..., Any]] = {}


def load(function: Function) -> Callable[..., Any]:
    """Import a function in a worker, with its options given.

    It stays loaded; a worker that outlives a change of the module imports it, and all that was
    sent with it, again.

    Raises:
        Exception: whatever its module raises.
    """
    if _sent.add(function.modules):
        _loaded.clear()
    if function not in _loaded:
        module, _, name = function.target.partition(":")
        found = getattr(importlib.import_module(module), name)
        files = {each.option: each.data for each in function.files}
        _loaded[function] = partial(found, **json.loads(function.options) | files)
    return _loaded[function]


@contextlib.contextmanager
def _apart() -> Iterator[None]:
    """Have what is printed go to standard error, and ignore warnings: they would be taken for those
    of a decoder."""
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def first_parameter(function: Function) -> str | None:
    """The name of what a function takes first; ``None`` where there is none, or no telling."""
    try:
        with _apart():
            return next(iter(inspect.signature(load(function)).parameters), None)
    except (Exception, SystemExit):  # which shows when it is called
        return None


def call(function: Function, image: object) -> Any:
    """What a function makes of an image. What it prints goes to standard error.

    Raises:
        FunctionError: it raised something, or cannot be imported.
    """
    try:
        with _apart():
            return load(function)(image)
    except (Exception, SystemExit) as error:
        last = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
        reason = f"{function.name}: {shortened(last, 300)}"
        if isinstance(error, PermissionError):
            reason += " (a function may read no other files than those it was allowed)"
        raise FunctionError(reason, traceback.format_exc()) from None
