"""The story of one whole model call: admit, hold, call the provider, settle, answer.

The provider is called in a task that the gateway owns, so that a client that leaves cannot cancel money; an answer is
given only after its settlement is committed, or journalled on local disk where the database stayed away.
"""

import logging
from dataclasses import replace
from datetime import datetime

from billing.catalog import CatalogHolder, Snapshot
from gateway.admission import Admitted, admit
from gateway.errors import ClientLeft, CreditsHeld, InsufficientCredits, UpstreamFailed
from gateway.failures import as_refusal
from gateway.in_flight import InFlight, Running
from gateway.kept_files import Keeping, KeptFiles
from gateway.outputs import Outputs
from gateway.places import Places
from gateway.repeats import Repeats
from gateway.routing import answer_of
from gateway.rules.outcome import usage_facts
from gateway.settling import Settling
from gateway.views import Caller, CallRequest, CallResult, ChargeView, Estimate
from kit.clock import now
from kit.errors import Refusal
from metering.operations import Release, Settle, UsageFacts
from metering.views import Repeat, Settled
from metering.wallets import wallet_figures
from models.database import Database
from providers.base import JsonObject
from providers.errors import ProviderError
from providers.registry import Registry

logger = logging.getLogger(__name__)


class Calls:
    """Answers whole calls; streams are in gateway.streaming."""

    def __init__(
        self,
        database: Database,
        catalog: CatalogHolder,
        providers: Registry,
        settling: Settling,
        in_flight: InFlight,
        outputs: Outputs,
        repeats: Repeats,
        places: Places,
        kept: KeptFiles,
    ) -> None:
        """The parts of one process, made by app.lifespan."""
        self._database = database
        self._catalog = catalog
        self._providers = providers
        self._settling = settling
        self._in_flight = in_flight
        self._outputs = outputs
        self._repeats = repeats
        self._places = places
        self._kept = kept

    @property
    def snapshot(self) -> Snapshot:
        """The catalog that calls are admitted by now."""
        return self._catalog.current

    async def estimate(self, caller: Caller, request: CallRequest) -> Estimate:
        """What the call would cost at most, and whether the wallet could pay; holds and charges nothing."""
        at = now()
        admitted = admit(self._catalog.current, caller, request, at)
        figures = await wallet_figures(self._database, caller.wallet_id, at)
        needed = admitted.bound_micro
        if needed <= figures.available_micro:
            return Estimate(needed, figures.available_micro, affordable=True)
        refusal: Refusal = InsufficientCredits(needed, figures.available_micro)
        if needed <= figures.available_micro + figures.held_micro:
            refusal = CreditsHeld(needed, figures.available_micro, figures.held_micro)
        return Estimate(
            needed,
            figures.available_micro,
            affordable=False,
            refusals=((refusal.code, refusal.message, refusal.field),),
        )

    async def call(self, caller: Caller, request: CallRequest) -> CallResult:
        """The settled answer.

        Raises the refusals of admission and hold, UpstreamFailed when the provider gave nothing (nothing is charged),
        Unavailable when the database is away before the provider was called, TooManyCalls where no place is free, StorageFull
        where there is no room for files that are to be kept.
        """
        admitted = admit(self._catalog.current, caller, request, now())
        return await self._in_flight.answer_of(self._run(admitted))

    async def _run(self, admitted: Admitted) -> CallResult:
        async with self._places.taken(admitted.caller), self._kept.room(admitted) as keeping:
            return await self._in_place(admitted, keeping)

    async def _in_place(self, admitted: Admitted, keeping: Keeping | None) -> CallResult:
        placed = await self._settling.hold(admitted)
        if isinstance(placed, Repeat):
            return await self._repeats.result(admitted, placed)
        self._in_flight.add(
            Running(admitted.call_id, admitted.caller.wallet_id, self._in_flight.expiry(admitted.created_at))
        )
        try:
            return await self._answer(admitted, keeping)
        finally:
            self._in_flight.remove(admitted.call_id)

    async def _answer(self, admitted: Admitted, keeping: Keeping | None) -> CallResult:
        try:
            provider, answer = await answer_of(self._providers, admitted)
        except ProviderError as error:
            refusal = as_refusal(error)
            await self._settling.release(released(admitted, refusal))
            raise called(refusal, admitted) from error
        usage = usage_facts(answer.usage, admitted.shape, admitted.bound, answer.content_bytes, provider)
        body = answer.body if keeping is None else await keeping.stored(provider, answer.body)
        operation = self.settlement(admitted, usage, body)
        settled = await self._settling.settle(operation)
        return result_of(admitted, body, usage, operation, settled, now())

    def settlement(self, admitted: Admitted, usage: UsageFacts, body: JsonObject | None) -> Settle:
        """The operation that settles a call which produced output, at the prices of its submit."""
        keep = admitted.claim is not None and body is not None
        return Settle(
            call_id=admitted.call_id,
            wallet_id=admitted.caller.wallet_id,
            workspace_id=admitted.caller.workspace_id,
            cost_micro=admitted.rates.cost_micro(usage, admitted.discount_percent),
            usage=told_of(admitted, usage),
            status="SUCCEEDED",
            sealed_output=self._outputs.seal(admitted.call_id, body, now()) if keep and body is not None else None,
        )


def told_of(admitted: Admitted, usage: UsageFacts) -> UsageFacts:
    """The usage as it is recorded: a test key's says so."""
    return replace(usage, details={**(usage.details or {}), "test": True}) if admitted.caller.test else usage


def called(refusal: Refusal, admitted: Admitted) -> Refusal:
    """The refusal, naming the call whose record says the same."""
    if isinstance(refusal, UpstreamFailed):
        refusal.call_id = admitted.call_id
    return refusal


def released(admitted: Admitted, refusal: Refusal) -> Release:
    """The operation that gives a call's hold back because nothing was produced."""
    return Release(
        call_id=admitted.call_id,
        wallet_id=admitted.caller.wallet_id,
        workspace_id=admitted.caller.workspace_id,
        status="CANCELED" if isinstance(refusal, ClientLeft) else "FAILED",
        error_code=refusal.code,
        error_message=refusal.message[:500],
    )


def result_of(
    admitted: Admitted,
    body: JsonObject | None,
    usage: UsageFacts,
    operation: Settle,
    settled: Settled | None,
    at: datetime,
) -> CallResult:
    """The answer's figures; of a journalled settlement (None) the cost, which its replay will charge."""
    return CallResult(
        call_id=admitted.call_id,
        model=admitted.model.slug,
        operation=admitted.request.operation,
        body=body,
        usage=usage,
        charged_micro=operation.cost_micro if settled is None else settled.charged_micro,
        charges=() if settled is None else tuple(ChargeView(*charge) for charge in settled.charges),
        wallet=None if settled is None else settled.wallet,
        created_at=admitted.created_at,
        completed_at=at,
    )
