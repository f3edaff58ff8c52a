"""Opening the store that is at a place."""

from __future__ import annotations

from pipeline.errors import SettingsError
from pipeline.storage.base import Store
from pipeline.storage.folder_store import FolderStore
from pipeline.storage.places import Place


def open_store(place: Place) -> Store:
    """The store at a place, for one piece of work; nothing is looked at or requested yet.

    The connections to a bucket belong to the process, and are made anew after a fork.

    Raises:
        SettingsError: the place is a bucket, and what is needed for one is not installed, or the
            settings for it are wrong.
    """
    if place.folder is not None:
        return FolderStore(place.folder)
    try:
        # Imported here: it costs a start 120 ms, and is an extra that need not be installed.
        from pipeline.storage.bucket import BucketStore
    except ImportError:
        raise SettingsError(
            f"{place.text}: buckets need the package obstore; run pip install 'lockstep[cloud]'"
        ) from None
    return BucketStore(place)


def presigned(place: Place, key: str, valid_s: int) -> str:
    """An address by which anybody may read one object of a bucket for ``valid_s`` seconds.

    Raises:
        SettingsError, StoreError: there are no credentials to sign it with.
    """
    # Imported here: it costs a start 120 ms, and is an extra that need not be installed.
    from pipeline.storage.bucket import BucketStore

    return BucketStore(place).presigned(key, valid_s)
