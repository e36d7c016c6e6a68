"""Pays an open Checkout session with a method, as its page or the control endpoint says."""

from stripe_double.cards import BY_TOKEN
from stripe_double.checkout_end import complete
from stripe_double.customers import add_tax_id, get_customer, make_customer
from stripe_double.errors import ApiError, invalid
from stripe_double.invoice_lines import one_time_line
from stripe_double.invoice_payments import credit_payment
from stripe_double.invoices import draft, finalize
from stripe_double.payment_intents import attempt, make_intent, set_up
from stripe_double.payment_methods import attach, behaviour_of, make_method
from stripe_double.setup_intents import confirm_setup, make_setup
from stripe_double.subscription_creation import create
from stripe_double.values import Json, part
from stripe_double.world import World


class HolderNeeded(Exception):
    """The card's holder has to confirm first; pay again with `authenticated`."""


def pay(
    world: World,
    session: Json,
    token: str,
    *,
    authenticated: bool = False,
    email: str | None = None,
    tax_id: Json | None = None,
) -> None:
    """Pay with a test token or one of the customer's saved methods. `tax_id`: type and value, where the session collects it.

    Raises ApiError 402 where it is declined (the session stays open), HolderNeeded where its holder has to confirm.
    """
    if session["status"] != "open":
        raise invalid(f"This Checkout Session is {session['status']}.")
    saved = token not in BY_TOKEN
    method = world.get("payment_method", token) if saved else make_method(world, token, billing={"email": email})
    if method["type"] not in session["payment_method_types"]:
        raise invalid(f"This session does not take {method['type']}.", param="card")
    if saved and method["customer"] != session["customer"]:
        raise invalid("This payment method is another customer's.", param="card")
    needed = behaviour_of(world, method).authentication
    if needed != "never" and not authenticated and (session["mode"] == "setup" or session["amount_total"] > 0):
        raise HolderNeeded
    if email is not None and session["customer"] is None:
        session["customer_details"] = {**part(session, "customer_details"), "email": email}
    if tax_id is not None:
        if not part(session, "tax_id_collection").get("enabled"):
            raise invalid("This session collects no tax ids.", param="tax_id")
        customer = _customer(world, session)
        if not any(known["value"] == tax_id["value"] for known in customer["tax_ids"]["data"]):
            add_tax_id(world, customer, tax_id)
    match session["mode"]:
        case "payment":
            _pay_once(world, session, method, authenticated=authenticated)
        case "subscription":
            _subscribe(world, session, method, authenticated=authenticated)
        case _:
            _save(world, session, method, authenticated=authenticated)


def _params(world: World, session: Json, name: str) -> Json:
    given: Json = world.note(session["id"])["params"].get(name) or {}
    return given


def _customer(world: World, session: Json) -> Json:
    if session["customer"] is None:
        email = part(session, "customer_details").get("email") or session["customer_email"]
        session["customer"] = make_customer(world, {"email": email} if email else {})["id"]
    return get_customer(world, session["customer"])


def _pay_once(world: World, session: Json, method: Json, *, authenticated: bool) -> None:
    data = _params(world, session, "payment_intent_data")
    invoices = part(session, "invoice_creation").get("enabled", False)
    if (
        session["customer"] is not None
        or invoices
        or session["customer_creation"] == "always"
        or "setup_future_usage" in data
    ):
        _customer(world, session)
    total: int = session["amount_total"]
    if total == 0:
        complete(world, session, "no_payment_required")
        return
    if session["payment_intent"] is None:
        wanted = {
            **data,
            "amount": total,
            "currency": session["currency"],
            "customer": session["customer"],
            "payment_method_options": session["payment_method_options"],
        }
        intent = make_intent(world, wanted)
        world.note(intent["id"])["session"] = session["id"]
        session["payment_intent"] = intent["id"]
    intent = world.get("payment_intent", session["payment_intent"])
    failure = attempt(world, intent, method, off_session=False, authenticated=authenticated)
    if failure is not None:
        raise failure
    if intent["status"] == "succeeded":
        if invoices:
            _invoice(world, session, intent)
        complete(world, session, "paid")
    else:
        complete(world, session, "unpaid")


def _invoice(world: World, session: Json, intent: Json) -> None:
    """The invoice of a payment that has been made."""
    customer = get_customer(world, session["customer"])
    lines = [one_time_line(world, line["price"], line["quantity"]) for line in session["line_items"]["data"]]
    data = session["invoice_creation"]["invoice_data"]
    more = {name: data[name] for name in ("description", "footer", "custom_fields") if data.get(name)}
    invoice = draft(
        world, customer, lines, reason="manual", draws_on_balance=False, metadata=part(data, "metadata"), **more
    )
    finalize(world, invoice, draws_on_balance=False)
    invoice["attempt_count"] = 1
    credit_payment(world, invoice, intent)
    session["invoice"] = invoice["id"]


def _subscribe(world: World, session: Json, method: Json, *, authenticated: bool) -> None:
    customer = _customer(world, session)
    lines = session["line_items"]["data"]
    wanted: Json = {
        **_params(world, session, "subscription_data"),
        "customer": customer["id"],
        "items": [_item(line) for line in lines if line["price"]["type"] == "recurring"],
        "add_invoice_items": [_item(line) for line in lines if line["price"]["type"] == "one_time"],
        "payment_behavior": "error_if_incomplete",
    }
    subscription = create(world, wanted, method=method, authenticated=authenticated)
    if method["customer"] is None:
        attach(world, method, customer)
    if authenticated:
        set_up(world, method)
    with world.changing(subscription, "customer.subscription.updated"):
        subscription["default_payment_method"] = method["id"]
    session["subscription"], session["invoice"] = subscription["id"], subscription["latest_invoice"]
    complete(world, session, "no_payment_required" if subscription["status"] == "trialing" else "paid")


def _item(line: Json) -> Json:
    return {"price": line["price"]["id"], "quantity": line["quantity"]}


def _save(world: World, session: Json, method: Json, *, authenticated: bool) -> None:
    if session["customer"] is None and session["customer_creation"] == "always":
        _customer(world, session)
    setup = world.get("setup_intent", session["setup_intent"] or make_setup(world, {})["id"])
    setup["customer"] = session["customer"]
    failure: ApiError | None = confirm_setup(world, setup, method, return_url=None, authenticated=authenticated)
    if failure is not None:
        raise failure
    complete(world, session, "no_payment_required")
