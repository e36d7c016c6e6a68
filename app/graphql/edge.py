"""The GraphQL edge: what answers /graphql over HTTP, and hands sockets and event streams on."""

import logging
from typing import Final, NoReturn

import orjson
import strawberry
from graphql import OperationType

from app.asgi import ClientGone, Headers, Receive, Scope, Send, header, read_body, request_id_of, send_bytes
from app.graphql.asking import Asker, CredentialReader, EdgeSettings, MakeContext
from app.graphql.documents import PersistedQueries, TextStore, TrustedDocuments
from app.graphql.events import EventStreams
from app.graphql.failures import (
    DocumentRefused,
    ErrorObject,
    MethodNotAllowed,
    NotAcceptable,
    Outcome,
    UnsupportedMediaType,
    error_object,
    of_failure,
    status_of,
)
from app.graphql.negotiation import GRAPHQL_RESPONSE, JSON, Acceptance, accepted, is_json_body
from app.graphql.operations import Operations
from app.graphql.origins import Origins
from app.graphql.page import ASSETS_PATH, Page
from app.graphql.pipeline import Admitted, Pipeline
from app.graphql.points import Buckets, Points
from app.graphql.requests import GraphQLRequest, of_body, of_query_string
from app.graphql.sockets import Sockets
from app.throttle import ThrottledRequest
from gateway.callers import Workspaces
from kit.errors import Forbidden, NotFound, RateLimited, RequestFailure, Unauthenticated, Unavailable

logger = logging.getLogger(__name__)

_CONTENT_TYPES: Final = {
    GRAPHQL_RESPONSE: b"application/graphql-response+json; charset=utf-8",
    JSON: b"application/json; charset=utf-8",
}


