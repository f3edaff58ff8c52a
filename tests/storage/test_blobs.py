"""Files named by their hash."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from routes import JPEG

from pipeline.storage.blobs import BlobWriter
from pipeline.storage.folder_store import FolderStore


def test_a_torn_file_under_the_right_name_is_replaced(tmp_path: Path) -> None:
    sha256 = hashlib.sha256(JPEG).hexdigest()
    torn = tmp_path / sha256[:2] / sha256
    torn.parent.mkdir()
    torn.write_bytes(b"")
    assert BlobWriter(FolderStore(tmp_path)).keep(JPEG) == (sha256, torn)
    assert torn.read_bytes() == JPEG


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    writer = BlobWriter(FolderStore(tmp_path))
    writer.write(b"half")
    assert len(os.listdir(tmp_path)) == 1
    assert FolderStore(tmp_path).sweep_folder() == 1
    assert FolderStore(tmp_path / "missing").sweep_folder() == 0
    writer.discard()
    writer.write(b"late")
    assert writer.keep(b"late") is None
    assert os.listdir(tmp_path) == []
