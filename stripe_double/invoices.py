"""Invoices: drafted from lines, finalized, void; their totals and the customer's balance they draw on."""

from stripe_double.coupons import take_off
from stripe_double.customers import change_balance
from stripe_double.errors import invalid
from stripe_double.invoice_lines import Line, line_object
from stripe_double.values import LIVEMODE, Json, listed
from stripe_double.world import World

LEAST_CHARGE = 50
"""Less than this is not charged but added to the customer's balance, in cents."""


def draft(
    world: World,
    customer: Json,
    lines: list[Line],
    *,
    reason: str,
    subscription: Json | None = None,
    period: tuple[int, int] | None = None,
    preview: bool = False,
    draws_on_balance: bool = True,
    **more: object,
) -> Json:
    """A draft invoice; a preview is neither kept nor told of. `more`: further fields as they are."""
    key = world.new_id("upcoming_in" if preview else "in")
    start, end = period or (world.now, world.now)
    currency = customer["currency"] or "usd"
    objects = [line_object(world, line, key, currency) for line in lines]
    for made in objects:
        made["metadata"] = dict(subscription["metadata"]) if subscription is not None and made["subscription"] else {}
    invoice: Json = {
        **_blank(world, customer, key, currency),
        "billing_reason": reason,
        "lines": listed(f"/v1/invoices/{key}/lines", objects),
        "payments": listed("/v1/invoice_payments", []),
        "confirmation_secret": None,
        "parent": _parent(subscription),
        "period_start": start,
        "period_end": end,
        **more,
    }
    if subscription is not None:
        take_off(invoice, subscription["discounts"])
    _total(invoice, customer["balance"] if draws_on_balance else 0)
    if not preview:
        customer["currency"] = currency
        world.add(invoice)
        world.emit("invoice.created", invoice)
    return invoice


def add_lines(world: World, invoice: Json, lines: list[Json]) -> None:
    """Further lines of a draft."""
    invoice["lines"]["data"].extend(lines)
    _total(invoice, world.get("customer", invoice["customer"])["balance"])


def _parent(subscription: Json | None) -> Json | None:
    if subscription is None:
        return None
    details = {
        "metadata": dict(subscription["metadata"]),
        "subscription": subscription["id"],
        "subscription_proration_date": None,
    }
    return {"type": "subscription_details", "quote_details": None, "subscription_details": details}


_EMPTY = [
    "account_tax_ids",
    "application",
    "automatically_finalizes_at",
    "custom_fields",
    "customer_account",
    "customer_address",
    "customer_phone",
    "customer_shipping",
    "default_payment_method",
    "default_source",
    "description",
    "due_date",
    "effective_at",
    "ending_balance",
    "footer",
    "from_invoice",
    "hosted_invoice_url",
    "invoice_pdf",
    "last_finalization_error",
    "latest_revision",
    "next_payment_attempt",
    "number",
    "on_behalf_of",
    "receipt_number",
    "rendering",
    "shipping_cost",
    "shipping_details",
    "statement_descriptor",
    "test_clock",
    "webhooks_delivered_at",
    "subtotal_excluding_tax",
    "total_excluding_tax",
]
"""Fields that are null in a new one."""


def _blank(world: World, customer: Json, key: str, currency: str) -> Json:
    zero = ("amount_due", "amount_overpaid", "amount_paid", "amount_remaining", "amount_shipping", "attempt_count")
    zero += (
        "post_payment_credit_notes_amount",
        "pre_payment_credit_notes_amount",
        "starting_balance",
        "subtotal",
        "total",
    )
    return {
        "id": key,
        "object": "invoice",
        **dict.fromkeys(zero, 0),
        **dict.fromkeys(_EMPTY),
        "account_country": "US",
        "account_name": "Tollgate double",
        "attempted": False,
        "auto_advance": True,
        "automatic_tax": {
            "disabled_reason": None,
            "enabled": False,
            "liability": None,
            "provider": None,
            "status": None,
        },
        "collection_method": "charge_automatically",
        "created": world.now,
        "currency": currency,
        "customer": customer["id"],
        "customer_address": customer["address"],
        "customer_email": customer["email"],
        "customer_name": customer["name"],
        "customer_phone": customer["phone"],
        "customer_tax_exempt": customer["tax_exempt"],
        "customer_tax_ids": [{"type": t["type"], "value": t["value"]} for t in customer["tax_ids"]["data"]],
        "default_tax_rates": [],
        "discounts": [],
        "issuer": {"type": "self"},
        "livemode": LIVEMODE,
        "metadata": {},
        "payment_settings": {"default_mandate": None, "payment_method_options": None, "payment_method_types": None},
        "status": "draft",
        "status_transitions": {
            "finalized_at": None,
            "marked_uncollectible_at": None,
            "paid_at": None,
            "voided_at": None,
        },
        "total_discount_amounts": [],
        "total_pretax_credit_amounts": [],
        "total_taxes": [],
    }


