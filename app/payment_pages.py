"""What the payment provider's side reaches: its webhooks, and the page that customers come back to.

The page shows how the payment stands and applies it where its news are late; who knows a session's id may see no more.
"""

from typing import Final
from urllib.parse import parse_qs

from app.asgi import Headers, Receive, Scope, Send, header, read_body, request_id_of, send_bytes, send_json
from app.page_html import POLICY, page
from billing.services import Billing
from billing.stripe_charges import PREPAID
from billing.stripe_client import BadSignature, StripeAway, StripeRefused
from billing.stripe_inbox import receive as receive_event
from billing.stripe_link import StripeLink
from billing.stripe_objects import session_changed
from models.database import Database, connection

WEBHOOK_PATH: Final = "/webhooks/stripe"
RETURN_PATH: Final = "/billing/return"
PATHS: Final = frozenset({WEBHOOK_PATH, RETURN_PATH})
MAX_EVENT_BYTES: Final = 1024 * 1024
MAX_SESSION_CHARACTERS: Final = 200

_SECURE: Final[Headers] = [
    (b"content-security-policy", POLICY.encode("ascii")),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
]
_OF_PAGE: Final = "SELECT status, failure_code FROM payments WHERE stripe_checkout_id = $1"
_WORDS: Final = {
    "SUCCEEDED": ("Thank you", "The payment has arrived, and what it bought is yours. You can close this page."),
    "FAILED": ("Not paid", "The payment did not succeed; nothing was bought. You can try again where you came from."),
    "REFUNDED": ("Given back", "The payment was given back."),
}
_PREPAID: Final = (
    "Given back",
    "Prepaid and gift cards are not accepted here: the payment goes back to the card, and nothing was bought.",
)
_OPEN: Final = ("Nearly done", "The payment is being confirmed. It finishes by itself; you can close this page.")


class PaymentPages:
    """The ASGI application of PATHS."""

    def __init__(
        self, product: str, database: Database, billing: Billing, link: StripeLink | None, secret: str | None
    ) -> None:
        """`link` and `secret` None: payments are not configured, and webhooks are not expected."""
        self._product = product
        self._database = database
        self._billing = billing
        self._link = link
        self._secret = secret

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request to one of PATHS."""
        headers: Headers = [(b"x-request-id", request_id_of(scope).encode("ascii"))]
        if scope["path"] == WEBHOOK_PATH:
            await self._webhook(scope, receive, send, headers)
        elif scope["method"] not in {"GET", "HEAD"}:
            await send_json(send, 405, {"error": "GET only"}, [*headers, (b"allow", b"GET, HEAD")])
        else:
            title, text = await self._standing(scope)
            body = page(self._product, title, text)
            await send_bytes(send, 200, body, b"text/html; charset=utf-8", [*_SECURE, *headers])

    async def _webhook(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        """Answered once the event is stored; a database that is away is a 503, so that Stripe sends it again."""
        if scope["method"] != "POST":
            await send_json(send, 405, {"error": "POST only"}, [*headers, (b"allow", b"POST")])
            return
        if self._secret is None:
            await send_json(send, 404, {"error": "payments are not set up here"}, headers)
            return
        body = await read_body(scope, receive, MAX_EVENT_BYTES)
        try:
            new = await receive_event(self._database, body, header(scope, b"stripe-signature") or "", self._secret)
        except BadSignature:
            await send_json(send, 400, {"error": "the signature is not Stripe's, or too old"}, headers)
            return
        await send_json(send, 200, {"received": True, "new": new}, headers)

    async def _standing(self, scope: Scope) -> tuple[str, str]:
        query: bytes = scope["query_string"]
        session = parse_qs(query.decode("latin-1")[:2_000]).get("session_id", [""])[0]
        if not session or len(session) > MAX_SESSION_CHARACTERS or not session.isprintable():
            return _OPEN
        status, failure = await self._status(session)
        if status in {"PENDING", "ACTION_REQUIRED"} and self._link is not None:
            try:
                await session_changed(self._billing, self._link, session)
            except (StripeAway, StripeRefused):
                return _OPEN
            status, failure = await self._status(session)
        return _PREPAID if failure == PREPAID else _WORDS.get(status or "", _OPEN)

    async def _status(self, session: str) -> tuple[str | None, str | None]:
        async with connection(self._database) as conn:
            row = await conn.fetchrow(_OF_PAGE, session)
        return (None, None) if row is None else (row["status"], row["failure_code"])
