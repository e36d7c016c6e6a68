"""Plays one workspace's life on a virtual clock through the real services, for `tollgate simulate`."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from billing.auto_recharge import update_auto_recharge
from billing.catalog import Snapshot
from billing.packs import buy_pack
from billing.payments import renewal_payment, settle_charge
from billing.rules.subscription_states import ACTIVE, TRIALING
from billing.rules.timeline import Moment, MomentKind
from billing.rules.usage_pattern import WantedCall
from billing.services import Billing
from billing.simulated_payments import SimulatedPayments
from billing.subscribing import start_trial, subscribe
from billing.subscription_rows import Subscription, live_subscription
from billing.subscriptions import cancel
from billing.top_ups import add_credits
from billing.views import PriceView
from kit.clock import VirtualClock
from kit.errors import Refusal
from kit.ids import uuid7
from metering.operations import PlaceHold, Settle, UsageFacts
from metering.views import HoldPlaced, Settled
from metering.wallets import wallet_view
from models.database import connection, execute
from models.enums import PaymentPurpose, PricePeriod

_HOLD_LIFE: Final = timedelta(hours=1)
_METHOD: Final = """INSERT INTO payment_methods (id, workspace_id, stripe_payment_method_id, kind, is_default, created_at)
    VALUES ($1, $2, $3, 'card', true, $4)"""
_NEXT: Final = """SELECT min(at) FROM (
    SELECT due_at AS at FROM subscriptions WHERE workspace_id = $1 AND ended_at IS NULL
    UNION ALL SELECT current_period_end FROM subscriptions WHERE workspace_id = $1 AND ended_at IS NULL
    UNION ALL SELECT expires_at FROM credit_grants WHERE wallet_id = $2 AND remaining_micro > 0) AS instants
    WHERE at > $3"""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is played. `price` None: the plan is not subscribed to, or begins by itself.

    Amounts in micro-dollars. `top_ups` and `packs` pair the instant with the amount or the pack's code.
    """

    workspace_id: UUID
    wallet_id: UUID
    model_slug: str
    price: PriceView | None
    start: datetime
    end: datetime
    calls: Sequence[WantedCall]
    top_ups: Sequence[tuple[datetime, int]] = ()
    packs: Sequence[tuple[datetime, str]] = ()
    recharge: tuple[int, int] | None = None
    cancel_at: datetime | None = None


