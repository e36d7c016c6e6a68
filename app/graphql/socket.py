"""One WebSocket that speaks graphql-transport-ws: its messages, its operations, and why it is closed.

Each operation asks its source for the next event only when the last one was written to the socket, which waits for a
slow reader: between the source and the network nothing piles up.
"""

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

import orjson
from graphql import OperationType

from accounts.views import ANONYMOUS, Principal
from app.asgi import Message, Receive, Scope, Send, header
from app.graphql.asking import Asker, CredentialReader, EdgeSettings
from app.graphql.failures import DocumentRefused, ErrorObject, error_object, of_failure
from app.graphql.pipeline import Admitted, Pipeline
from app.graphql.requests import of_parameters
from app.graphql.revocation import until_revoked
from kit.errors import Forbidden, RequestFailure, Unauthenticated
from kit.ids import uuid7

PROTOCOL: Final = "graphql-transport-ws"
"""The older "graphql-ws" is not spoken: it has no way to refuse, and browsers' clients have left it."""
MAX_ID_LENGTH: Final = 100
MAX_REASON_BYTES: Final = 120

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Close:
    """A close code of the protocol, and its reason."""

    code: int
    reason: str


class Closing(Exception):
    """The socket must be closed."""

    def __init__(self, code: int, reason: str) -> None:
        """For the close frame."""
        super().__init__(reason)
        self.close = Close(code, reason)


