"""The written form of an API key: `tg_` environment `_` 32 random characters and a checksum of 6."""

import hashlib
import zlib
from typing import Final

ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
RANDOM_LENGTH: Final = 32
CHECKSUM_LENGTH: Final = 6
PREFIX_LENGTH: Final = 12
_LEADS: Final = {"live": "tg_live_", "test": "tg_test_"}
_DIGITS: Final = frozenset(ALPHABET)
_LENGTH: Final = len("tg_live_") + RANDOM_LENGTH + CHECKSUM_LENGTH


def base62(value: int, length: int) -> str:
    """The value in base 62, zero-padded to `length`, the highest digits dropped."""
    characters: list[str] = []
    for _ in range(length):
        value, digit = divmod(value, 62)
        characters.append(ALPHABET[digit])
    return "".join(reversed(characters))


def checksum(text: str) -> str:
    """CRC-32 in base 62: for scanners and typos, not for security."""
    return base62(zlib.crc32(text.encode()), CHECKSUM_LENGTH)


def compose(environment: str, randomness: bytes) -> str:
    """The key of 32 or more random bytes; 32 characters of base 62 carry 190 bits of them."""
    body = _LEADS[environment] + base62(int.from_bytes(randomness, "big"), RANDOM_LENGTH)
    return body + checksum(body)


def is_key(text: str) -> bool:
    """Whether the text has the form of a key and its checksum holds; nothing is said about its existence."""
    if len(text) != _LENGTH or not text.startswith(("tg_live_", "tg_test_")):
        return False
    if not _DIGITS.issuperset(text[8:]):
        return False
    return checksum(text[:-CHECKSUM_LENGTH]) == text[-CHECKSUM_LENGTH:]


def digest_of(secret: str) -> bytes:
    """What is stored of a secret of 128 or more random bits: plain SHA-256, as guessing is hopeless anyway."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()
