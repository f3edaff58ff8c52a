"""What a notification of a bucket names, in the forms that stores send."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.live.notifications import changed_keys
from pipeline.storage.places import place_of

PLACE = place_of("s3://photos/in", Path())


def record(name: str, bucket: str = "photos", event: str = "ObjectCreated:Put") -> dict[str, Any]:
    return {
        "eventName": event,
        "s3": {"bucket": {"name": bucket}, "object": {"key": name, "eTag": "x", "size": 1}},
    }


def keys_in(message: Any) -> set[str]:
    return changed_keys(json.dumps(message).encode(), PLACE)


def test_the_names_below_the_prefix_are_looked_at() -> None:
    records = [record("in/a.jpg"), record("in/b/c.jpg", event="s3:ObjectRemoved:Delete")]
    others = [record("in"), record("in/"), record("inner/a.jpg"), record("in/d.jpg", "other")]
    assert keys_in({"Records": records + others}) == {"a.jpg", "b/c.jpg"}


def test_an_encoded_name_is_looked_for_as_it_is_and_decoded() -> None:
    assert keys_in({"Records": [record("in/a+b%C3%BC.jpg")]}) == {"a+b%C3%BC.jpg", "a bü.jpg"}
    encoded = [record("in%2Fa.jpg")]
    assert keys_in({"Records": encoded}) == {"a.jpg"}


def test_minio_and_the_topics_of_amazon_wrap_the_records() -> None:
    records = [record("in/a.jpg")]
    minio = {"EventName": "s3:ObjectCreated:Put", "Key": "photos/in/a.jpg", "Records": records}
    assert keys_in(minio) == {"a.jpg"}
    topic = {"Type": "Notification", "Message": json.dumps({"Records": records})}
    assert keys_in(topic) == {"a.jpg"}


def test_a_message_without_records_names_nothing() -> None:
    assert keys_in({"Event": "s3:TestEvent"}) == set()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"[" * 100_000,
        b'{"Records": 1}',
        b'{"Records": [1]}',
        b'{"Records": [{"s3": {"bucket": {"name": "photos"}, "object": {"key": 1}}}]}',
    ],
)
def test_what_is_in_no_such_form_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        changed_keys(body, PLACE)
