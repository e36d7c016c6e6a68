"""The story of one whole model call: admit, hold, call the provider, settle, answer.

The provider is called in a task that the gateway owns, so that a client that leaves cannot cancel money; an answer is
given only after its settlement is committed, or journalled on local disk where the database stayed away.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial

from billing.catalog import CatalogHolder, Snapshot
from gateway.admission import Admitted
from gateway.chains import ChainRun
from gateway.errors import ClientLeft, CreditsHeld, InsufficientCredits, UpstreamFailed
from gateway.failures import as_refusal
from gateway.in_flight import InFlight, Running
from gateway.metered import metered
from gateway.offers import Offers
from gateway.outputs import Outputs
from gateway.places import Places
from gateway.repeats import Repeats
from gateway.routing import answer_of
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
        offers: Offers,
    ) -> None:
        """The parts of one process, made by app.lifespan."""
        self.offers = self._offers = offers
        self._database = database
        self._catalog = catalog
        self._providers = providers
        self._settling = settling
        self._in_flight = in_flight
        self._outputs = outputs
        self._repeats = repeats
        self._places = places

    @property
    def snapshot(self) -> Snapshot:
        """The catalog that calls are admitted by now."""
        return self._catalog.current

    async def estimate(self, caller: Caller, request: CallRequest) -> Estimate:
        """What the call would cost at most, and whether the wallet could pay; holds and charges nothing."""
        at = now()
        admitted = await self._offers.admit(caller, request, at)
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
        Unavailable when the database is away before the provider was called, TooManyCalls where no place is free.
        """
        admitted = await self._offers.admit(caller, request, now())
        return await self._in_flight.answer_of(self._run(admitted))

    async def _run(self, admitted: Admitted) -> CallResult:
        async with self._places.taken(admitted.caller):
            return await self._in_place(admitted)

    async def _in_place(self, admitted: Admitted) -> CallResult:
        placed = await self._settling.hold(admitted)
        if isinstance(placed, Repeat):
            return await self._repeats.result(admitted, placed)
        self._in_flight.add(
            Running(
                admitted.call_id,
                admitted.caller.wallet_id,
                self._in_flight.expiry(admitted.created_at),
                read_cost=cost_reader(admitted),
            )
        )
        self.write_after_steps(admitted)
        try:
            return await self._answer(admitted)
        finally:
            self._in_flight.remove(admitted.call_id)

    async def _answer(self, admitted: Admitted) -> CallResult:
        try:
            provider, answer = await answer_of(self._providers, admitted)
        except ProviderError as error:
            refusal = as_refusal(error)
            usage, cost = metered(admitted, None, 0, "") if admitted.chain is not None else (UsageFacts(), 0)
            if cost or usage.requests:
                await self._settling.settle(ended_by(self.settlement(admitted, usage, cost, None), refusal))
            else:
                await self._settling.release(released(admitted, refusal))
            raise called(refusal, admitted) from error
        usage, cost = metered(admitted, answer.usage, answer.content_bytes, provider)
        operation = self.settlement(admitted, usage, cost, answer.body)
        settled = await self._settling.settle(operation)
        return result_of(admitted, answer.body, usage, operation, settled, now())

    def write_after_steps(self, admitted: Admitted) -> None:
        """A chain's finished steps are written down one by one, so that a crash loses none."""
        if isinstance(admitted.chain, ChainRun):
            admitted.chain.after_step = partial(self._in_flight.checkpoint, admitted.call_id)

    def settlement(self, admitted: Admitted, usage: UsageFacts, cost_micro: int, body: JsonObject | None) -> Settle:
        """The operation that settles a call which produced output, at the prices of its submit."""
        keep = admitted.claim is not None and body is not None
        return Settle(
            call_id=admitted.call_id,
            wallet_id=admitted.caller.wallet_id,
            workspace_id=admitted.caller.workspace_id,
            cost_micro=cost_micro,
            usage=usage,
            status="SUCCEEDED",
            sealed_output=self._outputs.seal(admitted.call_id, body, now()) if keep and body is not None else None,
        )


def cost_reader(admitted: Admitted) -> Callable[[], tuple[int, UsageFacts]] | None:
    """What a chain's finished steps cost so far; nothing can be told of a call to one model before its end."""
    if admitted.chain is None:
        return None

    def read() -> tuple[int, UsageFacts]:
        usage, cost = metered(admitted, None, 0, "")
        return cost, usage

    return read


def ended_by(operation: Settle, refusal: Refusal) -> Settle:
    """The settlement of a call that produced something and came to no good end."""
    if isinstance(refusal, ClientLeft):
        return replace(operation, status="CANCELED", error_message=refusal.message)
    return replace(operation, status="FAILED", error_code=refusal.code, error_message=refusal.message[:500])


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
