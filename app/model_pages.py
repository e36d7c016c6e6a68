"""The page of each published model, `/m/{workspace}/{model}`: reading it, signing in on it, and trying the model on it.

A try is an ordinary call: throttled, held, settled, charged to the workspace of the API key typed in or chosen by the
signed-in visitor.
"""

import re
from dataclasses import dataclass, replace
from typing import Final

from accounts import sessions, sign_in
from accounts.principals import Principals
from accounts.rules.roles import Action, ApiScope, role_may
from accounts.services import Accounts
from accounts.views import ANONYMOUS, Actor, ActorKind, Principal, PrincipalKind
from accounts.workspaces import workspace_by_slug, workspaces_of_user
from app.asgi import ClientGone, Headers, Receive, Scope, Send, header, read_body, request_id_of, send_bytes
from app.credentials import Credentials
from app.model_page_forms import Given, answer_of, body_of, fields_of_form
from app.model_page_html import Answer, ModelPage, Visit, model_page
from app.page_html import POLICY, page
from app.page_session import check_same_site, cookie_of, form_token, is_form_token, no_cookie, token_in_cookie
from app.throttle import Throttle
from billing.published import Published, PublishedModels
from gateway.callers import WorkspaceFacts, Workspaces, caller_of
from gateway.calls import Calls
from gateway.views import CallRequest, CallResult
from kit.clock import now
from kit.errors import Forbidden, InvalidInput, NotFound, RateLimited, Refusal, RequestFailure, Unauthenticated
from kit.ids import uuid7
from kit.money import format_micro, usd_text
from kit.pages import PageRequest
from models.enums import Modality
from providers.base import Operation

MAX_FORM_BYTES: Final = 256 * 1024
MAX_WORKSPACES: Final = 100
"""Of a visitor's workspaces, those that can be chosen."""
_PATH: Final = re.compile(r"/m/([a-z0-9-]{1,64})/([a-z0-9._-]{1,64})")
_ONCE: Final = re.compile(r"[0-9a-f]{32}")
_OPERATIONS: Final = {
    Modality.TEXT: Operation.CHAT,
    Modality.EMBEDDING: Operation.EMBEDDING,
    Modality.IMAGE: Operation.IMAGE,
}


@dataclass(frozen=True, slots=True)
class _Visitor:
    """Who has signed in on the pages; `token` None for nobody."""

    principal: Principal = ANONYMOUS
    token: str | None = None


