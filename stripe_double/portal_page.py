"""The customer portal: methods, subscriptions, invoices, tax ids."""

from html import escape

from starlette.requests import Request
from starlette.responses import Response

from stripe_double.cards import BY_TOKEN
from stripe_double.customers import add_tax_id
from stripe_double.errors import ApiError, invalid
from stripe_double.invoice_lines import date_text
from stripe_double.page_html import (
    button,
    card_chooser,
    describe,
    error,
    form_of,
    money,
    page,
    see,
    table,
    tax_id_fields,
)
from stripe_double.payment_methods import detach, make_method, saved_methods
from stripe_double.setup_intents import authenticate_setup, confirm_setup, make_setup
from stripe_double.subscription_objects import living_of, period_of
from stripe_double.subscription_updates import update
from stripe_double.values import Json, part
from stripe_double.world import World


async def portal(world: World, request: Request) -> Response:
    """GET shows it, POST does one thing."""
    session = world.get("billing_portal.session", request.path_params["id"])
    customer = world.get("customer", session["customer"])
    problem: str | None = None
    if request.method == "POST":
        fields = await form_of(request)
        try:
            _do(world, customer, fields)
        except ApiError as refusal:
            problem = refusal.message
        else:
            return see(_after(session))
    parts = [error(problem)]
    flow: str | None = session["flow"]["type"] if session["flow"] else None
    if flow != "subscription_cancel":
        parts += [_methods(world, customer), _add_method()]
    if flow != "payment_method_update":
        parts.append(_subscriptions(world, customer))
    if flow is None:
        parts += [_invoices(world, customer), _tax_ids(customer)]
    if session["return_url"]:
        parts.append(f'<p><a id="return" href="{escape(session["return_url"])}">Return</a></p>')
    return page("Billing", *parts, leads_to=[_after(session)], status=402 if problem else 200)


def _after(session: Json) -> str:
    """Where a person goes after a deed: a flow may name an address."""
    redirect = part(part(part(session, "flow"), "after_completion"), "redirect")
    return str(redirect.get("return_url") or f"/portal/{session['id']}")


def _methods(world: World, customer: Json) -> str:
    default = customer["invoice_settings"]["default_payment_method"]
    rows = [
        (
            escape(describe(method)) + (" <em>default</em>" if method["id"] == default else ""),
            ("" if method["id"] == default else button("Make default", {"do": "default", "method": method["id"]}))
            + button("Remove", {"do": "remove", "method": method["id"]}),
        )
        for method in saved_methods(world, customer["id"])
    ]
    return "<h2>Payment methods</h2>" + (table(rows) if rows else "<p>None saved.</p>")


def _add_method() -> str:
    return (
        f'<form method="post"><input type="hidden" name="do" value="add">{card_chooser([])}'
        '<button id="add">Add payment method</button></form>'
    )


def _subscriptions(world: World, customer: Json) -> str:
    rows: list[tuple[str, str]] = []
    for one in living_of(world, customer["id"]):
        price = one["items"]["data"][0]["price"]
        name = escape(world.get("product", price["product"])["name"])
        until = date_text(period_of(one)[1])
        if one["cancel_at_period_end"]:
            rows.append((f"{name}: ends on {until}", button("Resume", {"do": "resume", "subscription": one["id"]})))
        else:
            text = f"{name}: {escape(one['status'])}, {money(price['unit_amount'])}, renews on {until}"
            rows.append((text, button("Cancel", {"do": "cancel", "subscription": one["id"]})))
    return "<h2>Subscriptions</h2>" + (table(rows) if rows else "<p>None.</p>")


def _invoices(world: World, customer: Json) -> str:
    rows = [
        (
            f'<a href="/invoices/{escape(i["id"])}">{escape(i["number"])}</a> of {date_text(i["created"])}',
            f"{money(i['total'])} {escape(i['status'])}",
        )
        for i in reversed(world.all("invoice"))
        if i["customer"] == customer["id"] and i["number"]
    ]
    return "<h2>Invoices</h2>" + (table(rows) if rows else "<p>None.</p>")


def _tax_ids(customer: Json) -> str:
    rows = [(escape(t["type"]), escape(t["value"])) for t in customer["tax_ids"]["data"]]
    return (
        f"<h2>Tax ids</h2>{table(rows)}"
        '<form method="post"><input type="hidden" name="do" value="tax">'
        f"{tax_id_fields()}<button>Add tax id</button></form>"
    )


def _do(world: World, customer: Json, fields: dict[str, str]) -> None:
    match fields.get("do"):
        case "add":
            _save(world, customer, fields.get("card", ""))
        case "remove":
            detach(world, _own(world, customer, fields.get("method", "")))
        case "default":
            _make_default(world, customer, _own(world, customer, fields.get("method", "")))
        case "cancel" | "resume" as verb:
            subscription = world.get("subscription", fields.get("subscription", ""))
            if subscription["customer"] == customer["id"]:
                update(world, subscription, {"cancel_at_period_end": verb == "cancel"})
        case "tax":
            add_tax_id(world, customer, {"type": fields.get("tax_type", ""), "value": fields.get("tax_value", "")})
        case _:
            raise invalid("Unknown deed.")


def _own(world: World, customer: Json, key: str) -> Json:
    method = world.get("payment_method", key)
    if method["customer"] != customer["id"]:
        raise invalid("This payment method is another customer's.")
    return method


def _save(world: World, customer: Json, token: str) -> None:
    """As the portal does: saved by a setup intent (its holder confirms at once here), and the new default."""
    if token not in BY_TOKEN:
        raise invalid("Choose a test card.")
    method = make_method(world, token)
    setup = make_setup(world, {"customer": customer["id"]})
    failure = confirm_setup(world, setup, method, return_url=None)
    if failure is None and setup["status"] == "requires_action":
        failure = authenticate_setup(world, setup, success=True)
    if failure is not None:
        raise failure
    _make_default(world, customer, method)


def _make_default(world: World, customer: Json, method: Json) -> None:
    with world.changing(customer, "customer.updated"):
        customer["invoice_settings"] = {**customer["invoice_settings"], "default_payment_method": method["id"]}
