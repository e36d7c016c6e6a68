"""A catalog, workspaces and a payment provider that does what it is told, for tests of plans, credits and time."""

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

from billing.advance import advance_due
from billing.catalog import CatalogHolder
from billing.catalog_apply import PromoCodes, apply
from billing.money_gone import take_gone_released
from billing.payment_port import ActionNeeded, Charge, Charged, ChargeResult, Checkout, PriceChange
from billing.payments import apply_payment, renewal_payment
from billing.services import Billing
from billing.taking_back import take_back_released
from kit import clock
from kit.errors import RateLimited
from kit.ids import uuid7
from metering.ledger import Ledger
from metering.operations import PlaceHold, Settle, UsageFacts
from metering.reaper import sweep_grants
from metering.views import HoldPlaced
from metering.wallets import wallet_view
from models.database import Database
from tests.billing.catalog_samples import file_of, shipped

SECRET = b"k" * 32
MICRO = 1_000_000
START = datetime(2027, 1, 31, 10, tzinfo=UTC)


@dataclass
class Provider:
    """The payment port, in memory: remembers what it was asked, and answers the same key the same way."""

    configured: bool = True
    result: ChargeResult | None = None
    checkouts: list[Checkout] = field(default_factory=list)
    charges: list[Charge] = field(default_factory=list)
    changes: list[PriceChange] = field(default_factory=list)
    scheduled: list = field(default_factory=list)
    cancels: list = field(default_factory=list)
    refunds: list = field(default_factory=list)
    refund_problem: Exception | None = None
    answers: dict[str, ChargeResult] = field(default_factory=dict)

    async def open_checkout(self, order):
        self.checkouts.append(order)
        return f"https://pay.example/{order.key}"

    async def charge(self, order):
        self.charges.append(order)
        return self._answer(order.key)

    async def change_price(self, order):
        self.changes.append(order)
        return self._answer(order.key)

    async def schedule_price(self, subscription_id, price_id):
        self.scheduled.append((subscription_id, price_id))

    async def set_cancel(self, subscription_id, *, cancel, at_once=False):
        self.cancels.append((subscription_id, cancel, at_once))

    async def refund(self, payment_id, total_usd_micro, reason):
        self.refunds.append((payment_id, total_usd_micro))
        if self.refund_problem is not None:
            raise self.refund_problem
        return total_usd_micro

    def _answer(self, key):
        return self.answers.setdefault(key, self.result or Charged(clock.now()))


@dataclass
class Attempts:
    """Counts attempts; refuses beyond the allowed number of each key."""

    allowed: int = 10_000
    taken: dict[str, int] = field(default_factory=dict)

    async def take(self, key):
        self.taken[key] = self.taken.get(key, 0) + 1
        if self.taken[key] > self.allowed:
            raise RateLimited("too many attempts", 60)


@dataclass
class Shop:
    """Everything one test needs; `at` is the virtual clock."""

    billing: Billing
    provider: Provider
    attempts: Attempts
    time: clock.VirtualClock
    pg: asyncpg.Connection

    def price(self, plan, code):
        return next(price for price in self.billing.catalog.current.plans_by_code[plan].prices if price.code == code)

    async def workspace(self, *, method: bool = True) -> "Customer":
        workspace_id, wallet_id = uuid7(), uuid7()
        await self.pg.execute(
            "INSERT INTO workspaces (id, name, slug, created_at, updated_at) VALUES ($1, 'w', $2, $3, $3)",
            workspace_id, f"w-{workspace_id.hex}", self.time.at,
        )  # fmt: skip
        await self.pg.execute(
            "INSERT INTO wallets (id, workspace_id, created_at) VALUES ($1, $2, $3)",
            wallet_id, workspace_id, self.time.at,
        )  # fmt: skip
        customer = Customer(self, workspace_id, wallet_id)
        if method:
            await customer.set_method()
        return customer

    def go(self, *, to: datetime | None = None, **delta) -> None:
        self.time.at = to or self.time.at + timedelta(**delta)

    async def work(self) -> int:
        """Everything that is due, as the worker does it."""
        total = 0
        while done := await advance_due(self.billing):
            total += done
        await take_back_released(self.billing)
        await take_gone_released(self.billing)
        while await sweep_grants(self.billing.database, self.billing.ledger):
            pass
        return total


