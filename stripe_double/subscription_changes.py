"""What a change of a subscription comes to: its items, period and invoice lines, the same for preview and deed."""

from dataclasses import dataclass, replace

from stripe_double.errors import invalid
from stripe_double.invoice_lines import Line, date_text, period_line
from stripe_double.offered import only_offered
from stripe_double.periods import after, prorated
from stripe_double.products import price_given, product_name, require_recurring
from stripe_double.subscription_objects import items_of, period_of
from stripe_double.values import Json
from stripe_double.world import World


@dataclass(frozen=True, slots=True)
class NewItem:
    """An item as it will be; `id` None: it is added."""

    id: str | None
    price: Json
    quantity: int


@dataclass(frozen=True, slots=True)
class Change:
    """Items as they will be; prorations; and a new period with its lines where the cycle starts anew."""

    items: tuple[NewItem, ...]
    prorations: tuple[Line, ...]
    at: int
    period: tuple[int, int] | None = None
    period_lines: tuple[Line, ...] = ()
    ends_trial: bool = False


def compute(world: World, subscription: Json, params: Json) -> Change:
    """The change that update's (or a preview's) parameters ask for; ApiError 400 where they cannot be right."""
    if subscription["discounts"]:
        raise invalid("The double discounts renewals only.", code="double_not_offered", param="items")
    start, end = period_of(subscription)
    at: int = params.get("proration_date", world.now)
    if not start <= at <= end:
        raise invalid("Invalid proration_date: it must be within the current billing period.", param="proration_date")
    items = _items(world, subscription, params.get("items") or [])
    in_trial = subscription["status"] == "trialing"
    ends_trial = in_trial and params.get("trial_end") == "now"
    if in_trial and not ends_trial:
        return Change(items, (), at)
    recurring = items[0].price["recurring"]
    old = items_of(subscription)[0]["price"]["recurring"]
    anew = params.get("billing_cycle_anchor", {}).get("type") == "now" or ends_trial
    same_interval = (old["interval"], old["interval_count"]) == (recurring["interval"], recurring["interval_count"])
    resets = anew or not same_interval
    prorates = params.get("proration_behavior", "create_prorations") != "none" and not ends_trial
    changed = _changed(subscription, items, all_of_them=resets)
    lines = _prorations(world, subscription, changed, items, at, with_new=not resets) if prorates else ()
    if not resets:
        return Change(items, lines, at)
    period = at, after(at, recurring, 1)
    key: str = subscription["id"]
    whole = tuple(period_line(world, i.price, i.quantity, *period, subscription=key, item=i.id or "") for i in items)
    return Change(items, lines, at, period, whole, ends_trial)


def _items(world: World, subscription: Json, wanted: list[Json]) -> tuple[NewItem, ...]:
    known = {item["id"]: NewItem(item["id"], item["price"], item["quantity"]) for item in items_of(subscription)}
    added: list[NewItem] = []
    for position, change in enumerate(wanted):
        where = f"items[{position}]"
        only_offered(change, "id", "price", "price_data", "quantity", "deleted", where=where)
        key = change.get("id")
        price = _price(world, change, where)
        if key is None:
            if price is None:
                raise invalid("You must pass either an item id or a price.", code="parameter_missing", param=where)
            if any(item.price["id"] == price["id"] for item in (*known.values(), *added)):
                raise invalid(
                    f"An existing subscription item is already using that price. ({price['id']})", param=where
                )
            added.append(NewItem(None, price, change.get("quantity", 1)))
            continue
        if key not in known:
            raise invalid(f"No such subscription item: '{key}'", code="resource_missing", param=f"{where}[id]")
        if change.get("deleted"):
            del known[key]
            continue
        item = known[key]
        known[key] = replace(item, price=price or item.price, quantity=change.get("quantity", item.quantity))
    items = (*known.values(), *added)
    if not items:
        raise invalid("A subscription must have at least one active plan.", param="items")
    if len({(i.price["recurring"]["interval"], i.price["recurring"]["interval_count"]) for i in items}) > 1:
        raise invalid("The double keeps one billing interval per subscription.", param="items")
    return items


def _price(world: World, wanted: Json, where: str) -> Json | None:
    price = price_given(world, wanted, where=where)
    if price is not None:
        require_recurring(price, where=where)
    return price


def _changed(subscription: Json, items: tuple[NewItem, ...], *, all_of_them: bool) -> list[Json]:
    """The present items that end or change."""
    kept = {item.id: item for item in items}
    return [
        item
        for item in items_of(subscription)
        if all_of_them
        or (new := kept.get(item["id"])) is None
        or (new.price["id"], new.quantity) != (item["price"]["id"], item["quantity"])
    ]


def _prorations(
    world: World, subscription: Json, old: list[Json], items: tuple[NewItem, ...], at: int, *, with_new: bool
) -> tuple[Line, ...]:
    start, end = period_of(subscription)
    key: str = subscription["id"]
    lines = [
        Line(
            -prorated(item["price"]["unit_amount"] * item["quantity"], start, end, at),
            f"Unused time on {product_name(world, item['price'])} after {date_text(at)}",
            at,
            end,
            item["price"],
            item["quantity"],
            proration=True,
            subscription=key,
            item=item["id"],
        )
        for item in old
        if item["price"]["unit_amount"]
    ]
    gone = {item["id"] for item in old}
    for new in items if with_new else ():
        if new.id is None or new.id in gone:
            amount = prorated(new.price["unit_amount"] * new.quantity, start, end, at)
            text = f"Remaining time on {product_name(world, new.price)} after {date_text(at)}"
            item = new.id or ""
            lines.append(
                Line(amount, text, at, end, new.price, new.quantity, proration=True, subscription=key, item=item)
            )
    return tuple(lines)
