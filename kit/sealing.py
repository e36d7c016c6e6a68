"""Encrypts what is kept only to be presented again, and derives keys, all under TOLLGATE_SECRET_KEY."""

import os
import re
from collections.abc import Mapping
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

NONCE_BYTES: Final = 12
KEY_BYTES: Final = 32
SEAL_BYTES: Final = 1 + NONCE_BYTES + 16
"""What a seal has more than its plaintext, under every key."""
MIN_SECRET_CHARACTERS: Final = 32
MAX_VERSION: Final = 255
_VERSIONED: Final = re.compile(r"([0-9]{1,3}):(.+)", re.DOTALL)


class SealError(ValueError):
    """The sealed bytes are torn, belong to another row, or their key version is not configured."""


def parse_keys(text: str) -> tuple[Mapping[int, bytes], int]:
    """The keys in TOLLGATE_SECRET_KEY by version, and the current version: the first one listed.

    "2:new secret,1:old secret" while rotating; a plain secret is version 1. Raises ValueError for anything else.
    """
    parts = text.split(",") if _VERSIONED.fullmatch(text) else [f"1:{text}"]
    keys: dict[int, bytes] = {}
    for part in parts:
        match = _VERSIONED.fullmatch(part.strip())
        if match is None or not 1 <= int(match[1]) <= MAX_VERSION or int(match[1]) in keys:
            raise ValueError("each key of several is written VERSION:SECRET, with versions 1 to 255, none twice")
        if len(match[2]) < MIN_SECRET_CHARACTERS:
            raise ValueError(f"a secret key has at least {MIN_SECRET_CHARACTERS} characters")
        keys[int(match[1])] = match[2].encode()
    return keys, next(iter(keys))


def row_context(table: str, column: str, key: UUID) -> bytes:
    """The context of a sealed column, the same for every room, so that one row's seal does not open in another."""
    return f"{table}.{column}:{key.hex}".encode()


class Sealer:
    """AES-256-GCM under versioned keys. A seal is its key's version, a nonce and the ciphertext."""

    def __init__(self, keys: Mapping[int, bytes], current: int) -> None:
        """`keys` maps versions 1 to 255 to secrets; new seals are made under `current`."""
        if current not in keys:
            raise ValueError("the current key version has no key")
        self._keys = dict(keys)
        self._current = current
        self._ciphers = {version: AESGCM(self.derive("seal", version=version)) for version in self._keys}

    @property
    def current_version(self) -> int:
        """The version of seals made now."""
        return self._current

    @property
    def versions(self) -> tuple[int, ...]:
        """The configured key versions, the current one first."""
        return (self._current, *(version for version in self._keys if version != self._current))

    def derive(self, purpose: str, *, version: int | None = None) -> bytes:
        """A 32-byte key for one purpose (HKDF-SHA256); SealError when that key version is not configured."""
        secret = self._keys.get(self._current if version is None else version)
        if secret is None:
            raise SealError("this key version is not configured")
        return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=f"tollgate/{purpose}".encode()).derive(secret)

    def seal(self, plaintext: bytes, context: bytes) -> bytes:
        """The plaintext sealed for one place; `context` names it (see `row_context`) and must be given to open it."""
        nonce = os.urandom(NONCE_BYTES)
        return bytes([self._current]) + nonce + self._ciphers[self._current].encrypt(nonce, plaintext, context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """The plaintext; SealError when it cannot be trusted."""
        cipher = self._ciphers.get(self.version_of(sealed))
        if cipher is None:
            raise SealError("the key version of this seal is not configured")
        nonce, ciphertext = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
        try:
            return cipher.decrypt(nonce, ciphertext, context)
        except (InvalidTag, ValueError) as error:
            raise SealError("this seal is not whole, or not of this place") from error

    @staticmethod
    def version_of(sealed: bytes) -> int:
        """The key version a seal was made under; 0 for empty bytes."""
        return sealed[0] if sealed else 0
