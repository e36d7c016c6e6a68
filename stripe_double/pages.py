"""The pages a person can click through, and the way between them."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from html import escape

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stripe_double.accounts import onboard
from stripe_double.checkout_page import checkout
from stripe_double.due import advance, run_due
from stripe_double.errors import ApiError
from stripe_double.page_html import STYLE, button, form_of, from_elsewhere, money, page, see, table
from stripe_double.payment_pages import confirmation, hosted_invoice, pdf
from stripe_double.portal_page import portal
from stripe_double.webhooks import Deliveries
from stripe_double.world import World

Page = Callable[[World, Request], Awaitable[Response]]

_DAY_S = 86_400


def routes(world: World, deliveries: Deliveries) -> list[Route]:
    """Starlette's routes."""

    def route(path: str, show: Page, *, post: bool = True) -> Route:
        async def endpoint(request: Request) -> Response:
            if request.method == "POST" and from_elsewhere(request):
                return page("Refused", "<p>This form was sent from another site.</p>", status=403)
            run_due(world)
            try:
                return await show(world, request)
            except ApiError as refusal:
                return page("Stripe double", f"<p>{escape(refusal.message)}</p>", status=refusal.status)
            finally:
                world.changes += request.method == "POST"
                deliveries.pump()

        return Route(path, endpoint, methods=["GET", "POST"] if post else ["GET"])

    return [
        route("/", _home),
        route("/style.css", _style, post=False),
        route("/checkout/{id}", checkout),
        route("/portal/{id}", portal),
        route("/authenticate/{id}", confirmation),
        route("/invoices/{id}", hosted_invoice),
        route("/invoices/{id}/pdf", pdf, post=False),
        route("/onboarding/{id}", _onboarding),
        route("/receipts/{id}", _receipt, post=False),
    ]


async def _style(world: World, request: Request) -> Response:
    _ = world, request
    return Response(STYLE, media_type="text/css")


async def _home(world: World, request: Request) -> Response:
    """What there is, and the clock, which a demo moves to see a renewal."""
    if request.method == "POST":
        days = (await form_of(request)).get("days", "1")
        advance(
            world, world.now + min(int(days), 400) * _DAY_S if days.isdigit() else world.now, frozen=world.clock.frozen
        )
        return see("/")
    counts = [(escape(kind), str(len(objects))) for kind, objects in sorted(world.kinds.items()) if objects]
    charged = sum(c["amount"] - c["amount_refunded"] for c in world.all("charge") if c["status"] == "succeeded")
    at = _instant(world.now)
    return page(
        "Stripe double",
        f'<p>Its clock says <time id="now">{at}</time>. Net charges: {money(charged)}.</p>',
        button("A day later", {"days": "1"}),
        button("Thirty days later", {"days": "30"}),
        button("A year later", {"days": "366"}),
        table(counts),
    )


def _instant(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(" ", "seconds")


async def _onboarding(world: World, request: Request) -> Response:
    """A connected account gives what is due; the link works once and for five minutes."""
    link = world.notes.get(request.path_params["id"])
    if link is None:
        return page("Onboarding", "<p>No such link.</p>", status=404)
    if link.get("used") or link["expires_at"] < world.now:
        return see(link["refresh_url"])
    if request.method == "GET":
        return page(
            "Set up payouts",
            "<p>Stripe would ask for your identity and bank account.</p>",
            button("Complete", {"bank": "000123456789"}, primary=True),
            button("Complete with a bank account that payouts fail on", {"bank": "000111111116"}),
            f'<p><a id="return" href="{escape(link["return_url"])}">Leave</a></p>',
            leads_to=[link["return_url"], link["refresh_url"]],
        )
    link["used"] = True
    bank = (await form_of(request)).get("bank", "")
    onboard(world, world.get("account", link["account"]), bank_number=bank or "000123456789")
    return see(link["return_url"])


async def _receipt(world: World, request: Request) -> Response:
    charge = world.get("charge", request.path_params["id"])
    return page(
        "Receipt", f"<p>{money(charge['amount'])} on {_instant(charge['created'])}, {escape(charge['status'])}</p>"
    )