class Socket:
    """One connection."""

    def __init__(
        self,
        pipeline: Pipeline,
        credentials: CredentialReader,
        settings: EdgeSettings,
        scope: Scope,
        receive: Receive,
        send: Send,
        address: str,
    ) -> None:
        """An accepted one."""
        self._pipeline = pipeline
        self._credentials = credentials
        self._settings = settings
        self._receive = receive
        self._send = send
        self._address = address
        self._authorization = header(scope, b"authorization")
        self._principal: Principal = ANONYMOUS
        self._initialised = False
        self._acknowledged = asyncio.Event()
        self._closed = False
        self._operations: dict[str, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Future[Any]] = set()

    async def run(self) -> None:
        """Read messages until the socket closes; its operations end with it."""
        watch = asyncio.ensure_future(self._watch())
        try:
            while True:
                message = await self._receive()
                if message["type"] == "websocket.disconnect":
                    self._closed = True
                    return
                await self._read(message)
        except Closing as closing:
            await self.close(closing.close)
        finally:
            watch.cancel()
            self._ending.add(watch)
            for task in self._operations.values():
                task.cancel()
            await asyncio.gather(watch, *self._operations.values(), return_exceptions=True)

    async def close(self, close: Close) -> None:
        """Close it once; upon which reading ends."""
        if self._closed:
            return
        self._closed = True
        reason = close.reason.encode("utf-8")[:MAX_REASON_BYTES].decode("utf-8", "ignore")
        with contextlib.suppress(OSError):
            await self._send({"type": "websocket.close", "code": close.code, "reason": reason})

    async def _read(self, message: Message) -> None:
        text: str | None = message.get("text")
        if text is None:
            raise Closing(4400, "Messages are texts")
        if len(text) > self._settings.max_body_bytes:
            raise Closing(1009, "The message is too big")
        try:
            parsed: object = orjson.loads(text)
        except orjson.JSONDecodeError:
            raise Closing(4400, "The message is not JSON") from None
        if not _is_map(parsed):
            raise Closing(4400, "The message is not an object")
        payload = parsed.get("payload")
        match parsed.get("type"):
            case "connection_init":
                await self._init(payload)
            case "ping":
                await self._write({"type": "pong"} if payload is None else {"type": "pong", "payload": payload})
            case "pong":
                pass
            case "subscribe":
                await self._subscribe(parsed.get("id"), payload)
            case "complete":
                self._complete(parsed.get("id"))
            case _:
                raise Closing(4400, "The message's type is not one of graphql-transport-ws")

    async def _init(self, payload: object) -> None:
        if self._initialised:
            raise Closing(4429, "Too many initialisation requests")
        self._initialised = True
        if payload is not None and not _is_map(payload):
            raise Closing(4400, "connection_init's payload is not an object")
        given = _authorization_in(payload) if payload else None
        if given is not None:
            self._authorization = given
        if self._authorization is not None:
            try:
                self._principal = await self._credentials.principal_of_text(self._authorization, self._address)
            except Unauthenticated as failure:
                raise Closing(4401, failure.message) from None
            except Forbidden as failure:
                raise Closing(4403, failure.message) from None
            except RequestFailure as failure:
                raise Closing(1013, failure.message) from None
        self._acknowledged.set()
        await self._write({"type": "connection_ack"})

    async def _subscribe(self, operation_id: object, payload: object) -> None:
        if not self._acknowledged.is_set():
            raise Closing(4401, "Unauthorized")
        if not isinstance(operation_id, str) or not 0 < len(operation_id) <= MAX_ID_LENGTH:
            raise Closing(4400, f"An operation's id is a text of 1 to {MAX_ID_LENGTH} characters")
        if operation_id in self._operations:
            raise Closing(4409, f"Subscriber for {operation_id} already exists")
        if not _is_map(payload):
            raise Closing(4400, "subscribe's payload is not an object")
        if len(self._operations) >= self._settings.operations_per_socket:
            message = f"one socket runs {self._settings.operations_per_socket} operations at a time"
            # Written before the next message is read, so that refusals do not pile up before a client that reads nothing.
            await self._write_errors(operation_id, [error_object(message, "RATE_LIMITED")])
            return
        task = asyncio.create_task(self._operate(operation_id, payload))
        self._operations[operation_id] = task
        task.add_done_callback(lambda done: self._forget(operation_id, done))

    def _complete(self, operation_id: object) -> None:
        if not isinstance(operation_id, str):
            raise Closing(4400, "complete's id is not a text")
        task = self._operations.pop(operation_id, None)
        if task is not None:
            task.cancel()
            self._finish(task)

    async def _operate(self, operation_id: str, payload: dict[str, object]) -> None:
        asker = Asker(self._principal, f"req_{uuid7().hex}", self._address)
        try:
            request = of_parameters(payload)
            operation = await self._pipeline.find(request, asker)
            admitted = await self._pipeline.admit(operation, request, asker)
            if operation.kind is OperationType.SUBSCRIPTION:
                async with contextlib.aclosing(self._pipeline.events(admitted)) as events:
                    async for event in events:
                        await self._write_next(operation_id, event)
                        # Neither a source that always has more nor a write to a client that is gone gives way, and who
                        # gives way to nobody never hears that the client is gone: the whole process would stand still.
                        await asyncio.sleep(0)
            else:
                await self._write_next(operation_id, await self._answer(admitted))
            await self._write({"id": operation_id, "type": "complete"})
        except DocumentRefused as refusal:
            await self._write_errors(operation_id, refusal.errors)
        except RequestFailure as failure:
            await self._write_errors(operation_id, [of_failure(failure)])
        except OSError:
            return  # the client is gone
        except Exception:  # a process edge: one operation's failure is not the socket's
            logger.exception("an operation over a socket failed, request %s", asker.request_id)
            message = f"something failed here; request id {asker.request_id}"
            await self._write_errors(operation_id, [error_object(message, "INTERNAL", requestId=asker.request_id)])

    async def _answer(self, admitted: Admitted) -> bytes:
        """A query's answer, or a mutation's, which is not broken off when the client leaves: what it does, it does."""
        if admitted.operation.kind is OperationType.QUERY:
            return await self._pipeline.answer(admitted)
        return await self._pipeline.answer_unbroken(admitted)

    async def _watch(self) -> None:
        """Close a socket that says nothing at first, or whose credential has ended; keep the others awake."""
        try:
            async with asyncio.timeout(self._settings.init_timeout_s):
                await self._acknowledged.wait()
        except TimeoutError:
            await self.close(Close(4408, "Connection initialisation timeout"))
            return
        beat = asyncio.ensure_future(self._beat())
        try:
            failure = await until_revoked(
                self._credentials, self._authorization, self._principal, self._address, self._settings.recheck_s
            )
            await self.close(Close(4401 if isinstance(failure, Unauthenticated) else 4403, failure.message))
        finally:
            beat.cancel()

    async def _beat(self) -> None:
        with contextlib.suppress(OSError):
            while not self._closed:
                await asyncio.sleep(self._settings.heartbeat_s)
                await self._write({"type": "ping"})

    async def _write(self, message: dict[str, object]) -> None:
        await self._write_text(orjson.dumps(message).decode())

    async def _write_next(self, operation_id: str, body: bytes) -> None:
        head = b'{"id":' + orjson.dumps(operation_id) + b',"type":"next","payload":'
        await self._write_text((head + body + b"}").decode())

    async def _write_errors(self, operation_id: str, errors: list[ErrorObject]) -> None:
        with contextlib.suppress(OSError):
            await self._write({"id": operation_id, "type": "error", "payload": errors})

    async def _write_text(self, text: str) -> None:
        if self._closed:
            raise ConnectionResetError("the socket is closed")
        await self._send({"type": "websocket.send", "text": text})

    def _forget(self, operation_id: str, task: asyncio.Task[None]) -> None:
        if self._operations.get(operation_id) is task:
            del self._operations[operation_id]

    def _finish(self, future: asyncio.Future[Any]) -> None:
        """Keep what still runs from being collected."""
        self._ending.add(future)
        future.add_done_callback(self._ending.discard)


def _authorization_in(payload: dict[str, object]) -> str | None:
    for name, value in payload.items():
        if name.lower() == "authorization" and isinstance(value, str):
            return value
    return None


def _is_map(value: object) -> TypeGuard[dict[str, object]]:
    """Whether a parsed JSON value is an object."""
    return isinstance(value, dict)
