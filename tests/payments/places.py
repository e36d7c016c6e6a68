"""Where the product's scenarios run: before the double, or before an account at Stripe that only its API reaches.

At Stripe no webhook reaches us, no page can be clicked and no clock be moved: news come by the sweep of the account's own
list of events, what a page would make is made over the API with the page's own metadata, and time passes as it does.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import aiohttp
import stripe

from accounts.audit import noting_for_system
from billing.stripe_client import Stripe
from billing.stripe_customers import customer_of
from billing.stripe_inbox import sweep
from billing.stripe_link import StripeLink
from billing.stripe_payments import StripePayments
from tests.billing.shop import open_shop
from tests.payments.house import Guest, House, open_house, session_of

PATIENCE_S = 90
"""Stripe's list of events is some seconds behind what happens."""

PAUSE_S = 1.0
PUBLIC_URL = "https://gateway.example"
SUMS = ("charged", "refunded", "disputed_lost")


class RunningClock:
    """The present, where tests else have a clock that stands still."""

    @property
    def at(self) -> datetime:
        return datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.at


@dataclass
class Place(House):
    """A house whose scenarios ask nothing of Stripe but its API, unless they are asked of `OfTheDouble`."""

    patience_s: float = PATIENCE_S
    pause_s: float = PAUSE_S

    @property
    def v1(self) -> Any:
        return self.double.v1

    async def until(self, told: Callable[[], Awaitable[Any]]) -> Any:
        """The worker at work until this is so; what it answered then."""
        found = None
        try:
            async with asyncio.timeout(self.patience_s):
                while True:
                    await self.work()
                    if found := await told():
                        return found
                    await asyncio.sleep(self.pause_s)
        except TimeoutError:
            raise AssertionError(f"nothing was told within {self.patience_s} s") from None

    async def set_up(self, guest: Guest, card: str = "pm_card_visa") -> str:
        """A card saved by a SetupIntent, as a front end with Stripe's own form does it; the method's id."""
        customer = await customer_of(self.link, guest.id)
        wanted = {"customer": customer, "payment_method": card, "confirm": True, "usage": "off_session"}
        made = await self.v1.setup_intents.create_async({**wanted, "allowed_payment_method_types": ["card"]})
        assert made.status == "succeeded"
        return made.payment_method

    async def save(self, guest: Guest, card: str = "pm_card_visa") -> None:
        """The same, and the product knows it."""
        await self._known(guest, await self.set_up(guest, card))

    async def turn_to(self, guest: Guest, card: str) -> None:
        """Another card as the default, attached without a check, so that it may fail when it is charged."""
        method = await self.v1.payment_methods.attach_async(card, {"customer": await customer_of(self.link, guest.id)})
        row = await self._known(guest, method.id)
        await self.billing.payments.make_default(row["id"])

    async def pay_page(self, url: str, card: str = "pm_card_visa") -> None:
        """What the page makes when it is paid: a subscription or a payment with the session's metadata."""
        session = await self.v1.checkout.sessions.retrieve_async(session_of(url))
        assert (session.status, session.payment_status) == ("open", "unpaid")
        method = await self.v1.payment_methods.attach_async(card, {"customer": session.customer})
        metadata = session.metadata.to_dict()
        if session.mode == "subscription":
            lines = await self.v1.checkout.sessions.line_items.list_async(session.id)
            wanted = {"customer": session.customer, "items": [{"price": line.price.id} for line in lines.data]}
            await self.v1.subscriptions.create_async(
                {**wanted, "default_payment_method": method.id, "metadata": metadata}
            )
            return
        wanted = {"amount": session.amount_total, "currency": session.currency, "customer": session.customer}
        wanted |= {"payment_method": method.id, "allowed_payment_method_types": ["card"]}
        await self.v1.payment_intents.create_async(
            {**wanted, "confirm": True, "off_session": True, "metadata": metadata}
        )

    async def subscribe(self, guest: Guest, plan: str, code: str = "monthly"):
        """The plan's page is opened and paid, and the plan has begun."""
        made = await guest.page(plan, code)
        await self.pay_page(made.checkout_url)
        return await self.until(lambda: self._active(guest))

    async def customers(self) -> dict:
        """From Stripe's own list of charges."""
        found = {}
        for row in await self.pg.fetch(
            "SELECT stripe_customer_id FROM workspaces WHERE stripe_customer_id IS NOT NULL"
        ):
            listed = await self.v1.charges.list_async({"customer": row[0], "limit": 100})
            charges = [charge async for charge in listed.auto_paging_iter() if charge.status == "succeeded"]
            found[row[0]] = {
                "charged": sum(charge.amount for charge in charges),
                "refunded": sum(charge.amount_refunded for charge in charges),
                "disputed_lost": sum([await self._lost(charge.id) for charge in charges if charge.disputed]),
            }
        return found

    async def _lost(self, charge: str) -> int:
        disputes = await self.v1.disputes.list_async({"charge": charge})
        return sum(dispute.amount for dispute in disputes.data if dispute.status == "lost")

    async def _known(self, guest: Guest, method: str):
        async def known():
            rows = await guest.methods()
            return next((row for row in rows if row["stripe_payment_method_id"] == method), None)

        return await self.until(known)

    async def _active(self, guest: Guest):
        row = await guest.subscription()
        return row if row["status"] == "ACTIVE" and row["stripe_subscription_id"] else None


