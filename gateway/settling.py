"""Holding before the provider is called, and settling after: the two commits that a call waits for."""

import asyncio
import logging
from datetime import datetime
from typing import Final

from gateway.admission import Admitted
from gateway.errors import CreditsHeld, InsufficientCredits, SpendLimitReached
from gateway.in_flight import InFlight
from gateway.views import Gate
from kit.errors import Refusal, Unavailable
from metering.errors import IdempotencyKeyReused, SettlementDelayed
from metering.journal import Journal
from metering.ledger import Ledger
from metering.operations import PlaceHold, Release, Settle
from metering.views import HoldPlaced, HoldRefusal, HoldRefused, Outcome, Rejected, Released, Repeat, Settled

logger = logging.getLogger(__name__)

_LIMIT_NAMES: Final = {
    "API_KEY": "this API key's monthly limit",
    "MEMBER": "this member's monthly limit",
    "WORKSPACE": "this workspace's daily limit",
}


class Settling:
    """Places, settles and releases holds through the ledger, with the journal behind it."""

    def __init__(self, ledger: Ledger, journal: Journal, in_flight: InFlight) -> None:
        """All three belong to this process."""
        self._ledger = ledger
        self._journal = journal
        self._in_flight = in_flight

    async def hold(self, admitted: Admitted, gate: Gate | None) -> HoldPlaced | Repeat:
        """The committed hold, or the call that this one repeats. `gate` is asked meanwhile.

        Refusals: InsufficientCredits, CreditsHeld, SpendLimitReached, IdempotencyKeyReused; Unavailable when the
        database is away (nothing was called, nothing is charged).
        """
        return held(admitted, await self.begin(admitted, gate))

    def begin(self, admitted: Admitted, gate: Gate | None) -> asyncio.Future[Outcome]:
        """The same hold, asked for without waiting: what the ledger will answer, which `held` reads."""
        operation = hold_operation(admitted, self._in_flight.expiry(admitted.created_at))
        return self._ledger.begin(operation, None if gate is None else gate.deciding)

    async def settle(self, operation: Settle) -> Settled | None:
        """The committed settlement; None when the database stayed away and it is journalled instead."""
        try:
            outcome = await self._ledger.submit(operation)
        except (SettlementDelayed, Unavailable):
            await self._journal.append(operation)
            logger.warning("settlement of call %s journalled: the database is away", operation.call_id)
            return None
        if isinstance(outcome, Settled):
            return outcome
        raise _rejected(outcome)

    async def release(self, operation: Release) -> None:
        """Gives the hold back. When the database is away the hold lapses by itself: nothing is charged either way."""
        try:
            outcome = await self._ledger.submit(operation)
        except (SettlementDelayed, Unavailable):
            logger.warning("release of call %s is left to the reaper: the database is away", operation.call_id)
            return
        if not isinstance(outcome, Released):
            raise _rejected(outcome)


def hold_operation(admitted: Admitted, expires_at: datetime) -> PlaceHold:
    """The operation that holds an admitted call's bound until it is renewed, or ends."""
    caller = admitted.caller
    return PlaceHold(
        call_id=admitted.call_id,
        wallet_id=caller.wallet_id,
        workspace_id=caller.workspace_id,
        amount_micro=admitted.bound_micro,
        model_slug=admitted.model.slug,
        user_id=caller.user_id,
        api_key_id=caller.api_key_id,
        request_id=caller.request_id,
        expires_at=expires_at,
        modality=admitted.model.modality.value,
        terms={
            "discount_percent": admitted.discount_percent,
            "prices": [[price.meter, price.credits_micro, price.per] for price in admitted.rates.prices],
        },
        idempotency=admitted.claim,
    )


def held(admitted: Admitted, outcome: Outcome) -> HoldPlaced | Repeat:
    """What the ledger answered to it. Raises what Settling.hold raises."""
    match outcome:
        case HoldPlaced():
            return outcome
        case Repeat():
            if not outcome.input_matches:
                raise IdempotencyKeyReused(admitted.claim.key if admitted.claim else "")
            return outcome
        case HoldRefused():
            raise _refusal(admitted, outcome)
        case _:
            raise _rejected(outcome)


def _refusal(admitted: Admitted, outcome: HoldRefused) -> Refusal:
    match outcome.reason:
        case HoldRefusal.INSUFFICIENT:
            return InsufficientCredits(admitted.bound_micro, outcome.available_micro)
        case HoldRefusal.HELD:
            return CreditsHeld(admitted.bound_micro, outcome.available_micro, outcome.held_micro)
        case HoldRefusal.SPEND_LIMIT:
            limit = outcome.limit
            return SpendLimitReached(_LIMIT_NAMES[limit.subject_kind] if limit else "a spend limit")


def _rejected(outcome: object) -> Exception:
    if isinstance(outcome, Rejected):
        return outcome.error
    return AssertionError(f"the ledger answered {outcome!r}")
