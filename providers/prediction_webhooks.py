"""Whether a webhook about a prediction is its provider's, and which prediction it is about."""

import base64
import binascii
import hmac
from collections.abc import Mapping
from typing import Final

import orjson

from providers.json_paths import read
from providers.prediction_terms import PredictionTerms, WebhookScheme
from providers.predictions import WebhookRefused

TOLERANCE_S: Final = 300
"""How far the time of a message may be from ours (Standard Webhooks)."""
_PREFIX: Final = "whsec_"


def subject_of(terms: PredictionTerms, secret: str, headers: Mapping[str, str], body: bytes, now_s: int) -> str:
    """The prediction's id; `headers` by lower-case names. Raises WebhookRefused."""
    genuine = (
        _standard(secret, headers, body, now_s)
        if terms.webhook_scheme is WebhookScheme.STANDARD
        else _hmac(secret, headers.get(terms.webhook_signature_header, ""), body)
    )
    if not genuine:
        raise WebhookRefused("the signature is not right, or the message is too old")
    try:
        parsed: object = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise WebhookRefused("the body is not JSON") from error
    for place in (parsed, read(parsed, "data")):
        found = read(place, terms.id_field)
        if isinstance(found, str | int) and found != "" and "\0" not in str(found):
            return str(found)
    raise WebhookRefused("the body names no prediction")


def _standard(secret: str, headers: Mapping[str, str], body: bytes, now_s: int) -> bool:
    stamp = headers.get("webhook-timestamp", "")
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12) or abs(now_s - int(stamp)) > TOLERANCE_S:
        return False
    content = f"{headers.get('webhook-id', '')}.{stamp}.".encode() + body
    expected = base64.b64encode(hmac.digest(_standard_key(secret), content, "sha256"))
    given = headers.get("webhook-signature", "").split(" ")
    return any(hmac.compare_digest(b"v1," + expected, each.encode("utf-8", "replace")) for each in given)


def _standard_key(secret: str) -> bytes:
    if secret.startswith(_PREFIX):
        try:
            return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        except binascii.Error:
            return secret.encode()
    return secret.encode()


def _hmac(secret: str, given: str, body: bytes) -> bool:
    expected = hmac.digest(secret.encode(), body, "sha256").hex()
    return hmac.compare_digest(expected.encode(), given.removeprefix("sha256=").lower().encode("utf-8", "replace"))
