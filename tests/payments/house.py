"""A catalog, workspaces and the Stripe double on one virtual clock, and whether their books agree."""

import re
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import asyncpg

from accounts.audit import noting_for_system
from billing.advance import advance_due
from billing.auto_recharge import recharge_due, update_auto_recharge
from billing.buying import Purchase
from billing.giving_back import give_back_unapplied
from billing.money_gone import take_gone_released
from billing.stripe_client import Stripe
from billing.stripe_customers import workspace_of
from billing.stripe_inbox import sweep, work_inbox
from billing.stripe_invoicing import write_invoices
from billing.stripe_link import StripeLink
from billing.stripe_payments import StripePayments
from billing.stripe_reconcile import ask_for_payments
from billing.stripe_tell import tell_due
from billing.stripe_transfers import move_transfers
from billing.subscribing import subscribe
from billing.taking_back import take_back_released
from billing.top_ups import add_credits
from kit.ids import uuid7
from metering.reaper import sweep_grants
from tests.billing.shop import MICRO, START, Customer, open_shop
from tests.billing.shop import Shop as Counter
from tests.metering.invariants import assert_invariants
from tests.stripe_shop import Shop

DAY = timedelta(days=1)
CENT = 10_000


@dataclass
class House:
    counter: Counter
    double: Shop
    link: StripeLink
    pg: asyncpg.Connection

    @property
    def billing(self):
        return self.counter.billing

    @property
    def now(self) -> datetime:
        return self.counter.time.at

    def price(self, plan: str, code: str = "monthly"):
        return self.counter.price(plan, code)

    async def workspace(self) -> "Guest":
        made = await self.counter.workspace(method=False)
        return Guest(self.counter, made.id, made.wallet_id, self)

    async def with_recharge(self) -> "Guest":
        """A workspace with 25 dollars' credits, which buys for 10 when it has fewer than for 20."""
        guest = await self.workspace()
        await self.save(guest)
        await guest.top_up(25)
        await update_auto_recharge(
            self.billing, guest.id, enabled=True, threshold_usd_micro=20 * MICRO, amount_usd_micro=10 * MICRO
        )
        return guest

    async def save(self, guest: "Guest") -> None:
        """A card that pays."""
        await guest.save_card()

    async def go(self, *, work: bool = True, **span: float) -> None:
        """Both clocks forward, a day or for long spans five at a time, with the worker at work in between."""
        end = self.now + timedelta(**span)
        stride = DAY if end - self.now < 70 * DAY else 5 * DAY
        while self.now < end:
            step = min(end, self.now + stride)
            await self.double.advance(int(step.timestamp()))
            self.counter.go(to=step)
            if work:
                await self.work()

    async def work(self) -> None:
        """Everything that the worker does; what Stripe tells comes by the sweep of its own list."""
        await sweep(self.link, force=True)
        while await work_inbox(self.billing, self.link):
            pass
        await give_back_unapplied(self.billing)
        await tell_due(self.link)
        await ask_for_payments(self.billing, self.link)
        while await advance_due(self.billing):
            pass
        await take_back_released(self.billing)
        await take_gone_released(self.billing)
        await recharge_due(self.billing)
        while await write_invoices(self.billing, self.link):
            pass
        await move_transfers(self.billing, self.link)
        while await sweep_grants(self.billing.database, self.billing.ledger):
            pass

    async def customers(self) -> dict:
        """What each customer has paid and got back at Stripe, in cents."""
        return (await self.double.books())["customers"]

    async def agree(self) -> None:
        """The ledger, the payments and the double's books tell of the same money; every invariant holds.

        Money for which there was no place, such as of a page that was replaced, counts as known: the operator was told.
        """
        sums: dict = {}
        for customer_id, customer in (await self.customers()).items():
            workspace_id = await workspace_of(self.link, customer_id)
            if workspace_id is None:
                assert not customer["charged"], customer
                continue
            of = sums.setdefault(workspace_id, {"charged": 0, "refunded": 0})  # of those that were deleted too
            for name in of:
                of[name] += customer[name]
        for workspace_id, customer in sums.items():
            row = await self.pg.fetchrow(
                "SELECT coalesce(sum(amount_usd_micro) FILTER (WHERE known), 0) AS paid,"
                " coalesce(sum(refunded_usd_micro) FILTER (WHERE known), 0) AS refunded"
                " FROM payments p, LATERAL (SELECT applied_at IS NOT NULL OR EXISTS (SELECT FROM outbox_events o"
                " WHERE o.kind = 'payment.unapplied' AND o.dedupe_key = p.id::text) AS known) AS k"
                " WHERE workspace_id = $1",
                workspace_id,
            )
            unapplied = customer["refunded"] * CENT - int(row["refunded"])  # given back, as nothing was bought (D8)
            assert customer["charged"] * CENT - unapplied == int(row["paid"]), (customer, dict(row))
        twice = await self.pg.fetch(
            "SELECT payment_id, kind FROM credit_grants WHERE payment_id IS NOT NULL AND kind <> 'CYCLE'"
            " GROUP BY payment_id, kind HAVING count(*) > 1"
        )
        assert not twice
        await self._agree_on_disputes()
        await assert_invariants(self.pg)

    async def _agree_on_disputes(self) -> None:
        """What is disputed is frozen as long as it is; what was lost stands in both books."""
        out_of_line = await self.pg.fetch(
            "SELECT p.id, p.status, d.open, g.id AS grant_id, g.frozen_reason FROM payments p"
            " LEFT JOIN credit_grants g ON g.payment_id = p.id, LATERAL (SELECT EXISTS (SELECT FROM payment_disputes d"
            " WHERE d.payment_id = p.id AND d.status = 'OPEN') AS open) AS d WHERE (d.open AND p.status <> 'DISPUTED')"
            " OR (g.id IS NOT NULL AND (g.frozen_reason IS NOT DISTINCT FROM 'DISPUTE') <> d.open)"
        )
        assert not out_of_line
        lost = "SELECT coalesce(sum(amount_usd_micro), 0) FROM payment_disputes WHERE status = 'LOST'"
        at_stripe = sum(customer["disputed_lost"] for customer in (await self.customers()).values())
        assert at_stripe * CENT == int(await self.pg.fetchval(lost))


