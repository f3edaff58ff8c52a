"""What must hold of a project that is in step, looked at from outside.

Nothing of ``pipeline`` is imported: sizes, names and formats are worked out here once more.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import sys
from collections.abc import Collection, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageStat

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FORM_OF_SUFFIX = {suffix[1:]: form for suffix, form in Image.registered_extensions().items()}
FORMS = ("JPEG", "PNG", "WEBP", "GIF", "AVIF", "BMP", "TIFF")
# Made by the product itself, at the top of `output/`.
OWN_FILES = {".lockstep.json"}
TEMPORARY = ".lockstep-"
# Colours are 35 levels apart; JPEG, WebP and AVIF move them by a few.
COLOUR_TOLERANCE = 12
Shape = tuple[str, tuple[int, int]]  # format, size in pixels


class Seen(NamedTuple):
    """A file; ``shape`` is ``None`` where it is no picture, ``colour`` its mean one."""

    sha256: str
    size_bytes: int
    shape: Shape | None
    colour: list[float]


def faults(root: Path, blocked: Collection[str] = ()) -> list[str]:
    """What does not hold in the project at ``root``; ``blocked``: SHA-256 that were taken down.

    Every problem begins with its kind and a colon.
    """
    look = _Look(root, blocked)
    parts = (
        *(look.leftovers, look.renditions, look.features, look.strays),
        *(look.database, look.takedowns),
    )
    return [fault for part in parts for fault in part()]


def query(root: Path, sql: str) -> list[Any]:
    """Rows of the project's database, which is only read."""
    connection = sqlite3.connect(f"file:{root / 'db.sqlite'}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    with contextlib.closing(connection):
        return connection.execute(sql).fetchall()


def seen(file: Path) -> Seen:
    """Look at a file."""
    data, shape, colour = file.read_bytes(), None, []
    with contextlib.suppress(OSError, SyntaxError, ValueError), Image.open(file) as image:
        colour = ImageStat.Stat(image.convert("RGB")).mean
        shape = image.format or "", image.size
    return Seen(hashlib.sha256(data).hexdigest(), len(data), shape, colour)


def expected_shape(shape: Shape, spec: dict[str, Any]) -> Shape:
    """Format and size that a recipe makes of an original of ``shape``."""
    form, sides = shape
    if spec.get("format", "keep") != "keep":
        form = spec["format"].upper()
    elif form in ("BMP", "TIFF"):
        form = "PNG"
    box = spec.get("cover") or spec.get("fit") or (spec.get("width"), spec.get("height"))
    factors = [Fraction(new, old) for new, old in zip(box, sides, strict=True) if new]
    tightest = max if "cover" in spec else min
    factor = min(Fraction(1), tightest(factors or [Fraction(str(spec.get("scale")))]))
    width, height = (max(1, int(side * factor + Fraction(1, 2))) for side in sides)
    if "cover" in spec:
        width, height = min(width, box[0]), min(height, box[1])
    return form, (width, height)


class _Look:
    def __init__(self, root: Path, blocked: Collection[str]) -> None:
        self.root, self.blocked, self.output = root, set(blocked), root / "output"
        self.recipes = tomllib.loads((root / "recipes.toml").read_text("utf-8"))
        # The one feature is the colour of a picture, of which each has one alone.
        self.named = set(self.recipes.pop("features", {}))
        inputs = _files(root / "input").items()
        self.originals = {key: seen(file) for key, file in inputs if _form_by_name(key) in FORMS}
        outputs = _files(self.output).items()
        self.files = {key: seen(file) for key, file in outputs if key not in OWN_FILES}
        rows = query(root, "SELECT * FROM renditions")
        self.rows = {(row["path"], row["recipe"]): row for row in rows}

    def leftovers(self) -> Iterator[str]:
        """Temporary files anywhere, and empty folders in `output/`."""
        for folder, folders, files in os.walk(self.root):
            for name in (*files, *folders):
                if name.startswith(TEMPORARY):
                    yield f"left-over temporary: {_told(os.path.join(folder, name))}"
            if self.output in Path(folder).parents and not folders and not files:
                yield f"empty folder: {_told(folder)}"

    def renditions(self) -> Iterator[str]:
        """Every original has its renditions, of its present bytes, or a row that says why not."""
        for path, original in self.originals.items():
            for recipe, spec in self.recipes.items():
                row, pair = self.rows.get((path, recipe)), f"{_told(path)} [{recipe}]"
                state = "ok" if original.shape else "failed"
                state = "taken_down" if original.sha256 in self.blocked else state
                if row is None:
                    yield f"no row: {pair}"
                elif row["state"] != state:
                    yield f"state: {pair} is {row['state']} ({row['reason']}), not {state}"
                elif row["sha256"] != original.sha256:
                    yield f"stale row: {pair} is of other bytes"
                elif original.shape and state == "ok":
                    shape = expected_shape(original.shape, spec)
                    for fault in self._rendition(row, original.colour, *shape):
                        yield f"{fault}: {pair} as {_told(row['file'])}"
                elif row["file"] is not None:
                    yield f"wrong row: {pair} is {state} and has a file"

    def _rendition(
        self, row: Any, colour: list[float], form: str, size: tuple[int, int]
    ) -> Iterator[str]:
        made = self.files.get(row["file"])
        if made is None:
            yield "missing"
            return
        if made.shape is None:
            yield "torn"
        elif made.shape != (form, size):
            yield "wrong size or format"
        elif max(abs(a - b) for a, b in zip(made.colour, colour, strict=True)) > COLOUR_TOLERANCE:
            yield "stale"
        told = row["size_bytes"], row["file_sha256"], row["width_px"], row["height_px"]
        if told != (made.size_bytes, made.sha256, *size):
            yield "wrong row"
        suffix = {"JPEG": ".jpg", _form_by_name(row["path"]): ""}.get(form, f".{form.lower()}")
        # A name that is taken or too long is told apart by `~` and a hash.
        if row["file"] != f"{row['recipe']}/{row['path']}{suffix}" and "~" not in row["file"]:
            yield "wrong name"

    def features(self) -> Iterator[str]:
        """Every original has its colour, of its present bytes, or a row that says why not."""
        rows = query(self.root, "SELECT * FROM features WHERE name <> 'lockstep:pdq'")
        if len(rows) != len(self.originals) * len(self.named):
            yield f"features: {len(rows)} of {len(self.originals)} originals x {self.named}"
        for row in rows:
            of = f"features: {_told(row['path'])} [{row['name']}]"
            original = self.originals.get(row["path"])
            if original is None or row["name"] not in self.named:
                yield f"{of} is a row of nothing"
                continue
            state = "ok" if original.shape else "failed"
            state = "taken_down" if original.sha256 in self.blocked else state
            if (row["state"], row["sha256"]) != (state, original.sha256):
                yield f"{of} is {row['state']} of {row['sha256']}, not {state}"
            elif state != "ok" and row["value"] is not None:
                yield f"{of} is {state} and has a value"
            elif state == "ok":
                (colour,) = json.loads(row["value"])["colors"]
                said = bytes.fromhex(colour[1:])
                if (
                    max(abs(a - b) for a, b in zip(said, original.colour, strict=True))
                    > COLOUR_TOLERANCE
                ):
                    yield f"{of} is {colour}, not {original.colour}"

    def strays(self) -> Iterator[str]:
        """No file and no row besides these."""
        named = [row["file"] for row in self.rows.values() if row["file"] is not None]
        for key in self.files.keys() - set(named):
            if not key.rpartition("/")[2].startswith(TEMPORARY):
                yield f"stray: {_told(key)}"
        if len(named) != len(set(named)):
            yield "wrong row: one file is named by two rows"
        for path, recipe in self.rows:
            if path not in self.originals or recipe not in self.recipes:
                yield f"row of nothing: {_told(path)} [{recipe}]"

    def database(self) -> Iterator[str]:
        """The database is whole, and knows the originals and recipes that are there."""
        for row in query(self.root, "PRAGMA integrity_check"):
            if row[0] != "ok":
                yield f"database: {row[0]}"
        rows = query(self.root, "SELECT path, size_bytes FROM originals")
        if dict(map(tuple, rows)) != {key: it.size_bytes for key, it in self.originals.items()}:
            yield "database: its originals are not those of the input folder"
        recipes = {*self.recipes, *(f"features.{name}" for name in self.named)}
        recipes.add("features.lockstep:pdq")
        if {row[0] for row in query(self.root, "SELECT recipe FROM recipes")} != recipes:
            yield "database: its recipes are not those of the file"
        if query(self.root, "SELECT 1 FROM lockstep_state WHERE name = 'interrupted'"):
            yield "database: it still says that a run was interrupted"

    def takedowns(self) -> Iterator[str]:
        """What was taken down is in force, has no rendition, and is kept byte for byte."""
        acts = {row["id"]: row for row in query(self.root, "SELECT * FROM takedowns")}
        for act in acts.values():
            if act["state"] in ("removing", "lifting"):
                yield f"takedown: {act['id']} is not finished"
        in_force = {act["sha256"] for act in acts.values() if act["state"] != "lifted"}
        for sha256 in self.blocked ^ in_force:
            what = "is forgotten" if sha256 in self.blocked else "is in force, and nobody asked"
            yield f"takedown: that of {sha256[:8]} {what}"
        for row in self.rows.values():
            if row["sha256"] in self.blocked and row["file"] is not None:
                yield f"rendition of a taken-down picture: {_told(row['file'])}"
        for row in query(self.root, "SELECT * FROM takedown_files WHERE kind = 'original'"):
            if row["removed"] and row["kept"] is not None and row["restored"] is None:
                kept = self.root / "quarantine" / _key(row["kept"], -1)
                if not kept.is_file() or seen(kept).sha256 != acts[row["takedown"]]["sha256"]:
                    yield f"quarantine: {_told(row['kept'])} is not there as it was"


def _form_by_name(key: str) -> str | None:
    return FORM_OF_SUFFIX.get(key.rpartition(".")[2].lower())


def _files(root: Path) -> dict[str, Path]:
    found = (Path(folder, name) for folder, _, names in os.walk(root) for name in names)
    return {_key(file.relative_to(root).as_posix()): file for file in found}


def _key(name: str, way: int = 1) -> str:
    """A name as the tables have it, where U+EF80 to U+EFFF are bytes that are no text.

    ``way`` -1: the name of such a key.
    """
    first = 0xDC80 if way == 1 else 0xEF80
    return "".join(chr(ord(c) + way * 0x1300) if 0 <= ord(c) - first < 0x80 else c for c in name)


def _told(name: str) -> str:
    return ascii(name.replace("n" * 200, "n*200"))