class ModelPages:
    """The ASGI application of everything below /m/."""

    def __init__(
        self,
        accounts: Accounts,
        credentials: Credentials,
        principals: Principals,
        published: PublishedModels,
        workspaces: Workspaces,
        throttle: Throttle,
        calls: Calls,
    ) -> None:
        """The parts of one process."""
        self._accounts = accounts
        self._credentials = credentials
        self._principals = principals
        self._published = published
        self._workspaces = workspaces
        self._throttle = throttle
        self._calls = calls
        self._secure = accounts.public_url.startswith("https://")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request with a page, whatever was sent."""
        request_id = request_id_of(scope)
        headers: Headers = [
            (b"referrer-policy", b"no-referrer"),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
            (b"x-frame-options", b"DENY"),
            (b"x-request-id", request_id.encode("ascii")),
        ]
        try:
            await self._throttle.take_address(
                self._credentials.address_of(scope)
            )  # whoever it is, a page asks the database
            visitor = await self._visitor(scope)
            published = await self._found(scope["path"], visitor)
        except RequestFailure as failure:
            await self._plain(send, failure, headers)
            return
        if scope["method"] in {"GET", "HEAD"}:
            await self._show(send, 200, published, visitor, {}, headers)
            return
        if scope["method"] != "POST":
            headers.append((b"allow", b"GET, HEAD, POST"))
            await self._show(send, 405, published, visitor, {}, headers, problem="This page is read with GET.")
            return
        given: Given = {}
        try:
            given = fields_of_form(await read_body(scope, receive, MAX_FORM_BYTES))
            check_same_site(scope, self._accounts.public_url)
            await self._act(scope, send, published, visitor, given, headers)
        except ClientGone:
            return
        except Refusal as refusal:
            await self._show(send, 422, published, visitor, given, headers, problem=refusal.message)
        except RequestFailure as failure:
            if isinstance(failure, RateLimited):
                headers.append((b"retry-after", str(failure.retry_after_s).encode("ascii")))
            await self._show(send, failure.http_status, published, visitor, given, headers, problem=failure.message)

    async def _visitor(self, scope: Scope) -> _Visitor:
        token = token_in_cookie(scope)
        if token is None:
            return _Visitor()
        try:
            principal = await self._credentials.principal_of_text(
                f"Bearer {token}", self._credentials.address_of(scope)
            )
        except Unauthenticated:
            return _Visitor()
        return _Visitor(principal, token) if principal.kind is PrincipalKind.USER else _Visitor()

    async def _found(self, path: str, visitor: _Visitor) -> Published:
        """The model of this page; NotFound also for a private one that the visitor's workspaces do not publish."""
        match = _PATH.fullmatch(path)
        found = None if match is None else await self._published.find(f"{match[1]}/{match[2]}")
        if found is None or not (found.visible_to([]) or await self._may(visitor, Action.WORKSPACE_READ, found)):
            raise NotFound("There is no such model.")
        return found

    async def _may(self, visitor: _Visitor, action: Action, found: Published) -> bool:
        user_id = visitor.principal.user_id
        return user_id is not None and role_may(await self._principals.role_of(user_id, found.workspace_id), action)

    async def _act(
        self, scope: Scope, send: Send, published: Published, visitor: _Visitor, given: Given, headers: Headers
    ) -> None:
        actor = Actor(
            ActorKind.ANONYMOUS,
            address=self._credentials.address_of(scope),
            request_id=request_id_of(scope),
            user_agent=header(scope, b"user-agent"),
        )
        match given.get("do"):
            case "sign-in":
                tokens = await sign_in.sign_in(
                    self._accounts, actor, given.get("email", ""), given.get("password", ""), given.get("code") or None
                )
                cookie = cookie_of(tokens.access_token, tokens.expires_at, now(), secure=self._secure)
                await _back(send, scope["path"], cookie, headers)
            case "sign-out":
                self._check_form(scope, visitor, given)
                user_id, session_id = visitor.principal.user_id, visitor.principal.session_id
                if user_id is not None and session_id is not None:
                    await sessions.sign_out(self._accounts, actor, user_id, session_id)
                await _back(send, scope["path"], no_cookie(secure=self._secure), headers)
            case _:
                result = await self._try(scope, published, visitor, given)
                await self._show(send, 200, published, visitor, given, headers, answer=self._answer(result))

    def _check_form(self, scope: Scope, visitor: _Visitor, given: Given) -> None:
        if visitor.token is None:
            raise Unauthenticated("Sign in, or give an API key.")
        if not is_form_token(self._accounts.sealer, visitor.token, scope["path"], given.get("csrf", "")):
            raise Forbidden("This form is out of date; send it again.")

    async def _try(self, scope: Scope, published: Published, visitor: _Visitor, given: Given) -> CallResult:
        body = body_of(published, given)
        principal, facts = await self._payer(scope, visitor, given)
        await self._throttle.take(principal, facts)
        once = given.get("once", "")
        caller = caller_of(principal, facts, request_id_of(scope))
        operation = _OPERATIONS[Modality(published.model.modality)]
        key = f"page-{once}" if _ONCE.fullmatch(once) else None
        return await self._calls.call(caller, CallRequest(published.slug, operation, body, key))

    async def _payer(self, scope: Scope, visitor: _Visitor, given: Given) -> tuple[Principal, WorkspaceFacts]:
        """Whose credits are spent: of the API key typed in, else of the workspace that the signed-in visitor chose."""
        typed = given.get("key", "").strip()
        if typed:
            principal = await self._credentials.principal_of_text(
                f"Bearer {typed}", self._credentials.address_of(scope)
            )
            if principal.workspace_id is None or ApiScope.CALLS_WRITE not in principal.scopes:
                raise Forbidden("This is no API key that may call models.")
            return principal, await self._workspaces.facts(principal.workspace_id)
        self._check_form(scope, visitor, given)
        user_id = visitor.principal.user_id
        chosen = await workspace_by_slug(self._accounts.database, given.get("workspace", ""), viewer_id=user_id)
        if chosen is None or not role_may(chosen.viewer_role, Action.CALLS_MAKE):
            raise InvalidInput("Choose a workspace in which you may call models.", field=["workspace"])
        return visitor.principal, await self._workspaces.facts(chosen.id)

    def _answer(self, result: CallResult) -> Answer:
        rate = self._calls.snapshot.credits_per_usd
        charged = f"It cost {format_micro(result.charged_micro)} credits (${usd_text(result.charged_micro, rate)})."
        return replace(answer_of(result.body or {}), charged=charged)

    async def _show(
        self,
        send: Send,
        status: int,
        published: Published,
        visitor: _Visitor,
        given: Given,
        headers: Headers,
        *,
        problem: str | None = None,
        answer: Answer | None = None,
    ) -> None:
        shown = await self._page(published, visitor, given, problem, answer)
        policy = (b"content-security-policy", shown.policy.encode("ascii"))
        await send_bytes(send, status, shown.html, b"text/html; charset=utf-8", [policy, *headers])

    async def _page(
        self, published: Published, visitor: _Visitor, given: Given, problem: str | None, answer: Answer | None
    ) -> ModelPage:
        facts = await self._workspaces.facts(published.workspace_id)
        csrf = None
        workspaces: tuple[tuple[str, str], ...] = ()
        if visitor.token is not None and visitor.principal.user_id is not None:
            csrf = form_token(self._accounts.sealer, visitor.token, f"/m/{published.slug}")
            own = await workspaces_of_user(
                self._accounts.database, visitor.principal.user_id, PageRequest(MAX_WORKSPACES)
            )
            workspaces = tuple(
                (each.slug, each.name) for each in own.items if role_may(each.viewer_role, Action.CALLS_MAKE)
            )
        refusal = await self._calls.offers.not_served(published)
        typed = {name: value for name, value in given.items() if name.startswith("in.")}
        return model_page(
            self._accounts.product_name,
            published,
            Visit(uuid7().hex, csrf, workspaces, typed, problem, answer, None if refusal is None else refusal.message),
            branded=facts.plan.entitlements.branding,
            credits_per_usd=self._calls.snapshot.credits_per_usd,
        )

    async def _plain(self, send: Send, failure: RequestFailure, headers: Headers) -> None:
        if isinstance(failure, RateLimited):
            headers.append((b"retry-after", str(failure.retry_after_s).encode("ascii")))
        html = page(self._accounts.product_name, "Not here", failure.message)
        policy = (b"content-security-policy", POLICY.encode("ascii"))
        await send_bytes(send, failure.http_status, html, b"text/html; charset=utf-8", [policy, *headers])


async def _back(send: Send, path: str, cookie: bytes, headers: Headers) -> None:
    """To the page again, with its cookie: a reload sends no form twice."""
    more: Headers = [(b"location", path.encode("ascii")), (b"set-cookie", cookie), *headers]
    await send_bytes(send, 303, b"", b"text/plain; charset=utf-8", more)
