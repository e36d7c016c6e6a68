"""Signs outgoing webhooks as the Standard Webhooks specification (version 1, symmetric) says; pure."""

import base64
import binascii
import hmac
from collections.abc import Sequence
from typing import Final

SECRET_PREFIX: Final = "whsec_"  # noqa: S105  what secrets begin with, none itself
SECRET_BYTES: Final = 32
"""Of the 24 to 64 that the specification allows."""
TOLERANCE_S: Final = 300
"""How far the timestamp of a message may be from the receiver's clock."""
_VERSION: Final = "v1"


def secret_text(raw: bytes) -> str:
    """A signing secret as customers are shown it."""
    return SECRET_PREFIX + base64.b64encode(raw).decode("ascii")


def secret_bytes(text: str) -> bytes:
    """The key in a shown secret; ValueError where it is none."""
    try:
        return base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError("this is not a webhook secret") from error


def signature(secret: bytes, message_id: str, timestamp_s: int, body: bytes) -> str:
    """The signature of one message under one secret."""
    content = f"{message_id}.{timestamp_s}.".encode() + body
    return f"{_VERSION},{base64.b64encode(hmac.digest(secret, content, 'sha256')).decode('ascii')}"


def signed_headers(secrets: Sequence[bytes], message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """The three headers of a message, signed under each secret: two while one replaces the other."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(signature(secret, message_id, timestamp_s, body) for secret in secrets),
    }


def is_genuine(secret: bytes, headers: dict[str, str], body: bytes, now_s: int) -> bool:
    """What a receiver checks: that one of the signatures is right and the message is not old."""
    stamp = headers.get("webhook-timestamp", "")
    if not stamp.isascii() or not stamp.isdigit() or abs(now_s - int(stamp[:12])) > TOLERANCE_S:
        return False
    expected = signature(secret, headers.get("webhook-id", ""), int(stamp[:12]), body)
    given = headers.get("webhook-signature", "").split(" ")
    return any(hmac.compare_digest(expected.encode(), each.encode()) for each in given)
