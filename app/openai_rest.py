"""Model calls in OpenAI's REST form: /v1/chat/completions, /v1/embeddings, /v1/images/generations, /v1/models.

The answer is the provider's own with `usage` extended by `credits` and `usd` (rule D2), the request id and the
rate-limit headers. Written on bare ASGI: this is the path that thousands of calls a second take.
"""

from typing import Final

import orjson

from accounts.rules.roles import ApiScope
from accounts.views import Environment, Principal
from app.asgi import (
    ClientGone,
    Headers,
    Receive,
    Scope,
    Send,
    header,
    read_body,
    request_id_of,
    send_bytes,
    send_json,
)
from app.credentials import Credentials
from app.openai_errors import body_of, of_failure, of_refusal
from app.openai_form import answer_body, call_headers, failure_chunk, last_chunks, parse_object, watched
from app.sdk_retries import SdkRetries
from app.throttle import Throttle
from gateway.admission import sandbox_routes
from gateway.callers import WorkspaceFacts, Workspaces
from gateway.calls import Calls
from gateway.errors import RepeatedFailure
from gateway.streaming import CallStream, Streams
from gateway.views import Caller, CallRequest, StreamedEnd, StreamedEvent, StreamedFailure
from kit.errors import BadRequest, Forbidden, NotFound, Refusal, RequestFailure
from kit.ids import encode_id
from providers.base import JsonObject, Operation

MAX_BODY_BYTES: Final = 8 * 1024 * 1024
"""The largest body of a model call: room for a few pictures in a message."""

_CALLS: Final[dict[str, Operation]] = {
    "/v1/chat/completions": Operation.CHAT,
    "/v1/embeddings": Operation.EMBEDDING,
    "/v1/images/generations": Operation.IMAGE,
}
_LISTED_AT_S: Final = 0
"""OpenAI's form wants a time of creation, which a catalog does not know."""
_FIT: Final = b"x-tollgate-fit"
"""`true`: rather than be refused for lack of credits, a call's output limit is lowered to what the wallet can pay."""
_EVENT: Final = b"data: "
_END: Final = b"\n\n"


