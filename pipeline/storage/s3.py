"""Requests to S3 and stores like it that obstore has no call for, signed here.

obstore ends a whole listing at one key with ``//`` in it, and knows nothing of the versions of an
object. Signature Version 4 is written down in the "Amazon Simple Storage Service API Reference",
"Authenticating Requests (AWS Signature Version 4)".
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import hmac
import random
import ssl
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import quote, unquote_plus, urlsplit
from xml.etree import ElementTree

import httpx

from pipeline.errors import StoreError
from pipeline.storage.aws_access import AwsAccess, Credentials

_PLAIN = "-_.~"
# As many as S3 gives.
PAGE_KEYS = 1_000
_TRIES = 6
_FIRST_WAIT_S = 0.2
_TIMEOUT = httpx.Timeout(30.0, connect=5.0)
# What another try may help with.
_AGAIN = frozenset((408, 429, 500, 502, 503, 504))


class Listed(NamedTuple):
    """One object as a listing has it: its whole name, and the text of its time."""

    name: str
    size_bytes: int
    modified: str
    e_tag: str


class Version(NamedTuple):
    """One version of an object, or the mark that says it was deleted."""

    name: str
    version_id: str


class Answered(Exception):
    """The store refused a request: the status, and its code, for example ``NoSuchBucket``."""

    def __init__(self, status: int, code: str, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.code = code


class S3:
    """One bucket; its methods may be called from several threads."""

    def __init__(self, bucket: str, access: AwsAccess) -> None:
        self._access = access
        self._base = access.base_url(bucket)
        self._has_versions: bool | None = None
        verify: ssl.SSLContext | bool = True
        if access.ca_bundle:
            verify = ssl.create_default_context(cafile=access.ca_bundle)
        self._client = httpx.Client(timeout=_TIMEOUT, verify=verify, follow_redirects=False)

    def page(
        self, prefix: str, after: str = "", delimiter: str = "", most: int | None = None
    ) -> tuple[list[Listed], list[str], str | None]:
        """One page of a listing in the order of the names: objects, prefixes, and where it goes on.

        It goes on after the name returned, which is ``None`` for the last page.

        Raises:
            Answered: the store refused.
            StoreError: it does not answer.
        """
        query = {
            "list-type": "2",
            "prefix": prefix,
            "max-keys": str(most or PAGE_KEYS),
            "encoding-type": "url",
        }
        if after:
            query["start-after"] = after
        if delimiter:
            query["delimiter"] = delimiter
        root = _xml(self.ask("GET", query))
        coded = root.findtext("{*}EncodingType") == "url"
        # Whole names of tags: with a wildcard this loop, which is most of a listing, takes longer.
        space = root.tag[: root.tag.find("}") + 1]
        wanted = [space + tag for tag in ("Key", "Size", "LastModified", "ETag")]
        objects = []
        for each in root.iterfind(f"{space}Contents"):
            name, size_bytes, modified, e_tag = [each.findtext(tag, "") for tag in wanted]
            name = _decoded(name) if coded else name
            objects.append(Listed(name, int(size_bytes), modified, e_tag))
        below = root.iterfind("{*}CommonPrefixes/{*}Prefix")
        prefixes = [_decoded(each.text or "") if coded else each.text or "" for each in below]
        if root.findtext("{*}IsTruncated") != "true":
            return objects, prefixes, None
        last = max([objects[-1].name] if objects else [], [prefixes[-1]] if prefixes else [])
        if not last:
            raise StoreError(f"{self._base}: a page of its listing is empty, and not the last")
        # A prefix is listed again where we go on behind it, not behind the last of what is in it.
        return objects, prefixes, last[0] + ("\U0010ffff" if last[0] in prefixes[-1:] else "")

    def objects(self, prefix: str, after: str = "") -> Iterator[list[Listed]]:
        """All objects whose names begin with ``prefix``, page by page.

        Raises:
            Answered, StoreError: see :meth:`page`.
        """
        while True:
            objects, _, more = self.page(prefix, after)
            if objects:
                yield objects
            if more is None:
                return
            after = more

    def has_versions(self) -> bool:
        """Whether the bucket keeps, or ever kept, versions; asked once.

        Raises:
            Answered, StoreError: see :meth:`page`.
        """
        if self._has_versions is None:
            try:
                status = _xml(self.ask("GET", {"versioning": ""})).findtext("{*}Status")
            except Answered as error:
                if error.code not in ("NotImplemented", "MethodNotAllowed"):
                    raise
                status = None
            self._has_versions = status is not None
        return self._has_versions

    def versions(self, name: str) -> list[Version]:
        """Every version of one object, and every mark of a deletion.

        Raises:
            Answered, StoreError: see :meth:`page`.
        """
        found: list[Version] = []
        query = {"versions": "", "prefix": name, "encoding-type": "url"}
        while True:
            root = _xml(self.ask("GET", query))
            for each in root:
                if each.tag.rpartition("}")[2] in ("Version", "DeleteMarker"):
                    key = _decoded(each.findtext("{*}Key") or "")
                    if key == name:
                        found.append(Version(key, each.findtext("{*}VersionId") or ""))
            marker = _decoded(root.findtext("{*}NextKeyMarker") or "")
            if root.findtext("{*}IsTruncated") != "true" or marker > name:
                return found
            query["key-marker"] = marker
            query["version-id-marker"] = root.findtext("{*}NextVersionIdMarker") or ""

    def delete_version(self, version: Version) -> None:
        """Delete one version for good.

        Raises:
            Answered, StoreError: see :meth:`page`.
        """
        self.ask("DELETE", {"versionId": version.version_id}, version.name)

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def ask(
        self, method: str, query: Mapping[str, str], name: str = "", body: bytes = b""
    ) -> bytes:
        url = f"{self._base}/{_coded(name, '/')}" if name else self._base
        text = "&".join(
            f"{quote(key, safe=_PLAIN)}={_coded(value)}" for key, value in sorted(query.items())
        )
        for again in range(_TRIES):
            last = again == _TRIES - 1
            headers = signed_headers(
                method, url, text, self._access.region, self._access.credentials(), body
            )
            try:
                answer = self._client.request(
                    method, f"{url}?{text}", headers=headers, content=body
                )
            except httpx.TransportError as error:
                if last:
                    said = str(error) or type(error).__name__
                    raise StoreError(
                        f"{self._base}: the store does not answer ({said}); nothing was deleted. "
                        "Try again when it does"
                    ) from None
            else:
                if answer.status_code < 300:
                    return answer.content
                if last or answer.status_code not in _AGAIN:
                    raise _refused(answer)
            time.sleep(_FIRST_WAIT_S * 2**again * random.uniform(0.5, 1.0))
        raise AssertionError("unreachable")


def signed_headers(
    method: str,
    url: str,
    query: str,
    region: str,
    credentials: Credentials | None,
    body: bytes = b"",
    now: datetime.datetime | None = None,
) -> dict[str, str]:
    """The headers of a request by Signature Version 4; without ``credentials`` there are none.

    ``query`` is encoded and sorted already.
    """
    if credentials is None:
        return {}
    now = now or datetime.datetime.now(datetime.timezone.utc)
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    parts, digest = urlsplit(url), hashlib.sha256(body).hexdigest()
    headers = {"host": parts.netloc, "x-amz-content-sha256": digest, "x-amz-date": stamp}
    if credentials.token:
        headers["x-amz-security-token"] = credentials.token
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    canonical = "\n".join([method, parts.path or "/", query, lines, names, digest])
    scope = f"{day}/{region}/s3/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, digest])
    key = f"AWS4{credentials.secret}".encode()
    for part in (day, region, "s3", "aws4_request", to_sign):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.key_id}/{scope}, SignedHeaders={names}, "
        f"Signature={key.hex()}"
    )
    del headers["host"]
    return headers


def _xml(text: bytes) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise StoreError(f"an answer of the store cannot be read ({error}); try again") from None


def _coded(text: str, safe: str = "") -> str:
    return quote(text, safe=safe + _PLAIN, errors="surrogateescape")


def _decoded(text: str) -> str:
    # Bytes that are no UTF-8 become lone surrogates, which no other name has.
    if "%" not in text and "+" not in text:
        return text
    return unquote_plus(text, errors="surrogateescape")


def _refused(answer: httpx.Response) -> Answered:
    code = ""
    with contextlib.suppress(ElementTree.ParseError):
        code = ElementTree.fromstring(answer.content).findtext("{*}Code") or ""
    return Answered(answer.status_code, code, f"{answer.status_code} {code}".strip())
