"""Everything below /v1: model calls in OpenAI's and in Anthropic's form, and the list of models.

The answer is the provider's own with `usage` extended by `credits` and `usd` (rule D2), the request id and the
rate-limit headers. Written on bare ASGI: this is the path that thousands of calls a second take.
"""

from decimal import Decimal
from typing import Final

from accounts.rules.roles import ApiScope
from accounts.views import Environment, Principal
from app import anthropic_errors, openai_errors
from app.anthropic_form import MessagesForm, is_anthropic
from app.asgi import ClientGone, Headers, MethodNotAllowed, Receive, Scope, Send, request_id_of, send_json
from app.audio_form import SpeechForm, TranscriptionForm
from app.openai_form import OpenAIForm
from app.responses_form import ResponsesForm
from app.rest_door import Form, RestDoor
from billing.views import ModelView
from gateway.admission import likely_input, sandbox_routes
from gateway.errors import ModelNotFound, UpstreamFailed
from kit.errors import NotFound, Refusal, RequestFailure
from providers.base import JsonObject, Operation

_LISTED_AT_S: Final = 0
"""OpenAI's form wants a time of creation, which a catalog does not know."""
_ONE_PAGE: Final = {"has_more": False, "first_id": None, "last_id": None}
"""Anthropic's words for a list that is whole."""
CALL_PATHS: Final = frozenset(
    {
        "/v1/chat/completions",
        "/v1/embeddings",
        "/v1/images/generations",
        "/v1/audio/speech",
        "/v1/audio/transcriptions",
        "/v1/messages",
        "/v1/responses",
    }
)
"""Where model calls are made over REST."""
_COUNT_TOKENS: Final = "/v1/messages/count_tokens"


class OpenAIRest:
    """The ASGI application of everything below /v1."""

    def __init__(self, door: RestDoor) -> None:
        """`door` admits and carries out the calls of all paths."""
        self._door = door

        def rate() -> Decimal:
            return door.calls.snapshot.credits_per_usd

        self._forms: dict[str, Form] = {
            "/v1/chat/completions": OpenAIForm(Operation.CHAT, rate),
            "/v1/embeddings": OpenAIForm(Operation.EMBEDDING, rate),
            "/v1/images/generations": OpenAIForm(Operation.IMAGE, rate),
            "/v1/audio/speech": SpeechForm(rate),
            "/v1/audio/transcriptions": TranscriptionForm(rate),
            "/v1/messages": MessagesForm(rate),
            "/v1/responses": ResponsesForm(rate),
        }
        assert self._forms.keys() == CALL_PATHS, "each path has its form"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request; every failure is an error in the form of its path, never a bare 500 for what a client sent."""
        request_id = request_id_of(scope)
        headers: Headers = [(b"x-request-id", request_id.encode("ascii"))]
        errors = openai_errors
        if is_anthropic(scope):
            errors = anthropic_errors
            headers.append((b"request-id", request_id.encode("ascii")))
        try:
            await self._route(scope, receive, send, request_id, headers)
        except ClientGone:
            return
        except Refusal as refusal:
            if isinstance(refusal, UpstreamFailed) and refusal.final:  # an SDK need not try again
                headers.append((b"x-should-retry", b"false"))
            status, body = errors.of_refusal(refusal)
            await send_json(send, status, body, headers)
        except RequestFailure as failure:
            status, body, extra = errors.of_failure(failure)
            await send_json(send, status, body, [*headers, *extra])

    async def _route(self, scope: Scope, receive: Receive, send: Send, request_id: str, headers: Headers) -> None:
        path: str = scope["path"]
        form = self._forms.get(path)
        if form is not None or path == _COUNT_TOKENS:
            if scope["method"] != "POST":
                raise MethodNotAllowed("POST")
            if form is None:
                await self._count_tokens(scope, receive, send, request_id, headers)
            else:
                await self._door.call(form, scope, receive, send, request_id, headers)
            return
        if path == "/v1/models" or path.startswith("/v1/models/"):
            if scope["method"] not in {"GET", "HEAD"}:
                raise MethodNotAllowed("GET")
            await self._models(path, scope, send, headers)
            return
        raise NotFound(f"there is no {path[:200]} here; /openapi.json lists the paths there are")

    async def _count_tokens(
        self, scope: Scope, receive: Receive, send: Send, request_id: str, headers: Headers
    ) -> None:
        caller, model, body = await self._door.asked(self._forms["/v1/messages"], scope, receive, request_id, headers)
        tokens = likely_input(self._door.calls.snapshot, caller, model, body)
        await send_json(send, 200, {"input_tokens": tokens}, headers)

    async def _models(self, path: str, scope: Scope, send: Send, headers: Headers) -> None:
        principal, facts = await self._door.admit(scope, ApiScope.CALLS_READ)
        await self._door.pass_through(principal, facts, headers)
        snapshot = self._door.calls.snapshot
        test = principal.environment is Environment.TEST
        offered = [
            model
            for model in snapshot.models
            if model.enabled
            and snapshot.allowed(facts.plan, model)
            and _may(principal, model.slug)
            and (sandbox_routes(snapshot, model) if test else self._door.calls.offers.can_answer(model))
        ]
        anthropic = is_anthropic(scope)
        shown = _anthropic_object if anthropic else _openai_object
        offers = self._door.calls.offers
        if path == "/v1/models":
            if not test:
                offered += [model for model in await offers.own(facts) if _may(principal, model.slug)]
            page = {"object": "list", "data": [shown(model) for model in offered], **(_ONE_PAGE if anthropic else {})}
            await send_json(send, 200, page, headers)
            return
        slug = path.removeprefix("/v1/models/")
        found = next((model for model in offered if model.slug == slug), None)
        if found is None and not test and _may(principal, slug):
            found = await offers.by_key(facts.workspace_id, slug)
        if found is None:
            raise ModelNotFound(slug)
        await send_json(send, 200, shown(found), headers)


def _openai_object(model: ModelView) -> JsonObject:
    return {"id": model.slug, "object": "model", "created": _LISTED_AT_S, "owned_by": "tollgate"}


def _may(principal: Principal, slug: str) -> bool:
    return principal.allowed_models is None or slug in principal.allowed_models


def _anthropic_object(model: ModelView) -> JsonObject:
    return {
        "id": model.slug,
        "type": "model",
        "display_name": model.name,
        "created_at": "1970-01-01T00:00:00Z",
        "lifecycle": "active",
        "max_input_tokens": model.context_tokens,
        "max_tokens": model.max_output_tokens,
    }
