"""Connections to a bucket, one set a process.

obstore's runtime does not survive a fork, and neither does an open connection: each process makes
its own, at its first request.
"""

from __future__ import annotations

import datetime
import os
import threading
from typing import Any

import obstore.store

from pipeline.errors import SettingsError
from pipeline.storage.aws_access import AwsAccess
from pipeline.storage.bucket_errors import first_line
from pipeline.storage.places import Place
from pipeline.storage.s3 import S3

_TIMEOUTS = {"connect_timeout": "5s", "read_timeout": "30s", "timeout": "600s"}
_RETRIES: dict[str, Any] = {
    "max_retries": 6,
    "retry_timeout": datetime.timedelta(seconds=60),
    "backoff": {
        "init_backoff": datetime.timedelta(milliseconds=100),
        "max_backoff": datetime.timedelta(seconds=5),
        "base": 2,
    },
}
_clients: dict[tuple[int, str, str], Client] = {}
_lock = threading.Lock()


class Client:
    """What one process has to talk to one bucket: ``objects`` of obstore, and S3's other calls."""

    def __init__(self, place: Place) -> None:
        self.s3: S3 | None = None
        self.objects: Any
        self.endpoint = {"gs": "Google", "az": "Azure"}.get(place.scheme, "")
        if place.scheme == "s3":
            access = AwsAccess()
            self.s3 = S3(place.bucket, access)
            self.endpoint = access.endpoint
            self.objects = _s3_store(obstore.store.S3Store, place.bucket, access)
            return
        store = obstore.store.GCSStore if place.scheme == "gs" else obstore.store.AzureStore
        try:
            self.objects = store(place.bucket, client_options=_TIMEOUTS, retry_config=_RETRIES)
        except Exception as error:
            raise SettingsError(f"{place.text}: {first_line(error)}") from None


def client_of(place: Place) -> Client:
    """This process's connections to the bucket of a place.

    Raises:
        SettingsError: obstore is not installed, or the environment is wrong about the bucket.
    """
    known = os.getpid(), place.scheme, place.bucket
    with _lock:
        if known not in _clients:
            _clients[known] = Client(place)
        return _clients[known]


def forget_clients() -> None:
    """Close all connections; find out anew where buckets are, and who we are to them."""
    with _lock:
        for client in _clients.values():
            if client.s3 is not None:
                client.s3.close()
        _clients.clear()


def _s3_store(kind: Any, bucket: str, access: AwsAccess) -> Any:
    endpoint = access.base_url(bucket) if access.is_virtual_hosted else access.endpoint
    options: dict[str, Any] = {"allow_http": endpoint.startswith("http://"), **_TIMEOUTS}
    if access.ca_bundle:
        with open(access.ca_bundle, encoding="ascii") as file:
            options["root_certificate"] = file.read()
    return kind(
        bucket,
        endpoint=endpoint,
        aws_endpoint_url_s3=endpoint,
        region=access.region,
        virtual_hosted_style_request=access.is_virtual_hosted,
        # Not every store answers a bulk delete as S3 does; S3 takes no money for any.
        disable_bulk_delete=True,
        skip_signature=access.is_anonymous,
        credential_provider=None if access.is_anonymous else _Provider(access),
        client_options=options,
        retry_config=_RETRIES,
    )


class _Provider:
    """Hands our credentials to obstore, which asks again when they end."""

    def __init__(self, access: AwsAccess) -> None:
        self._access = access

    def __call__(self) -> dict[str, Any]:
        found = self._access.credentials()
        assert found is not None
        ends = None
        if found.expires_ts is not None:
            ends = datetime.datetime.fromtimestamp(found.expires_ts, datetime.timezone.utc)
        return {
            "access_key_id": found.key_id,
            "secret_access_key": found.secret,
            "token": found.token,
            "expires_at": ends,
        }