def _total(invoice: Json, balance: int) -> None:
    """Sum up; `balance` is the customer's (negative: credit), which the amount due takes into account."""
    subtotal = sum(line["amount"] for line in invoice["lines"]["data"])
    total = subtotal - sum(taken["amount"] for taken in invoice["total_discount_amounts"])
    due, ending = balance_applied(total, balance)
    invoice.update(
        subtotal=subtotal,
        subtotal_excluding_tax=subtotal,
        total=total,
        total_excluding_tax=total,
        starting_balance=balance,
        amount_due=due,
        amount_remaining=due,
    )
    if invoice["status"] != "draft":
        invoice["ending_balance"] = ending


def balance_applied(total: int, balance: int) -> tuple[int, int]:
    """What is to be charged now, and the balance after: credit is used first, too little to charge is carried on."""
    due = total + balance
    if due < LEAST_CHARGE:
        return 0, due
    return due, 0


def finalize(world: World, invoice: Json, *, draws_on_balance: bool = True) -> None:
    """From draft to open: it has a number and links now, and has drawn on the customer's balance."""
    if invoice["status"] != "draft":
        raise invalid("This invoice is already finalized, you can't re-finalize a non-draft invoice.")
    customer = world.get("customer", invoice["customer"])
    key: str = invoice["id"]
    number: int = customer["next_invoice_sequence"]
    customer["next_invoice_sequence"] = number + 1
    invoice["status"] = "open"
    invoice["number"] = f"{customer['invoice_prefix']}-{number:04d}"
    invoice["hosted_invoice_url"] = f"{world.base_url}/invoices/{key}"
    invoice["invoice_pdf"] = f"{world.base_url}/invoices/{key}/pdf"
    invoice["effective_at"] = world.now
    invoice["status_transitions"] = {**invoice["status_transitions"], "finalized_at": world.now}
    invoice["customer_tax_ids"] = [{"type": t["type"], "value": t["value"]} for t in customer["tax_ids"]["data"]]
    _total(invoice, customer["balance"] if draws_on_balance else 0)
    if draws_on_balance and invoice["ending_balance"] != customer["balance"]:
        change_balance(
            world, customer, invoice["ending_balance"] - customer["balance"], "applied_to_invoice", invoice=key
        )
    world.emit("invoice.finalized", invoice)


def mark_paid(world: World, invoice: Json) -> None:
    """It is settled; nothing remains."""
    invoice["status"], invoice["auto_advance"], invoice["attempted"] = "paid", False, True
    invoice["amount_paid"], invoice["amount_remaining"] = invoice["amount_due"], 0
    invoice["next_payment_attempt"] = None
    invoice["status_transitions"] = {**invoice["status_transitions"], "paid_at": world.now}
    world.emit("invoice.paid", invoice)
    world.emit("invoice.payment_succeeded", invoice)


def void(world: World, invoice: Json) -> None:
    """It will never be paid, as if it had not been."""
    if invoice["status"] not in {"open", "uncollectible"}:
        raise invalid(f"You can only void open or uncollectible invoices. This invoice is {invoice['status']}.")
    taken: int = (invoice["ending_balance"] or 0) - invoice["starting_balance"]
    if taken:
        customer = world.get("customer", invoice["customer"])
        change_balance(world, customer, -taken, "unapplied_from_invoice", invoice=invoice["id"])
    invoice["status"], invoice["auto_advance"], invoice["next_payment_attempt"] = "void", False, None
    invoice["status_transitions"] = {**invoice["status_transitions"], "voided_at": world.now}
    world.emit("invoice.voided", invoice)


def subscription_of(invoice: Json) -> str | None:
    """The subscription it bills."""
    return invoice["parent"]["subscription_details"]["subscription"] if invoice["parent"] else None
