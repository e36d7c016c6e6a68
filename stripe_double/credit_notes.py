"""Credit notes: what was invoiced is taken back, to the card, to the balance, or by other means."""

from stripe_double.customers import change_balance
from stripe_double.endpoint import PAGE, Call, Endpoint, matching, page
from stripe_double.errors import invalid
from stripe_double.refunds import charge_of, make_refund
from stripe_double.values import LIVEMODE, Json, listed, part
from stripe_double.world import World

_OFFERED = (
    "invoice",
    "amount",
    "lines",
    "credit_amount",
    "refund_amount",
    "refunds",
    "out_of_band_amount",
    "reason",
    "memo",
    "metadata",
    "email_type",
)


def _create(call: Call) -> Json:
    world, params = call.world, call.params
    invoice = world.get("invoice", params["invoice"], param="invoice")
    if invoice["status"] not in {"open", "paid"}:
        raise invalid(f"Credit notes can only be created for open or paid invoices; this one is {invoice['status']}.")
    wanted = _note_lines(world, invoice, params)
    amount = sum(line["amount"] for line in wanted)
    credited = invoice["pre_payment_credit_notes_amount"] + invoice["post_payment_credit_notes_amount"]
    if not 0 < amount <= invoice["total"] - credited:
        raise invalid("The sum of credit amount, refund amount and out of band amount must not exceed the amount left of"
                      " the invoice.", param="amount")  # fmt: skip
    paid = invoice["status"] == "paid"
    refunds = _note_refunds(world, invoice, params) if paid else []
    refunded = sum(r["amount_refunded"] for r in refunds)
    credit: int = params.get("credit_amount", 0)
    outside: int = params.get("out_of_band_amount", 0)
    if paid and refunded + credit + outside != amount:
        raise invalid(
            "The sum of credit_amount, refund_amount and out_of_band_amount must equal the credit note amount."
        )
    customer = world.get("customer", invoice["customer"])
    balance = change_balance(world, customer, -credit, "credit_note", invoice=invoice["id"])["id"] if credit else None
    note = _note(world, invoice, params, wanted, amount)
    note.update(customer_balance_transaction=balance, refunds=refunds, out_of_band_amount=outside or None)
    with world.changing(invoice, "invoice.updated"):
        if paid:
            invoice["post_payment_credit_notes_amount"] += amount
        else:
            invoice["pre_payment_credit_notes_amount"] += amount
            invoice["amount_due"] -= amount
            invoice["amount_remaining"] -= amount
    world.add(note)
    world.emit("credit_note.created", note)
    return note


def _note_lines(world: World, invoice: Json, params: Json) -> list[Json]:
    if "lines" in params:
        return [_note_line(world, invoice, wanted) for wanted in params["lines"]]
    if "amount" not in params:
        raise invalid("You must specify either amount or lines.", code="parameter_missing", param="amount")
    return [
        _note_line(world, invoice, {"type": "custom_line_item", "amount": params["amount"], "description": "Credit"})
    ]


def _note_line(world: World, invoice: Json, wanted: Json) -> Json:
    key = wanted.get("invoice_line_item")
    line = next((one for one in invoice["lines"]["data"] if one["id"] == key), None)
    if key is not None and line is None:
        raise invalid(f"No such invoice line item: '{key}'", code="resource_missing", param="lines")
    quantity = wanted.get("quantity")
    amount = wanted.get("amount", (wanted.get("unit_amount") or 0) * (quantity or 1))
    if line is not None and "amount" not in wanted:
        amount = line["amount"] * (quantity or line["quantity"]) // line["quantity"]
    return {
        "id": world.new_id("cnli"),
        "object": "credit_note_line_item",
        "amount": amount,
        "description": wanted.get("description") or (line["description"] if line else None),
        "discount_amount": 0,
        "discount_amounts": [],
        "invoice_line_item": key,
        "livemode": LIVEMODE,
        "metadata": {},
        "pretax_credit_amounts": [],
        "quantity": quantity,
        "tax_rates": [],
        "taxes": [],
        "type": wanted["type"],
        "unit_amount": wanted.get("unit_amount"),
        "unit_amount_decimal": None,
    }


def _note_refunds(world: World, invoice: Json, params: Json) -> list[Json]:
    given: list[Json] = params.get("refunds") or []
    refunds: list[Json] = [
        {"refund": world.get("refund", r["refund"], param="refunds")["id"], "type": "refund",
         "payment_record_refund": None, "amount_refunded": r.get("amount_refunded", 0)}
        for r in given
    ]  # fmt: skip
    if (amount := params.get("refund_amount")) is None:
        return refunds
    intents = [p["payment"]["payment_intent"] for p in invoice["payments"]["data"] if p["status"] == "paid"]
    if not intents:
        raise invalid("This invoice was not paid by a payment that can be refunded.", param="refund_amount")
    charge = charge_of(world, {"payment_intent": intents[0]})
    made = make_refund(world, charge, amount, reason=None, metadata={})
    return [
        *refunds,
        {"refund": made["id"], "type": "refund", "payment_record_refund": None, "amount_refunded": amount},
    ]


def _note(world: World, invoice: Json, params: Json, lines: list[Json], amount: int) -> Json:
    key = world.new_id("cn")
    paid = invoice["status"] == "paid"
    number = sum(1 for other in world.all("credit_note") if other["invoice"] == invoice["id"]) + 1
    return {
        "id": key,
        "object": "credit_note",
        "amount": amount,
        "amount_shipping": 0,
        "created": world.now,
        "currency": invoice["currency"],
        "customer": invoice["customer"],
        "customer_account": None,
        "customer_balance_transaction": None,
        "discount_amount": 0,
        "discount_amounts": [],
        "effective_at": world.now,
        "invoice": invoice["id"],
        "lines": listed(f"/v1/credit_notes/{key}/lines", lines),
        "livemode": LIVEMODE,
        "memo": params.get("memo"),
        "metadata": part(params, "metadata"),
        "number": f"{invoice['number']}-CN-{number:02d}",
        "pdf": f"{world.base_url}/invoices/{invoice['id']}/pdf",
        "post_payment_amount": amount if paid else 0,
        "pre_payment_amount": 0 if paid else amount,
        "pretax_credit_amounts": [],
        "reason": params.get("reason"),
        "refunds": [],
        "shipping_cost": None,
        "status": "issued",
        "subtotal": amount,
        "subtotal_excluding_tax": amount,
        "total": amount,
        "total_excluding_tax": amount,
        "total_taxes": [],
        "type": "post_payment" if paid else "pre_payment",
        "voided_at": None,
    }


def _list(call: Call) -> Json:
    return page(call, matching(call.world.all("credit_note"), call.params, "customer", "invoice"))


ENDPOINTS = (
    Endpoint("POST", "/v1/credit_notes", "CreditNoteCreateParams", _create, _OFFERED),
    Endpoint("GET", "/v1/credit_notes", "CreditNoteListParams", _list, (*PAGE, "customer", "invoice")),
    Endpoint(
        "GET",
        "/v1/credit_notes/{id}",
        "CreditNoteRetrieveParams",
        lambda call: call.world.get("credit_note", call.id),
        (),
    ),
)
