"""Whether another machine has the same release, and sees the same folders or buckets, as this
one."""

from __future__ import annotations

import os
import platform
import secrets
import stat
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from pipeline import __version__
from pipeline.errors import SettingsError, StoreError, TooManyBytes, Unstable
from pipeline.imaging import RENDERER_VERSION
from pipeline.storage.base import Store
from pipeline.storage.opening import open_store
from pipeline.storage.owners import owner
from pipeline.storage.places import place_of

SAMPLES = 16
# A file of this name is never published: it is only ever the temporary one of it.
PROBE = "probe"
MAX_BYTES = 1_000


class Release(NamedTuple):
    """What has to be the same wherever renditions of one project are made."""

    lockstep: str
    renderer: str
    python: str

    def difference(self, here: Release) -> str | None:
        """How it differs from the release ``here``, and what to do; ``None`` if it does not."""
        names = ("Lockstep", "the renderer", "Python")
        for name, there, ours in zip(names, self, here, strict=True):
            if there != ours:
                return (
                    f"it has {name} {there}, and this machine has {ours}; install the same release "
                    "of Lockstep with the same Python on both"
                )
        return None


def release() -> Release:
    """What is installed here."""
    return Release(
        __version__, str(RENDERER_VERSION), ".".join(platform.python_version_tuple()[:2])
    )


class Sample(NamedTuple):
    """A folder by what this machine sees of it: some names, with bytes of files."""

    folder: str
    inode: int
    entries: tuple[tuple[str, int | None], ...]


class Probe(NamedTuple):
    """What shows whether places are shared: a file that was just written to ``output_dir``, which
    may be the address of a bucket, and samples of folders that are only read. Keys are below
    ``output_dir``."""

    output_dir: str
    key: str
    text: str
    samples: tuple[Sample, ...]

    @property
    def is_there(self) -> bool:
        """Whether the file is still there, for this machine; a sweep takes it away."""
        try:
            return self._text() is not None
        except StoreError:
            return True

    def remove(self) -> None:
        """Delete the file; harmless if it is gone."""
        _store(self.output_dir).remove(self.key)

    def why_not_shared(self) -> str | None:
        """On another machine: which folder is missing there, or another one, and what to do."""
        try:
            if self._text() != self.text:
                return f"{_not_seen(self.output_dir)} (PIPELINE_OUTPUT)"
            for sample in self.samples:
                if not _is_seen(sample):
                    return _not_seen(sample.folder)
            output = _store(self.output_dir)
            output.remove(output.stage(PROBE, b"", owner()).temporary)
        except (SettingsError, StoreError) as error:
            return f"{error}; start Ray there with the same packages and credentials as here"
        except OSError as error:
            return (
                f"it cannot write to {self.output_dir} ({error.strerror}); start Ray there as a "
                "user who may"
            )
        return None

    def _text(self) -> str | None:
        """What is in the file; ``None`` where it is not seen.

        Raises:
            SettingsError, StoreError: it is in a bucket that cannot be read.
        """
        try:
            return _store(self.output_dir).read(self.key, MAX_BYTES)[0].decode("ascii", "replace")
        except (OSError, Unstable, TooManyBytes):
            return None


def probe(output_dir: str, read: Iterable[str]) -> Probe:
    """Write a file that other machines are to find, and look at the folders that they only read.

    Those that are not there, or not yet, are left out.

    Raises:
        OutputError, OSError: the output folder cannot be written.
    """
    text = secrets.token_hex(16)
    staged = _store(output_dir).stage(PROBE, text.encode("ascii"), owner())
    samples = (_sample(folder) for folder in read)
    return Probe(output_dir, staged.temporary, text, tuple(filter(None, samples)))


def _store(place: str) -> Store:
    return open_store(place_of(place, Path("/")))


def _not_seen(folder: str) -> str:
    return f"it does not see the same {folder} as this machine; mount it there, at the same path"


def _sample(folder: str) -> Sample | None:
    try:
        inode = os.stat(folder).st_ino
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, SAMPLES)]
    except OSError:
        return None
    return Sample(folder, inode, tuple((name, _bytes_of(folder, name)) for name in names))


def _is_seen(sample: Sample) -> bool:
    """Whether it is the same folder here.

    The device is another one for each machine, and on some mounts so is the inode. Then some of
    the names that are still there have to mean the same files.
    """
    try:
        if os.stat(sample.folder).st_ino == sample.inode:
            return True
        with os.scandir(sample.folder):
            pass
    except OSError:
        return False
    same = [_bytes_of(sample.folder, name) == size for name, size in sample.entries]
    return not same or 2 * sum(same) > len(same)


def _bytes_of(folder: str, name: str) -> int | None:
    """The length of a file; -1 for a folder, ``None`` for what is not there."""
    try:
        found = os.lstat(os.path.join(folder, name))
    except OSError:
        return None
    return -1 if stat.S_ISDIR(found.st_mode) else found.st_size
