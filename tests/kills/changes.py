"""What people do to a project, at random; each change says in a word or two what it did."""

# ruff: noqa: SIM905 - as words, the weights are seen at a glance

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from .shop import Shop

# What comes more often is there more often.
EVERYDAY = (
    "add add add change change same_size same_size touch touch remove remove move move copy copy "
    "copy swap into_folder into_file no_picture barred_again recipe recipe recipe recipe feature"
).split()
# After these, `verify --fix` has to help.
BY_HAND = ["outputs", "outputs", "database"]
SUFFIXES = ".jpg .jpg .JPG .jpeg .png .png .webp .webp .gif .bmp .tif .avif".split()
SIZES = ((60, 40), (40, 60), (33, 17), (1, 1), (64, 64), (201, 3), (120, 90))
FOLDERS = ("", "", "", "a", "a/b", "a/b/c", "été", "with space", "e\u0301te\u0301", "pic.png.webp")
LONG = "n" * 246
STEMS = (*"pqrstuvw", "pic", "pic.png", "a b", "façade", "fac\u0327ade", 'it\'s "so"', "100%~1")
STEMS += (LONG, os.fsdecode(b"raw\xff"))
RECIPES = (
    "scale = 0.5",
    "scale = 0.29",
    'fit = [40, 40]\nformat = "webp"\nquality = 80',
    'fit = [24, 24]\nformat = "keep"',
    'cover = [20, 20]\nformat = "jpeg"',
    'width = 30\nformat = "png"',
    'height = 25\nformat = "webp"',
    'scale = 1.0\nformat = "keep"',
)
NAMES = ("half", "thumb", "r1", "r2", "Large-3")
NO_PICTURE = b"not a picture"


