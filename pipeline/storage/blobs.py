"""Files named by the SHA-256 of their bytes: ``<folder>/<first two digits>/<all digits>``.

Equal bytes are stored once. A file is written beside the others under a temporary name and renamed,
so that no reader ever sees half of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from pathlib import Path

from pipeline.names import TEMPORARY_PREFIX
from pipeline.storage.folder import temporary_name
from pipeline.storage.owners import owner


class BlobWriter:
    """Takes the bytes of one file, then keeps them under their hash, or drops them.

    Its methods may run in any thread, one after the other. ``discard`` may come at any time, also
    while another thread writes: whichever is second cleans up.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._temporary = ""
        self._file: int | None = None
        self._hash = hashlib.sha256()
        self._size_bytes = 0
        self._closed = False
        self._lock = threading.Lock()

    def write(self, data: bytes) -> None:
        """Append ``data``; nothing happens after :meth:`discard`.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        with self._lock:
            if self._closed:
                return
            if self._file is None:
                # Text, here and below: a Path for each step costs as much as the steps.
                self._temporary = os.path.join(self._folder, temporary_name(owner()))
                self._file = os.open(
                    self._temporary,
                    os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0),
                    0o666,
                )
            self._hash.update(data)
            self._size_bytes += len(data)
            view = memoryview(data)
            while view:
                view = view[os.write(self._file, view) :]

    def keep(self, last: bytes = b"") -> tuple[str, Path] | None:
        """Append ``last``, rename, and return the SHA-256 and the path; None after a discard.

        A file that is there already stays, unless its size shows that a power cut tore it.

        Raises:
            OSError: as for :meth:`write`; the temporary file is gone then.
        """
        try:
            self.write(last)
            with self._lock:
                if self._closed or self._file is None:
                    return None
                os.close(self._file)
                self._file = None
                sha256 = self._hash.hexdigest()
                path = blob_path(self._folder, sha256)
                if not _is_whole(path, self._size_bytes):
                    try:
                        os.replace(self._temporary, path)
                    except FileNotFoundError:
                        path.parent.mkdir(exist_ok=True)
                        os.replace(self._temporary, path)
                    self._temporary = ""
                return sha256, path
        finally:
            self.discard()

    def discard(self) -> None:
        """Close and remove the temporary file, if there is one."""
        with self._lock:
            self._closed = True
            if self._file is not None:
                os.close(self._file)
                self._file = None
            if self._temporary:
                with contextlib.suppress(OSError):
                    os.unlink(self._temporary)
                self._temporary = ""


def blob_path(folder: Path, sha256: str) -> Path:
    """Where the file with this SHA-256 is, if it is there."""
    return folder / blob_key(sha256)


def blob_key(sha256: str) -> str:
    """The key of the file with this SHA-256 below its folder."""
    return f"{sha256[:2]}/{sha256}"


def remove_leftovers(folder: Path) -> int:
    """Remove the temporary files that a killed process left; how many there were.

    Only for a folder into which nothing is being fetched. A folder that does not exist has none.
    """
    count = 0
    if folder.is_dir():
        for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
            path.unlink(missing_ok=True)
            count += 1
    return count


def _is_whole(path: Path, size_bytes: int) -> bool:
    try:
        return os.stat(path).st_size == size_bytes
    except OSError:
        return False
