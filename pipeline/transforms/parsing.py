"""The keys ``function`` and ``options`` to a function, with every problem.

Modules are read and never run: :mod:`pipeline.transforms.functions` says why.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import hashlib
import importlib.util
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from pipeline.transforms.checks import (
    A_COLOUR,
    ANCHORS,
    Checks,
    NotAllowedError,
    colour,
    number,
    one_of,
    toml,
    unknown_key,
    whole,
    words,
)
from pipeline.transforms.functions import Function, Module, OptionFile

Makes: TypeAlias = Literal["rendition", "values"]

_TARGET = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
# Read by the workers as installed, and the same in all of them.
_NEVER_SENT = sys.stdlib_module_names | {"pipeline"}
# A file of an option goes to the workers with every task.
MAX_FILE_BYTES = 1_000_000
MAX_TEXT = 200
MAX_PATH = 1_000
_A_FILE = "the path of a file; a relative one begins beside recipes.toml"


class Shipped(NamedTuple):
    """A function that comes with Lockstep.

    Its ``version`` stands for its source: a new release renders again only what it would render
    differently. The options ``one_of`` exclude each other, and those in ``files`` name files.
    """

    target: str
    makes: Makes
    version: int
    options: Checks
    one_of: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


# By the name that `function` gives.
SHIPPED: dict[str, Shipped] = {
    "palette": Shipped(
        "pipeline.imaging.palette:palette",
        "values",
        1,
        {"count": ("a whole number from 1 to 256", whole(1, 256))},
    ),
    "pdq": Shipped("pipeline.imaging.pdq:pdq", "values", 1, {}),
    "size": Shipped("pipeline.imaging.size:size", "values", 1, {}),
    "thumbhash": Shipped("pipeline.imaging.thumbhash:thumbhash", "values", 1, {}),
    "watermark": Shipped(
        "pipeline.imaging.watermark:watermark",
        makes="rendition",
        version=1,
        options={
            "text": (f"text of at most {MAX_TEXT} characters", words(MAX_TEXT)),
            "picture": (_A_FILE, words(MAX_PATH)),
            "font": (_A_FILE, words(MAX_PATH)),
            "colour": (A_COLOUR, colour),
            "position": (f"one of {', '.join(ANCHORS)}", one_of(ANCHORS)),
            "opacity": ("a number above 0 and at most 1", number(1)),
            "margin": ("a number from 0 to 0.5, of the shorter side", number(0.5, or_zero=True)),
            "scale": ("a number above 0 and at most 1, of width and height", number(1)),
        },
        one_of=("text", "picture"),
        files=("picture", "font"),
    ),
}


class _ProblemError(Exception):
    """What is wrong with a function, for the list of problems of ``recipes.toml``."""


def parse_function(
    table: Mapping[str, Any], folder: Path, makes: Makes
) -> tuple[Function | None, list[str]]:
    """The function that the keys ``function`` and ``options`` of a table name, and the problems.

    Its content is the source of its module, which is looked for in ``folder`` first; of one that
    comes with Lockstep it is its version, and the files that its options name. Nothing is imported.
    """
    if "function" not in table:
        return None, ["options: are those of a function, and it has none"] * ("options" in table)
    target = table["function"]
    shipped = SHIPPED.get(target) if isinstance(target, str) else None
    try:
        options = _options(table.get("options", {}))
        if shipped is None:
            return _own(target, options, folder, makes), []
        return _shipped(target, shipped, options, folder, makes)
    except _ProblemError as problem:
        return None, [str(problem)]


def _options(given: object) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise _ProblemError(
            f"options = {toml(given)}: must be a table, such as {{ text = 'ACME' }}"
        )
    for name, value in given.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            raise _ProblemError(
                f"options.{name} = {toml(value)}: must be text, a finite number, true or false, "
                "or a list or table of those"
            ) from None
    return given


def _text_of(options: Mapping[str, Any]) -> str:
    return json.dumps(options, sort_keys=True, separators=(",", ":"))


def _shipped(
    target: str, shipped: Shipped, options: dict[str, Any], folder: Path, makes: Makes
) -> tuple[Function | None, list[str]]:
    if shipped.makes != makes:
        raise _ProblemError(f'function = "{target}": makes {_MAKES[shipped.makes]}{_others(makes)}')
    problems, values, files = [], {}, []
    for name, given in options.items():
        try:
            if name not in shipped.options:
                raise _ProblemError(unknown_key(name, shipped.options, f"an option of {target}"))
            allowed, check = shipped.options[name]
            values[name] = check(given)
            if name in shipped.files:
                files.append(_read(name, folder / given))
        except NotAllowedError:
            problems.append(f"options.{name} = {toml(given)}: must be {allowed}")
        except _ProblemError as problem:
            problems.append(f"options.{name}: {problem}")
    if shipped.one_of and len([name for name in shipped.one_of if name in options]) != 1:
        problems.append(f"options: {target} needs one of {', '.join(shipped.one_of)}")
    if problems:
        return None, problems
    parts = [str(shipped.version), *(hashlib.sha256(each.data).hexdigest() for each in files)]
    content = " ".join(parts)
    text = _text_of(values)
    return Function(target, shipped.target, text, content, files=tuple(files)), []


_MAKES = {"rendition": "a picture, not values", "values": "values, not a picture"}


def _others(makes: Makes) -> str:
    names = [name for name, shipped in SHIPPED.items() if shipped.makes == makes]
    return f"; of those that come with Lockstep, these do: {', '.join(names)}" if names else ""


def _read(option: str, file: Path) -> OptionFile:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise _ProblemError(f"{file} cannot be read ({error.strerror})") from None
    if len(data) > MAX_FILE_BYTES:
        raise _ProblemError(
            f"{file} has {len(data):,} bytes; give a smaller file, of {MAX_FILE_BYTES:,} at most"
        )
    return OptionFile(option, str(file), data)


def _own(target: object, options: dict[str, Any], folder: Path, makes: Makes) -> Function:
    at = f"function = {toml(target)}"
    if not isinstance(target, str) or not _TARGET.fullmatch(target):
        others = _others(makes)
        raise _ProblemError(f'{at}: must be "module:name", such as "functions:stamp"{others}')
    name = target.partition(":")[0]
    root = _root_of(name, folder)
    if root is None:
        file = folder.joinpath(*name.split(".")).with_suffix(".py")
        raise _ProblemError(f"{at}: there is no module {name}; create {file}, or install it")
    try:
        modules = _modules(name, root)
    except SyntaxError as error:
        where = f"{error.filename}, line {error.lineno}"
        raise _ProblemError(f"{at}: {where}: {error.msg}") from None
    except (OSError, ValueError) as error:
        raise _ProblemError(f"{at}: a module cannot be read ({error})") from None
    source = modules[0].source
    _check_call(at, ast.parse(source), target, options, modules[0].file)
    content = hashlib.sha256(source.encode()).hexdigest()
    return Function(target, target, _text_of(options), content, modules)


def _root_of(name: str, folder: Path) -> Path | None:
    """The folder, such as ``folder`` or one of ``sys.path``, that a module is to be found in."""
    if _module_in(folder, name):
        return folder
    with contextlib.suppress(ImportError, ValueError):
        # Runs nothing: the packages of a module are run to find it, but this name has none.
        spec = importlib.util.find_spec(name.partition(".")[0])
        if spec is not None and spec.origin is not None:
            root = Path(spec.origin).parents[spec.submodule_search_locations is not None]
            return root if _module_in(root, name) else None
    return None


def _module_in(root: Path, name: str) -> Path | None:
    place = str(root.joinpath(*name.split(".")))
    files = (Path(place, "__init__.py"), Path(f"{place}.py"))
    return next((file for file in files if file.is_file()), None)


def _modules(name: str, root: Path) -> tuple[Module, ...]:
    """A module first, and then what it imports from the same folder, and what that does.

    Of an installed one nothing else: that can be read in the workers.

    Raises:
        OSError, SyntaxError, ValueError: one of them cannot be read.
    """
    is_installed = name.partition(".")[0] in _NEVER_SENT or root.name.endswith("-packages")
    found: dict[str, Module] = {}
    coming = [name]
    while coming:
        each = coming.pop()
        file = _module_in(root, each)
        if each in found or file is None:
            continue
        source = importlib.util.decode_source(file.read_bytes())
        tree = ast.parse(source, str(file))
        is_package = file.name == "__init__.py"
        found[each] = Module(each, str(file), source, is_package)
        if is_installed:
            break
        inside = each if is_package else each.rpartition(".")[0]
        for path in (*_imports(tree, inside), each):
            parts = path.split(".")
            if parts[0] not in _NEVER_SENT:
                coming += [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
    parents = {each.rpartition(".")[0] for each in found} - {""}
    # Folders are packages also without an `__init__.py`.
    for each in parents - {*found} if not is_installed else ():
        found[each] = Module(each, str(root.joinpath(*each.split("."), "__init__.py")), "", True)
    return tuple(found.values())


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            with contextlib.suppress(ImportError):  # beyond the top: the worker will say so
                if node.level:
                    base = importlib.util.resolve_name("." * node.level + base, package)
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names)


def _check_call(
    at: str, tree: ast.Module, target: str, options: Mapping[str, Any], file: str
) -> None:
    """Check, as far as can be seen without running it, that a function takes these options."""
    called = target.partition(":")[2]
    bound = set(_bound(tree))
    if called not in bound and "*" not in bound:
        raise _ProblemError(f"{at}: {file} has no {called}{_meant(called, bound)}")
    defined = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == called]
    if not defined or defined[-1].decorator_list:
        return
    given = defined[-1].args
    positional = [*given.posonlyargs, *given.args]
    by_name = [arg.arg for arg in (*positional[1:], *given.kwonlyargs)]
    missing = positional[1 : len(positional) - len(given.defaults)]
    missing += [a for a, d in zip(given.kwonlyargs, given.kw_defaults, strict=True) if d is None]
    for arg in missing:
        if arg.arg not in options:
            raise _ProblemError(f"options: {target} needs {arg.arg}")
    for name in options:
        if name not in by_name and given.kwarg is None:
            problem = unknown_key(name, by_name, f"an option of {target}")
            raise _ProblemError(f"options.{name}: {problem}")


def _bound(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).partition(".")[0]
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def _meant(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""
