"""Pages of payments outside Checkout: the holder's confirmation, the hosted invoice, its PDF."""

from html import escape
from urllib.parse import urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from stripe_double.consequences import after_intent, after_invoice
from stripe_double.errors import ApiError
from stripe_double.invoice_payments import collect
from stripe_double.invoice_pdf import invoice_pdf
from stripe_double.page_html import button, card_chooser, error, form_of, money, page, see, table
from stripe_double.payment_intents import authenticate
from stripe_double.payment_methods import resolve, saved_methods
from stripe_double.setup_intents import authenticate_setup
from stripe_double.values import Json
from stripe_double.world import World


async def confirmation(world: World, request: Request) -> Response:
    """The page of an intent's next action; afterwards the holder goes to the return address."""
    key: str = request.path_params["id"]
    intent = world.get("setup_intent" if key.startswith("seti") else "payment_intent", key)
    back: str | None = world.note(key).get("return_url")
    if intent["status"] != "requires_action":
        return page("3-D Secure", f"<p>There is nothing to confirm: it is {escape(intent['status'])}.</p>", status=410)
    if request.method == "GET":
        return page(
            "3-D Secure",
            "<p>The bank asks the card's holder to confirm.</p>",
            "" if intent["object"] == "setup_intent" else f"<p>{money(intent['amount'])}</p>",
            button("Complete", {"holder": "confirmed"}, primary=True),
            button("Fail", {"holder": "failed"}),
            leads_to=[back],
        )
    success = (await form_of(request)).get("holder") == "confirmed"
    if intent["object"] == "setup_intent":
        failure = authenticate_setup(world, intent, success=success)
    else:
        failure = authenticate(world, intent, success=success)
        after_intent(world, intent, failure)
    if back is None:
        return page("3-D Secure", error(failure.message) if failure else "<p>Confirmed. You can close this page.</p>")
    told = {intent["object"]: key, f"{intent['object']}_client_secret": intent["client_secret"]}
    told["redirect_status"] = "failed" if failure else "succeeded"
    return see(f"{back}{'&' if urlsplit(back).query else '?'}{urlencode(told)}")


async def hosted_invoice(world: World, request: Request) -> Response:
    """GET shows an invoice, POST pays it or confirms its payment."""
    invoice = world.get("invoice", request.path_params["id"])
    problem: str | None = None
    if request.method == "POST" and invoice["status"] == "open":
        problem = _pay(world, invoice, await form_of(request))
    rows = [(escape(line["description"]), money(line["amount"])) for line in invoice["lines"]["data"]]
    rows += [
        ("<strong>Total</strong>", f"<strong>{money(invoice['total'])}</strong>"),
        ("Amount due", money(invoice["amount_remaining"])),
        ("Status", f'<span id="status">{escape(invoice["status"])}</span>'),
    ]
    parts = [error(problem), table(rows), f'<p><a href="/invoices/{escape(invoice["id"])}/pdf">PDF</a></p>']
    if invoice["status"] == "open":
        if _asks_holder(world, invoice):
            parts += ["<p>The bank asks the card's holder to confirm.</p>"]
            parts += [button("Complete", {"holder": "confirmed"}, primary=True), button("Fail", {"holder": "failed"})]
        else:
            chooser = card_chooser(saved_methods(world, invoice["customer"]))
            parts.append(f'<form method="post">{chooser}<button id="submit">Pay</button></form>')
    return page(f"Invoice {invoice['number'] or ''}", *parts, status=402 if problem else 200)


def _intent(world: World, invoice: Json) -> Json | None:
    for payment in invoice["payments"]["data"]:
        if payment["status"] == "open":
            return world.get("payment_intent", payment["payment"]["payment_intent"])
    return None


def _asks_holder(world: World, invoice: Json) -> bool:
    intent = _intent(world, invoice)
    return intent is not None and intent["status"] == "requires_action"


def _pay(world: World, invoice: Json, fields: dict[str, str]) -> str | None:
    intent = _intent(world, invoice)
    try:
        if intent is not None and intent["status"] == "requires_action" and "holder" in fields:
            failure = authenticate(world, intent, success=fields["holder"] == "confirmed")
            after_intent(world, intent, failure)
        else:
            outcome, failure = collect(world, invoice, method=resolve(world, fields.get("card", "")), off_session=False)
            after_invoice(world, invoice, outcome)
    except ApiError as refusal:
        return refusal.message
    return failure.message if failure is not None else None


async def pdf(world: World, request: Request) -> Response:
    """The invoice as a document."""
    invoice = world.get("invoice", request.path_params["id"])
    headers = {"Content-Disposition": f'inline; filename="invoice-{invoice["number"] or "draft"}.pdf"'}
    return Response(invoice_pdf(invoice), headers=headers, media_type="application/pdf")
