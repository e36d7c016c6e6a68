"""Hashes and checks passwords with argon2id, off the event loop, a bounded number at a time."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from argon2 import PasswordHasher as Argon2
from argon2.exceptions import InvalidHashError, VerificationError

from accounts.rules.passwords import normal_form
from kit.errors import RateLimited

MAX_WAITING: Final = 64
"""Checks that may wait for a thread; beyond that the process says "later" rather than queueing for minutes."""


class PasswordHasher:
    """Argon2id with the parameters given; RFC 9106's second choice by default (64 MiB, 3 passes)."""

    def __init__(
        self, *, time_cost: int = 3, memory_kib: int = 65_536, parallelism: int = 4, concurrency: int | None = None
    ) -> None:
        """`concurrency`: hashes computed at once, half the processors unless told; each takes `memory_kib`."""
        self._argon2 = Argon2(time_cost=time_cost, memory_cost=memory_kib, parallelism=parallelism)
        threads = concurrency or max(1, (os.cpu_count() or 2) // 2)
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="argon2")
        self._waiting = 0
        self._decoy: str | None = None

    async def digest(self, password: str) -> str:
        """The digest to store of a password in normal form."""
        return await self._in_thread(password, None)

    async def verify(self, digest: str | None, password: str) -> bool:
        """Whether it is the password. Without a digest the same work is done against a decoy, and the answer is no."""
        normal = normal_form(password)
        if self._decoy is None:
            self._decoy = await self.digest("no one's password")
        known = digest is not None and normal is not None
        answer = await self._in_thread(normal or "", digest if digest is not None else self._decoy)
        return known and answer == "yes"

    def is_outdated(self, digest: str) -> bool:
        """Whether the digest was made with other parameters, and should be made anew at this sign-in."""
        return self._argon2.check_needs_rehash(digest)

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, password: str, digest: str | None) -> str:
        if self._waiting >= MAX_WAITING:
            raise RateLimited("Too many sign-ins at this moment. Try again.", 1)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._work, password, digest)
        finally:
            self._waiting -= 1

    def _work(self, password: str, digest: str | None) -> str:
        if digest is None:
            return self._argon2.hash(password)
        try:
            self._argon2.verify(digest, password)
        except (VerificationError, InvalidHashError):
            return "no"
        return "yes"
