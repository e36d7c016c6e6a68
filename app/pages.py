"""The pages that mails link to: confirming an address, a new password, an invitation, unsubscribing, signing in.

Reading a page changes nothing, as mail programs read links before people do; its form does. Pages need no script and no
cookie: what proves the person is the mailed token, or a password.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import parse_qsl

from accounts import acceptance, sessions, sign_in, users
from accounts.mail.unsubscribe import read_token, unsubscribe
from accounts.rules.passwords import MIN_LENGTH
from accounts.services import Accounts
from accounts.views import Actor, ActorKind, SessionTokens
from app.asgi import ClientGone, Headers, Receive, Scope, Send, header, read_body, request_id_of, send_bytes
from app.credentials import Credentials
from app.page_html import POLICY, Field, Form, page
from kit.errors import RateLimited, Refusal, RequestFailure

MAX_FORM_BYTES: Final = 16 * 1024
MAX_FIELDS: Final = 20
MAX_TOKEN_CHARACTERS: Final = 4_000
PATHS: Final = frozenset({"/unsubscribe", "/verify-email", "/reset-password", "/invite", "/sign-in"})

_HEADERS: Final[Headers] = [
    (b"content-security-policy", POLICY.encode("ascii")),
    (b"referrer-policy", b"no-referrer"),  # the address holds a token
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
]
_NEW_PASSWORD: Final = Field("password", "New password", "password", "new-password", minlength=MIN_LENGTH)
_PASSWORD: Final = Field("password", "Password", "password", "current-password")
_EMAIL: Final = Field("email", "E-mail address", "email", "username")
_CODE: Final = Field("code", "Two-factor code, if you use one", "text", "one-time-code", required=False)
_MAIL_NAMES: Final = {
    "BALANCE_ALERTS": "alerts about your balance",
    "BILLING_NOTICES": "notices about billing",
    "PRODUCT_NEWS": "product news",
}

Given = Mapping[str, str]


class Pages:
    """The ASGI application of PATHS."""

    def __init__(self, accounts: Accounts, credentials: Credentials) -> None:
        """`credentials` knows a request's address."""
        self._accounts = accounts
        self._credentials = credentials
        self._product = accounts.product_name
        self._forms: Mapping[str, Callable[[Given, str | None], bytes]] = {
            "/unsubscribe": self._unsubscribe_form,
            "/verify-email": self._verify_form,
            "/reset-password": self._reset_form,
            "/invite": self._invite_form,
            "/sign-in": self._sign_in_form,
        }
        self._acts: Mapping[str, Callable[[Given, Actor], Awaitable[bytes]]] = {
            "/unsubscribe": self._unsubscribe,
            "/verify-email": self._verify,
            "/reset-password": self._reset,
            "/invite": self._invite,
            "/sign-in": self._sign_in,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request with a page, whatever was sent."""
        request_id = request_id_of(scope)
        headers: Headers = [*_HEADERS, (b"x-request-id", request_id.encode("ascii"))]
        path: str = scope["path"]
        given = _fields(scope["query_string"])
        try:
            if scope["method"] in {"GET", "HEAD"}:
                await _send(send, 200, self._forms[path](given, None), headers)
                return
            if scope["method"] != "POST":
                allowed = page(self._product, "Not this way", "This page is read with GET and sent with POST.")
                await _send(send, 405, allowed, [*headers, (b"allow", b"GET, HEAD, POST")])
                return
            given = {**given, **_posted(scope, await read_body(scope, receive, MAX_FORM_BYTES))}
            actor = Actor(
                ActorKind.ANONYMOUS,
                address=self._credentials.address_of(scope),
                request_id=request_id,
                user_agent=header(scope, b"user-agent"),
            )
            await _send(send, 200, await self._acts[path](given, actor), headers)
        except ClientGone:
            return
        except Refusal as refusal:
            await _send(send, 422, self._forms[path](given, refusal.message), headers)
        except RequestFailure as failure:
            if isinstance(failure, RateLimited):
                headers.append((b"retry-after", str(failure.retry_after_s).encode("ascii")))
            await _send(send, failure.http_status, self._forms[path](given, failure.message), headers)

    def _unsubscribe_form(self, given: Given, problem: str | None) -> bytes:
        try:
            _, kind = read_token(self._accounts.sealer, given.get("token", ""))
        except Refusal as refusal:
            return page(self._product, "Unsubscribe", problem=problem or refusal.message)
        text = f"You will get no more {_MAIL_NAMES[kind]} at this address. Other mails are not touched."
        form = Form("Unsubscribe", hidden=_token(given))
        return page(self._product, "Unsubscribe", text, forms=(form,), problem=problem)

    async def _unsubscribe(self, given: Given, _: Actor) -> bytes:
        """What a mail program asks by itself (RFC 8058), and the button."""
        kind = await unsubscribe(self._accounts.database, self._accounts.sealer, given.get("token", ""))
        return page(self._product, "Unsubscribed", f"You will get no more {_MAIL_NAMES[kind]} at this address.")

    def _verify_form(self, given: Given, problem: str | None) -> bytes:
        form = Form("Confirm my address", hidden=_token(given))
        text = "Confirm that this e-mail address is yours to open your account."
        return page(self._product, "Confirm your address", text, forms=(form,), problem=problem)

    async def _verify(self, given: Given, actor: Actor) -> bytes:
        tokens = await users.verify_email(self._accounts, actor, given.get("token", ""))
        await self._end(actor, tokens)
        return page(self._product, "Your account is open", "Your address is confirmed. You can sign in now.")

    def _reset_form(self, given: Given, problem: str | None) -> bytes:
        form = Form("Set the password", (_NEW_PASSWORD,), _token(given))
        text = f"Choose a password of at least {MIN_LENGTH} characters. All your sessions end."
        return page(self._product, "Set a new password", text, forms=(form,), problem=problem)

    async def _reset(self, given: Given, actor: Actor) -> bytes:
        await users.complete_password_reset(self._accounts, actor, given.get("token", ""), given.get("password", ""))
        return page(self._product, "Your password is set", "You can sign in with it now.")

    def _invite_form(self, given: Given, problem: str | None) -> bytes:
        new = Form(
            "Open an account and accept",
            (Field("name", "Your name", "text", "name"), _NEW_PASSWORD),
            (*_token(given), ("as", "new")),
            title="I am new here",
        )
        known = Form(
            "Sign in and accept",
            (_EMAIL, _PASSWORD, _CODE),
            (*_token(given), ("as", "known")),
            title="I have an account",
        )
        text = "You were invited to a workspace. Accept with an account of the invited address."
        return page(self._product, "Accept the invitation", text, forms=(new, known), problem=problem)

    async def _invite(self, given: Given, actor: Actor) -> bytes:
        token, password = given.get("token", ""), given.get("password", "")
        if given.get("as") == "known":
            tokens = await sign_in.sign_in(
                self._accounts, actor, given.get("email", ""), password, given.get("code") or None
            )
            person = Actor(ActorKind.USER, tokens.user.id, actor.address, actor.request_id, actor.user_agent)
            try:
                await acceptance.accept(self._accounts, person, tokens.user.id, token)
            finally:
                await self._end(actor, tokens)
        else:
            tokens, _ = await acceptance.accept_as_new(self._accounts, actor, token, password, given.get("name", ""))
            await self._end(actor, tokens)
        return page(self._product, "You are a member now", "The workspace is yours to use as soon as you sign in.")

    def _sign_in_form(self, given: Given, problem: str | None) -> bytes:
        del given
        form = Form("Send me a link", (_EMAIL,), title="Forgotten your password?")
        text = "You have an account with this address: sign in where you use it."
        return page(self._product, "You have an account", text, forms=(form,), problem=problem)

    async def _sign_in(self, given: Given, actor: Actor) -> bytes:
        await users.request_password_reset(self._accounts, actor, given.get("email", ""))
        return page(self._product, "Look into your mailbox", "If the address has an account, a link is on its way.")

    async def _end(self, actor: Actor, tokens: SessionTokens) -> None:
        """A page cannot keep a session, so none is left behind."""
        await sessions.sign_out(self._accounts, actor, tokens.user.id, tokens.session_id)


def _token(given: Given) -> tuple[tuple[str, str], ...]:
    return (("token", given.get("token", "")[:MAX_TOKEN_CHARACTERS]),)


def _posted(scope: Scope, body: bytes) -> Given:
    """The fields of a form in the usual encoding; of any other body none, as RFC 8058 lets the token stand in the address."""
    kind = (header(scope, b"content-type") or "").partition(";")[0].strip().lower()
    return _fields(body) if kind == "application/x-www-form-urlencoded" else {}


def _fields(text: bytes) -> Given:
    try:
        pairs = parse_qsl(text.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError:
        return {}
    return dict(pairs)


async def _send(send: Send, status: int, body: bytes, headers: Headers) -> None:
    await send_bytes(send, status, body, b"text/html; charset=utf-8", headers)
