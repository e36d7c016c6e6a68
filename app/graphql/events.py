"""Answers as a stream of server-sent events, one connection for each operation (the "distinct connections" mode).

The next event is asked for when the last one is written: a slow reader slows its source, and nothing piles up here.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from typing import Any, Final

import orjson
from graphql import OperationType

from app.asgi import Headers, Receive, Scope, Send, header
from app.graphql.asking import CredentialReader, EdgeSettings
from app.graphql.failures import error_object, of_failure
from app.graphql.pipeline import Admitted, Pipeline
from app.graphql.revocation import until_revoked
from kit.errors import RequestFailure, Unavailable

_HEARTBEAT: Final = b":\n\n"
_COMPLETE: Final = b"event: complete\ndata:\n\n"
CLOSING_S: Final = 5.0
"""How long closing waits for streams to say goodbye."""

logger = logging.getLogger(__name__)


class EventStreams:
    """The open streams of a process."""

    def __init__(self, pipeline: Pipeline, credentials: CredentialReader, settings: EdgeSettings) -> None:
        """One a process."""
        self._pipeline = pipeline
        self._credentials = credentials
        self._settings = settings
        self._closing = asyncio.Event()
        self._open: set[asyncio.Task[Any]] = set()

    async def serve(self, admitted: Admitted, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        """Stream one operation's answers until it ends, the client leaves, its credential does, or the process."""
        if len(self._open) >= self._settings.sockets:
            raise Unavailable("too many streams are open; try again in a moment")
        task = asyncio.current_task()
        assert task is not None, "a request runs in a task"
        self._open.add(task)
        watchers: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(_until_gone(receive)),
            asyncio.ensure_future(self._closing.wait()),
            asyncio.ensure_future(self._until_revoked(admitted, scope)),
        ]
        answers = self._answers(admitted)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _stream_headers(headers)})
            last = await self._pump(answers, send, watchers)
            await send({"type": "http.response.body", "body": last + _COMPLETE})
        except OSError:
            return  # the client is gone
        finally:
            for watcher in watchers:
                watcher.cancel()
            await asyncio.gather(*watchers, return_exceptions=True)
            await answers.aclose()
            self._open.discard(task)

    async def close(self) -> None:
        """Complete every stream."""
        self._closing.set()
        if self._open:
            await asyncio.wait(self._open, timeout=CLOSING_S)

    async def _pump(self, answers: AsyncGenerator[bytes], send: Send, watchers: list[asyncio.Future[Any]]) -> bytes:
        """Send answers as they come; returns what is still to be said before the end."""
        gone, closing, revoked = watchers
        upcoming: asyncio.Task[bytes] | None = None
        try:
            while True:
                upcoming = upcoming or asyncio.ensure_future(_next(answers))
                done, _ = await asyncio.wait(
                    [upcoming, *watchers],
                    timeout=self._settings.heartbeat_s,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if gone in done:
                    raise OSError("the client is gone")
                if revoked in done:
                    return _event(orjson.dumps({"errors": [of_failure(revoked.result())]}))
                if closing in done:
                    return b""
                if upcoming not in done:
                    await send({"type": "http.response.body", "body": _HEARTBEAT, "more_body": True})
                    continue
                answer, upcoming = upcoming.result(), None
                if not answer:
                    return b""
                await send({"type": "http.response.body", "body": _event(answer), "more_body": True})
        finally:
            if upcoming is not None:
                upcoming.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await upcoming

    async def _answers(self, admitted: Admitted) -> AsyncGenerator[bytes]:
        try:
            if admitted.operation.kind is not OperationType.SUBSCRIPTION:
                yield await self._pipeline.answer(admitted)
                return
            async with contextlib.aclosing(self._pipeline.events(admitted)) as events:
                async for event in events:
                    yield event
        except RequestFailure as failure:
            yield orjson.dumps({"errors": [of_failure(failure)]})
        except Exception:  # a process edge: the stream has begun, so its failure is its last event
            request_id = admitted.asker.request_id
            logger.exception("operation %s failed, request %s", admitted.operation.name, request_id)
            message = f"something failed here; request id {request_id}"
            yield orjson.dumps({"errors": [error_object(message, "INTERNAL", requestId=request_id)]})

    async def _until_revoked(self, admitted: Admitted, scope: Scope) -> RequestFailure:
        asker = admitted.asker
        return await until_revoked(
            self._credentials,
            header(scope, b"authorization"),
            asker.principal,
            asker.address,
            self._settings.recheck_s,
        )


async def _next(answers: AsyncGenerator[bytes]) -> bytes:
    """The next answer; empty at the end."""
    return await anext(answers, b"")


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _event(body: bytes) -> bytes:
    return b"event: next\ndata: " + body + b"\n\n"


def _stream_headers(headers: Headers) -> Headers:
    return [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-cache"),
        (b"x-accel-buffering", b"no"),
        *headers,
    ]
