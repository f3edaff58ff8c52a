"""Moving files from one place to another, whole."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from pipeline.names import name_of
from pipeline.storage.at_hand import write_to
from pipeline.storage.base import Staged
from pipeline.storage.folder import sync_folder, temporary_name
from pipeline.storage.folder_store import FolderStore, beside, copy_bytes, parts, unlink
from pipeline.storage.opening import open_store
from pipeline.storage.owners import is_alive
from pipeline.storage.places import Place
from pipeline.storage.real_folders import RealFolder, opened


def move(source: Place, key: str, target: Place, new: str, owner: str) -> None:
    """Move one file or object from a place to ``new`` in another; of a bucket, all its versions.

    The copy is whole before anything is deleted.

    Raises:
        OutputError, OSError: see :meth:`Store.stage`; the source is still there then.
    """
    if source.folder is not None and target.folder is not None:
        take(FolderStore(target.folder), source.folder / name_of(key), new, owner)
        return
    taken, kept = open_store(source), open_store(target)
    with kept.open_staged(new, owner, durable=True) as (file, staged):
        write_to(taken, key, file)
    try:
        kept.publish(staged)
    except BaseException:
        kept.remove(staged.temporary)
        raise
    taken.erase(key)


def is_at(place: Place, key: str) -> bool:
    """Whether there is anything of this name, be it a link to nowhere.

    Raises:
        StoreError: the bucket does not answer.
    """
    if place.folder is None:
        return open_store(place).look_at(key) is not None
    return os.path.lexists(place.folder / name_of(key))


def take(store: FolderStore, file: Path, key: str, owner: str) -> None:
    """Move a file that is not in the store to ``key``; a link as a link.

    Within a file system that is one rename. Across two the copy is whole and on the disk
    before ``file`` is deleted.

    Raises:
        OutputError, OSError: see :meth:`stage`; ``file`` is still there then.
    """
    *folders, name = parts(key)
    with (
        opened(os.fspath(file.parent)) as source,
        opened(store.root, folders, create=True) as folder,
    ):
        old, new = source.at(file.name), folder.at(name)
        try:
            os.rename(old, new, src_dir_fd=source.fd, dst_dir_fd=folder.fd)
            return
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        # What a move that was killed has left here.
        store.sweep_folder(key.rpartition("/")[0], is_alive)
        if stat.S_ISLNK(source.stat(file.name).st_mode):
            staged = _copy_link(source, file.name, store, key, owner)
        else:
            staged = copy_bytes(source, file.name, store, key, owner, durable=True)
        try:
            store.publish(staged)
        except BaseException:
            store.remove(staged.temporary)
            raise
        sync_folder(Path(store.path_of(key)).parent)
        unlink(source, file.name)


def _copy_link(source: RealFolder, name: str, store: FolderStore, key: str, owner: str) -> Staged:
    temporary = temporary_name(owner)
    with opened(store.root, parts(key)[:-1]) as folder:
        target = os.readlink(source.at(name), dir_fd=source.fd)
        os.symlink(target, folder.at(temporary), dir_fd=folder.fd)
    return Staged(key, beside(key, temporary))
