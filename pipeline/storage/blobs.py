"""Files named by the SHA-256 of their bytes: ``<folder>/<first two digits>/<all digits>``.

Equal bytes are stored once. A file is staged beside the folders, and published when its hash is
known.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import OutputError
from pipeline.storage.base import Staged
from pipeline.storage.folder_store import FolderStore
from pipeline.storage.owners import owner


class BlobWriter:
    """Takes the bytes of one file, then keeps them under their hash, or drops them.

    Its methods may run in any thread, one after the other. ``discard`` may come at any time, also
    while another thread writes: whichever is second cleans up.
    """

    def __init__(self, store: FolderStore) -> None:
        self._store = store
        self._opened = contextlib.ExitStack()
        self._file: BinaryIO | None = None
        self._staged: Staged | None = None
        self._hash = hashlib.sha256()
        self._size_bytes = 0
        self._closed = False
        self._lock = threading.Lock()

    def write(self, data: bytes) -> None:
        """Append ``data``; nothing happens after :meth:`discard`.

        Raises:
            OutputError, OSError: the disk is full, or the folder cannot be written.
        """
        with self._lock:
            if self._closed:
                return
            if self._file is None:
                staging = self._store.open_staged("new", owner())
                self._file, self._staged = self._opened.enter_context(staging)
            self._hash.update(data)
            self._size_bytes += len(data)
            self._file.write(data)

    def keep(self, last: bytes = b"") -> tuple[str, Path] | None:
        """Append ``last``, publish, and return the SHA-256 and the path; None after a discard.

        A file that is there already stays, unless its size shows that a power cut tore it.

        Raises:
            OutputError, OSError: as for :meth:`write`; the temporary file is gone then.
        """
        try:
            self.write(last)
            with self._lock:
                if self._closed or self._staged is None:
                    return None
                self._opened.close()
                sha256 = self._hash.hexdigest()
                key = blob_key(sha256)
                if not self._store.has(key, self._size_bytes):
                    self._store.publish(self._staged._replace(key=key))
                    self._staged = None
                return sha256, Path(self._store.path_of(key))
        finally:
            self.discard()

    def discard(self) -> None:
        """Close and remove the temporary file, if there is one."""
        with self._lock:
            self._closed = True
            with contextlib.suppress(OSError, OutputError):
                self._opened.close()
                if self._staged is not None:
                    self._store.remove(self._staged.temporary)
            self._staged = None


def blob_path(folder: Path, sha256: str) -> Path:
    """Where the file with this SHA-256 is, if it is there."""
    return folder / blob_key(sha256)


def blob_key(sha256: str) -> str:
    """The key of the file with this SHA-256 below its folder."""
    return f"{sha256[:2]}/{sha256}"
