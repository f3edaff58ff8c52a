"""Signatures of webhooks, by the Standard Webhooks scheme (https://www.standardwebhooks.com).

What is signed is the id, the time and the body, so that a receiver can detect a delivery that
somebody recorded and sent again: its time is long ago, or its id is known.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets

ID_HEADER = "webhook-id"
TIMESTAMP_HEADER = "webhook-timestamp"
SIGNATURE_HEADER = "webhook-signature"
# For receivers of the release before: the HMAC of the body alone.
BODY_SIGNATURE_HEADER = "X-Lockstep-Signature"

PREFIX = "whsec_"
# The scheme asks for 24 to 64.
SECRET_BYTES = 32


def new_secret() -> str:
    """A secret of its own for one receiver, as ``whsec_`` and base64."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def key_of(secret: str) -> bytes:
    """The key that a secret stands for; one that is not ``whsec_...`` is the key as it is.

    Raises:
        ValueError: what follows ``whsec_`` is not base64, or nothing.
    """
    if not secret.startswith(PREFIX):
        return secret.encode()
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not key:
        raise ValueError(f"must be base64 after {PREFIX}, or not begin with {PREFIX}")
    return key


def signature(message_id: str, timestamp_s: int, body: bytes, secret: str) -> str:
    """The value of ``webhook-signature``."""
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    digest = hmac.new(key_of(secret), signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def signed_headers(message_id: str, timestamp_s: int, body: bytes, secret: str) -> dict[str, str]:
    """The headers of one attempt; without a ``secret`` none that signs anything."""
    headers = {ID_HEADER: message_id, TIMESTAMP_HEADER: str(timestamp_s)}
    if secret:
        headers[SIGNATURE_HEADER] = signature(message_id, timestamp_s, body, secret)
        digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        headers[BODY_SIGNATURE_HEADER] = f"sha256={digest}"
    return headers
