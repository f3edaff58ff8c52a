"""What every store promises. A new store inherits :class:`StoreTests` and supplies ``make_store``.

Whoever can change the stored bytes behind the store's back overrides ``change`` as well.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from pipeline.errors import TooManyBytes, Unstable
from pipeline.names import key_of
from pipeline.storage.base import Store, replaced
from pipeline.storage.walking import Passed

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

    def keys(self, store: Store) -> list[str]:
        """What readers see: every object that is not temporary, in the order of the keys."""
        raise NotImplementedError

    def temporary(self, store: Store) -> int:
        """How many temporary objects there are."""
        raise NotImplementedError

    def write_in_vain(self, store: Store, key: str) -> None:
        with replaced(store, key) as file:
            file.write(b"half of it")
            raise LookupError

    def test_a_key_may_be_any_name(self, store: Store) -> None:
        for key in ODD_NAMES:
            put(store, key, key.encode())
        assert self.keys(store) == sorted(ODD_NAMES)
        assert [get(store, key) for key in ODD_NAMES] == [key.encode() for key in ODD_NAMES]
        assert all(store.remove(key) for key in ODD_NAMES)
        assert self.keys(store) == []

    @pytest.mark.parametrize("key", ["", "/a", "../a", "a/../b", "a//b", "a/", "./a"])
    def test_a_key_never_leads_out_of_the_store(self, store: Store, key: str) -> None:
        for act in (
            lambda: store.stage(key, b"", ME),
            lambda: store.remove(key),
            lambda: store.copy(key, "b", ME),
            lambda: store.open_staged(key, ME).__enter__(),
        ):
            with pytest.raises(ValueError, match="not the key of a file"):
                act()

    def test_what_is_read_is_what_was_published_with_its_version(self, store: Store) -> None:
        entry = store.publish(store.stage("half/a.jpg", b"bytes", ME))
        assert store.read("half/a.jpg", LARGE) == (b"bytes", entry)
        assert (entry.key, entry.size_bytes) == ("half/a.jpg", 5)

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
        assert self.keys(store) == ["half/a.jpg"]
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
        assert self.keys(store) == ["thumb/b.jpg", "thumb/x.jpg"]
        assert self.temporary(store) == 0

    def test_what_was_swept_cannot_be_published(self, store: Store) -> None:
        staged = store.stage("half/a.jpg", b"new", ME)
        store.sweep(lambda owner: False)
        with pytest.raises(FileNotFoundError):
            store.publish(staged)
        assert self.keys(store) == []

    def test_what_is_written_in_pieces_is_seen_as_a_whole(self, store: Store) -> None:
        put(store, "half/a.jpg", b"old")
        with store.open_staged("half/a.jpg", ME) as (file, staged):
            for _ in range(3):
                file.write(b"piece " * 10_000)
            assert get(store, "half/a.jpg") == b"old"
        assert (get(store, "half/a.jpg"), self.temporary(store)) == (b"old", 1)
        assert store.publish(staged).size_bytes == 180_000
        assert get(store, "half/a.jpg") == b"piece " * 30_000
        assert (self.keys(store), self.temporary(store)) == (["half/a.jpg"], 0)

    def test_an_error_while_writing_leaves_what_was_there_and_nothing_else(
        self, store: Store
    ) -> None:
        put(store, "a.jpg", b"old")
        for key in ("a.jpg", "half/b.jpg"):
            with pytest.raises(LookupError):
                self.write_in_vain(store, key)
        assert (self.keys(store), self.temporary(store)) == (["a.jpg"], 0)
        assert get(store, "a.jpg") == b"old"
        with replaced(store, "a.jpg") as file:
            file.write(b"new")
        assert (get(store, "a.jpg"), self.temporary(store)) == (b"new", 0)

    def test_what_is_being_written_is_swept_with_its_owner_alone(self, store: Store) -> None:
        with store.open_staged("half/a.jpg", ME) as (file, staged):
            file.write(b"one")
            assert store.sweep(lambda owner: owner == ME) == 0
        store.publish(staged)
        with store.open_staged("half/b.jpg", OTHER) as (file, staged):
            assert store.sweep(lambda owner: owner == ME) == 1
        with pytest.raises(FileNotFoundError):
            store.publish(staged)
        assert self.keys(store) == ["half/a.jpg"]

    def test_a_key_may_be_known_only_when_all_is_written(self, store: Store) -> None:
        with store.open_staged("new", ME) as (file, staged):
            file.write(b"one")
        store.publish(staged._replace(key="ab/abc"))
        assert (self.keys(store), self.temporary(store)) == (["ab/abc"], 0)

    def test_a_copy_has_the_same_bytes_and_a_life_of_its_own(self, store: Store) -> None:
        put(store, "half/a.jpg", b"one")
        staged = store.copy("half/a.jpg", "half/new/b.jpg", ME)
        assert self.keys(store) == ["half/a.jpg"]
        store.publish(staged)
        put(store, "half/a.jpg", b"two")
        assert (get(store, "half/a.jpg"), get(store, "half/new/b.jpg")) == (b"two", b"one")
        assert store.remove("half/a.jpg")
        assert get(store, "half/new/b.jpg") == b"one"

    def test_a_copy_onto_itself_leaves_no_second_name(self, store: Store) -> None:
        put(store, "a.jpg", b"one")
        for _ in range(2):
            store.publish(store.copy("a.jpg", "a.jpg", ME))
        assert (self.keys(store), self.temporary(store)) == (["a.jpg"], 0)

    def test_what_is_not_there_cannot_be_copied(self, store: Store) -> None:
        with pytest.raises(FileNotFoundError):
            store.copy("a.jpg", "b.jpg", ME)
        assert self.temporary(store) == 0

    def test_removing_says_whether_it_was_there(self, store: Store) -> None:
        put(store, "half/deep/a.jpg", b"one")
        put(store, "half/b.jpg", b"two")
        assert [store.remove("half/deep/a.jpg") for _ in range(2)] == [True, False]
        assert self.keys(store) == ["half/b.jpg"]
        assert store.remove("half/b.jpg")
        assert self.keys(store) == []

    def test_all_versions_of_an_object_go_at_once(self, store: Store) -> None:
        put(store, "half/a.jpg", b"one")
        put(store, "half/a.jpg", b"two")
        assert [store.erase("half/a.jpg") for _ in range(2)] == [True, False]
        assert self.keys(store) == []

    def test_a_listing_agrees_with_a_look_at_each_object(self, store: Store) -> None:
        for key in ("half/a.jpg", "half/deep/b.jpg", "thumb/a.jpg"):
            put(store, key, key.encode())
        listed = [found for page in store.entries() for found in page]
        assert [store.look_at(found.path) for found in listed] == listed
        assert [found.size_bytes for found in listed] == [10, 15, 11]
        below = [found.path for page in store.entries("half") for found in page]
        assert below == ["half/a.jpg", "half/deep/b.jpg"]
        assert store.look_at("half") is None
        assert (store.has("half/a.jpg", 10), store.has("half/a.jpg", 11)) == (True, False)

    def test_it_is_read_in_pieces_only_while_it_is_what_was_found(self, store: Store) -> None:
        put(store, "a.jpg", b"0123456789")
        found = store.look_at("a.jpg")
        assert b"".join(store.pieces("a.jpg", found=found)) == b"0123456789"
        assert b"".join(store.pieces("a.jpg", 2, 5)) == b"234"
        assert b"".join(store.pieces("a.jpg", 8)) == b"89"
        put(store, "a.jpg", b"another one")
        with pytest.raises(Unstable):
            list(store.pieces("a.jpg", found=found))
        with pytest.raises(FileNotFoundError):
            list(store.pieces("b.jpg"))

    def test_originals_are_told_from_what_else_there_is(self, store: Store) -> None:
        keys = ["a.JPG", "b.txt", "c/.hidden/d.jpg", "c/d.jpg", "c/e.jpg~", "f.csv", "thumbs.db"]
        for key in keys:
            put(store, key, b"x")
        passed = Passed(deferred_suffixes=frozenset((".csv",)))
        rows = [row for page in store.walk(frozenset((".jpg",)), passed) for row in page]
        assert [row[0] for row in rows] == ["a.JPG", "c/d.jpg"]
        assert [tuple(store.look_at(row[0]) or ()) for row in rows] == [tuple(row) for row in rows]
        assert [found.path for found in passed.deferred] == ["f.csv"]
        wanted = frozenset((".jpg",))
        said = {key: store.why_passed(key, wanted) for key in keys if key != "f.csv"}
        assert said == {
            "a.JPG": None,
            "b.txt": "other suffix (.txt)",
            "c/.hidden/d.jpg": "hidden",
            "c/d.jpg": None,
            "c/e.jpg~": "temporary",
            "thumbs.db": "hidden",
        }
        assert set(passed.reasons) == {"other suffix (.txt)", "hidden", "temporary"}

    def test_one_store_is_told_from_another(self, make_store: MakeStore) -> None:
        for name in ("store", "other"):
            put(make_store(name), "a.jpg", b"one")
        first, again, other = (make_store(name).identity() for name in ("store", "store", "other"))
        assert first == again != other

    def test_what_was_staged_can_be_dropped(self, store: Store) -> None:
        assert store.remove(store.stage("half/a.jpg", b"one", ME).temporary)
        assert (self.keys(store), self.temporary(store)) == ([], 0)

    def test_a_sweep_spares_the_living_and_what_was_published(self, store: Store) -> None:
        put(store, "half/a.jpg", b"one")
        for owner in (ME, OTHER):
            store.stage("half/a.jpg", b"two", owner)
            store.stage("half/deep/b.jpg", b"two", owner)
        assert store.sweep(lambda owner: owner == OTHER) == 2
        assert self.temporary(store) == 2
        assert store.sweep(lambda owner: owner == OTHER) == 0
        assert store.sweep(lambda owner: False) == 2
        assert self.keys(store) == ["half/a.jpg"]
