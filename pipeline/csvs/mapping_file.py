"""The file of named mappings (``PIPELINE_CSV_MAPPINGS``): a TOML table for each.

::

    [supplier]
    number = "Art. No."
    name = "Item"
    images = ["Photo 1", "Photo 2"]
    grouped = true     # rows below each other with the same number are one product
    base = "https://shop.example/media"   # what images without a host are below
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import sys
from collections.abc import Iterator
from collections.abc import Mapping as Table
from pathlib import Path
from typing import Any

from pipeline.csvs.mapping import KNOWN, ROLES, Mapping
from pipeline.errors import MappingsError, OutputError
from pipeline.fetch.urls import url_problem
from pipeline.names import key_of
from pipeline.storage.base import replaced
from pipeline.storage.folder_store import FolderStore

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

VARIABLE = "PIPELINE_CSV_MAPPINGS"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_EXAMPLE = f'for example {ROLES[0]} = "SKU", {ROLES[1]} = "Title", {ROLES[2]} = ["Image 1"]'


def read_mappings(path: Path, is_given: bool = True) -> tuple[Mapping, ...]:
    """The named mappings of a file, in order; none where it is missing and not ``is_given``.

    Raises:
        MappingsError: it cannot be read, or is wrong; the message names the table and the key.
    """
    try:
        document: dict[str, Any] = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        if not is_given:
            return ()
        raise MappingsError(f"{VARIABLE}={str(path)!r}: there is no such file; create it") from None
    except OSError as error:
        raise MappingsError(
            f"{VARIABLE}={str(path)!r}: the file cannot be read ({error.strerror}); "
            "change its permissions"
        ) from None
    except UnicodeDecodeError:
        raise MappingsError(
            f"{VARIABLE}={str(path)!r}: the file is not UTF-8; save it as UTF-8"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise MappingsError(
            f"{VARIABLE}={str(path)!r}: the file is not TOML ({error}); correct it"
        ) from None
    return tuple(_mapping(path, label, table) for label, table in document.items())


def name_problem(label: str) -> str | None:
    """What is wrong with the name of a mapping, and what to do; None if it is fine."""
    if not _NAME.fullmatch(label):
        return f"{label!r} cannot be a name; use at most 64 letters, digits, _ and -"
    if label in {known.mapping.label for known in KNOWN}:
        return f"{label!r} is the name of headers that are known already; choose another"
    return None


def base_problem(base: str) -> str | None:
    """What is wrong with the address that images without a host are below; None if it is fine."""
    if not base.lower().startswith(("http://", "https://")) or url_problem(base):
        return f"{base!r} is not an http or https address"
    return None


def add_mapping(path: Path, mapping: Mapping) -> None:
    """Add a named mapping to the end of a file; what is there stays.

    Raises:
        MappingsError: the name is taken or cannot be one, or the file is wrong.
        OutputError: the file cannot be written.
    """
    if problem := name_problem(mapping.label):
        raise MappingsError(problem)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.parent):
            there = read_mappings(path, is_given=False)
            if mapping in there:
                return
            if mapping.label in {each.label for each in there}:
                raise MappingsError(
                    f"{path}: there is a mapping {mapping.label!r} already; choose another name"
                )
            before = path.read_text("utf-8-sig") if path.exists() else ""
            gap = "\n" if before else ""
            text = before + ("" if not before or before.endswith("\n") else "\n") + gap
            store = FolderStore(path.parent.resolve())
            with replaced(store, key_of(path.name)) as file:
                file.write((text + _toml(mapping)).encode("utf-8"))
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror}); change its permissions, or name "
            f"another file in {VARIABLE}"
        ) from None


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Two people may remember something at the same time: one after the other."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _mapping(path: Path, label: str, table: object) -> Mapping:
    where = f"{VARIABLE}={str(path)!r}: [{label}]"
    if problem := name_problem(label):
        raise MappingsError(f"{where}: {problem}")
    if not isinstance(table, dict):
        raise MappingsError(f"{where}: must be a table with columns, {_EXAMPLE}")
    unknown = sorted(set(table) - {*ROLES, "grouped", "base"})
    if unknown:
        raise MappingsError(
            f"{where} {unknown[0]}: is not a key of a mapping; use {', '.join(ROLES)}, grouped "
            "and base"
        )
    grouped = table.get("grouped", False)
    if not isinstance(grouped, bool):
        raise MappingsError(f"{where} grouped: must be true or false")
    base = table.get("base", "")
    if not isinstance(base, str) or (base and base_problem(base)):
        raise MappingsError(f"{where} base: must be an address, such as https://shop.example/media")
    number, name, images = (_headers(where, table, role) for role in ROLES)
    return Mapping(label, number, name, images, grouped, base)


def _headers(where: str, table: Table[str, Any], role: str) -> tuple[str, ...]:
    value = table.get(role)
    headers = [value] if isinstance(value, str) else value
    if (
        not isinstance(headers, list)
        or not headers
        or not all(isinstance(header, str) and header.strip() for header in headers)
    ):
        raise MappingsError(
            f"{where} {role}: must be the header of a column, or a list of headers, {_EXAMPLE}"
        )
    return tuple(headers)


def _toml(mapping: Mapping) -> str:
    # A JSON text is a basic string of TOML as well, but for DEL.
    lines = [f"[{mapping.label}]"]
    for role in ROLES:
        headers = json.dumps(getattr(mapping, role), ensure_ascii=False)
        lines.append(f"{role} = {headers}".replace("\x7f", "\\u007f"))
    if mapping.grouped:
        lines.append("grouped = true")
    if mapping.base:
        lines.append(f"base = {json.dumps(mapping.base)}")
    return "\n".join(lines) + "\n"
