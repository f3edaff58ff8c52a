"""What every store promises. A new store inherits :class:`StoreTests` and supplies ``make_store``.

Whoever can change the stored bytes behind the store's back overrides ``change`` as well.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from pipeline.errors import TooManyBytes, Unstable
from pipeline.names import key_of
from pipeline.storage.base import Store

MakeStore = Callable[[str], Store]
LARGE = 1_000_000
ME, OTHER = "me", "other"
# Sorted by their bytes, "a.b" comes before what is in the folder "a", and that before "a0".
ODD_NAMES = [
    "a.b",
    "a/b",
    "a/b c/ü.jpg",
    "a/é",
    "a0",
    "half/#?%&.jpg",
    "half/-rf",
    "half/~",
    key_of(os.fsdecode(b"half/\xff\xfe.jpg")),
    "z" * 200,
]


def put(store: Store, key: str, data: bytes) -> None:
    store.publish(store.stage(key, data, ME))


def keys(store: Store, below: str = "") -> list[str]:
    return [entry.key for page in store.entries(below) for entry in page]


def get(store: Store, key: str) -> bytes:
    return store.read(key, LARGE)[0]


class StoreTests:
    """Run on a store by a class that inherits this one."""

    @pytest.fixture
    def make_store(self) -> MakeStore:
        """Another store for each name, empty at first; the same one for the same name."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, make_store: MakeStore) -> Store:
        return make_store("store")

    def write_while_reading(self, monkeypatch: pytest.MonkeyPatch, store: Store, key: str) -> None:
        """From now on ``key`` changes whenever it is being read."""
        raise NotImplementedError

    def temporary(self, store: Store) -> int:
        """How many temporary objects there are."""
        raise NotImplementedError

    def test_an_empty_store_has_no_entries(self, store: Store) -> None:
        assert keys(store) == []
        assert keys(store, "half") == []

    def test_entries_come_in_the_order_of_their_keys_whatever_their_names(
        self, store: Store
    ) -> None:
        for number, key in enumerate(reversed(ODD_NAMES)):
            put(store, key, b"x" * number)
        assert keys(store) == sorted(ODD_NAMES)
        assert keys(store, "half") == [key for key in sorted(ODD_NAMES) if key.startswith("half/")]
        sizes = {entry.key: entry.size_bytes for page in store.entries() for entry in page}
        assert sizes == {key: number for number, key in enumerate(reversed(ODD_NAMES))}

    @pytest.mark.parametrize("key", ["", "/a", "../a", "a/../b", "a//b", "a/", "./a"])
    def test_a_key_never_leads_out_of_the_store(self, store: Store, key: str) -> None:
        for act in (
            lambda: store.stage(key, b"", ME),
            lambda: store.remove(key),
            lambda: store.copy(key, "b", ME),
        ):
            with pytest.raises(ValueError, match="not the key of a file"):
                act()

    def test_what_is_read_is_what_was_published_with_its_version(self, store: Store) -> None:
        entry = store.publish(store.stage("half/a.jpg", b"bytes", ME))
        assert store.read("half/a.jpg", LARGE) == (b"bytes", entry)
        assert list(store.entries()) == [[entry]]

    def test_another_content_has_another_version(self, store: Store) -> None:
        first = store.publish(store.stage("a.jpg", b"one", ME))
        assert store.publish(store.stage("a.jpg", b"two", ME)).version != first.version

    def test_what_is_not_there_cannot_be_read(self, store: Store) -> None:
        with pytest.raises(FileNotFoundError):
            store.read("half/a.jpg", LARGE)

    def test_what_is_too_large_is_not_read(self, store: Store) -> None:
        put(store, "a.jpg", b"12345")
        assert store.read("a.jpg", 5)[0] == b"12345"
        with pytest.raises(TooManyBytes) as caught:
            store.read("a.jpg", 4)
        assert caught.value.size_bytes == 5

    def test_what_changes_while_it_is_read_is_unstable(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(store, "a.jpg", b"one")
        self.write_while_reading(monkeypatch, store, "a.jpg")
        with pytest.raises(Unstable):
            store.read("a.jpg", LARGE)

    def test_what_is_staged_is_not_seen(self, store: Store) -> None:
        put(store, "half/a.jpg", b"old")
        store.stage("half/a.jpg", b"new", ME)
        store.stage("half/b.jpg", b"new", ME)
        assert keys(store) == ["half/a.jpg"]
        assert get(store, "half/a.jpg") == b"old"

    def test_publishing_replaces_and_leaves_nothing_else(self, store: Store) -> None:
        put(store, "half/a.jpg", b"old")
        staged = [store.stage("half/a.jpg", data, ME) for data in (b"first", b"second")]
        for one, data in zip(staged, (b"first", b"second"), strict=True):
            store.publish(one)
            assert get(store, "half/a.jpg") == data
        assert self.temporary(store) == 0

    def test_it_may_be_published_under_another_key(self, store: Store) -> None:
        staged = store.stage("half/a.jpg", b"new", ME)
        put(store, "thumb/x.jpg", b"x")
        store.publish(staged._replace(key="thumb/b.jpg"))
        assert keys(store) == ["thumb/b.jpg", "thumb/x.jpg"]
        assert self.temporary(store) == 0

    def test_what_was_swept_cannot_be_published(self, store: Store) -> None:
        staged = store.stage("half/a.jpg", b"new", ME)
        store.sweep(lambda owner: False)
        with pytest.raises(FileNotFoundError):
            store.publish(staged)
        assert keys(store) == []

    def test_a_copy_has_the_same_bytes_and_a_life_of_its_own(self, store: Store) -> None:
        put(store, "half/a.jpg", b"one")
        staged = store.copy("half/a.jpg", "half/new/b.jpg", ME)
        assert keys(store) == ["half/a.jpg"]
        store.publish(staged)
        put(store, "half/a.jpg", b"two")
        assert (get(store, "half/a.jpg"), get(store, "half/new/b.jpg")) == (b"two", b"one")
        assert store.remove("half/a.jpg")
        assert get(store, "half/new/b.jpg") == b"one"

    def test_a_copy_onto_itself_leaves_no_second_name(self, store: Store) -> None:
        put(store, "a.jpg", b"one")
        for _ in range(2):
            store.publish(store.copy("a.jpg", "a.jpg", ME))
        assert (keys(store), self.temporary(store)) == (["a.jpg"], 0)

    def test_what_is_not_there_cannot_be_copied(self, store: Store) -> None:
        with pytest.raises(FileNotFoundError):
            store.copy("a.jpg", "b.jpg", ME)
        assert self.temporary(store) == 0

    def test_removing_says_whether_it_was_there(self, store: Store) -> None:
        put(store, "half/deep/a.jpg", b"one")
        put(store, "half/b.jpg", b"two")
        assert [store.remove("half/deep/a.jpg") for _ in range(2)] == [True, False]
        assert keys(store) == ["half/b.jpg"]
        assert store.remove("half/b.jpg")
        assert keys(store) == []

    def test_what_was_staged_can_be_dropped(self, store: Store) -> None:
        assert store.remove(store.stage("half/a.jpg", b"one", ME).temporary)
        assert (keys(store), self.temporary(store)) == ([], 0)

    def test_a_sweep_spares_the_living_and_what_was_published(self, store: Store) -> None:
        put(store, "half/a.jpg", b"one")
        for owner in (ME, OTHER):
            store.stage("half/a.jpg", b"two", owner)
            store.stage("half/deep/b.jpg", b"two", owner)
        assert store.sweep(lambda owner: owner == OTHER) == 2
        assert self.temporary(store) == 2
        assert store.sweep(lambda owner: owner == OTHER) == 0
        assert store.sweep(lambda owner: False) == 2
        assert keys(store) == ["half/a.jpg"]

    def test_another_store_has_another_identity(self, make_store: MakeStore) -> None:
        one, two = make_store("one"), make_store("two")
        put(one, "a.jpg", b"one")
        put(two, "a.jpg", b"one")
        before = one.identity()
        assert before != two.identity()
        put(one, "b.jpg", b"more")
        assert before == one.identity() == make_store("one").identity()
