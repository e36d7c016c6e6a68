"""What a repeat with the same idempotency key is answered: the first answer again, also while the first still runs."""

import asyncio
from time import monotonic
from typing import Final
from uuid import UUID

from gateway.admission import Admitted
from gateway.errors import CallStillRunning, RepeatedFailure
from gateway.outputs import Outputs
from gateway.views import Caller, CallRequest, CallResult, ChargeView
from kit.clock import now
from kit.errors import Code
from metering.ledger import Ledger
from metering.operations import UsageFacts
from metering.usage import calls_by_id
from metering.views import CallView, Repeat, UsageView
from models.database import Database
from providers.base import Operation

WAIT_S: Final = 120.0
"""How long a repeat waits for the first call to end."""
_FIRST_LOOK_S: Final = 0.05
_LONGEST_LOOK_S: Final = 1.0


class Repeats:
    """Reads what the first call came to."""

    def __init__(self, database: Database, ledger: Ledger, outputs: Outputs) -> None:
        """`outputs` opens what is kept of the first answer."""
        self._database = database
        self._ledger = ledger
        self._outputs = outputs

    async def result(self, admitted: Admitted, repeat: Repeat) -> CallResult:
        """The first call's answer and charge, its output while that is kept.

        Raises RepeatedFailure where the first call failed, CallStillRunning where it has not ended within WAIT_S.
        """
        if not repeat.completed:
            await self._wait(admitted, repeat)
        assert repeat.call_id is not None, "a model call's key names its call"
        call = (await calls_by_id(self._database, [repeat.call_id])).get(repeat.call_id)
        if call is None or call.completed_at is None:
            raise CallStillRunning
        if call.usage is None or call.status != "SUCCEEDED":
            code = Code(call.error_code) if call.error_code in set(Code) else Code.UPSTREAM_ERROR
            raise RepeatedFailure(
                call.id, code, call.error_message or "the first call with this idempotency key failed"
            )
        return _result(admitted.request.operation, call, call.usage, await self._outputs.read(call.id, now()))

    async def of_call(self, caller: Caller, request: CallRequest, call_id: UUID) -> CallResult | None:
        """The answer of the caller's earlier call, once it has ended; None where it failed, or its output is not kept.

        Raises CallStillRunning where it has not ended within WAIT_S.
        """
        give_up_at, pause_s = monotonic() + WAIT_S, _FIRST_LOOK_S
        while True:
            call = (await calls_by_id(self._database, [call_id])).get(call_id)
            if call is None or (call.workspace_id, call.api_key_id) != (caller.workspace_id, caller.api_key_id):
                return None
            if call.completed_at is not None:
                break
            if monotonic() >= give_up_at:
                raise CallStillRunning
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_LOOK_S)
        body = await self._outputs.read(call_id, now()) if call.status == "SUCCEEDED" else None
        if call.usage is None or body is None:
            return None
        return _result(request.operation, call, call.usage, body)

    async def _wait(self, admitted: Admitted, repeat: Repeat) -> None:
        assert admitted.claim is not None, "only a call with a key can be a repeat"
        ended = await self._ledger.wait_for(
            admitted.caller.workspace_id, admitted.claim.key, repeat.call_id, timeout_s=WAIT_S
        )
        if ended is not None and not ended.completed:
            raise CallStillRunning


def _result(operation: Operation, call: CallView, usage: UsageView, body: dict[str, object] | None) -> CallResult:
    assert call.completed_at is not None, "checked by the caller"
    return CallResult(
        call_id=call.id,
        model=call.model_slug,
        operation=operation,
        body=body,
        usage=UsageFacts(
            input_tokens=usage.input_tokens,
            cached_input_tokens=usage.cached_input_tokens,
            output_tokens=usage.output_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            requests=usage.requests,
            images=usage.images,
            seconds=usage.seconds,
            characters=usage.characters,
            cache_write_input_tokens=usage.cache_write_input_tokens,
            long_cache_write_input_tokens=usage.long_cache_write_input_tokens,
            estimated=usage.estimated,
            provider=usage.provider,
        ),
        charged_micro=usage.charged_micro,
        charges=tuple(ChargeView(*charge) for charge in usage.charges),
        wallet=None,
        created_at=call.created_at,
        completed_at=call.completed_at,
        repeated=True,
        cached=usage.cached or None,
    )