@dataclass
class Customer:
    shop: Shop
    id: UUID
    wallet_id: UUID

    async def set_method(self):
        await self.shop.pg.execute(
            "INSERT INTO payment_methods (id, workspace_id, stripe_payment_method_id, kind, is_default, created_at)"
            " VALUES ($1, $2, $3, 'card', true, $4)",
            uuid7(), self.id, f"pm_{uuid7().hex}", self.shop.time.at,
        )  # fmt: skip

    async def pay(self, subscription_id, price, *, paid_at=None):
        """A renewal that the provider charged by itself."""
        payment_id = await renewal_payment(
            self.shop.billing, subscription_id, price.amount_usd_micro, f"in_{uuid7().hex}", price_id=price.id
        )
        return await apply_payment(self.shop.billing, payment_id, paid_at=paid_at)

    async def open_payment_id(self):
        return await self.shop.pg.fetchval(
            "SELECT id FROM payments WHERE workspace_id = $1 AND applied_at IS NULL ORDER BY id DESC LIMIT 1", self.id
        )

    async def subscribe(self, plan, code="monthly"):
        """Subscribe and pay at once."""
        from billing.subscribing import subscribe

        price = self.shop.price(plan, code)
        made = await subscribe(self.shop.billing, self.id, price.id, idempotency_key=uuid7().hex)
        if made.checkout_url:
            await apply_payment(self.shop.billing, await self.open_payment_id())
        return await self.subscription()

    async def subscription(self):
        return await self.shop.pg.fetchrow(
            "SELECT * FROM subscriptions WHERE workspace_id = $1 ORDER BY created_at DESC, id DESC LIMIT 1", self.id
        )

    async def spend(self, credits_micro: int) -> int:
        """One call that costs so much, or as much as there is; what was charged."""
        call_id = await self.hold(credits_micro)
        return 0 if call_id is None else await self.settle(call_id, credits_micro)

    async def hold(self, credits_micro: int):
        """A call that runs; None where there is not so much."""
        now, call_id = self.shop.time.at, uuid7()
        hold = PlaceHold(
            call_id, self.wallet_id, self.id, credits_micro, "sandbox-chat", None, None, "r",
            now + timedelta(hours=1), {},
        )  # fmt: skip
        return call_id if isinstance(await self.shop.billing.ledger.submit(hold), HoldPlaced) else None

    async def settle(self, call_id, credits_micro: int) -> int:
        """It ends at this cost; what was charged."""
        usage = UsageFacts(requests=1, provider="sandbox")
        settlement = Settle(call_id, self.wallet_id, self.id, credits_micro, usage)
        return (await self.shop.billing.ledger.submit(settlement)).charged_micro

    async def wallet(self):
        return await wallet_view(self.shop.billing.database, self.wallet_id, self.shop.time.at)

    async def available(self) -> float:
        return (await self.wallet()).available_micro / MICRO

    async def grants(self, *kinds):
        """(kind, amount, effective date, expiry date, remaining) in order."""
        rows = await self.shop.pg.fetch(
            "SELECT * FROM credit_grants WHERE wallet_id = $1 AND (cardinality($2::text[]) = 0 OR kind = ANY ($2))"
            " ORDER BY effective_at, id",
            self.wallet_id, list(kinds),
        )  # fmt: skip
        return [
            (
                row["amount_micro"] // MICRO,
                row["effective_at"].date().isoformat(),
                row["expires_at"].date().isoformat() if row["expires_at"] else None,
            )
            for row in rows
        ]


@asynccontextmanager
async def open_shop(
    database: Database, pg: asyncpg.Connection, catalog, *, start: datetime = START, codes=None, time=None
):
    """`catalog`: the name of a shipped one, or the values of one. `time`: a clock in the place of one that stands still."""
    time, provider, attempts = time or clock.VirtualClock(start), Provider(), Attempts()
    with clock.installed(time):
        file = shipped(catalog) if isinstance(catalog, str) else file_of(catalog)
        await apply(database, file, now=start, promo_codes=PromoCodes(SECRET, codes or {}))
        holder = CatalogHolder(database)
        await holder.reload()
        ledger = await Ledger.open(database)
        try:
            yield Shop(Billing(database, ledger, holder, provider, attempts, SECRET), provider, attempts, time, pg)
        finally:
            await ledger.close()


__all__ = ["ActionNeeded", "Customer", "Provider", "Shop", "open_shop"]
