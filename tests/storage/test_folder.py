"""The folder store keeps what every store promises, on any file system."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from conformance import MakeStore, StoreTests, put

from pipeline.errors import LinkInTheWay, OutputError
from pipeline.storage import folder_store, real_folders
from pipeline.storage.base import Store
from pipeline.storage.folder_store import FolderStore
from pipeline.storage.moving import take


def _across(*args: object, **options: object) -> None:
    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))


@contextlib.contextmanager
def limited_to(size_bytes: int) -> Iterator[None]:
    """Files of this process cannot grow beyond it, like on a disk that is full."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, ignored)


class TestFolder(StoreTests):
    """On a plain folder."""

    @pytest.fixture
    def make_store(self, tmp_path: Path) -> MakeStore:
        def make(name: str) -> Store:
            (tmp_path / name).mkdir(exist_ok=True)
            return FolderStore(tmp_path / name)

        return make

    def keys(self, store: Store) -> list[str]:
        assert isinstance(store, FolderStore)
        return [found.path for page in store.entries() for found in page]

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
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(store, "a.jpg", b"one")

        def full(*args: object, **options: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "replace", full)
        staged = store.stage("a.jpg", b"two", "me")
        with pytest.raises(OutputError, match="the disk is full: free some space and run again"):
            store.publish(staged)
        monkeypatch.undo()
        with limited_to(1 << 16), pytest.raises(OutputError, match="over the size limit"):
            store.stage("half/b.jpg", b"two" * (1 << 16), "me")
        assert self.temporary(store) == 1  # the staged one, for whoever published it to drop
        assert not (tmp_path / "store/half").exists()

    def test_links_are_not_copied_and_are_swept_around(self, store: Store, tmp_path: Path) -> None:
        (tmp_path / "victim").mkdir()
        (tmp_path / "victim/.lockstep-dead-1-1").write_bytes(b"")
        (tmp_path / "victim/a.jpg").write_bytes(b"")
        put(store, "half/a.jpg", b"one")
        (tmp_path / "store/half/sub").symlink_to(tmp_path / "victim")
        (tmp_path / "store/half/b.jpg").symlink_to("a.jpg")
        assert store.sweep(lambda owner: False) == 0
        with pytest.raises(FileNotFoundError):
            store.copy("half/b.jpg", "c.jpg", "me")

    @pytest.fixture(params=[True, False], ids=["same", "across"])
    def same_file_system(
        self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
    ) -> bool:
        """Whether a file is moved within one file system, or from one to another."""
        if not request.param:
            monkeypatch.setattr(os, "rename", _across)
        return bool(request.param)

    def test_a_file_is_moved_with_its_times_and_permissions_and_a_link_as_a_link(
        self,
        store: Store,
        tmp_path: Path,
        same_file_system: bool,
    ) -> None:
        assert isinstance(store, FolderStore)
        outside = tmp_path / "outside"
        outside.mkdir()
        file, link = outside / "a.jpg", outside / "b.jpg"
        file.write_bytes(b"one")
        file.chmod(0o640)
        os.utime(file, ns=(1_000_000_007, 2_000_000_011))
        link.symlink_to("elsewhere/a.jpg")
        put(store, "deep/b.jpg", b"what was there")
        if not same_file_system:
            store.stage("deep/a.jpg", b"of a killed move", "dead")
        take(store, file, "deep/a.jpg", "me")
        take(store, link, "deep/b.jpg", "me")
        moved = tmp_path / "store/deep/a.jpg"
        status = moved.stat()
        assert (status.st_mode & 0o777, status.st_mtime_ns) == (0o640, 2_000_000_011)
        assert (moved.read_bytes(), os.listdir(outside)) == (b"one", [])
        assert os.readlink(tmp_path / "store/deep/b.jpg") == "elsewhere/a.jpg"
        assert self.temporary(store) == 0

    def test_a_file_that_cannot_be_moved_stays_where_it_is(
        self,
        store: Store,
        tmp_path: Path,
        same_file_system: bool,
    ) -> None:
        assert isinstance(store, FolderStore)
        file = tmp_path / "a.jpg"
        file.write_bytes(b"one")
        (tmp_path / "store/a.jpg").mkdir()
        with pytest.raises(IsADirectoryError):
            take(store, file, "a.jpg", "me")
        (tmp_path / "victim").mkdir()
        (tmp_path / "store/sub").symlink_to(tmp_path / "victim")
        with pytest.raises(LinkInTheWay):
            take(store, file, "sub/a.jpg", "me")
        assert (file.read_bytes(), self.temporary(store)) == (b"one", 0)
        assert os.listdir(tmp_path / "victim") == []


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
