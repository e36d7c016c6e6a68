"""One operation's way through the edge, the same over HTTP, events and sockets: find its document, price it, charge
it, run it, and say what it answers.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Final

import orjson
from graphql import ExecutionResult, OperationType
from graphql.execution.values import VariableValues

from app.asgi import Headers
from app.graphql.asking import Asker, EdgeSettings, MakeContext
from app.graphql.document_mode import DocumentMode
from app.graphql.documents import PersistedQueries, TrustedDocuments, digest_of, not_found, persisted_digest
from app.graphql.failures import (
    DocumentRefused,
    ErrorObject,
    error_object,
    of_document_error,
    of_field_error,
    refused,
    throttled_whole,
)
from app.graphql.operations import Document, Operation, Operations
from app.graphql.points import Charge, Points
from app.graphql.requests import GraphQLRequest
from gateway.callers import Workspaces
from kit.errors import Forbidden, RequestFailure

MODEL_CALLS: Final = frozenset({"callModel", "startCall", "streamModel"})
"""Root fields that call a model: each takes a request from its workspace's bucket."""
CLOSING_S: Final = 30.0
"""How long closing waits for mutations whose clients have left."""

logger = logging.getLogger(__name__)


class TooSlow(RequestFailure):
    """A query took longer than the edge waits."""

    code = "INTERNAL"
    http_status = 503


@dataclass(frozen=True, slots=True)
class Admitted:
    """An operation that may run: parsed, valid, paid for."""

    operation: Operation
    variables: VariableValues
    charge: Charge
    asker: Asker

    @property
    def is_subscription(self) -> bool:
        """Whether it answers a stream."""
        return self.operation.kind is OperationType.SUBSCRIPTION

    @property
    def headers(self) -> Headers:
        """What is left in the bucket that limits first."""
        return self.charge.headers


