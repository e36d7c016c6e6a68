"""Settlements that the database could not take: kept on local disk, synced, and replayed exactly once."""

import asyncio
import base64
import fcntl
import logging
import os
from contextlib import suppress
from dataclasses import fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self
from uuid import UUID

import orjson

from kit.errors import Unavailable
from kit.ids import uuid7
from metering.errors import JournalUnusable
from metering.ledger import Ledger
from metering.operations import SealedOutput, Settle
from metering.rows import clean_text, usage_json
from metering.rules.cache_writes import usage_of
from metering.views import Rejected

_PROBE_BYTES: Final = 65_536
_FIRST_RETRY_S: Final = 0.5
_LONGEST_RETRY_S: Final = 5.0
_SUFFIX: Final = ".jsonl"
_REFUSED_SUFFIX: Final = ".refused"

_log = logging.getLogger(__name__)


class Journal:
    """A file of this process's own in a folder shared by the processes of one machine.

    Whoever holds the file's lock may replay it: a live process its own, any other the files of dead ones. Replaying is
    idempotent by call id, so a crash in the middle replays again and charges once.
    """

    def __init__(self, folder: Path) -> None:
        """Use `open`."""
        self._folder = folder
        self._fd = -1
        self._path = folder
        self._size = 0
        self._writing = asyncio.Lock()
        self._replaying = asyncio.Lock()
        self._ledger: Ledger | None = None
        self._retry: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, folder: Path) -> Self:
        """Make the file and prove that it can be written and synced; JournalUnusable says what is wrong."""
        journal = cls(folder)
        await asyncio.to_thread(journal._begin_file)
        return journal

    async def append(self, operation: Settle) -> None:
        """Keep a settlement; returns once it is on disk. It is replayed as soon as the database is back.

        JournalUnusable when the disk refuses: the caller has nowhere left to write and must say so.
        """
        line = _line_of(operation)
        await asyncio.shield(asyncio.create_task(self._append(line)))

    async def replay(self, ledger: Ledger) -> int:
        """Settle what is journalled here by this process or by dead ones; answers how many.

        Stops where the database is away, and keeps trying in the background.
        """
        self._ledger = ledger
        count, away = await self._replay_all(ledger)
        if away:
            self._retry_later()
        return count

    async def close(self) -> None:
        """Stop trying; an empty file is removed, any other waits for the next start."""
        if self._retry is not None:
            self._retry.cancel()
            with suppress(asyncio.CancelledError):
                await self._retry
        async with self._writing:
            await asyncio.to_thread(self._end_file)

    async def _append(self, line: bytes) -> None:
        async with self._writing:
            await asyncio.to_thread(self._write, line)
        self._retry_later()

    def _retry_later(self) -> None:
        if self._ledger is not None and (self._retry is None or self._retry.done()):
            self._retry = asyncio.create_task(self._replay_until_done(self._ledger), name="journal replay")

    async def _replay_until_done(self, ledger: Ledger) -> None:
        pause = _FIRST_RETRY_S
        while True:
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_RETRY_S)
            _, away = await self._replay_all(ledger)
            if not away and not self._size:
                return

    async def _replay_all(self, ledger: Ledger) -> tuple[int, bool]:
        async with self._replaying:
            async with self._writing:
                if self._size:
                    await asyncio.to_thread(self._rotate)
            count = 0
            for path in await asyncio.to_thread(lambda: sorted(self._folder.glob(f"*{_SUFFIX}"))):
                fd = await asyncio.to_thread(self._claim, path)
                if fd is None:
                    continue
                try:
                    done, away = await self._replay_file(ledger, path)
                finally:
                    os.close(fd)
                count += done
                if away:
                    return count, True
            return count, False

    async def _replay_file(self, ledger: Ledger, path: Path) -> tuple[int, bool]:
        lines = (await asyncio.to_thread(path.read_bytes)).split(b"\n")
        torn = lines.pop()
        if torn:
            _log.warning("%s ends in a line that was never synced and so never answered for; it is skipped", path.name)
        refused: list[bytes] = []
        for line in lines:
            try:
                outcome = await ledger.submit(settlement_of(orjson.loads(line)))
            except Unavailable:
                return 0, True
            except Exception as error:  # noqa: BLE001  a process edge: one bad line must not keep the service from starting
                _log.error("a line of %s cannot be replayed: %r", path.name, error)
                refused.append(line)
                continue
            if isinstance(outcome, Rejected):
                _log.error("a journalled settlement of %s is refused: %s", path.name, outcome.error)
                refused.append(line)
        await asyncio.to_thread(_finish_file, path, refused)
        if lines:
            _log.info("%d journalled settlements of %s replayed", len(lines) - len(refused), path.name)
        return len(lines) - len(refused), False

    def _begin_file(self) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = self._folder / f"{uuid7()}{_SUFFIX}"
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise JournalUnusable(f"the journal's folder {self._folder} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            _write_fully(fd, b"\n" * _PROBE_BYTES, 0)
            os.fsync(fd)
            os.ftruncate(fd, 0)
            os.fsync(fd)
            _sync_folder(self._folder)
        except OSError as error:
            os.close(fd)
            with suppress(OSError):
                path.unlink()
            raise JournalUnusable(f"the journal in {self._folder} cannot be kept: {error.strerror}") from error
        self._fd, self._path, self._size = fd, path, 0

    def _write(self, line: bytes) -> None:
        try:
            _write_fully(self._fd, line, self._size)
            os.fsync(self._fd)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._fd, self._size)  # half a line must not spoil the next one
            raise JournalUnusable(f"a settlement cannot be journalled in {self._folder}: {error.strerror}") from error
        self._size += len(line)

    def _rotate(self) -> None:
        old = self._fd
        self._begin_file()
        os.close(old)

    def _end_file(self) -> None:
        if self._fd < 0:
            return
        if not self._size:
            with suppress(OSError):
                self._path.unlink()
        os.close(self._fd)
        self._fd = -1

    def _claim(self, path: Path) -> int | None:
        """The file's lock, where nobody has it and the file is still there; never this process's own open file."""
        if path == self._path:
            return None
        try:
            fd = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.stat().st_ino == os.fstat(fd).st_ino:
                return fd
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(fd)
        return None


