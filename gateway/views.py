"""What the gateway is asked and what it answers: frozen values handed between floors."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, Protocol
from uuid import UUID

from billing.views import PlanView
from kit.errors import Code, Refusal
from kit.records import record
from metering.operations import UsageFacts
from metering.views import WalletFigures
from providers.base import Headers, JsonObject, Operation, Upload


@record
class Caller:
    """On whose behalf a call runs. `concurrent_calls`: how many of the workspace may run at once, None for any number.
    `test` callers, those with a test key, reach sandbox providers only and are never charged. `stored_days`: how long
    the workspace stores outputs, None where it stores none (D12). `cache_answers`: calls that do not say whether an earlier
    answer will do may be given one.
    """

    request_id: str
    workspace_id: UUID
    wallet_id: UUID
    plan: PlanView
    user_id: UUID | None = None
    api_key_id: UUID | None = None
    allowed_models: frozenset[str] | None = None
    concurrent_calls: int | None = None
    test: bool = False
    stored_days: int | None = None
    cache_answers: bool = False


class Gate(Protocol):
    """What must let a call pass besides its terms and its hold: the rate limits."""

    @property
    def is_likely(self) -> bool:
        """It will let the call pass, so that what costs little to undo may be done meanwhile."""
        ...

    async def passed(self) -> None:
        """Returns once the call may pass; raises the refusal where it may not."""
        ...

    def deciding(self) -> "asyncio.Future[None]":
        """The same, asked now where it has not been; may be asked for more than once."""
        ...


@record
class CallRequest:
    """One model call in its operation's form. `max_credits_micro` refuses a call that could cost more.

    `fit`: rather than be refused, the call's output limit is lowered to what the wallet (and `max_credits_micro`) can pay.
    `call_id` is given where its client may send it again without an idempotency key: its output is kept for that.
    `repeat_for`: how long it is kept for repeats, None for the usual time.
    `cache`: an answer to an equal call of the workspace will do, and this one's may be given again; None: as the caller's
    key says.
    `vendor_headers` go on to a provider whose own form it is, such as `anthropic-beta`. `upload` is the
    recording to be written down; the body names it by its digest.
    `way`: "call" is answered whole or streamed, "job" is followed. `keeps_assets`: files of the answer are stored, and
    the answer refers to them. `flows`: its answer is sound, sent on as it comes with nothing around it.
    """

    model: str
    operation: Operation
    body: JsonObject
    idempotency_key: str | None = None
    max_credits_micro: int | None = None
    fit: bool = False
    call_id: UUID | None = None
    repeat_for: timedelta | None = None
    cache: bool | None = None
    vendor_headers: Headers = ()
    upload: Upload | None = None
    way: Literal["call", "job"] = "call"
    keeps_assets: bool = False
    flows: bool = False


@record
class ChargeView:
    """What one grant paid, in micro-credits."""

    grant_id: UUID
    amount_micro: int


@record
class CallResult:
    """A settled call. `body` is the provider's answer; None when a repeat's kept output has lapsed.

    `cached`: whether the answer came from the cache; None where that was not asked for.
    """

    call_id: UUID
    model: str
    operation: Operation
    body: JsonObject | None
    usage: UsageFacts
    charged_micro: int
    charges: tuple[ChargeView, ...]
    wallet: WalletFigures | None
    created_at: datetime
    completed_at: datetime
    repeated: bool = False
    cached: bool | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """The most that a call can cost, and whether the wallet could pay it now."""

    bound_micro: int
    available_micro: int
    affordable: bool
    refusals: tuple[tuple[Code, str, tuple[str, ...]], ...] = field(default=())


@record
class StreamedEvent:
    """One event of a streamed answer: the provider's chunk, parsed and, where it goes on as it came, its text."""

    call_id: UUID
    data: bytes | None
    parsed: JsonObject


@record
class StreamedEnd:
    """The last event of a stream, after its settlement is committed."""

    result: CallResult
    last_chunk: JsonObject | None


@record
class StreamedFailure:
    """The last event of a stream that broke; `result` is what was charged for the output before, None for nothing."""

    call_id: UUID
    refusal: Refusal
    result: CallResult | None
