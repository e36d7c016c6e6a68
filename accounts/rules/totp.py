"""Time-based one-time codes (RFC 6238: SHA-1, six digits, 30 seconds), as authenticator apps compute them."""

import base64
import hashlib
import hmac
import struct
from datetime import datetime
from typing import Final
from urllib.parse import quote, urlencode

STEP_S: Final = 30
DIGITS: Final = 6
DRIFT_STEPS: Final = 1
SECRET_BYTES: Final = 20


def step_at(now: datetime) -> int:
    """The number of the 30-second step in which `now` lies."""
    return int(now.timestamp()) // STEP_S


def code_at(secret: bytes, step: int) -> str:
    """The six digits of a step (RFC 4226, 5.3)."""
    mac = hmac.new(secret, struct.pack(">Q", step), hashlib.sha1).digest()
    offset = mac[-1] & 0x0F
    value = int.from_bytes(mac[offset : offset + 4], "big") & 0x7FFF_FFFF
    return f"{value % 10**DIGITS:0{DIGITS}d}"


def matching_step(secret: bytes, code: str, now: datetime, last_step: int | None) -> int | None:
    """The step whose code this is, one step of drift either way; None for a wrong code and for one of a used step."""
    digits = "".join(code.split())
    if len(digits) != DIGITS or not (digits.isascii() and digits.isdigit()):
        return None
    present = step_at(now)
    for step in range(present - DRIFT_STEPS, present + DRIFT_STEPS + 1):
        fresh = last_step is None or step > last_step
        if hmac.compare_digest(code_at(secret, step), digits) and fresh:
            return step
    return None


def enrolment_uri(secret: bytes, account: str, issuer: str) -> str:
    """The otpauth address that an authenticator app reads from a QR code."""
    text = base64.b32encode(secret).decode().rstrip("=")
    return f"otpauth://totp/{quote(issuer)}:{quote(account)}?{urlencode({'secret': text, 'issuer': issuer})}"
