"""Notifications of a bucket: which originals its store says have changed.

The records are S3's ("Event message structure" in its user guide), which Ceph and MinIO send over
HTTP as well. What they say besides the names is not trusted: the store itself is asked what is
there, so a notification that is late, doubled or forged costs a look, and one that is lost is made
up for by the listing every PIPELINE_RESCAN_S.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote_plus

from pipeline.storage.places import Place

# So deep is the envelope of a topic around the records.
_ENVELOPES = 2


def changed_keys(body: bytes, place: Place) -> set[str]:
    """The keys of the originals at ``place`` that a notification names; empty for other messages.

    Raises:
        ValueError: it is not JSON, or not in this form.
    """
    try:
        said = json.loads(body)
        for _ in range(_ENVELOPES):
            # Amazon's topics send the records as a text in an envelope of their own.
            if isinstance(said, dict) and isinstance(said.get("Message"), str):
                said = json.loads(said["Message"])
        records = said.get("Records", []) if isinstance(said, dict) else None
        if not isinstance(records, list):
            raise ValueError("no records")
        names = [name for record in records for name in _names(record, place.bucket)]
    except (KeyError, TypeError, AttributeError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from None
    prefix = place.prefix
    keys = {name[len(prefix) :] for name in names if name.startswith(prefix)}
    return keys - {""}


def _names(record: Any, bucket: str) -> set[str]:
    if record["s3"]["bucket"]["name"] != bucket:
        return set()
    name = record["s3"]["object"]["key"]
    # S3 and MinIO encode names as forms do, Ceph does not, and a record does not say which. The
    # name that is none costs one look.
    return {name, unquote_plus(name, errors="replace")}
