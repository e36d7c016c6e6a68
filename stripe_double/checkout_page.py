"""The page of a Checkout session, with the holder's confirmation where a card asks for it."""

from html import escape

from starlette.requests import Request
from starlette.responses import Response

from stripe_double.checkout_pay import HolderNeeded, pay
from stripe_double.errors import ApiError
from stripe_double.page_html import button, card_chooser, error, form_of, money, page, see, table, tax_id_fields
from stripe_double.payment_methods import saved_methods
from stripe_double.values import Json, part
from stripe_double.world import World

_TITLES = {"payment": "Pay", "subscription": "Subscribe", "setup": "Save a payment method"}


async def checkout(world: World, request: Request) -> Response:
    """GET shows it, POST pays."""
    session = world.get("checkout.session", request.path_params["id"])
    if session["status"] != "open":
        return page("Checkout", f"<p>This session is {escape(session['status'])}.</p>", status=410)
    if request.method == "GET":
        return _shown(world, session)
    fields = await form_of(request)
    card, email = fields.get("card", ""), fields.get("email") or None
    if fields.get("holder") == "failed":
        return _shown(world, session, "We are unable to authenticate your payment method. Please choose another.")
    try:
        pay(
            world,
            session,
            card,
            authenticated=fields.get("holder") == "confirmed",
            email=email,
            tax_id={"type": fields.get("tax_type", ""), "value": fields["tax_value"]}
            if fields.get("tax_value")
            else None,
        )
    except HolderNeeded:
        return _ask_holder(session, fields)
    except ApiError as refusal:
        return _shown(world, session, refusal.message)
    return see(success_url(session))


def success_url(session: Json) -> str:
    """Where the customer goes, with the session's id where the address asks for it."""
    return str(session["success_url"]).replace("{CHECKOUT_SESSION_ID}", session["id"])


def _shown(world: World, session: Json, problem: str | None = None) -> Response:
    rows = [
        (f"{escape(line['description'])} × {line['quantity']}", money(line["amount_total"]))
        for line in session["line_items"]["data"]
    ]
    if session["amount_total"] is not None:
        rows.append(("<strong>Total</strong>", f"<strong>{money(session['amount_total'])}</strong>"))
    known = session["customer"]
    email = session["customer_email"] or ""
    ask = (
        f'<label>Email<input type="email" name="email" required value="{escape(email)}"></label>'
        if known is None
        else ""
    )
    saved = saved_methods(world, known) if known is not None and session["mode"] != "setup" else []
    back = f'<p><a id="cancel" href="{escape(session["cancel_url"])}">Go back</a></p>' if session["cancel_url"] else ""
    title = _TITLES[session["mode"]]
    tax = tax_id_fields() if part(session, "tax_id_collection").get("enabled") else ""
    form = f'<form method="post">{ask}{tax}{card_chooser(saved)}<button id="submit">{escape(title)}</button></form>'
    leads = [session["success_url"], session["cancel_url"]]
    return page(title, error(problem), table(rows), form, back, leads_to=leads, status=402 if problem else 200)


def _ask_holder(session: Json, fields: dict[str, str]) -> Response:
    kept = {name: value for name, value in fields.items() if name in {"card", "email", "tax_type", "tax_value"}}
    return page(
        "3-D Secure",
        "<p>The bank asks the card's holder to confirm.</p>",
        button("Complete", {"holder": "confirmed", **kept}, primary=True),
        button("Fail", {"holder": "failed", **kept}),
        leads_to=[session["success_url"]],
    )