@dataclass(slots=True)
class Simulation:
    """One life. `work` does everything that is due, as the worker does; `time` is the installed clock.

    `progress` is told the present instant after each step. What the ledger and the payments do not keep is in `moments`.
    """

    billing: Billing
    payments: SimulatedPayments
    time: VirtualClock
    scenario: Scenario
    work: Callable[[], Awaitable[object]]
    progress: Callable[[datetime], None]
    moments: list[Moment] = field(default_factory=list[Moment])
    _state: str = ""
    _frozen_micro: int = 0
    _asked: set[datetime] = field(default_factory=set[datetime])

    async def play(self) -> None:
        """From the start to the end: each wanted call and purchase, and between them everything at its own instant."""
        scenario = self.scenario
        self.time.at = scenario.start
        await execute(
            self.billing.database, _METHOD, uuid7(), scenario.workspace_id, f"simulated_{uuid7().hex}", scenario.start
        )
        await self._begin()
        acts = sorted(self._acts(), key=lambda act: act[0])
        for at, act in acts:
            await self._until(at)
            await act()
            await self._step()
        await self._until(
            scenario.end - timedelta(microseconds=1)
        )  # what begins at the end belongs to the time after it

    def _acts(self) -> list[tuple[datetime, Callable[[], Awaitable[None]]]]:
        scenario = self.scenario
        acts = [(at, self._buying(lambda amount=amount: self._top_up(amount))) for at, amount in scenario.top_ups]
        acts += [(at, self._buying(lambda code=code: self._pack(code))) for at, code in scenario.packs]
        acts += [(call.at, lambda call=call: self._call(call)) for call in scenario.calls]
        if scenario.cancel_at is not None:
            acts.append((scenario.cancel_at, self._buying(self._cancel)))
        return acts

    async def _begin(self) -> None:
        scenario = self.scenario
        if scenario.price is not None:
            begun = await subscribe(self.billing, scenario.workspace_id, scenario.price.id, idempotency_key="subscribe")
            order = self.payments.waiting
            if order is not None and order.payment_id is not None:
                await settle_charge(self.billing, order.payment_id, self.payments.answer(PaymentPurpose.SUBSCRIPTION))
            elif order is not None:
                await start_trial(self.billing, begun.subscription.id)
        if scenario.recharge is not None:
            threshold, amount = scenario.recharge
            await update_auto_recharge(
                self.billing,
                scenario.workspace_id,
                enabled=True,
                threshold_usd_micro=threshold,
                amount_usd_micro=amount,
            )
        await self._step()

    async def _until(self, at: datetime) -> None:
        """Everything that is due before or at an instant, each at its own."""
        while True:
            async with connection(self.billing.database) as conn:
                due: datetime | None = await conn.fetchval(
                    _NEXT, self.scenario.workspace_id, self.scenario.wallet_id, self.time.at
                )
            if due is None or due > at:
                break
            self.time.at = due
            await self._step()
        self.time.at = at
        await self._step()

    async def _step(self) -> None:
        await self._renew()
        await self.work()
        await self._look()
        self.progress(self.time.at)

    async def _renew(self) -> None:
        """What a payment provider does by itself: charge for the next period when the last one ends, once."""
        async with connection(self.billing.database) as conn:
            live = await live_subscription(conn, self.billing, self.scenario.workspace_id)
        if live is None or not _is_renewed(live, self.time.at):
            return
        end = live.life.period_end
        renewal = self._snapshot.renewal_of(live.life.scheduled or live.life.price)
        if renewal is None or not renewal.amount_usd_micro or end is None or end in self._asked:
            return
        self._asked.add(end)
        key = f"simulated:{live.id}:{end.isoformat()}"
        payment_id = await renewal_payment(self.billing, live.id, renewal.amount_usd_micro, key, price_id=renewal.id)
        await settle_charge(self.billing, payment_id, self.payments.answer(PaymentPurpose.SUBSCRIPTION))

    async def _call(self, call: WantedCall) -> None:
        """Held and settled as any call; refused as any call where the credits are not there."""
        scenario, call_id = self.scenario, uuid7()
        hold = PlaceHold(
            call_id,
            scenario.wallet_id,
            scenario.workspace_id,
            call.credits_micro,
            scenario.model_slug,
            None,
            None,
            "simulate",
            self.time.at + _HOLD_LIFE,
            {},
        )
        if not isinstance(await self.billing.ledger.submit(hold), HoldPlaced):
            self.moments.append(Moment(self.time.at, MomentKind.REFUSED, credits_micro=call.credits_micro, calls=1))
            return
        usage = UsageFacts(requests=1, provider="simulated")
        settled = await self.billing.ledger.submit(
            Settle(call_id, scenario.wallet_id, scenario.workspace_id, call.credits_micro, usage)
        )
        assert isinstance(settled, Settled)
        self.moments.append(Moment(self.time.at, MomentKind.USE, credits_micro=-settled.charged_micro, calls=1))

    def _buying(self, act: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[None]]:
        """A refusal is part of the story."""

        async def tried() -> None:
            try:
                await act()
            except Refusal as refusal:
                self.moments.append(Moment(self.time.at, MomentKind.STATE, f"refused: {refusal.message}"))

        return tried

    async def _top_up(self, amount_usd_micro: int) -> None:
        key = f"top-up:{self.time.at.isoformat()}"
        await add_credits(self.billing, self.scenario.workspace_id, amount_usd_micro, idempotency_key=key)

    async def _pack(self, code: str) -> None:
        key = f"pack:{code}:{self.time.at.isoformat()}"
        await buy_pack(self.billing, self.scenario.workspace_id, code, idempotency_key=key)

    async def _cancel(self) -> None:
        await cancel(self.billing, self.scenario.workspace_id, idempotency_key="cancel")

    async def _look(self) -> None:
        """Note what changed of the subscription and of frozen credits."""
        async with connection(self.billing.database) as conn:
            live = await live_subscription(conn, self.billing, self.scenario.workspace_id)
        state = self._state_text(live)
        if state != self._state:
            self._state = state
            self.moments.append(Moment(self.time.at, MomentKind.STATE, state))
        frozen = (await wallet_view(self.billing.database, self.scenario.wallet_id, self.time.at)).frozen_micro
        if bool(frozen) != bool(self._frozen_micro):
            kind = MomentKind.FROZEN if frozen else MomentKind.THAWED
            self.moments.append(Moment(self.time.at, kind, "credits that require an active plan"))
        self._frozen_micro = frozen

    def _state_text(self, live: Subscription | None) -> str:
        if live is None:
            return f"no subscription; plan {self._snapshot.default_plan.code}"
        life = live.life
        plan = self._snapshot.plans_by_id[life.price.plan_id]
        end = "for ever" if life.period_end is None else f"until {life.period_end:%Y-%m-%d %H:%M}"
        ending = ", then it ends" if life.cancel_at_period_end else ""
        return f"{plan.code}.{life.price.code} {life.status.value} {end}{ending}"

    @property
    def _snapshot(self) -> Snapshot:
        return self.billing.catalog.current


def _is_renewed(live: Subscription, now: datetime) -> bool:
    """Whether a provider charges for another period: it is paid for, over, and not to end."""
    life = live.life
    return (
        life.status in {ACTIVE, TRIALING}
        and life.price.period is not PricePeriod.FREE
        and life.period_end is not None
        and life.period_end <= now
        and not life.cancel_at_period_end
    )
