"""Makes Stripe's products and prices for what the catalog sells, once each, and finds ours by theirs."""

from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from billing.catalog import Snapshot
from billing.rules.stripe_values import cents_of, required_id, text
from billing.stripe_client import StripeJson, StripeRefused
from billing.stripe_link import StripeLink
from billing.views import PackView, PlanView, PriceView
from models.database import connection
from models.enums import PricePeriod

Interval = Literal["day", "month", "year"]
_EVERY: Final[dict[PricePeriod, tuple[Interval, int]]] = {
    PricePeriod.DAYS_30: ("day", 30),
    PricePeriod.MONTH: ("month", 1),
    PricePeriod.YEAR: ("year", 1),
}
RECURRING: Final = frozenset(_EVERY)
"""Periods that Stripe charges by itself; a lifetime is paid once, a free price is none of Stripe's business."""

_PRODUCT_OF_CODE: Final = """SELECT stripe_product_id FROM plans WHERE code = $1 AND workspace_id IS NOT DISTINCT FROM $2
    AND stripe_product_id IS NOT NULL ORDER BY version DESC LIMIT 1"""
_SAVE_PRODUCT: Final = "UPDATE plans SET stripe_product_id = $2 WHERE id = $1"
_SAVE_PRICE: Final = "UPDATE prices SET stripe_price_id = $2 WHERE id = $1"
_SAVE_PACK: Final = "UPDATE credit_packs SET stripe_price_id = $2 WHERE id = $1"


@dataclass(frozen=True, slots=True)
class PriceLine:
    """A price, or the name or description of a product. `sign`: + to be made, ~ to be changed, a blank: it is so already."""

    sign: Literal["+", "~", " "]
    text: str


@dataclass(frozen=True, slots=True)
class _Product:
    """A product that is at Stripe, as the catalog tells of it."""

    id: str
    of: str
    name: str
    description: str


async def price_id_of(link: StripeLink, price_id: UUID) -> str:
    """Stripe's price for one of ours, made with its product where it is missing. Raises StripeAway, StripeRefused."""
    snapshot = link.catalog.current
    if price_id not in snapshot.prices_by_id:
        snapshot = await link.catalog.reload()
    price = snapshot.prices_by_id[price_id]
    async with connection(link.database) as conn:
        stored: str | None = await conn.fetchval("SELECT stripe_price_id FROM prices WHERE id = $1", price_id)
    if stored is not None:
        return stored
    product = await _product_of(link, snapshot.plans_by_id[price.plan_id])
    made = await _price(link, product, str(price.id), price.amount_usd_micro, price.period)
    async with connection(link.database) as conn:
        await conn.execute(_SAVE_PRICE, price.id, made)
    return made


async def pack_price_id_of(link: StripeLink, pack: PackView) -> str:
    """Stripe's price for a pack, made with its product where it is missing. Raises StripeAway, StripeRefused."""
    async with connection(link.database) as conn:
        stored: str | None = await conn.fetchval("SELECT stripe_price_id FROM credit_packs WHERE id = $1", pack.id)
    if stored is not None:
        return stored
    product = await _make_product(link, _pack_product(pack), pack.name, None, pack.code)
    made = await _price(link, product, str(pack.id), pack.price_usd_micro, PricePeriod.LIFETIME)
    async with connection(link.database) as conn:
        await conn.execute(_SAVE_PACK, pack.id, made)
    return made


def interval_of(period: PricePeriod) -> tuple[Interval, int]:
    """Stripe's words for a period that recurs."""
    return _EVERY[period]


async def our_price(link: StripeLink, stripe_price_id: str | None) -> UUID | None:
    """The price of ours that one of Stripe's was made for."""
    if stripe_price_id is None:
        return None
    async with connection(link.database) as conn:
        return await conn.fetchval("SELECT id FROM prices WHERE stripe_price_id = $1", stripe_price_id)


async def difference(link: StripeLink) -> list[PriceLine]:
    """What `tell_catalog` would make and change at Stripe now, and what is so. Raises StripeAway, StripeRefused."""
    snapshot = await link.catalog.reload()
    lines = [
        PriceLine("+" if price.stripe_price_id is None else " ", f"price {plan.code}.{price.code}")
        for plan, price in _sold(snapshot)
    ]
    lines += [PriceLine("+" if pack.stripe_price_id is None else " ", f"pack {pack.code}") for pack in _packs(snapshot)]
    for product in await _products(link, snapshot):
        changes = await _changes(link, product)
        lines += [PriceLine("~", f"{name} of {product.of}: {old} → {new}") for name, (old, new) in changes.items()]
    return lines


