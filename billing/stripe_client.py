"""The one importer of stripe: sends requests under our own idempotency keys, and says in our words how they ended."""

import logging
from collections.abc import Awaitable, Callable
from typing import Final, Self, TypeVar

import aiohttp
import orjson
import stripe
from stripe._v1_services import V1Services
from stripe.params import PaymentIntentCreateParams
from stripe.params.checkout import SessionCreateParams

from billing.rules.stripe_values import StripeJson, part, text
from kit.errors import Unavailable

V1 = V1Services
"""The services of Stripe's API, for the types of requests built in other files."""

ChargeParams = PaymentIntentCreateParams
PageParams = SessionCreateParams

RETRIES: Final = 2
"""The library's own repeats after a lost connection or a 409; it sends the same idempotency key again."""

TIMEOUT_S: Final = 30.0
PAGE: Final = 100
"""Objects of one page of a list, Stripe's most."""

_T = TypeVar("_T")
_Entry = TypeVar("_Entry", bound=stripe.StripeObject)
logger = logging.getLogger(__name__)


class StripeDeclined(Exception):
    """A card or account was refused. `failure_code`: the most exact one given; `intent`: the payment's or the setup's."""

    def __init__(self, failure_code: str, intent: StripeJson | None, method: StripeJson | None = None) -> None:
        """What a CardError says."""
        super().__init__(failure_code)
        self.failure_code = failure_code
        self.intent = intent
        self.method = method


class StripeAway(Unavailable):
    """No answer, or one that does not tell whether anything was done: the same request with the same key tells."""

    def __init__(self, problem: str, told: str = "the payment provider does not answer; try again") -> None:
        """`problem` is for the log of the operator; nothing of the request is in it."""
        super().__init__(told)
        self.problem = problem

    @classmethod
    def refusing(cls, refused: "StripeRefused") -> Self:
        """Stripe did answer, and to ask again will not help: the log of the operator has its reason."""
        return cls(
            refused.code, "the payment provider refused this, and the operator has been told; nothing was charged"
        )


class StripeForbidden(StripeAway):
    """A connected account that is gone or has taken its consent back; what was done there before is not told any more."""


class StripeRefused(Exception):
    """Stripe says that the request is wrong: a defect of ours, or an object in another state than was thought.

    `code` such as "resource_missing"; `message` is Stripe's, for the operator.
    """

    def __init__(self, code: str, message: str) -> None:
        """What an InvalidRequestError says."""
        super().__init__(f"{code}: {message}")
        self.code = code


class BadSignature(Exception):
    """A webhook that Stripe did not sign, or long ago."""


class Stripe:
    """One account at Stripe. `base` is the address of a double, None for Stripe itself."""

    def __init__(self, api_key: str, *, base: str | None = None) -> None:
        """The connection is opened by the first request; see `aclose`."""
        self._http = stripe.AIOHTTPClient(timeout=TIMEOUT_S)
        self._client = stripe.StripeClient(
            api_key,
            base_addresses=None if base is None else {"api": base, "connect": base, "files": base},
            http_client=self._http,
            max_network_retries=RETRIES,
        )

    async def call(self, ask: Callable[[V1], Awaitable[stripe.StripeObject]]) -> StripeJson:
        """The answer as plain values. Raises StripeDeclined, StripeAway, StripeRefused."""
        return (await self._ask(ask)).to_dict(for_json=True)

    async def pages(self, ask: Callable[[V1], Awaitable[stripe.ListObject[_Entry]]]) -> list[StripeJson]:
        """Every object of a list, page by page, in the list's order. Raises StripeAway, StripeRefused."""
        page = await self._ask(ask)
        found: list[StripeJson] = []
        try:
            async for entry in page.auto_paging_iter():
                found.append(entry.to_dict(for_json=True))  # noqa: PERF401 -- what came before a failure is dropped whole
        except stripe.StripeError as error:
            raise _told(error) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise StripeAway(type(error).__name__) from error
        return found

    async def _ask(self, ask: Callable[[V1], Awaitable[_T]]) -> _T:
        try:
            return await ask(self._client.v1)
        except stripe.StripeError as error:
            raise _told(error) from error
        except (aiohttp.ClientError, TimeoutError) as error:  # the library wraps none that comes within a body
            raise StripeAway(type(error).__name__) from error

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.close_async()


def read_event(body: bytes, signature: str, secret: str) -> StripeJson:
    """The event of a webhook, whose signature over the raw body is Stripe's and young. Raises BadSignature."""
    try:
        payload = body.decode()
        stripe.WebhookSignature.verify_header(payload, signature, secret, stripe.Webhook.DEFAULT_TOLERANCE)
        event: object = orjson.loads(payload)
    except (UnicodeDecodeError, stripe.SignatureVerificationError, orjson.JSONDecodeError) as error:
        raise BadSignature from error
    if text(event, "id") is None or text(event, "type") is None:
        raise BadSignature
    return part(event)


def _told(error: stripe.StripeError) -> Exception:
    """A decline, a wrong request, or not knowing: whatever else a provider says leaves the outcome open."""
    if isinstance(error, stripe.CardError):
        return _declined(error)
    if isinstance(error, (stripe.InvalidRequestError, stripe.IdempotencyError)) and (error.http_status or 0) < 409:
        return StripeRefused(error.code or "invalid_request", error.user_message or "")
    problem = f"{type(error).__name__} {error.http_status or ''} {error.code or ''}".strip()
    logger.warning("Stripe: %s (request %s)", problem, error.request_id or "not received")
    return (StripeForbidden if isinstance(error, stripe.PermissionError) else StripeAway)(problem)


def _declined(error: stripe.CardError) -> StripeDeclined:
    facts = part(error.json_body, "error")
    intent = part(facts, "payment_intent") or part(facts, "setup_intent")
    code = text(facts, "decline_code") or text(facts, "code") or "card_declined"
    if text(facts, "code") == "authentication_required":
        code = "authentication_required"
    return StripeDeclined(code, intent or None, part(facts, "payment_method") or None)
