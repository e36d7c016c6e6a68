"""What a repeat with the same idempotency key is answered: the first answer again, also while the first still runs."""

from typing import Final

from gateway.admission import Admitted
from gateway.errors import CallStillRunning, RepeatedFailure
from gateway.outputs import Outputs
from gateway.views import CallResult, ChargeView
from kit.clock import now
from kit.errors import Code
from metering.ledger import Ledger
from metering.operations import UsageFacts
from metering.usage import calls_by_id
from metering.views import CallView, Repeat, UsageView
from models.database import Database

WAIT_S: Final = 120.0
"""How long a repeat waits for the first call to end."""


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
        return _result(admitted, call, call.usage, await self._outputs.read(call.id, now()))

    async def _wait(self, admitted: Admitted, repeat: Repeat) -> None:
        assert admitted.claim is not None, "only a call with a key can be a repeat"
        ended = await self._ledger.wait_for(
            admitted.caller.workspace_id, admitted.claim.key, repeat.call_id, timeout_s=WAIT_S
        )
        if ended is not None and not ended.completed:
            raise CallStillRunning


def _result(admitted: Admitted, call: CallView, usage: UsageView, body: dict[str, object] | None) -> CallResult:
    assert call.completed_at is not None, "checked by the caller"
    return CallResult(
        call_id=call.id,
        model=call.model_slug,
        operation=admitted.request.operation,
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
            estimated=usage.estimated,
            provider=usage.provider,
        ),
        charged_micro=usage.charged_micro,
        charges=tuple(ChargeView(*charge) for charge in usage.charges),
        wallet=None,
        created_at=call.created_at,
        completed_at=call.completed_at,
        repeated=True,
    )
