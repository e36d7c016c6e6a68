"""How a request below /v1 that is no model call gets in: its API key, the scope, one request of the workspace's limit."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from accounts.rules.roles import ApiScope
from accounts.views import Principal
from app.asgi import ClientGone, Headers, Scope, Send, request_id_of, send_json
from app.credentials import Credentials
from app.openai_errors import body_of, of_failure, of_refusal
from app.throttle import Throttle
from gateway.callers import WorkspaceFacts, Workspaces
from kit.errors import Forbidden, Refusal, RequestFailure


@dataclass(frozen=True, slots=True)
class Visit:
    """A request that was let in."""

    principal: Principal
    facts: WorkspaceFacts


async def of_scope(
    credentials: Credentials, workspaces: Workspaces, scope: Scope, needed: ApiScope
) -> tuple[Principal, WorkspaceFacts]:
    """The request's API key and its workspace. Raises Unauthenticated, and Forbidden without the scope."""
    principal = await credentials.of_api_key(scope)
    if needed not in principal.scopes:
        raise Forbidden(f"this API key lacks the scope {needed.value}")
    assert principal.workspace_id is not None, "an API key belongs to a workspace"
    return principal, await workspaces.facts(principal.workspace_id)


class RestAdmission:
    """Lets requests in, and tells failures in OpenAI's form."""

    def __init__(self, credentials: Credentials, workspaces: Workspaces, throttle: Throttle) -> None:
        """The parts of one process."""
        self._credentials = credentials
        self._workspaces = workspaces
        self._throttle = throttle

    async def admit(self, scope: Scope, needed: ApiScope, headers: Headers) -> Visit:
        """Adds the rate-limit headers. Raises Unauthenticated, Forbidden, RateLimited."""
        principal, facts = await of_scope(self._credentials, self._workspaces, scope, needed)
        headers.extend((await self._throttle.take(principal, facts)).headers)
        return Visit(principal, facts)

    async def answered(self, scope: Scope, send: Send, answer: Callable[[Headers], Awaitable[None]]) -> None:
        """Run `answer`, which is given the headers of whatever is sent; its failure is answered as an error object."""
        headers: Headers = [(b"x-request-id", request_id_of(scope).encode("ascii"))]
        try:
            await answer(headers)
        except ClientGone:
            return
        except Refusal as refusal:
            status, body = of_refusal(refusal)
            await send_json(send, status, body, headers)
        except RequestFailure as failure:
            status, body, extra = of_failure(failure)
            await send_json(send, status, body, [*headers, *extra])


async def method_not_allowed(send: Send, allowed: str, headers: Headers) -> None:
    """405 with the methods there are, as "GET, POST"."""
    body = body_of(f"this path takes {allowed} only", "invalid_request_error", "method_not_allowed")
    await send_json(send, 405, body, [*headers, (b"allow", allowed.encode("ascii"))])