class OpenAIRest:
    """The ASGI application of everything below /v1."""

    def __init__(
        self,
        credentials: Credentials,
        workspaces: Workspaces,
        throttle: Throttle,
        calls: Calls,
        streams: Streams,
        retries: SdkRetries,
    ) -> None:
        """The parts of one process."""
        self._retries = retries
        self._credentials = credentials
        self._workspaces = workspaces
        self._throttle = throttle
        self._calls = calls
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request; every failure is an OpenAI error object, never a bare 500 for what a client sent."""
        request_id = request_id_of(scope)
        headers: Headers = [(b"x-request-id", request_id.encode("ascii"))]
        try:
            await self._route(scope, receive, send, request_id, headers)
        except ClientGone:
            return
        except Refusal as refusal:
            status, body = of_refusal(refusal)
            if isinstance(refusal, RepeatedFailure):  # the key gives this failure for ever: an SDK need not try again
                headers.append((b"x-should-retry", b"false"))
            await send_json(send, status, body, headers)
        except RequestFailure as failure:
            status, body, extra = of_failure(failure)
            await send_json(send, status, body, [*headers, *extra])

    async def _route(self, scope: Scope, receive: Receive, send: Send, request_id: str, headers: Headers) -> None:
        path: str = scope["path"]
        operation = _CALLS.get(path)
        if operation is not None:
            if scope["method"] != "POST":
                await _method_not_allowed(send, "POST", headers)
                return
            await self._call(operation, scope, receive, send, request_id, headers)
            return
        if path == "/v1/models" or path.startswith("/v1/models/"):
            if scope["method"] not in {"GET", "HEAD"}:
                await _method_not_allowed(send, "GET", headers)
                return
            await self._models(path, scope, send, headers)
            return
        raise NotFound(f"there is no {path[:200]} here; see the list of paths in the documentation")

    async def _admit(self, scope: Scope, scope_needed: ApiScope) -> tuple[Principal, WorkspaceFacts]:
        principal = await self._credentials.of_api_key(scope)
        if scope_needed not in principal.scopes:
            raise Forbidden(f"this API key lacks the scope {scope_needed.value}")
        assert principal.workspace_id is not None, "an API key belongs to a workspace"
        return principal, await self._workspaces.facts(principal.workspace_id)

    async def _call(
        self, operation: Operation, scope: Scope, receive: Receive, send: Send, request_id: str, headers: Headers
    ) -> None:
        principal, facts = await self._admit(scope, ApiScope.CALLS_WRITE)
        raw = await read_body(scope, receive, MAX_BODY_BYTES)
        asked = _asked(raw)
        streamed = operation is Operation.CHAT and asked[1].get("stream") is True
        with self._retries.none if streamed else await self._retries.begin(scope, principal, raw) as sending:
            caller, request = await self._asking(operation, principal, facts, asked, scope, request_id, headers)
            if streamed:
                async with watched(receive, self._streams.open(caller, request)) as stream:
                    await self._stream(stream, send, headers)
                return
            result = await sending.result(self._calls, caller, request)
        answer = answer_body(result, self._calls.snapshot.credits_per_usd)
        await send_bytes(send, 200, answer, b"application/json", [*headers, *call_headers(result)])

    async def _asking(
        self,
        operation: Operation,
        principal: Principal,
        facts: WorkspaceFacts,
        asked: tuple[str, JsonObject, RequestFailure | None],
        scope: Scope,
        request_id: str,
        headers: Headers,
    ) -> tuple[Caller, CallRequest]:
        """Who asks for what, once the limits have let it pass."""
        model, body, mistake = asked
        # A request that cannot be read counts as well, without a model's own bucket.
        known = self._calls.snapshot.models_by_slug.get(model)
        passage = await self._throttle.take(principal, facts, model=known)
        headers.extend(passage.headers)
        if mistake is not None:
            raise mistake
        caller = Caller(
            request_id=request_id,
            workspace_id=facts.workspace_id,
            wallet_id=facts.wallet_id,
            plan=facts.plan,
            user_id=None,
            api_key_id=principal.api_key_id,
            allowed_models=principal.allowed_models,
            concurrent_calls=facts.concurrent_calls,
            test=principal.environment is Environment.TEST,
            stored_days=facts.stored_days,
        )
        return caller, CallRequest(
            model,
            operation,
            body,
            idempotency_key=header(scope, b"idempotency-key"),
            cache=(header(scope, b"x-tollgate-cache") or "").strip().lower() == "on",
            fit=header(scope, _FIT) == "true",
        )

    async def _stream(self, stream: CallStream, send: Send, headers: Headers) -> None:
        rate = self._calls.snapshot.credits_per_usd
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    (b"content-type", b"text/event-stream; charset=utf-8"),
                    (b"cache-control", b"no-cache"),
                    (b"x-accel-buffering", b"no"),
                    (b"x-tollgate-call-id", encode_id("call", stream.call_id).encode("ascii")),
                    *headers,
                ],
            }
        )
        async for event in stream:
            match event:
                case StreamedEvent():
                    data = event.data if event.data is not None else orjson.dumps(event.parsed)
                    await send({"type": "http.response.body", "body": _EVENT + data + _END, "more_body": True})
                case StreamedEnd():
                    texts = [_EVENT + orjson.dumps(chunk) + _END for chunk in last_chunks(event, rate)]
                    await send({"type": "http.response.body", "body": b"".join([*texts, b"data: [DONE]\n\n"])})
                case StreamedFailure():
                    failed = orjson.dumps(failure_chunk(event, rate))
                    await send({"type": "http.response.body", "body": _EVENT + failed + _END})

    async def _models(self, path: str, scope: Scope, send: Send, headers: Headers) -> None:
        principal, facts = await self._admit(scope, ApiScope.CALLS_READ)
        passage = await self._throttle.take(principal, facts)
        headers.extend(passage.headers)
        snapshot = self._calls.snapshot
        test = principal.environment is Environment.TEST
        offered = [
            _model_object(model.slug, _LISTED_AT_S)
            for model in snapshot.models
            if model.enabled
            and snapshot.allowed(facts.plan, model)
            and _may(principal, model.slug)
            and (not test or sandbox_routes(snapshot, model))
        ]
        offers = self._calls.offers
        if path == "/v1/models":
            if not test:
                own = await offers.own(facts.workspace_id)
                offered += [_model_object(model.slug, _LISTED_AT_S) for model in own if _may(principal, model.slug)]
            await send_json(send, 200, {"object": "list", "data": offered}, headers)
            return
        slug = path.removeprefix("/v1/models/")
        for model in offered:
            if model["id"] == slug:
                await send_json(send, 200, model, headers)
                return
        found = None if test or not _may(principal, slug) else await offers.model(facts.workspace_id, slug)
        if found is not None and found.publisher is not None:
            await send_json(send, 200, _model_object(slug, _LISTED_AT_S), headers)
            return
        await send_json(
            send, 404, body_of(f"there is no model {slug[:100]!r}", "invalid_request_error", "model_not_found"), headers
        )


def _asked(raw: bytes) -> tuple[str, JsonObject, RequestFailure | None]:
    """The model's name and the body, or what is wrong with them."""
    try:
        body = parse_object(raw)
    except RequestFailure as failure:
        return "", {}, failure
    model = body.get("model")
    if not isinstance(model, str):
        return "", {}, BadRequest("model must be the name of a model, as a text")
    return model, body, None


def _may(principal: Principal, slug: str) -> bool:
    return principal.allowed_models is None or slug in principal.allowed_models


def _model_object(slug: str, created_s: int) -> JsonObject:
    return {"id": slug, "object": "model", "created": created_s, "owned_by": "tollgate"}


async def _method_not_allowed(send: Send, allowed: str, headers: Headers) -> None:
    body = body_of(f"this path takes {allowed} only", "invalid_request_error", "method_not_allowed")
    await send_json(send, 405, body, [*headers, (b"allow", allowed.encode("ascii"))])