class Changes:
    """The changes of one round, drawn from ``chance``, without those in ``left_out``."""

    def __init__(self, shop: Shop, chance: random.Random, left_out: set[str]) -> None:
        self.shop, self.chance, self.left_out = shop, chance, left_out
        # Files of `output/`, or the database, are not as the last command left them.
        self.by_hand = False
        self._recipes = {"half": RECIPES[0], "thumb": RECIPES[2]}
        self._max_sides = [16]
        self._write_recipes()

    def make(self, count: int, names: Sequence[str] = (*EVERYDAY, *BY_HAND)) -> list[str]:
        """Make so many changes out of ``names``; what they were."""
        done = []
        for name in self.chance.choices([n for n in names if n not in self.left_out], k=count):
            told = ""
            # A file stands where a folder should be, or the other way round: nothing is done.
            with contextlib.suppress(FileExistsError, NotADirectoryError, IsADirectoryError):
                told = getattr(self, name)()
            done.append(f"{name} {told or '-'}")
        return done

    # --- originals ---

    def add(self) -> str:
        return self._picture(self._new_path(self.chance.choice(SUFFIXES)))

    def change(self) -> str:
        path = self._any()
        if self.chance.random() < 0.5:
            return self._picture(path)
        path.write_bytes(self.shop.picture(path.suffix, self.chance.choice(SIZES)))
        return self._told(path)

    def same_size(self) -> str:
        """Other bytes of the same length, with the old times put back."""
        path = self._any(".bmp", ".tif", ".jpg")
        before = path.stat()
        for size in SIZES:
            data = self.shop.picture(path.suffix, size)
            if len(data) == before.st_size:
                path.write_bytes(data)
                os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
                return self._told(path)
        return ""

    def touch(self) -> str:
        """Other times, rights or inode, of one original or of all."""
        kind = self.chance.choice(("times", "rights", "inode"))
        paths = self.shop.originals() if self.chance.random() < 0.3 else [self._any()]
        for path in paths:
            if kind == "times":
                os.utime(path)
            elif kind == "rights":
                path.chmod(path.stat().st_mode ^ 0o044)
            else:
                self._put(path, path.read_bytes())
        return f"{kind} {self._told(*paths)}"

    def remove(self) -> str:
        path = self._any()
        if path.parent != self.shop.input and self.chance.random() < 0.2:
            path = path.parent
        return self._told(path) if self._take_away(path) else ""

    def move(self) -> str:
        path = self._any()
        target = self._new_path(path.suffix)
        if path.parent != self.shop.input and self.chance.random() < 0.3:
            path, target = path.parent, path.parent.with_name(path.parent.name + "-moved")
        return self._to(target, path, os.rename)

    def copy(self) -> str:
        path = self._any()
        how = os.link if self.chance.random() < 0.2 else shutil.copyfile
        return self._to(self._new_path(path.suffix), path, how)

    def swap(self) -> str:
        one, other, beside = self._any(), self._any(), self.shop.beside / "swap"
        if one != other:
            one.rename(beside)
            other.rename(one)
            beside.rename(other)
        return self._told(one, other)

    def into_folder(self) -> str:
        path = self._any()
        path.unlink()
        return self._picture(path / "in.png")

    def into_file(self) -> str:
        folders = [p for p in self.shop.input.rglob("*") if p.is_dir() and p.suffix in SUFFIXES]
        folder = self.chance.choice(sorted(folders) or [None])
        return self._picture(folder) if folder and self._take_away(folder) else ""

    def no_picture(self) -> str:
        path = self._any()
        path.write_bytes(NO_PICTURE * self.chance.randrange(1, 9))
        return self._told(path)

    def barred_again(self) -> str:
        """Bytes that were taken down, dropped in once more."""
        kept = sorted(path for path in self.shop.quarantine.rglob("*") if path.suffix in SUFFIXES)
        source = self.chance.choice(kept or [None])
        return self._to(self._new_path(source.suffix), source, shutil.copyfile) if source else ""

    # --- recipes ---

    def recipe(self) -> str:
        names = list(self._recipes)
        name, other = self.chance.choice(names), self.chance.choice(names)
        new, spec = self.chance.choice(NAMES), self.chance.choice(RECIPES)
        kind = self.chance.choice(("new", "gone", "renamed", "swapped"))
        if kind == "gone" and len(names) > 1:
            del self._recipes[name]
        elif kind == "renamed":
            self._recipes[new] = self._recipes.pop(name)
        elif kind == "swapped":
            self._recipes[name], self._recipes[other] = self._recipes[other], self._recipes[name]
        else:
            self._recipes[new] = spec
        self._write_recipes()
        return f"{kind}: {self._recipes}"

    def feature(self) -> str:
        """Another size of the picture that the function gets, or no feature any more."""
        self._max_sides = self.chance.choice(([16], [16], [20], []))
        self._write_recipes()
        return f"of {self._max_sides} px"

    # --- by hand ---

    def outputs(self) -> str:
        """Renditions that are deleted, altered or put there, or a recipe's folder that is gone."""
        files = [p for p in sorted(self.shop.output.rglob("*")) if p.is_file()]
        files = [p for p in files if p.parent != self.shop.output]  # no renditions, at the top
        self.by_hand = True
        kind = self.chance.choice(("gone", "longer", "torn", "stray", "folder gone"))
        some = self.chance.sample(files, min(len(files), self.chance.randrange(1, 4)))
        for file in some:
            if kind == "stray":
                file.with_name("stray.jpg").write_bytes(b"nobody's")
            elif kind == "folder gone":
                recipe = file.relative_to(self.shop.output).parts[0]
                shutil.rmtree(self.shop.output / recipe, ignore_errors=True)
            else:
                data = file.read_bytes()
                file.unlink()  # never written in place: it may be one file with its duplicate's
                other = {"longer": data + b"!", "torn": data[:40].ljust(len(data))}.get(kind)
                if other is not None:
                    file.write_bytes(other)
        return f"{kind} {self._told(*some)}"

    def back_up(self) -> str:
        """A copy of the database, to be put back later."""
        database = self.shop.root / "db.sqlite"
        if not database.exists():
            return ""
        source, target = sqlite3.connect(database), sqlite3.connect(self.shop.beside / "backup")
        with contextlib.closing(source), contextlib.closing(target):
            source.backup(target)
        return "of now"

    def database(self) -> str:
        """The database is lost, or put back as it was when it was copied last."""
        self.by_hand = True
        for file in self.shop.root.glob("db.sqlite*"):
            file.unlink()
        backup = self.shop.beside / "backup"
        if not backup.exists() or self.chance.random() < 0.3:
            return "lost"
        shutil.copyfile(backup, self.shop.root / "db.sqlite")
        return "put back"

    # --- what the changes share ---

    def _any(self, *suffixes: str) -> Path:
        paths = self.shop.originals()
        return self.chance.choice([p for p in paths if p.suffix in suffixes] or paths)

    def _new_path(self, suffix: str) -> Path:
        folder = self.shop.input / self.chance.choice(FOLDERS)
        return folder / (self.chance.choice(STEMS) + suffix)

    def _take_away(self, path: Path) -> bool:
        """Delete a file or folder, unless the input is nearly empty then: that is another test."""
        left = [p for p in self.shop.originals() if p != path and path not in p.parents]
        if len(left) >= 4:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return len(left) >= 4

    def _to(self, target: Path, source: Path, how: Callable[[Path, Path], object]) -> str:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            return ""
        how(source, target)
        return f"{self._told(source)} to {self._told(target)}"

    def _picture(self, path: Path) -> str:
        self._put(path, self.shop.picture(path.suffix, self.chance.choice(SIZES)))
        return self._told(path)

    def _put(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = self.shop.beside / "whole"
        whole.write_bytes(data)
        whole.replace(path)

    def _told(self, *paths: Path) -> str:
        names = (str(path.relative_to(self.shop.root)).replace(LONG, "n*246") for path in paths)
        return ", ".join(map(ascii, names))

    def _write_recipes(self) -> None:
        text = "".join(f"[{name}]\n{spec}\n" for name, spec in self._recipes.items())
        for side in self._max_sides:
            text += f'[features.colour]\nfunction = "palette"\nmax_side = {side}\n'
            text += "options = { count = 1 }\n"
        self._put(self.shop.root / "recipes.toml", text.encode())