@dataclass
class Guest(Customer):
    """A workspace and its customer."""

    house: "House"

    async def save_card(self, card: str = "pm_card_visa") -> None:
        """On the hosted page, as a person would."""
        url = await self.house.billing.payments.open_setup(self.id, "https://app.example/back")
        await self.house.double.pay(session_of(url), card=card)
        await self.house.work()

    async def page(self, plan: str, code: str = "monthly"):
        price = self.house.price(plan, code)
        return await subscribe(self.house.billing, self.id, price.id, idempotency_key=uuid7().hex)

    async def subscribe_and_pay(self, plan: str, code: str = "monthly", *, card: str = "pm_card_visa"):
        made = await self.page(plan, code)
        assert made.checkout_url is not None
        await self.house.double.pay(session_of(made.checkout_url), card=card)
        await self.house.work()
        return await self.subscription()

    async def top_up(self, dollars: int, *, key: str | None = None, checkout: bool = False) -> Purchase:
        return await add_credits(
            self.house.billing, self.id, dollars * MICRO, idempotency_key=key or uuid7().hex, checkout=checkout
        )

    async def pay_twice(self, plan: str) -> None:
        """Two pages for one plan, the first paid before the second was opened and closed it; nobody has heard of it."""
        for _ in range(2):
            made = await self.page(plan)
            await self.house.double.pay(session_of(made.checkout_url))

    async def invoices(self):
        return await self.house.pg.fetch(
            "SELECT * FROM invoices WHERE workspace_id = $1 ORDER BY created_at, id", self.id
        )

    async def invoices_at_stripe(self):
        customer = "SELECT stripe_customer_id FROM workspaces WHERE id = $1"
        wanted = {"customer": await self.house.pg.fetchval(customer, self.id), "expand": ["data.payments"]}
        return (await self.house.double.v1.invoices.list_async(wanted)).data

    async def told(self) -> list[str]:
        """Of what kinds the workspace's events and audit entries are."""
        rows = await self.house.pg.fetch(
            "SELECT kind FROM outbox_events WHERE workspace_id = $1 UNION ALL"
            " SELECT action FROM audit_events WHERE workspace_id = $1 AND actor_kind = 'SYSTEM'",
            self.id,
        )
        return sorted(row["kind"] for row in rows)

    async def payments(self):
        return await self.house.pg.fetch("SELECT * FROM payments WHERE workspace_id = $1 ORDER BY id", self.id)

    async def methods(self):
        return await self.house.pg.fetch(
            "SELECT * FROM payment_methods WHERE workspace_id = $1 AND removed_at IS NULL ORDER BY id", self.id
        )

    async def stripe_subscription(self):
        row = await self.subscription()
        return (await self.house.double.v1.subscriptions.retrieve_async(row["stripe_subscription_id"])).to_dict()


def session_of(url: str) -> str:
    return next(part for part in re.split("[?#]", url)[0].split("/") if part.startswith("cs_"))


@asynccontextmanager
async def open_house(database, pg, double: Shop, catalog="team-workspaces", *, start: datetime = START, kind=None):
    async with open_shop(database, pg, catalog, start=start) as counter:
        await double.reset(now=int(start.timestamp()))
        link = StripeLink(
            Stripe("sk_test_double", base=double.url), database, counter.billing.catalog, "https://gateway.example"
        )
        counter.billing = replace(counter.billing, payments=StripePayments(link), note_for=noting_for_system)
        try:
            yield (kind or House)(counter, double, link, pg)
        finally:
            await link.stripe.aclose()
