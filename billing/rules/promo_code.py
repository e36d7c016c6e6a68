"""The one form in which promo codes are compared, and the keyed digest in which they are kept."""

import hashlib
import hmac
from typing import Final

MAX_CODE_LENGTH: Final = 64
_CONTEXT: Final = b"tollgate promo code 1\x00"


def normal_code(text: str) -> str:
    """A code as it is compared: without blanks and dashes, in upper case. Empty where nothing is left or it is too long."""
    kept = "".join(character for character in text if not character.isspace() and character != "-").upper()
    return kept if len(kept) <= MAX_CODE_LENGTH else ""


def code_digest(text: str, secret_key: bytes) -> bytes:
    """What the table keeps of a code: short codes could be guessed from a bare hash, so it is keyed with our secret."""
    return hmac.new(secret_key, _CONTEXT + normal_code(text).encode(), hashlib.sha256).digest()
