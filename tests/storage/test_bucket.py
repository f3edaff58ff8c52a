"""The bucket store keeps what every store promises, on real servers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import httpx
import pytest
from a_bucket import Bucket, ceph, environment, juicefs
from a_faulty_proxy import Fault, FaultyProxy
from conformance import MakeStore, StoreTests

from pipeline.errors import OutputError, StoreError
from pipeline.storage import bucket_client, bucket_ranges, s3
from pipeline.storage.base import Store, replaced
from pipeline.storage.bucket import BucketStore
from pipeline.storage.bucket_client import forget_clients
from pipeline.storage.bucket_conditions import Conditions
from pipeline.storage.bucket_listing import NO_NAME, STAGED
from pipeline.storage.s3 import Answered
from pipeline.storage.walking import Passed

pytest.importorskip("obstore", reason="obstore is not installed (pip install 'lockstep[cloud]')")
pytestmark = pytest.mark.buckets
__all__ = ["ceph", "juicefs"]


def use(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Find buckets at this endpoint from now on."""
    for name, value in environment(endpoint).items():
        monkeypatch.setenv(name, value)
    forget_clients()


class BucketTests(StoreTests):
    """On a server whose endpoint is that of the fixture ``server``."""

    @pytest.fixture
    def proxy(self, server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
        proxy = FaultyProxy(server)
        use(monkeypatch, proxy.endpoint)
        yield proxy
        forget_clients()
        proxy.close()

    @pytest.fixture
    def bucket(self, server: str) -> Iterator[Bucket]:
        bucket = Bucket(server)
        yield bucket
        bucket.close()

    @pytest.fixture
    def make_store(self, proxy: FaultyProxy, bucket: Bucket) -> MakeStore:
        self.proxy = proxy
        return lambda name: BucketStore(bucket.place(name))

    def keys(self, store: Store) -> list[str]:
        return [found.path for page in store.entries() for found in page]

    def temporary(self, store: Store) -> int:
        return sum(len(page) for page in store.entries(STAGED[:-1]))

    def write_while_reading(self, monkeypatch: pytest.MonkeyPatch, store: Store, key: str) -> None:
        assert isinstance(store, BucketStore)
        self.proxy.faults.append(
            Fault(method="GET", cut_bytes=1, meanwhile=lambda: self.replace(store, key))
        )

    def replace(self, store: BucketStore, key: str) -> None:
        store.publish(store.stage(key, b"longer than before", "other"))

    def test_an_answer_that_is_cut_off_is_gone_on_with(
        self, store: Store, proxy: FaultyProxy
    ) -> None:
        data = b"0123456789" * 200_000
        store.publish(store.stage("a.jpg", data, "me"))
        proxy.faults.append(Fault(times=2, method="GET", cut_bytes=700_000))
        assert store.read("a.jpg", len(data))[0] == data
        proxy.faults.append(Fault(method="GET", cut_bytes=300_000))
        assert b"".join(store.pieces("a.jpg", 500_000)) == data[500_000:]

    def test_a_listing_that_is_cut_off_is_never_a_short_one(
        self,
        store: Store,
        bucket: Bucket,
        proxy: FaultyProxy,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(s3, "_TRIES", 3)
        for number in range(5):
            bucket.put(f"store/{number}.jpg")
        proxy.faults.append(Fault(times=2, method="GET", part="list-type", cut_bytes=600))
        assert len(self.keys(store)) == 5
        proxy.faults.append(Fault(times=99, method="GET", part="list-type", cut_bytes=600))
        with pytest.raises(StoreError, match="does not answer"):
            self.keys(store)

    def test_folders_are_listed_side_by_side_and_come_in_order(
        self,
        store: Store,
        bucket: Bucket,
        proxy: FaultyProxy,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        names = [
            f"{top}/{sub}{number}.jpg" for top in "abcd" for sub in ("", "x/") for number in "012"
        ]
        for name in [*names, "a.jpg", "b-c.jpg", "c", "zz.jpg"][::-1]:
            with contextlib.suppress(Answered):  # a file system takes no `c` beside `c/`
                bucket.put(f"store/{name}")
        expected = sorted(name.removeprefix("store/") for name in bucket.names())
        monkeypatch.setattr(s3, "_TRIES", 2)
        monkeypatch.setattr(s3, "PAGE_KEYS", 2)
        monkeypatch.setattr(bucket_ranges, "PAGES_FIRST", 2)
        proxy.faults.append(Fault(times=999, part="list-type", pause_s=0.02))
        assert self.keys(store) == expected
        assert proxy.most_at_once > 1
        below = [found.path for page in store.entries("c") for found in page]
        assert below == [key for key in expected if key.startswith("c/")]
        next(iter(store.entries()))  # and one that nobody reads to the end leaves no thread waiting
        proxy.faults[0] = Fault(times=99, part="start-after", status=500)
        with pytest.raises(StoreError):
            self.keys(store)

    def test_a_store_that_is_busy_for_a_while_is_asked_again(
        self, store: Store, proxy: FaultyProxy
    ) -> None:
        for method in ("PUT", "GET", "HEAD", "DELETE"):
            proxy.faults += [Fault(method=method, status=503), Fault(method=method, status=500)]
        store.publish(store.stage("half/a.jpg", b"one", "me"))
        assert (store.read("half/a.jpg", 3)[0], self.keys(store)) == (b"one", ["half/a.jpg"])
        assert store.remove("half/a.jpg")
        assert not any(fault.times for fault in proxy.faults)

    def test_a_store_that_does_not_answer_in_time_is_asked_again(
        self, store: Store, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.publish(store.stage("a.jpg", b"one", "me"))
        monkeypatch.setitem(bucket_client._TIMEOUTS, "read_timeout", "200ms")
        monkeypatch.setattr(s3, "_TIMEOUT", httpx.Timeout(0.2))
        forget_clients()
        for part in ("list-type", "a.jpg"):
            proxy.faults.append(Fault(method="GET", part=part, pause_s=0.5))
        assert (store.read("a.jpg", 3)[0], self.keys(store)) == (b"one", ["a.jpg"])
        assert not any(fault.times for fault in proxy.faults)

    def test_one_object_that_is_refused_is_told_from_a_bucket_that_refuses_us(
        self, store: Store, proxy: FaultyProxy
    ) -> None:
        store.publish(store.stage("a.jpg", b"one", "me"))
        proxy.faults.append(Fault(method="GET", part="a.jpg", status=403))
        with pytest.raises(PermissionError):
            store.read("a.jpg", 3)
        proxy.faults.append(Fault(times=2, method="GET", status=403))
        with pytest.raises(StoreError, match="refuses us"):
            store.read("a.jpg", 3)

    def test_a_bucket_that_is_not_there_or_refuses_us_is_never_an_empty_one(
        self, server: str, store: Store, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.publish(store.stage("a.jpg", b"one", "me"))
        for secret, said in (("wrong", "refuses us"), (None, "there is no such bucket")):
            if secret is None:
                use(monkeypatch, server)
                bucket.drop()
            else:
                monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
                forget_clients()
            for act in (
                lambda: self.keys(store),
                lambda: store.read("a.jpg", 3),
                lambda: store.look_at("a.jpg"),
                lambda: store.stage("a.jpg", b"two", "me"),
                lambda: store.sweep(lambda owner: False),
                store.identity,
            ):
                with pytest.raises(StoreError, match=said) as caught:
                    act()
                assert caught.value.exit_code == 4
                assert str(caught.value).startswith(f"s3://{bucket.name}/store: ")

    def test_odd_keys_affect_only_themselves(self, store: Store, bucket: Bucket) -> None:
        odd = ["a//b.jpg", "c/", "line\nbreak.jpg", "t\x01.jpg", "é/\uefc3\uefa9.jpg"]
        made = [key for key in odd if bucket.has_put(f"store/{key}")]
        for key in ("a/b.jpg", "k.jpg", "z.jpg"):
            bucket.put(f"store/{key}")
        passed = Passed()
        rows = [row for page in store.walk(frozenset((".jpg",)), passed) for row in page]
        assert [row[0] for row in rows] == ["a/b.jpg", "k.jpg", "z.jpg"]
        assert sum(passed.reasons.values()) == len(set(self.keys(store)) & set(made))
        assert passed.reasons.keys() <= {NO_NAME, "other suffix (none)"}
        assert [store.look_at(key) for key in odd] == [None] * len(odd)

    def test_a_name_that_is_longer_than_stores_allow_is_the_failure_of_that_one(
        self, store: Store
    ) -> None:
        with pytest.raises(OSError, match="File name too long"):
            store.stage("é" * 512, b"one", "me")

    def test_a_process_that_lost_its_lock_replaces_nothing_newer(self, store: Store) -> None:
        late = store.stage("half/a.jpg", b"of before", "late")
        assert store.sweep(lambda owner: False) == 1  # by the one that has the lock now
        store.publish(store.stage("half/a.jpg", b"newer", "now"))
        with pytest.raises(FileNotFoundError):
            store.publish(late)
        assert store.read("half/a.jpg", 100)[0] == b"newer"

    def test_a_presigned_address_gives_one_object_to_anybody(self, store: Store) -> None:
        assert isinstance(store, BucketStore)
        store.publish(store.stage("half/a.jpg", b"one", "me"))
        answer = httpx.get(store.presigned("half/a.jpg", 60))
        assert (answer.status_code, answer.content) == (200, b"one")
        assert answer.headers["Content-Type"] == "image/jpeg"
        assert answer.headers["Cache-Control"] == "no-cache"


class TestCeph(BucketTests):
    @pytest.fixture
    def server(self, ceph: str) -> str:
        return ceph

    def test_a_result_does_not_replace_a_newer_one(self, store: Store, bucket: Bucket) -> None:
        for before in (None, b"old"):
            if before:
                bucket.put("store/a.csv", before)
            with pytest.raises(OutputError, match="replaced meanwhile"):
                self.write_late(store, bucket)
            assert bucket.get("store/a.csv") == b"newer"
            bucket.delete("store/a.csv")

    def write_late(self, store: Store, bucket: Bucket) -> None:
        with replaced(store, "a.csv") as file:
            file.write(b"mine")
            bucket.put("store/a.csv", b"newer")

    def test_a_takedown_deletes_every_version(self, ceph: str, proxy: FaultyProxy) -> None:
        bucket = Bucket(ceph, versions=True)
        store = BucketStore(bucket.place("store"))
        for data in (b"one", b"two"):
            bucket.put("store/a.jpg", data)
        bucket.delete("store/a.jpg")
        bucket.put("store/a.jpg.png", b"another")
        assert len(bucket.versions("store/a.jpg")) == 3
        assert store.erase("a.jpg")
        assert (bucket.versions("store/a.jpg"), bucket.names()) == ([], ["store/a.jpg.png"])
        assert not store.conditions().creates  # it ignores them here, and only here
        bucket.close()


class TestJuiceFS(BucketTests):
    @pytest.fixture
    def server(self, juicefs: str) -> str:
        return juicefs

    def test_a_store_that_ignores_conditions_is_noticed(self, store: Store) -> None:
        assert isinstance(store, BucketStore)
        assert store.conditions() == Conditions(False, None)
        assert self.keys(store) == []
