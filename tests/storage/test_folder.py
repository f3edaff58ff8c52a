"""The folder store keeps what every store promises, on any file system."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from conformance import MakeStore, StoreTests, put

from pipeline.errors import OutputError
from pipeline.storage import folder_store, real_folders
from pipeline.storage.base import Store
from pipeline.storage.folder_store import FolderStore


class TestFolder(StoreTests):
    """On a plain folder."""

    @pytest.fixture
    def make_store(self, tmp_path: Path) -> MakeStore:
        def make(name: str) -> Store:
            (tmp_path / name).mkdir(exist_ok=True)
            return FolderStore(tmp_path / name)

        return make

    def temporary(self, store: Store) -> int:
        assert isinstance(store, FolderStore)
        return len(list(Path(store.root).rglob(".lockstep-*")))

    def write_while_reading(self, monkeypatch: pytest.MonkeyPatch, store: Store, key: str) -> None:
        assert isinstance(store, FolderStore)
        path = store.path_of(key)

        def meanwhile(seconds: float) -> None:
            Path(path).write_bytes(b"longer than before")

        monkeypatch.setattr(folder_store, "tick_ns", lambda ctime_ns: 3_600_000_000_000)
        monkeypatch.setattr(folder_store.time, "sleep", meanwhile)

    def test_removing_takes_empty_folders_along(self, store: Store, tmp_path: Path) -> None:
        put(store, "half/deep/er/a.jpg", b"one")
        put(store, "half/b.jpg", b"one")
        store.remove("half/deep/er/a.jpg")
        assert os.listdir(tmp_path / "store/half") == ["b.jpg"]
        # What a deletion that was interrupted has left.
        (tmp_path / "store/half/deep").mkdir()
        store.remove("half/deep/er/a.jpg")
        assert os.listdir(tmp_path / "store/half") == ["b.jpg"]
        store.remove("half/b.jpg")
        assert os.listdir(tmp_path / "store") == []

    def test_a_folder_in_the_place_of_a_file_is_not_the_file(
        self, store: Store, tmp_path: Path
    ) -> None:
        put(store, "half/a.png/b.png", b"one")
        assert not store.remove("half/a.png")
        assert not store.remove("half/a.png/b.png/c.png")
        with pytest.raises(IsADirectoryError):
            put(store, "half/a.png", b"two")
        with pytest.raises(NotADirectoryError):
            put(store, "half/a.png/b.png/c.png", b"two")
        assert (tmp_path / "store/half/a.png/b.png").read_bytes() == b"one"

    def test_a_full_disk_leaves_no_temporary_file(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(store, "a.jpg", b"one")

        def full(*args: object, **options: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "replace", full)
        staged = store.stage("a.jpg", b"two", "me")
        with pytest.raises(OutputError, match="the disk is full: free some space and run again"):
            store.publish(staged)
        monkeypatch.setattr(folder_store, "memoryview", full, raising=False)
        with pytest.raises(OutputError, match="the disk is full"):
            store.stage("b.jpg", b"two", "me")
        assert self.temporary(store) == 1  # the staged one, for whoever published it to drop

    def test_links_are_no_entries_and_are_swept_around(self, store: Store, tmp_path: Path) -> None:
        (tmp_path / "victim").mkdir()
        (tmp_path / "victim/.lockstep-dead-1-1").write_bytes(b"")
        (tmp_path / "victim/a.jpg").write_bytes(b"")
        put(store, "half/a.jpg", b"one")
        (tmp_path / "store/half/sub").symlink_to(tmp_path / "victim")
        (tmp_path / "store/half/b.jpg").symlink_to("a.jpg")
        assert [e.key for page in store.entries() for e in page] == ["half/a.jpg"]
        assert store.sweep(lambda owner: False) == 0
        with pytest.raises(FileNotFoundError):
            store.copy("half/b.jpg", "c.jpg", "me")


class TestFolderBehindALink(TestFolder):
    """The root is a link, as to a larger disk."""

    @pytest.fixture
    def make_store(self, tmp_path: Path) -> MakeStore:
        def make(name: str) -> Store:
            (tmp_path / "disk" / name).mkdir(parents=True, exist_ok=True)
            if not (tmp_path / name).is_symlink():
                (tmp_path / name).symlink_to(tmp_path / "disk" / name)
            return FolderStore(tmp_path / name)

        return make


class TestFolderWithoutHardLinks(TestFolder):
    """FAT and some network mounts have none."""

    @pytest.fixture(autouse=True)
    def _no_hard_links(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refused(*args: object, **options: object) -> None:
            raise PermissionError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refused)


class TestFolderThatCannotBeOpened(TestFolder):
    """Python has no names relative to an open folder on every system."""

    @pytest.fixture(autouse=True)
    def _no_open_folders(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(real_folders, "OPENS_FOLDERS", False)