class Pipeline:
    """One a process."""

    def __init__(
        self,
        *,
        operations: Operations,
        trusted: TrustedDocuments,
        persisted: PersistedQueries,
        points: Points,
        settings: EdgeSettings,
        make_context: MakeContext,
        workspaces: Workspaces | None,
    ) -> None:
        """`workspaces` answers the plans whose request buckets model calls of API keys take from."""
        self._operations = operations
        self._trusted = trusted
        self._persisted = persisted
        self._points = points
        self._settings = settings
        self._make_context = make_context
        self._workspaces = workspaces
        self._unbroken: set[asyncio.Task[bytes]] = set()

    async def find(self, request: GraphQLRequest, asker: Asker) -> Operation:
        """The operation that a request names. DocumentRefused, Forbidden or ThrottledRequest when there is none."""
        return (await self._document(request, asker)).operation(request.operation_name)

    async def admit(self, operation: Operation, request: GraphQLRequest, asker: Asker) -> Admitted:
        """Price and charge it. DocumentRefused for variables that do not fit and for a cost above the limit."""
        variables = operation.prepared.coerce(request.variables, hide_suggestions=asker.is_stranger)
        if isinstance(variables, list):
            raise DocumentRefused([of_document_error(error) for error in variables])
        requested, limit = operation.formula.requested(variables.coerced), self._settings.max_cost
        if requested > limit:
            message = f"this operation may cost {requested} points, and one may cost {limit} at most"
            raise DocumentRefused(
                [error_object(message, "QUERY_TOO_COMPLEX", requested=requested, limit=limit)],
                {"cost": {"requested": requested, "actual": 0, "limit": limit}},
            )
        model_calls = operation.count_of(MODEL_CALLS)
        facts = None
        if model_calls and self._workspaces is not None and asker.principal.api_key_id is not None:
            assert asker.principal.workspace_id is not None, "an API key belongs to a workspace"
            facts = await self._workspaces.facts(asker.principal.workspace_id)
        charge = await self._points.take(asker, requested, facts, model_calls)
        return Admitted(operation, variables, charge, asker)

    async def answer(self, admitted: Admitted) -> bytes:
        """Run a query or mutation: the response's JSON. RateLimited when buckets refused all of its root fields."""
        operation = admitted.operation
        if operation.introspection is not None:
            return self._told(admitted, operation.introspection, None)
        context = self._context(admitted)
        if operation.kind is OperationType.QUERY:
            try:
                async with asyncio.timeout(self._settings.query_timeout_s):
                    result = await operation.prepared.run(admitted.variables, context)
            except TimeoutError:
                raise TooSlow(f"the query took longer than {self._settings.query_timeout_s:g} s") from None
        else:
            result = await operation.prepared.run(admitted.variables, context)
        if operation.is_introspection and result.errors is None:
            operation.introspection = result.data
        throttled = throttled_whole(result.errors, result.data)
        if throttled is not None:
            raise throttled
        return self._told(admitted, result.data, result)

    async def answer_unbroken(self, admitted: Admitted) -> bytes:
        """The same, for a mutation whose client may leave meanwhile: what was begun is done to its end."""
        task = asyncio.create_task(self.answer(admitted))
        self._unbroken.add(task)
        task.add_done_callback(self._unbroken.discard)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Let mutations whose clients have left end."""
        if self._unbroken:
            await asyncio.wait(self._unbroken, timeout=CLOSING_S)

    async def events(self, admitted: Admitted) -> AsyncGenerator[bytes]:
        """Run a subscription: one response's JSON for each event."""
        prepared, variables = admitted.operation.prepared, admitted.variables
        async for result in prepared.events(variables, lambda: self._context(admitted)):
            yield self._dumped(admitted, self._response(admitted, result.data, result))

    def _context(self, admitted: Admitted) -> object:
        asker = admitted.asker
        return self._make_context(asker.principal, asker.request_id, asker.address)

    def _told(self, admitted: Admitted, data: dict[str, Any] | None, result: ExecutionResult | None) -> bytes:
        charge = admitted.charge
        actual = admitted.operation.formula.actual(data, charge.requested)
        self._points.refund(charge, actual)
        response = self._response(admitted, data, result)
        cost = {"requested": charge.requested, "actual": actual, "limit": self._settings.max_cost}
        response["extensions"] = {"cost": cost, "rateLimit": charge.told()}
        return self._dumped(admitted, response)

    def _response(
        self, admitted: Admitted, data: dict[str, Any] | None, result: ExecutionResult | None
    ) -> dict[str, object]:
        response: dict[str, object] = {}
        if result is not None and result.errors:
            request_id, name = admitted.asker.request_id, admitted.operation.name
            response["errors"] = [of_field_error(error, request_id, name) for error in result.errors]
        response["data"] = data
        return response

    def _dumped(self, admitted: Admitted, response: dict[str, object]) -> bytes:
        try:
            return orjson.dumps(response)
        except orjson.JSONEncodeError:
            # A scalar answered what JSON cannot say. The caller gets no data rather than half of it.
            request_id = admitted.asker.request_id
            logger.exception("operation %s has no JSON, request %s", admitted.operation.name, request_id)
            masked: ErrorObject = error_object(
                f"something failed here; request id {request_id}", "INTERNAL", requestId=request_id
            )
            return orjson.dumps({"errors": [masked], "data": None})

    async def _document(self, request: GraphQLRequest, asker: Asker) -> Document:
        if request.document_id is not None:
            trusted = self._trusted.by_id(request.document_id)
            if trusted is None:
                raise not_found()
            return trusted
        digest = persisted_digest(request.extensions) if "persistedQuery" in request.extensions else None
        text = request.query
        if digest is not None and text is not None and digest_of(text) != digest:
            raise refused("`extensions.persistedQuery.sha256Hash` is not the SHA-256 of `query`")
        if text is None:
            assert digest is not None, "a request has a query, a document id or a digest"
            trusted = self._trusted.by_id(digest)
            if trusted is not None:
                return trusted
            text = await self._persisted.text_of(digest)
            if text is None:
                raise not_found()
        if self._is_restricted(asker):
            trusted = self._trusted.by_text(text)
            if trusted is None:
                raise Forbidden("only trusted documents are run for you here; send `documentId`")
            return trusted
        document = self._operations.kept(text)
        if document is None:
            await self._points.take_document(asker)
            document = self._operations.read(text, hide_suggestions=asker.is_stranger)
        if digest is not None:
            await self._persisted.keep(digest, text)
        return document

    def _is_restricted(self, asker: Asker) -> bool:
        match self._settings.document_mode:
            case DocumentMode.TRUSTED_ONLY:
                return True
            case DocumentMode.TRUSTED_FOR_STRANGERS if asker.is_stranger:
                return True
            case _:
                return asker.principal.api_key_id in self._settings.trusted_only_keys
