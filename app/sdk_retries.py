"""Retries that an SDK makes by itself, without an idempotency key: recognised, so that none is paid for twice.

OpenAI's SDKs number their attempts in `X-Stainless-Retry-Count`, from 0. Each attempt is remembered by the digest of key,
path and body for a short time; one with a number above 0 repeats an earlier attempt where there is one that did not fail.
Two equal requests numbered 0 are two calls. `X-Tollgate-Dedupe: off` or an `Idempotency-Key` switches this off.
"""

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from hashlib import blake2b
from types import TracebackType
from typing import Final, Self
from uuid import UUID

from accounts.views import Principal
from app.asgi import Scope, header
from gateway.calls import Calls
from gateway.views import Caller, CallRequest, CallResult, Gate
from kit.ids import uuid7
from metering.attempts import Attempt, AttemptEnd, RequestAttempts

COUNT_HEADER: Final = b"x-stainless-retry-count"
SWITCH_HEADER: Final = b"x-tollgate-dedupe"
MAX_RETRIES: Final = 100
_DIGEST_BYTES: Final = 16


class Sending:
    """One attempt under way: entered until it is answered; an exception that passes is its failure."""

    def __init__(self, retries: "SdkRetries", attempt: Attempt | None, repeats: UUID | None) -> None:
        """`attempt` None: not one of these. `repeats`: the call of the earlier attempt that this one repeats."""
        self._retries = retries
        self._attempt = attempt
        self._repeats = repeats

    @property
    def is_repeat(self) -> bool:
        """An earlier attempt may have the answer."""
        return self._repeats is not None

    async def result(self, calls: Calls, caller: Caller, request: CallRequest, gate: Gate) -> CallResult:
        """The answer of the call that this one repeats, where that has one to give; else of a call of its own.

        Raises what gateway.calls.Calls.call raises.
        """
        earlier = await self.earlier(calls, caller, request)
        return await calls.call(caller, self.own(request), gate) if earlier is None else earlier

    async def earlier(self, calls: Calls, caller: Caller, request: CallRequest) -> CallResult | None:
        """The answer of the call that this one repeats; None where it repeats none, or that has none to give."""
        if self._attempt is None or self._repeats is None:
            return None
        earlier = await calls.earlier(caller, request, self._repeats)
        if earlier is None:
            await self._retries.attempts.instead(self._attempt, self._repeats)
            self._repeats = None
        return earlier

    def own(self, request: CallRequest) -> CallRequest:
        """The request as a call of its own, known by the attempt's id."""
        return request if self._attempt is None else replace(request, call_id=self._attempt.call_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._attempt is not None and self._repeats is None:
            end = AttemptEnd.ANSWERED if error is None else AttemptEnd.FAILED
            self._retries.spawn(self._retries.attempts.end(self._attempt, end))


class SdkRetries:
    """One per process."""

    def __init__(self, attempts: RequestAttempts) -> None:
        """`attempts` is shared by all processes through Redis."""
        self.attempts = attempts
        self._writing: set[asyncio.Task[object]] = set()
        self.none = Sending(self, None, None)
        """What is no attempt of this kind."""

    async def begin(self, scope: Scope, principal: Principal, body: bytes) -> Sending:
        """The request as an attempt. Only a retry waits for Redis: a first attempt is remembered beside its call."""
        count = header(scope, COUNT_HEADER)
        if count is None or not _counts(scope, count):
            return self.none
        assert principal.workspace_id is not None, "an API key belongs to a workspace"
        assert principal.api_key_id is not None, "calls are made with an API key here"
        digest = blake2b(principal.api_key_id.bytes, digest_size=_DIGEST_BYTES)
        digest.update(scope["path"].encode() + b"\0" + body)
        attempt = Attempt(principal.workspace_id.hex, digest.hexdigest(), uuid7(), int(count))
        if attempt.retry == 0:
            self.spawn(self.attempts.begin(attempt))
            return Sending(self, attempt, None)
        return Sending(self, attempt, await self.attempts.begin(attempt))

    def spawn(self, writing: Awaitable[object]) -> None:
        """Let it be written; nobody waits for it."""
        task = asyncio.ensure_future(writing)
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def aclose(self) -> None:
        """Let the last be written."""
        if self._writing:
            await asyncio.wait(self._writing)


def _counts(scope: Scope, count: str) -> bool:
    if not (count.isascii() and count.isdigit()) or len(count) > 3 or int(count) > MAX_RETRIES:
        return False
    if header(scope, b"idempotency-key") is not None:
        return False
    return (header(scope, SWITCH_HEADER) or "").strip().lower() != "off"
