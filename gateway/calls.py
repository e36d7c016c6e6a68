"""The story of one whole model call: admit, hold, call the provider, settle, answer.

The provider is called in a task that the gateway owns, so that a client that leaves cannot cancel money; an answer is
given only after its settlement is committed, or journalled on local disk where the database stayed away.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from billing.catalog import CatalogHolder, Snapshot
from gateway.admission import Admitted
from gateway.answer_cache import AnswerCache, CachedAnswer
from gateway.chains import ChainRun
from gateway.errors import CreditsHeld, InsufficientCredits, UpstreamFailed
from gateway.failures import as_refusal, end_of, kept_sentence
from gateway.in_flight import InFlight, Running
from gateway.kept_files import Keeping, KeptFiles
from gateway.metered import metered, recorded
from gateway.metrics import note_end
from gateway.offers import Offers
from gateway.outputs import Outputs
from gateway.places import Places
from gateway.repeats import Repeats
from gateway.routed import Routed
from gateway.routing import Router
from gateway.rules.truth import End, Ground, Seen, Verdict
from gateway.settling import Settling
from gateway.tracing import Step, Tracing
from gateway.views import Caller, CallRequest, CallResult, ChargeView, Estimate, Gate
from kit.clock import now
from kit.errors import Refusal
from metering.operations import Release, SealedOutput, Settle, UsageFacts
from metering.views import Repeat, Settled
from metering.wallets import wallet_figures
from models.database import Database
from providers.base import JsonObject
from providers.errors import ProviderError

logger = logging.getLogger(__name__)


class Calls:
    """Answers whole calls; streams are in gateway.streaming."""

    def __init__(
        self,
        database: Database,
        catalog: CatalogHolder,
        router: Router,
        settling: Settling,
        in_flight: InFlight,
        outputs: Outputs,
        repeats: Repeats,
        places: Places,
        offers: Offers,
        tracing: Tracing,
        cache: AnswerCache,
        kept: KeptFiles,
    ) -> None:
        """The parts of one process, made by app.lifespan."""
        self._cache = cache
        self.offers = offers
        self.tracing = tracing
        self._database = database
        self._catalog = catalog
        self._router = router
        self._settling = settling
        self._in_flight = in_flight
        self._outputs = outputs
        self._repeats = repeats
        self._places = places
        self._kept_files = kept

    @property
    def snapshot(self) -> Snapshot:
        """The catalog that calls are admitted by now."""
        return self._catalog.current

    async def estimate(self, caller: Caller, request: CallRequest) -> Estimate:
        """What the call would cost at most, and whether the wallet could pay; holds and charges nothing."""
        at = now()
        admitted = await self.offers.admit(caller, request, at)
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

    async def call(self, caller: Caller, request: CallRequest, gate: Gate | None = None) -> CallResult:
        """The settled answer. `gate`: what else must let the call pass before anything is held; what it raises is raised.

        Raises the refusals of admission and hold, UpstreamFailed when the provider gave nothing (nothing is charged),
        Unavailable when the database is away before the provider was called, TooManyCalls where no place is free, StorageFull
        where there is no room for files that are to be kept.
        """
        meanwhile = None if request.keeps_assets else while_held(gate)
        admitted = await self.admitted(caller, request, gate if meanwhile is None else None)
        return await self._in_flight.answer_of(self._run(admitted, meanwhile))

    async def admitted(self, caller: Caller, request: CallRequest, gate: Gate | None = None) -> Admitted:
        """The call's terms, see gateway.offers.Offers.admit; one that is to fit is told what its wallet can pay.

        `gate`: see `call`.
        """
        at, spendable = now(), None
        if request.fit:
            spendable = (await wallet_figures(self._database, caller.wallet_id, at)).available_micro
            if request.max_credits_micro is not None:
                spendable = min(spendable, request.max_credits_micro)
        return await self.offers.admit_traced(self.tracing, caller, request, at, spendable_micro=spendable, gate=gate)

    async def earlier(self, caller: Caller, request: CallRequest, call_id: UUID) -> CallResult | None:
        """The answer of an earlier call of this caller, waited for while it runs; None where there is none to give.

        Raises CallStillRunning where it has not ended after a while.
        """
        return await self._repeats.of_call(caller, request, call_id)

    async def _run(self, admitted: Admitted, gate: Gate | None) -> CallResult:
        with admitted.trace:
            place = await self._places.take(admitted.caller)
            try:
                if not admitted.request.keeps_assets:
                    return await self._in_place(admitted, gate, None)
                async with self._kept_files.room(admitted) as keeping:
                    return await self._in_place(admitted, gate, keeping)
            finally:
                if place is not None:
                    self._places.give_back(place)

    async def _in_place(self, admitted: Admitted, gate: Gate | None, keeping: Keeping | None) -> CallResult:
        known = await self._cache.find(admitted, self.snapshot.number) if admitted.may_be_cached else None
        if known is not None:
            admitted = replace(admitted, bound_micro=_price_again(admitted, known.usage))
        with admitted.trace.step(Step.HOLD):
            placed = await self._settling.hold(admitted, gate)
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
            if known is not None:
                return await self._answer_again(admitted, known, keeping)
            return await self._answer(admitted, keeping)
        finally:
            self._in_flight.remove(admitted.call_id)

    async def _answer(self, admitted: Admitted, keeping: Keeping | None) -> CallResult:
        routed = Routed([])
        try:
            answer = await self._router.answer(admitted, routed)
        except ProviderError as error:
            refusal = as_refusal(error)
            await self._failed(admitted, end_of(error), refusal, routed)
            raise called(refusal, admitted) from error
        ended = metered(admitted, End.FINISHED, Seen(answer.usage, answer.content_bytes), routed)
        told = ended.told
        assert told.usage is not None, "a call that finished is charged"
        assert ended.usage is not None, "likewise"
        body = answer.body if keeping is None else await keeping.stored(routed.provider, answer.body)
        operation = self.settlement(admitted, told, ended.usage, ended.cost_micro, body)
        with admitted.trace.step(Step.SETTLEMENT):
            settled = await self._settling.settle(operation)
        note_end(admitted.counted_as, admitted.request.operation, admitted.created_at, told, operation.cost_micro)
        result = result_of(admitted, body, told.usage, operation, settled, now())
        admitted.trace.settled(told.usage, result.charged_micro)
        if not admitted.wants_cache:
            return result
        if admitted.may_be_cached:
            await self._cache.keep(admitted, self.snapshot.number, answer.body, told.usage)
        return replace(result, cached=False)

    async def _failed(self, admitted: Admitted, end: End, refusal: Refusal, routed: Routed) -> None:
        """No answer: the hold is given back, but for what the finished steps of a chain cost."""
        ended = metered(admitted, end, Seen(), routed)
        if ended.usage is None:
            await self._settling.release(released(admitted, ended.told, refusal))
            note_end(admitted.counted_as, admitted.request.operation, admitted.created_at, ended.told, 0)
            return
        operation = self.settlement(admitted, ended.told, ended.usage, ended.cost_micro, None, refusal)
        with admitted.trace.step(Step.SETTLEMENT):
            settled = await self._settling.settle(operation)
        note_end(admitted.counted_as, admitted.request.operation, admitted.created_at, ended.told, ended.cost_micro)
        admitted.trace.settled(ended.usage, ended.cost_micro if settled is None else settled.charged_micro)

    async def _answer_again(self, admitted: Admitted, known: CachedAnswer, keeping: Keeping | None) -> CallResult:
        """A call like any other, whose answer is at hand: its usage is marked, its price is the catalog's for that.

        Files in it are kept as this call's own, so that who may see them is as with any call's.
        """
        told = Verdict("SUCCEEDED", Ground.REPORTED, known.usage)
        usage = recorded(admitted, known.usage, Routed([]))
        body = known.body if keeping is None else await keeping.stored(known.usage.provider, known.body)
        operation = self.settlement(admitted, told, usage, admitted.bound_micro, body)
        with admitted.trace.step(Step.SETTLEMENT):
            settled = await self._settling.settle(operation)
        note_end(admitted.counted_as, admitted.request.operation, admitted.created_at, told, operation.cost_micro)
        result = result_of(admitted, body, known.usage, operation, settled, now())
        admitted.trace.settled(known.usage, result.charged_micro)
        return replace(result, cached=True)

    def write_after_steps(self, admitted: Admitted) -> None:
        """A chain's finished steps are written down one by one, so that a crash loses none."""
        if isinstance(admitted.chain, ChainRun):
            admitted.chain.after_step = partial(self._in_flight.checkpoint, admitted.call_id)

    def settlement(
        self,
        admitted: Admitted,
        told: Verdict,
        usage: UsageFacts,
        cost_micro: int,
        body: JsonObject | None,
        refusal: Refusal | None = None,
    ) -> Settle:
        """The operation that settles a call by its verdict; `usage` as recorded, `cost_micro` at the prices of its submit.

        `refusal` is why it did not come to a good end.
        """
        return Settle(
            call_id=admitted.call_id,
            wallet_id=admitted.caller.wallet_id,
            workspace_id=admitted.caller.workspace_id,
            cost_micro=cost_micro,
            usage=usage,
            status=told.status,
            error_code=refusal.code if refusal is not None and told.status == "FAILED" else None,
            error_message=None if refusal is None else kept_sentence(refusal),
            modality=admitted.model.modality.value,
            sealed_output=self._kept(admitted, body) if body is not None and admitted.keeps_output else None,
        )

    def _kept(self, admitted: Admitted, body: JsonObject) -> SealedOutput | None:
        days = admitted.caller.stored_days
        return self._outputs.seal(
            admitted.call_id,
            body,
            now(),
            repeat_for=admitted.repeat_life,
            stored_for=None if days is None else timedelta(days=days),
        )


