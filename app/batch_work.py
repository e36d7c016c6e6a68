"""Calls the lines of batches, each through the same door as a call over REST: limits, hold, provider, settlement."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Final

import orjson

from accounts.principals import Principals
from app.openai_errors import body_of, of_failure, of_refusal
from app.openai_form import OpenAIForm
from app.responses_form import ResponsesForm
from app.throttle import Throttle
from gateway.batch_lines import LEASE, BatchLines, ClaimedLine
from gateway.callers import Workspaces, caller_of
from gateway.calls import Calls
from gateway.errors import CallStillRunning, CreditsHeld, UpstreamFailed, UpstreamRefused
from gateway.files import FILE_LIFE
from gateway.rules.batches import ENDPOINTS
from kit.clock import now
from kit.errors import Code, NotFound, RateLimited, Refusal, RequestFailure, Unavailable
from kit.ids import encode_id
from kit.tasks import stop
from providers.base import Operation

logger = logging.getLogger(__name__)

LINES_AT_ONCE: Final = 16
"""Lines that one worker calls beside each other."""
MAX_ATTEMPTS: Final = 3
"""How often a line is called whose provider fails without having refused it."""
_PAUSE_S: Final = 5
"""Before a line is looked at again that could not be called now; the third attempt waits twice as long."""


class _Later(Exception):
    """The line cannot be called now; it costs no attempt."""

    def __init__(self, wait_s: int) -> None:
        self.wait_s = wait_s


class BatchWork:
    """One per process; any number of them work beside each other."""

    def __init__(
        self, lines: BatchLines, principals: Principals, workspaces: Workspaces, throttle: Throttle, calls: Calls
    ) -> None:
        """The parts of one process."""
        self._lines = lines
        self._principals = principals
        self._workspaces = workspaces
        self._throttle = throttle
        self._calls = calls

        def rate() -> Decimal:
            return calls.snapshot.credits_per_usd

        self._forms = {
            operation: ResponsesForm(rate) if operation is Operation.RESPONSES else OpenAIForm(operation, rate)
            for operation in ENDPOINTS.values()
        }

    async def run(self, limit: int) -> int:
        """Call up to `limit` lines that are due, beside each other; answers how many."""
        lines = await self._lines.claim(now(), limit=limit)
        if lines:
            async with self._kept_alive(lines):
                outcomes = await asyncio.gather(*(self._work(line) for line in lines), return_exceptions=True)
            for line, outcome in zip(lines, outcomes, strict=True):
                if isinstance(outcome, BaseException):  # its claim lapses, and it is worked on again
                    logger.error("line %s of batch %s failed here", line.asked.number, line.batch_id, exc_info=outcome)
        return len(lines)

    @asynccontextmanager
    async def _kept_alive(self, lines: Sequence[ClaimedLine]) -> AsyncGenerator[None]:
        async def renew() -> None:
            while True:
                await asyncio.sleep(LEASE.total_seconds() / 3)
                with contextlib.suppress(Unavailable):
                    await self._lines.renew([line.id for line in lines], now())

        renewing = asyncio.create_task(renew(), name="batch-leases")
        try:
            yield
        finally:
            await stop(renewing)

    async def _work(self, line: ClaimedLine) -> None:
        try:
            body = orjson.loads(await self._call(line))
        except _Later as later:
            await self._lines.put_off(line, now() + timedelta(seconds=later.wait_s), attempt=line.attempt)
        except UpstreamFailed as refusal:
            await self._failed_upstream(line, refusal)
        except Refusal as refusal:
            await self._end_failed(line, *of_refusal(refusal))
        except RequestFailure as failure:
            status, body, _ = of_failure(failure)
            await self._end_failed(line, status, body)
        except Exception:  # a process edge: what was not foreseen ends this line, not the batch's others
            logger.exception("line %s of batch %s failed here", line.asked.number, line.batch_id)
            told = body_of("something failed here", "server_error", "internal")
            await self._failed(line, 500, told, again=True)
        else:
            await self._lines.end(line, _told(line, 200, body), succeeded=True)

    async def _call(self, line: ClaimedLine) -> bytes:
        """The answer in the form of the batch's path."""
        principal = await self._principals.of_key_id(line.owner.api_key_id)
        if principal is None:
            raise NotFound("the API key that made this batch has ended")
        facts = await self._workspaces.facts(line.owner.workspace_id)
        request, writer = self._forms[line.operation].read(line.asked.model, line.asked.body)
        request = replace(request, idempotency_key=line.idempotency_key, repeat_for=FILE_LIFE)
        try:
            known = self._calls.snapshot.models_by_slug.get(line.asked.model)
            await self._throttle.take(principal, facts, model=known)
            return writer.answer(await self._calls.call(caller_of(principal, facts, request_id_of(line)), request))
        except RateLimited as limited:
            raise _Later(limited.retry_after_s) from limited
        except (Unavailable, CallStillRunning, CreditsHeld) as busy:
            raise _Later(_PAUSE_S) from busy

    async def _failed_upstream(self, line: ClaimedLine, refusal: UpstreamFailed) -> None:
        """Another attempt is another call: this one's key gives its failure for ever, and it was not charged."""
        rejected = isinstance(refusal, UpstreamRefused) or refusal.code is Code.UPSTREAM_REJECTED
        await self._failed(line, *of_refusal(refusal), again=not rejected)

    async def _failed(self, line: ClaimedLine, status: int, body: object, *, again: bool) -> None:
        attempt = line.attempt + 1
        if again and attempt < MAX_ATTEMPTS:
            await self._lines.put_off(line, now() + timedelta(seconds=_PAUSE_S * attempt), attempt=attempt)
        else:
            await self._end_failed(line, status, body)

    async def _end_failed(self, line: ClaimedLine, status: int, body: object) -> None:
        await self._lines.end(line, _told(line, status, body), succeeded=False)


def request_id_of(line: ClaimedLine) -> str:
    """The request id of a line's call, by which GET /v1/calls/{id} finds it."""
    return encode_id("batchreq", line.id)


def _told(line: ClaimedLine, status: int, body: object) -> bytes:
    request_id = request_id_of(line)
    response = {"status_code": status, "request_id": request_id, "body": body}
    told = {"id": request_id, "custom_id": line.asked.custom_id, "response": response, "error": None}
    try:
        return orjson.dumps(told)
    except orjson.JSONEncodeError:  # a lone surrogate, which a caller or a provider may send
        failed = body_of("the answer cannot be written as JSON", "server_error", "unwritable")
        return orjson.dumps({**told, "custom_id": None, "response": {**response, "body": failed}})