@dataclass
class OfTheDouble(Place):
    """With the double's own pages and clock; everything is told at once."""

    patience_s: float = 30
    pause_s: float = 0.01

    async def pay_page(self, url: str, card: str = "pm_card_visa") -> None:
        await self.double.pay(session_of(url), card=card)

    async def customers(self) -> dict:
        listed, books = await super().customers(), await House.customers(self)
        told = {key: {name: of[name] for name in SUMS} for key, of in books.items()}
        assert told == {key: of for key, of in listed.items() if of["charged"]}, "its books are its list of charges"
        return books


@dataclass
class Account:
    """An account at Stripe, seen over its API alone."""

    client: stripe.StripeClient

    @property
    def v1(self) -> Any:
        return self.client.v1


@asynccontextmanager
async def open_place_of_the_double(database, pg, double, catalog: str) -> AsyncIterator[Place]:
    async with open_house(database, pg, double, catalog, kind=OfTheDouble) as house:
        yield house


@asynccontextmanager
async def open_place_at_stripe(
    database, pg, key: str, catalog: str, *, base: str | None = None, **patience: float
) -> AsyncIterator[Place]:
    """`base`: a double in the place of Stripe; nothing else of it is used."""
    async with (
        open_shop(database, pg, catalog, time=RunningClock()) as counter,
        aiohttp.ClientSession() as session,
    ):
        address = {} if base is None else {"base_addresses": {"api": base}}
        account = Account(stripe.StripeClient(key, http_client=stripe.AIOHTTPClient(session=session), **address))
        link = StripeLink(Stripe(key, base=base), database, counter.billing.catalog, PUBLIC_URL)
        counter.billing = replace(counter.billing, payments=StripePayments(link), note_for=noting_for_system)
        place = Place(counter, account, link, pg, **patience)
        try:
            await sweep(link, force=True)
            await pg.execute("UPDATE inbox_events SET completed_at = now()")  # what was before is none of ours
            yield place
        finally:
            await _tidy_up(place)
            await link.stripe.aclose()


async def _tidy_up(place: Place) -> None:
    """No customer of ours is charged again, and nothing of ours is on sale, when the test is over."""
    for row in await place.pg.fetch("SELECT stripe_customer_id FROM workspaces WHERE stripe_customer_id IS NOT NULL"):
        await place.v1.customers.delete_async(row[0])
    for table in ("prices", "credit_packs"):
        for row in await place.pg.fetch(f"SELECT stripe_price_id FROM {table} WHERE stripe_price_id IS NOT NULL"):
            await place.v1.prices.update_async(row[0], {"active": False})
    for row in await place.pg.fetch("SELECT DISTINCT stripe_product_id FROM plans WHERE stripe_product_id IS NOT NULL"):
        await place.v1.products.update_async(row[0], {"active": False})