def while_held(gate: Gate | None) -> Gate | None:
    """The gate where it is likely to let the call pass: it is asked while the hold's batch is loaded, which takes longer.

    Any other is asked first, so that what is going to be refused costs the database nothing.
    """
    return gate if gate is not None and gate.is_likely else None


def _price_again(admitted: Admitted, usage: UsageFacts) -> int:
    """What an answer from the cache costs: its share of the call's own price at the submit, rounded up."""
    own = admitted.rates.cost_micro(usage, admitted.discount_percent)
    return -(-own * admitted.model.limits.cache_percent // 100)


def cost_reader(admitted: Admitted) -> Callable[[], tuple[int, UsageFacts | None]] | None:
    """What a chain's finished steps cost so far; nothing can be told of a call to one model before its end."""
    if admitted.chain is None:
        return None

    def read() -> tuple[int, UsageFacts | None]:
        ended = metered(admitted, End.LEFT, Seen(), Routed([]))
        return ended.cost_micro, ended.usage

    return read


def called(refusal: Refusal, admitted: Admitted) -> Refusal:
    """The refusal, naming the call whose record says the same."""
    if isinstance(refusal, UpstreamFailed):
        refusal.call_id = admitted.call_id
    return refusal


def released(admitted: Admitted, told: Verdict, refusal: Refusal) -> Release:
    """The operation that gives a call's hold back, where the verdict is that nothing is charged."""
    assert told.usage is None, "nothing was produced"
    assert told.status != "SUCCEEDED", "what succeeded is settled"
    return Release(
        call_id=admitted.call_id,
        wallet_id=admitted.caller.wallet_id,
        workspace_id=admitted.caller.workspace_id,
        status=told.status,
        error_code=refusal.code,
        error_message=kept_sentence(refusal),
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