def _line_of(operation: Settle) -> bytes:
    try:
        return orjson.dumps(settlement_json(operation), default=_uuid_text) + b"\n"
    except orjson.JSONEncodeError:  # a lone surrogate from a provider, or details that are no JSON: the money counts
        message = operation.error_message
        bare = replace(
            operation,
            usage=replace(operation.usage, provider=clean_text(operation.usage.provider), details=None),
            error_message=None if message is None else clean_text(message),
            answer=None,
        )
        return orjson.dumps(settlement_json(bare), default=_uuid_text) + b"\n"


def _write_fully(fd: int, content: bytes, offset: int) -> None:
    written = 0
    while written < len(content):
        written += os.pwrite(fd, content[written:], offset + written)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _finish_file(path: Path, refused: list[bytes]) -> None:
    """Remove what is replayed; what the ledger refused is kept beside it for an operator."""
    if refused:
        with path.with_suffix(_REFUSED_SUFFIX).open("ab") as kept:
            kept.write(b"\n".join(refused) + b"\n")
            kept.flush()
            os.fsync(kept.fileno())
    path.unlink()
    _sync_folder(path.parent)


def _uuid_text(value: object) -> str:
    """What came out of the database is asyncpg's own UUID, a subclass that orjson does not take."""
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(type(value).__name__)


def settlement_json(operation: Settle) -> dict[str, object]:
    """A settlement as one JSON object."""
    known: dict[str, object] = {each.name: getattr(operation, each.name) for each in fields(operation)}
    known["usage"] = usage_json(operation.usage)
    sealed = operation.sealed_output
    if sealed is not None:
        encoded = base64.b64encode(sealed.sealed).decode()
        known["sealed_output"] = {
            "sealed": encoded,
            "key_version": sealed.key_version,
            "expires_at": sealed.expires_at,
            "repeat_until": sealed.repeat_until,
        }
    return known


def settlement_of(known: dict[str, Any]) -> Settle:  # Any: JSON, read field by field right here
    """The settlement in such an object; ValueError, LookupError, TypeError or AttributeError where it is none."""
    values = dict(known)
    for name in ("call_id", "wallet_id", "workspace_id"):
        values[name] = UUID(values[name])
    if values["payee_wallet_id"] is not None:
        values["payee_wallet_id"] = UUID(values["payee_wallet_id"])
    values["usage"] = usage_of(values["usage"])
    sealed = values["sealed_output"]
    if sealed is not None:
        expires_at, repeat_until = sealed["expires_at"], sealed.get("repeat_until")
        values["sealed_output"] = SealedOutput(
            base64.b64decode(sealed["sealed"]),
            sealed["key_version"],
            None if expires_at is None else datetime.fromisoformat(expires_at),
            None if repeat_until is None else datetime.fromisoformat(repeat_until),
        )
    return Settle(**values)
