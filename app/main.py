"""The ASGI application: which part answers which path, in which order, and the boundary where failures end.

request id -> error boundary -> /v1/… (bare ASGI, the hot path) | /graphql | health | payment pages and webhooks | assets |
webhooks of providers | pages of mail links | pages of published models | 404
"""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from types import FrameType
from typing import Final

from app import openapi
from app.asgi import ClientGone, Headers, Receive, Scope, Send, request_id_of, send_json
from app.asset_files import PATH as ASSET_PATH
from app.busy_polling import BusyPolling
from app.collector import calm_collector
from app.exports import PATHS as EXPORT_PATHS
from app.health import PATHS as HEALTH_PATHS
from app.http_protocol import ResponseStarted
from app.lifespan import Services, open_services
from app.logs import configure_logging
from app.model_index import PATHS as INDEX_PATHS
from app.openai_rest import CALL_PATHS
from app.pages import PATHS as PAGE_PATHS
from app.payment_pages import PATHS as PAYMENT_PATHS
from app.provider_webhooks import PATH as PROVIDER_WEBHOOK_PATH
from app.settings import Settings
from kit.errors import Refusal, RequestFailure
from metering.errors import JournalUnusable
from models.schema_check import SchemaError

logger = logging.getLogger(__name__)

SignalHandler = Callable[[int, FrameType | None], object]
_MENDABLE: Final = (Refusal, RequestFailure, JournalUnusable, SchemaError)
"""Why a start fails that an operator can mend: a sentence, no traceback."""


class Tollgate:
    """One process's application. Its parts are opened by the lifespan's start and closed, drained, by its end."""

    def __init__(self, settings: Settings) -> None:
        """`settings` name servers that answer; `tollgate run` starts embedded ones first."""
        self._settings = settings
        self._stack = AsyncExitStack()
        self._services: Services | None = None
        self.polling = BusyPolling(settings.busy_poll_us)
        """Keeps this process from sleeping while it carries out model calls."""

    @property
    def services(self) -> Services:
        """The parts; only between the lifespan's start and end."""
        assert self._services is not None, "the application has not started"
        return self._services

    def started(self) -> None:
        """Called once, when the parts are open."""

    async def end_streams(self) -> None:
        """Before the server stops: sockets and event streams are told why they end."""
        if self._services is not None:
            await self._services.graphql.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if self._services is not None and self._services.otel is not None and scope["type"] != "lifespan":
            self._services.otel.attach(scope)
        match scope["type"]:
            case "http":
                await self._http(scope, receive, send)
            case "websocket":
                await self.services.graphql.websocket(scope, receive, send)
            case "lifespan":
                await self._lifespan(receive, send)
            case _:
                raise AssertionError(f"unknown ASGI scope {scope['type']}")

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["path"] in CALL_PATHS:  # thousands a second
                self.polling.go_on()
                await self.services.rest(scope, receive, send)
                self.polling.go_on()
            else:
                await self._route(scope, receive, send)
        except ClientGone:
            return
        except Exception as error:  # a process edge: whatever was not foreseen ends here, told by its request id only
            request_id = request_id_of(scope)
            headers: Headers = [(b"x-request-id", request_id.encode("ascii"))]
            if isinstance(error, RequestFailure):
                status, code, message = error.http_status, error.code, error.message
            else:
                status, code, message = 500, "INTERNAL", f"something failed here; request id {request_id}"
                logger.exception("request %s to %s failed", request_id, scope["path"])
            with contextlib.suppress(ResponseStarted):  # then the server closes the connection: the answer is cut short
                await send_json(send, status, {"error": {"message": message, "code": code}}, headers)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        services = self.services
        if path in EXPORT_PATHS:
            await services.exports(scope, receive, send)
        elif services.partner_rest.serves(path):
            await services.partner_rest(scope, receive, send)
        elif services.batch_rest.serves(path):
            await services.batch_rest(scope, receive, send)
        elif path.startswith("/v1/"):
            await services.rest(scope, receive, send)
        elif path == "/graphql" or path.startswith("/graphql/"):
            await services.graphql.http(scope, receive, send)
        elif path == openapi.PATH:
            await openapi.serve(scope, send)
        elif path in HEALTH_PATHS:
            await services.health(scope, send)
        elif path in PAYMENT_PATHS:
            await services.payment_pages(scope, receive, send)
        elif path.startswith(ASSET_PATH):
            await services.asset_files(scope, send)
        elif path.startswith(PROVIDER_WEBHOOK_PATH):
            await services.provider_webhooks(scope, receive, send)
        elif path in PAGE_PATHS:
            await services.pages(scope, receive, send)
        elif path in INDEX_PATHS:
            await services.model_index(scope, send)
        elif path.startswith("/m/"):
            await services.model_pages(scope, receive, send)
        else:
            request_id = request_id_of(scope).encode("ascii")
            body = {"error": {"message": f"there is nothing at {path[:200]}", "code": "NOT_FOUND"}}
            await send_json(send, 404, body, [(b"x-request-id", request_id)])

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    self._services = await self._stack.enter_async_context(open_services(self._settings))
                except _MENDABLE as error:  # the server's log says it
                    await send({"type": "lifespan.startup.failed", "message": f"could not start: {error}"})
                    return
                except Exception as error:  # a process edge: the server says why it does not start
                    logger.exception("could not start")
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                self.started()
                calm_collector()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self._stack.aclose()
                await send({"type": "lifespan.shutdown.complete"})
                return


class WorkerProcess(Tollgate):
    """The application of one of several worker processes, whose server is uvicorn's own.

    That server closes connections before it tells the application; so the signal is taken first, streams are ended,
    and then the server gets its signal.
    """

    def started(self) -> None:
        """Stand before the server's own handlers."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            servers_own = signal.getsignal(number)
            if callable(servers_own):
                signal.signal(number, partial(self._stop, loop, servers_own))

    def _stop(
        self, loop: asyncio.AbstractEventLoop, servers_own: SignalHandler, number: int, frame: FrameType | None
    ) -> None:
        async def in_order() -> None:
            await self.end_streams()
            servers_own(number, frame)

        asyncio.run_coroutine_threadsafe(in_order(), loop)


def create_app() -> Tollgate:
    """For a server that makes its own worker processes: the settings come from the environment."""
    settings = Settings.from_environment(os.environ)
    configure_logging(settings.log_level)
    settings.check_complete()
    return WorkerProcess(settings)