async def tell_catalog(link: StripeLink) -> list[PriceLine]:
    """Make what is missing at Stripe, describe its products as the catalog does now; what was done, line by line.

    Prices that are sold no more stay as they are: subscriptions run on them. Repeatable. Raises StripeAway,
    StripeRefused.
    """
    lines = [line for line in await difference(link) if line.sign != " "]
    snapshot = link.catalog.current
    for _, price in _sold(snapshot):
        await price_id_of(link, price.id)
    for pack in _packs(snapshot):
        await pack_price_id_of(link, pack)
    for product in await _products(link, snapshot):
        if await _changes(link, product):
            await _describe(link, product)
    await link.catalog.reload()
    return lines


async def _products(link: StripeLink, snapshot: Snapshot) -> list[_Product]:
    """Of the plans and packs that are sold, those which Stripe has."""
    plans = {plan.id: plan for plan, _ in _sold(snapshot)}.values()
    made = [(plan, await _known_product(link, plan)) for plan in plans]
    return [
        _Product(product, f"plan {plan.code}", plan.name, plan.description or "")
        for plan, product in made
        if product is not None
    ] + [
        _Product(_pack_product(pack), f"pack {pack.code}", pack.name, "")
        for pack in _packs(snapshot)
        if pack.stripe_price_id is not None
    ]


async def _changes(link: StripeLink, product: _Product) -> dict[str, tuple[str, str]]:
    """What of it stands otherwise at Stripe: as it is there, and here."""
    found = await link.stripe.call(lambda v1: v1.products.retrieve_async(product.id))
    wanted = {"name": product.name, "description": product.description}
    return {name: (text(found, name) or "", new) for name, new in wanted.items() if (text(found, name) or "") != new}


async def _describe(link: StripeLink, product: _Product) -> None:
    await link.stripe.call(
        lambda v1: v1.products.update_async(product.id, {"name": product.name, "description": product.description})
    )


def _sold(snapshot: Snapshot) -> list[tuple[PlanView, PriceView]]:
    return [
        (plan, price)
        for plan in snapshot.plans_by_id.values()
        if not plan.retired
        for price in plan.prices
        if not price.retired and price.period is not PricePeriod.FREE
    ]


def _packs(snapshot: Snapshot) -> list[PackView]:
    return [pack for pack in snapshot.packs_by_code.values() if not pack.retired]


async def _known_product(link: StripeLink, plan: PlanView) -> str | None:
    async with connection(link.database) as conn:
        return await conn.fetchval(_PRODUCT_OF_CODE, plan.code, plan.workspace_id)


def _pack_product(pack: PackView) -> str:
    return f"tollgate-pack-{pack.id}"


async def _product_of(link: StripeLink, plan: PlanView) -> str:
    """One product for all versions of a plan."""
    product = await _known_product(link, plan)
    if product is None:
        product = await _make_product(link, f"tollgate-plan-{plan.id}", plan.name, plan.description, plan.code)
    async with connection(link.database) as conn:
        await conn.execute(_SAVE_PRODUCT, plan.id, product)
    return product


async def _make_product(link: StripeLink, product_id: str, name: str, description: str | None, code: str) -> str:
    """Under an id of ours, so that a repeat after a lost answer meets what it made."""
    try:
        await link.stripe.call(
            lambda v1: v1.products.create_async(
                {"id": product_id, "name": name, "metadata": {"code": code}}
                if description is None
                else {"id": product_id, "name": name, "description": description, "metadata": {"code": code}}
            )
        )
    except StripeRefused as refused:
        if refused.code != "resource_already_exists":
            raise
    return product_id


async def _price(link: StripeLink, product: str, lookup_key: str, amount_usd_micro: int, period: PricePeriod) -> str:
    """By its lookup key where it is made already; Stripe's prices never change, nor do ours."""
    found: list[StripeJson] = await link.stripe.pages(lambda v1: v1.prices.list_async({"lookup_keys": [lookup_key]}))
    if found:
        return required_id(found[0])
    every = _EVERY.get(period)
    made = await link.stripe.call(
        lambda v1: v1.prices.create_async(
            {
                "product": product,
                "currency": "usd",
                "unit_amount": cents_of(amount_usd_micro),
                "lookup_key": lookup_key,
                "metadata": {"tollgate_id": lookup_key},
            }
            if every is None
            else {
                "product": product,
                "currency": "usd",
                "unit_amount": cents_of(amount_usd_micro),
                "recurring": {"interval": every[0], "interval_count": every[1]},
                "lookup_key": lookup_key,
                "metadata": {"tollgate_id": lookup_key},
            },
            {"idempotency_key": f"price:{lookup_key}"},
        )
    )
    return required_id(made)
