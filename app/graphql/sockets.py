"""The open sockets of a process: which are let in, and how all are closed."""

import asyncio
import logging
from collections import Counter
from typing import Final

from app.asgi import Receive, Scope, Send, request_id_of
from app.graphql.asking import CredentialReader, EdgeSettings
from app.graphql.origins import Origins
from app.graphql.pipeline import Pipeline
from app.graphql.socket import PROTOCOL, Close, Socket

CLOSING_S: Final = 5.0
"""How long closing waits for sockets to end."""
UNACCEPTABLE_PROTOCOL: Final = Close(4406, "Subprotocol not acceptable")
TOO_MANY: Final = Close(1013, "Too many connections")
GOING_AWAY: Final = Close(1001, "Going away")

logger = logging.getLogger(__name__)


class Sockets:
    """Lets sockets in and keeps track of them."""

    def __init__(
        self, pipeline: Pipeline, credentials: CredentialReader, origins: Origins, settings: EdgeSettings
    ) -> None:
        """One a process."""
        self._pipeline = pipeline
        self._credentials = credentials
        self._origins = origins
        self._settings = settings
        self._open: dict[Socket, asyncio.Task[object]] = {}
        self._by_address: Counter[str] = Counter()
        self._closing = False

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One socket's whole life. Pages of other origins are refused with 403 before it opens."""
        message = await receive()
        if message["type"] != "websocket.connect":
            return
        if scope["path"] != "/graphql" or not self._origins.admits(scope) or self._closing:
            await send({"type": "websocket.close", "code": 1008})
            return
        address = self._credentials.address_of(scope)
        refusal = self._refusal(scope, address)
        await send({"type": "websocket.accept", "subprotocol": None if refusal else PROTOCOL})
        if refusal is not None:
            await send({"type": "websocket.close", "code": refusal.code, "reason": refusal.reason})
            return
        socket = Socket(self._pipeline, self._credentials, self._settings, scope, receive, send, address)
        task = asyncio.current_task()
        assert task is not None, "a socket is served in a task"
        self._open[socket] = task
        self._by_address[address] += 1
        try:
            await socket.run()
        except Exception:  # a process edge: one socket's failure is not another's
            logger.exception("a socket failed, request %s", request_id_of(scope))
            await socket.close(Close(1011, "Internal error"))
        finally:
            del self._open[socket]
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]

    async def close(self) -> None:
        """Close every socket with 1001, upon which clients connect again, to another process."""
        self._closing = True
        if not self._open:
            return
        tasks = list(self._open.values())
        await asyncio.gather(*[socket.close(GOING_AWAY) for socket in self._open], return_exceptions=True)
        await asyncio.wait(tasks, timeout=CLOSING_S)

    def _refusal(self, scope: Scope, address: str) -> Close | None:
        if PROTOCOL not in scope.get("subprotocols", ()):
            return UNACCEPTABLE_PROTOCOL
        if len(self._open) >= self._settings.sockets:
            return TOO_MANY
        if self._by_address[address] >= self._settings.sockets_per_address:
            return TOO_MANY
        return None