class GraphQLEdge:
    """The ASGI application of /graphql and what lies below it."""

    def __init__(
        self,
        schema: strawberry.Schema,
        credentials: CredentialReader,
        limiter: Buckets,
        make_context: MakeContext,
        settings: EdgeSettings,
        store: TextStore | None,
        workspaces: Workspaces | None = None,
    ) -> None:
        """`store`: Redis, for persisted queries. UntrustedManifest where the manifest of trusted documents is wrong."""
        operations = Operations(schema, settings.limits, settings.introspection)
        self._settings = settings
        self._credentials = credentials
        self._origins = Origins(settings.allowed_origins)
        self._page = Page() if settings.graphiql else None
        self._points = Points(limiter, settings)
        self._pipeline = Pipeline(
            operations=operations,
            trusted=TrustedDocuments.load(settings.trusted_documents, operations),
            persisted=PersistedQueries(store),
            points=self._points,
            settings=settings,
            make_context=make_context,
            workspaces=workspaces,
        )
        self._events = EventStreams(self._pipeline, credentials, settings)
        self._sockets = Sockets(self._pipeline, credentials, self._origins, settings)

    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Whatever a client sends, the answer is JSON with a code, or GraphiQL's files."""
        request_id = request_id_of(scope)
        headers: Headers = [(b"x-request-id", request_id.encode("ascii"))]
        acceptance = accepted(header(scope, b"accept"))
        try:
            headers += self._origins.headers(scope)
            if scope["path"] != "/graphql":
                await self._asset(scope, send, headers)
            elif scope["method"] == "POST":
                await self._post(scope, receive, send, request_id, headers, acceptance)
            elif scope["method"] == "GET":
                await self._get(scope, receive, send, request_id, headers, acceptance)
            elif scope["method"] == "OPTIONS":
                await self._options(scope, send, headers)
            elif scope["method"] == "HEAD" and self._page is not None and acceptance.html:
                await self._page.send_page(scope, send, headers)
            else:
                _refuse_method()
        except ClientGone:
            return
        except DocumentRefused as refusal:
            status = status_of(Outcome.REFUSED_DOCUMENT, 0, legacy=acceptance.legacy)
            await _send_errors(send, status, refusal.errors, headers, acceptance, refusal.extensions)
        except RequestFailure as failure:
            status = status_of(Outcome.FAILED, failure.http_status, legacy=acceptance.legacy)
            headers += _headers_of(failure)
            await _send_errors(send, status, [of_failure(failure)], headers, acceptance)
        except Exception:  # a process edge: what nobody foresaw is told by its request id only
            logger.exception("request %s to %s failed", request_id, scope["path"])
            masked = error_object(f"something failed here; request id {request_id}", "INTERNAL", requestId=request_id)
            await _send_errors(send, 500, [masked], headers, acceptance)

    async def websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one socket for as long as it lives."""
        await self._sockets.serve(scope, receive, send)

    async def close(self) -> None:
        """End every stream and socket in order, because the process stops."""
        await self._sockets.close()
        await self._events.close()
        await self._pipeline.close()
        await self._points.close()

    async def _post(
        self, scope: Scope, receive: Receive, send: Send, request_id: str, headers: Headers, acceptance: Acceptance
    ) -> None:
        if not self._origins.admits(scope):
            raise Forbidden("pages of this origin may not ask here")
        if acceptance.json is None and not acceptance.events:
            raise NotAcceptable(f"answers are {GRAPHQL_RESPONSE}, {JSON} or text/event-stream")
        if not is_json_body(header(scope, b"content-type")):
            raise UnsupportedMediaType("send the request as application/json, in UTF-8")
        principal = await self._credentials.principal_of(scope)
        settings = self._settings
        limit = settings.stranger_max_body_bytes if principal.is_anonymous else settings.max_body_bytes
        request = of_body(await read_body(scope, receive, limit))
        asker = Asker(principal, request_id, self._credentials.address_of(scope))
        await self._run(request, asker, scope, receive, send, headers, acceptance)

    async def _get(
        self, scope: Scope, receive: Receive, send: Send, request_id: str, headers: Headers, acceptance: Acceptance
    ) -> None:
        query_string: bytes = scope["query_string"]
        if not query_string and acceptance.html and self._page is not None:
            await self._page.send_page(scope, send, headers)
            return
        if acceptance.json is None and not acceptance.events:
            raise NotAcceptable(f"answers are {GRAPHQL_RESPONSE}, {JSON} or text/event-stream")
        principal = await self._credentials.principal_of(scope)
        request = of_query_string(query_string)
        asker = Asker(principal, request_id, self._credentials.address_of(scope))
        await self._run(request, asker, scope, receive, send, headers, acceptance)

    async def _run(
        self,
        request: GraphQLRequest,
        asker: Asker,
        scope: Scope,
        receive: Receive,
        send: Send,
        headers: Headers,
        acceptance: Acceptance,
    ) -> None:
        operation = await self._pipeline.find(request, asker)
        if operation.kind is OperationType.MUTATION and scope["method"] == "GET":
            raise MethodNotAllowed("a mutation is sent by POST", "POST")
        streams = operation.kind is OperationType.SUBSCRIPTION or acceptance.json is None
        if streams and not acceptance.events:
            raise NotAcceptable("a subscription is answered as text/event-stream, or over a WebSocket")
        admitted = await self._pipeline.admit(operation, request, asker)
        headers += admitted.headers
        if streams:
            await self._events.serve(admitted, scope, receive, send, headers)
        else:
            await self._answer(admitted, send, headers, acceptance)

    async def _answer(self, admitted: Admitted, send: Send, headers: Headers, acceptance: Acceptance) -> None:
        body = await self._pipeline.answer(admitted)
        status = status_of(Outcome.ANSWERED, 0, legacy=acceptance.legacy)
        assert acceptance.json is not None, "asked before it ran"
        await send_bytes(send, status, body, _CONTENT_TYPES[acceptance.json], headers)

    async def _asset(self, scope: Scope, send: Send, headers: Headers) -> None:
        path: str = scope["path"]
        if self._page is None or not path.startswith(ASSETS_PATH):
            raise NotFound(f"there is nothing at {path[:200]}")
        if scope["method"] not in {"GET", "HEAD"}:
            raise MethodNotAllowed("files are read by GET", "GET, HEAD")
        await self._page.send_asset(scope, send, headers)

    async def _options(self, scope: Scope, send: Send, headers: Headers) -> None:
        sent = self._origins.preflight(scope) or headers
        sent = [*sent, (b"allow", b"GET, POST, OPTIONS"), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 204, "headers": sent})
        await send({"type": "http.response.body", "body": b""})


def _refuse_method() -> NoReturn:
    raise MethodNotAllowed("GraphQL is asked by GET and POST")


async def _send_errors(
    send: Send,
    status: int,
    errors: list[ErrorObject],
    headers: Headers,
    acceptance: Acceptance,
    extensions: dict[str, object] | None = None,
) -> None:
    """An answer without `data`: nothing ran."""
    body: dict[str, object] = {"errors": errors}
    if extensions is not None:
        body["extensions"] = extensions
    await send_bytes(send, status, orjson.dumps(body), _CONTENT_TYPES[acceptance.json or JSON], headers)


def _headers_of(failure: RequestFailure) -> Headers:
    match failure:
        case ThrottledRequest():
            return failure.headers
        case RateLimited():
            return [(b"retry-after", str(failure.retry_after_s).encode("ascii"))]
        case MethodNotAllowed():
            return [(b"allow", failure.allow.encode("ascii"))]
        case UnsupportedMediaType():
            return [(b"accept-post", b"application/json")]
        case Unauthenticated():
            return [(b"www-authenticate", b'Bearer realm="tollgate"')]
        case Unavailable():
            return [(b"retry-after", b"1")]
        case _:
            return []
