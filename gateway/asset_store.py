"""Where the files of assets lie: on local disk or in an S3-compatible bucket, each encrypted under a key of its own.

A file begins with its form, the version of our secret key and a salt; then come parts of 64 KB, each sealed with
AES-256-GCM under its number and whether it is the last, so that any range is read without the rest and nothing can be
cut off, swapped or read by whoever holds the bucket.
"""

import asyncio
import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Self
from urllib.parse import urlsplit
from urllib.request import url2pathname
from uuid import UUID

import obstore
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, S3Store

from kit.errors import Unavailable
from kit.sealing import Sealer, SealError

PART_BYTES: Final = 64 * 1024
HEAD_BYTES: Final = 18
MAX_FILE_BYTES: Final = 2 * 1024 * 1024 * 1024
READ_PARTS: Final = 16
"""Parts read from the store at a time: 1 MB."""
_TAG_BYTES: Final = 16
_FORM: Final = 1
_SALT_BYTES: Final = 16
_SNIFFED_BYTES: Final = 64


class StoreAway(Unavailable):
    """The store does not answer, or does not have the file."""


class FileTooLarge(Exception):
    """The file is larger than MAX_FILE_BYTES, or than the room that there is for it."""


@dataclass(frozen=True, slots=True)
class Written:
    """A file as it was stored: its true size, and how it begins."""

    size_bytes: int
    beginning: bytes


class AssetStore:
    """One per process. The store's own calls block, and run in threads: its asynchronous ones may abort a process that ends."""

    def __init__(self, store: ObjectStore, sealer: Sealer, scratch: Path) -> None:
        """Use `open`. `scratch` holds a file, encrypted already, until it is handed to the store."""
        self._store = store
        self._sealer = sealer
        self._scratch = scratch

    @classmethod
    def open(cls, address: str, sealer: Sealer, data_dir: Path) -> Self:
        """At s3://bucket/prefix, file:///folder, or, for an empty address, `assets` in the data directory.

        Credentials, region and endpoint of S3 come from the usual AWS_ variables.
        """
        scratch = data_dir / "assets-in-transit"
        scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        parts = urlsplit(address)
        if parts.scheme == "s3":
            prefix = parts.path.strip("/")
            return cls(S3Store(parts.netloc, prefix=prefix or None), sealer, scratch)
        folder = Path(url2pathname(parts.path)) if address else data_dir / "assets"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(LocalStore(prefix=folder), sealer, scratch)

    async def write(
        self, path: str, asset_id: UUID, content: AsyncIterable[bytes], most_bytes: int = MAX_FILE_BYTES
    ) -> Written:
        """Store a file, whole or not at all. A second writing of one path replaces the first.

        Raises StoreAway, FileTooLarge, and what `content` raises.
        """
        try:
            descriptor, name = await asyncio.to_thread(tempfile.mkstemp, dir=self._scratch)
            scratch = Path(name)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    written = await self._encrypt(file, asset_id, content, most_bytes)
                await asyncio.to_thread(obstore.put, self._store, path, scratch)
            finally:
                await asyncio.to_thread(scratch.unlink, missing_ok=True)
        except (BaseError, OSError) as error:  # also where our own disk is full
            raise StoreAway("the store of assets does not take files now") from error
        return written

    async def read(self, path: str, asset_id: UUID, size_bytes: int, start: int, end: int) -> AsyncGenerator[bytes]:
        """The bytes from `start` up to, not including, `end` of a file of this size. Raises StoreAway."""
        last = max(0, -(-size_bytes // PART_BYTES) - 1)
        head = await self._range(path, 0, HEAD_BYTES)
        cipher = self._cipher(asset_id, head)
        first_wanted, last_wanted = start // PART_BYTES, max(0, end - 1) // PART_BYTES
        for number in range(first_wanted, last_wanted + 1, READ_PARTS):
            until = min(number + READ_PARTS - 1, last_wanted)
            begins, ends = (
                _place_of(number),
                min(_place_of(until + 1), _place_of(last) + _sealed_size(size_bytes, last)),
            )
            sealed = await self._range(path, begins, ends)
            for part in range(number, until + 1):
                at = _place_of(part) - begins
                try:
                    plain = cipher.decrypt(
                        _nonce(part, is_last=part == last), sealed[at : at + PART_BYTES + _TAG_BYTES], asset_id.bytes
                    )
                except InvalidTag as error:
                    raise StoreAway("the stored file is not whole") from error
                yield plain[max(0, start - part * PART_BYTES) : max(0, end - part * PART_BYTES)]

    async def delete(self, path: str) -> None:
        """Remove a file; one that is not there is fine. Raises StoreAway."""
        try:
            await asyncio.to_thread(obstore.delete, self._store, path)
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise StoreAway("the store of assets does not answer") from error

    async def below(self, prefix: str) -> Sequence[str]:
        """The paths of all files below a prefix. Raises StoreAway."""
        try:
            return await asyncio.to_thread(self._list, prefix)
        except FileNotFoundError:
            return ()
        except (BaseError, OSError) as error:
            raise StoreAway("the store of assets does not answer") from error

    def _list(self, prefix: str) -> list[str]:
        return [entry["path"] for batch in obstore.list(self._store, prefix=prefix) for entry in batch]

    async def _encrypt(self, file: BinaryIO, asset_id: UUID, content: AsyncIterable[bytes], most_bytes: int) -> Written:
        head = bytes([_FORM, self._sealer.current_version]) + os.urandom(_SALT_BYTES)
        cipher = self._cipher(asset_id, head)
        file.write(head)
        waiting = bytearray()
        number = size = 0
        beginning = b""
        async for piece in content:
            size += len(piece)
            if size > most_bytes:
                raise FileTooLarge
            waiting += piece
            beginning = beginning or bytes(waiting[:_SNIFFED_BYTES])
            while len(waiting) > PART_BYTES:  # the last part, even a whole one, is kept back
                part, waiting = bytes(waiting[:PART_BYTES]), waiting[PART_BYTES:]
                sealed = cipher.encrypt(_nonce(number, is_last=False), part, asset_id.bytes)
                await asyncio.to_thread(file.write, sealed)
                number += 1
        await asyncio.to_thread(
            file.write, cipher.encrypt(_nonce(number, is_last=True), bytes(waiting), asset_id.bytes)
        )
        return Written(size, beginning)

    async def _range(self, path: str, start: int, end: int) -> bytes:
        try:
            return bytes(await asyncio.to_thread(obstore.get_range, self._store, path, start=start, end=end))
        except (BaseError, OSError) as error:
            raise StoreAway("the stored file cannot be read now") from error

    def _cipher(self, asset_id: UUID, head: bytes) -> AESGCM:
        with suppress(SealError, IndexError):
            if head[0] == _FORM:
                return AESGCM(self._sealer.derive(f"asset/{asset_id.hex}/{head[2:].hex()}", version=head[1]))
        raise StoreAway("the stored file is not one of ours, or its key is not configured")


def _place_of(number: int) -> int:
    return HEAD_BYTES + number * (PART_BYTES + _TAG_BYTES)


def _sealed_size(size_bytes: int, last: int) -> int:
    return size_bytes - last * PART_BYTES + _TAG_BYTES


def _nonce(number: int, *, is_last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([is_last])
