"""The control endpoints under /_double: clock, webhooks, faults, books, and what a person would do on a page."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stripe_double.accounts import disable, onboard
from stripe_double.books import books
from stripe_double.cards import BY_TOKEN
from stripe_double.checkout_pay import HolderNeeded, pay
from stripe_double.consequences import after_intent
from stripe_double.disputes import close_inquiry, conclude, escalate, open_dispute
from stripe_double.due import advance, run_due
from stripe_double.errors import ApiError, invalid
from stripe_double.faults import Faults
from stripe_double.payment_intents import authenticate
from stripe_double.payment_methods import behave_like, renew_card
from stripe_double.transfers import add_funds, come_back
from stripe_double.values import Json, is_object
from stripe_double.webhooks import Deliveries
from stripe_double.world import World, shown

Action = Callable[[Request, Json], Awaitable[Json]]


class Control:
    """The control endpoints of one world."""

    def __init__(self, world: World, deliveries: Deliveries, faults: Faults) -> None:
        """Nothing happens yet."""
        self._world = world
        self._deliveries = deliveries
        self._faults = faults

    def routes(self) -> list[Route]:
        """Starlette's routes. Requests that change something must be JSON, which no other site's page can send unasked."""
        return [
            self._route("/_double/clock", self._clock_state, "GET"),
            self._route("/_double/clock", self._clock),
            self._route("/_double/webhooks", self._webhook_state, "GET"),
            self._route("/_double/webhooks", self._webhooks),
            self._route("/_double/webhooks/flush", self._flush),
            self._route("/_double/faults", self._order_fault),
            self._route("/_double/faults", self._forget_faults, "DELETE"),
            self._route("/_double/settings", self._settings),
            self._route("/_double/reset", self._reset),
            self._route("/_double/books", self._books, "GET"),
            self._route("/_double/calls", self._calls, "GET"),
            self._route("/_double/objects", self._objects, "GET"),
            self._route("/_double/checkout/{id}/pay", self._pay),
            self._route("/_double/payment_intents/{id}/authenticate", self._authenticate),
            self._route("/_double/payment_methods/{id}", self._behave),
            self._route("/_double/disputes", self._dispute),
            self._route("/_double/accounts/{id}/onboard", self._onboard),
            self._route("/_double/accounts/{id}/disable", self._disable),
            self._route("/_double/payouts/{id}/come_back", self._come_back),
            self._route("/_double/balance", self._add_funds),
        ]

    def _route(self, path: str, action: Action, method: str = "POST") -> Route:
        async def endpoint(request: Request) -> Response:
            try:
                run_due(self._world)
                answer = await action(request, await _json(request))
                self._world.changes += request.method != "GET"
                self._deliveries.pump()
                return _answer(200, answer)
            except ApiError as refusal:
                self._deliveries.pump()
                return _answer(refusal.status, refusal.body())

        return Route(path, endpoint, methods=[method])

    async def _clock_state(self, request: Request, wanted: Json) -> Json:
        _ = request, wanted
        due = self._world.agenda[0][0] if self._world.agenda else None
        return {"now": self._world.now, "frozen": self._world.clock.frozen, "next_due": due}

    async def _clock(self, request: Request, wanted: Json) -> Json:
        """`to`: an instant, or `by`: seconds; `frozen`: stand still there (default: as before)."""
        frozen = bool(wanted.get("frozen", self._world.clock.frozen))
        to = int(wanted["to"]) if "to" in wanted else self._world.now + int(wanted.get("by", 0))
        if to < self._world.now:
            raise invalid("The clock moves forward only; reset to go back.", param="to")
        count = advance(self._world, to, frozen=frozen)
        return {**await self._clock_state(request, {}), "happened": count}

    async def _webhook_state(self, request: Request, wanted: Json) -> Json:
        _ = request, wanted
        return self._deliveries.state()

    async def _webhooks(self, request: Request, wanted: Json) -> Json:
        _ = request
        self._deliveries.configure(wanted)
        return self._deliveries.state()

    async def _flush(self, request: Request, wanted: Json) -> Json:
        """`order`: exactly these events, in this order; else all that wait, under the policy."""
        _ = request
        return await self._deliveries.flush(wanted.get("order"))

    async def _order_fault(self, request: Request, wanted: Json) -> Json:
        _ = request
        self._faults.order(wanted)
        return {"ordered": len(self._faults.ordered)}

    async def _forget_faults(self, request: Request, wanted: Json) -> Json:
        _ = request, wanted
        self._faults.ordered.clear()
        return {"ordered": 0}

    async def _settings(self, request: Request, wanted: Json) -> Json:
        _ = request
        if "invoice_delay_s" in wanted:
            self._world.invoice_delay_s = int(wanted["invoice_delay_s"])
        return {"invoice_delay_s": self._world.invoice_delay_s}

    async def _reset(self, request: Request, wanted: Json) -> Json:
        """Forget everything; the clock runs with the real one, or stands at `now`."""
        _ = request
        self._deliveries.forget()
        self._faults.ordered.clear()
        self._world.clear()
        if "now" in wanted:
            self._world.clock.set(int(wanted["now"]), frozen=bool(wanted.get("frozen", True)))
        return {"now": self._world.now}

    async def _books(self, request: Request, wanted: Json) -> Json:
        _ = request, wanted
        return books(self._world)

    async def _calls(self, request: Request, wanted: Json) -> Json:
        """What was asked of the API, oldest first."""
        _ = request, wanted
        return {"calls": [asdict(call) for call in self._world.calls]}

    async def _objects(self, request: Request, wanted: Json) -> Json:
        """Every object, by kind; for tests of shapes."""
        _ = request, wanted
        return {kind: [shown(one) for one in objects.values()] for kind, objects in self._world.kinds.items()}

    async def _pay(self, request: Request, wanted: Json) -> Json:
        """Pay a session with `card` (a test token or a saved method); `authenticated`: its holder confirms too."""
        session = self._world.get("checkout.session", request.path_params["id"])
        card = str(wanted.get("card", "pm_card_visa"))
        try:
            pay(
                self._world,
                session,
                card,
                authenticated=bool(wanted.get("authenticated", False)),
                email=wanted.get("email"),
                tax_id=wanted.get("tax_id"),
            )
        except HolderNeeded:
            raise ApiError(402, "card_error", "Its holder has to confirm.", code="authentication_required") from None
        return shown(session)

    async def _authenticate(self, request: Request, wanted: Json) -> Json:
        """The holder confirms a payment intent, or not (`success` false)."""
        intent = self._world.get("payment_intent", request.path_params["id"])
        failure = authenticate(self._world, intent, success=bool(wanted.get("success", True)))
        after_intent(self._world, intent, failure)
        return shown(intent)

    async def _behave(self, request: Request, wanted: Json) -> Json:
        """From now on a saved method behaves as the test token `like`; or `renewed`: its bank sends a new card."""
        method = self._world.get("payment_method", request.path_params["id"])
        if wanted.get("renewed"):
            renew_card(self._world, method)
            return method
        if wanted.get("like") not in BY_TOKEN:
            raise invalid(f"Unknown test token: {wanted.get('like')}", param="like")
        behave_like(self._world, method, str(wanted["like"]))
        return method

    async def _dispute(self, request: Request, wanted: Json) -> Json:
        """Open one for `charge` or `payment_intent`, or go on with `dispute`; an inquiry is escalated or closed."""
        _ = request
        if "dispute" in wanted:
            dispute = self._world.get("dispute", str(wanted["dispute"]), param="dispute")
            match wanted.get("outcome"):
                case "won" | "lost":
                    conclude(self._world, dispute, won=wanted["outcome"] == "won")
                case "escalated":
                    escalate(self._world, dispute)
                case "closed":
                    close_inquiry(self._world, dispute)
                case _:
                    raise invalid("outcome is won or lost; of an inquiry escalated or closed", param="outcome")
            return dispute
        key = wanted.get("charge")
        if key is None:
            key = self._world.get("payment_intent", str(wanted.get("payment_intent")), param="payment_intent")[
                "latest_charge"
            ]
        charge = self._world.get("charge", str(key), param="charge")
        return open_dispute(
            self._world,
            charge,
            reason=str(wanted.get("reason", "fraudulent")),
            amount=wanted.get("amount"),
            inquiry=bool(wanted.get("inquiry")),
        )

    async def _onboard(self, request: Request, wanted: Json) -> Json:
        account = self._world.get("account", request.path_params["id"])
        onboard(self._world, account, bank_number=str(wanted.get("bank_number", "000123456789")))
        return account

    async def _come_back(self, request: Request, wanted: Json) -> Json:
        _ = wanted
        payout = self._world.kinds.get("payout", {}).get(request.path_params["id"])
        if payout is None:
            raise invalid("No such payout.")
        come_back(self._world, payout)
        return payout

    async def _disable(self, request: Request, wanted: Json) -> Json:
        _ = wanted
        account = self._world.get("account", request.path_params["id"])
        disable(self._world, account)
        return account

    async def _add_funds(self, request: Request, wanted: Json) -> Json:
        _ = request
        add_funds(self._world, int(wanted.get("amount", 0)))
        return {"balance": books(self._world)["balance"]}


async def _json(request: Request) -> Json:
    if request.method == "GET":
        return {}
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise invalid("Send application/json.")
    body = await request.body()
    try:
        wanted = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError:
        raise invalid("Invalid JSON.") from None
    if not is_object(wanted):
        raise invalid("Send a JSON object.")
    return wanted


def _answer(status: int, body: Json) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")
