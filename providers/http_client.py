"""A small pool of keep-alive HTTP/1.1 connections to providers, with timeouts kept by one sweeping timer."""

import asyncio
import ssl
from typing import Final

from providers.base import Timeouts
from providers.errors import NotReached, UpstreamTimeout, UpstreamUnavailable
from providers.http_connection import HttpConnection
from providers.http_exchange import Exchange
from providers.transport import Endpoint, HttpRequest

IDLE_KEPT_S: Final = 15.0
"""An unused connection is closed after this long, or sooner where the provider says so."""

MAX_CONNECTIONS: Final = 4096
"""Over all providers; a call that would need one more is refused."""

_SWEEP_S: Final = 0.05
_SLOW_SWEEP_S: Final = 1.0
_MARGIN_S: Final = 1.0
_Origin = tuple[str, str, int]


class KeepAliveTransport:
    """Serves HttpTransport. A request is sent once: on a connection found closed before the write another is taken.

    Timeouts are looked at every 50 ms, by the instant of the look before: what had come by then has been read since, so
    that a process which got no core takes no silence of its own for the provider's. Uses no proxy. Belongs to the event
    loop it was first used on.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        """`tls` None trusts the system's certificates."""
        self._tls = tls
        self._idle: dict[_Origin, list[HttpConnection]] = {}
        self._origins: dict[HttpConnection, _Origin] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self._swept_fast = False
        self._swept_at = 0.0
        self._connecting = 0
        self._closed = False
        self.opened = 0
        """Connections opened so far, for measurements of reuse."""

    @property
    def open_connections(self) -> int:
        """Connections open now, idle ones included."""
        return len(self._origins)

    async def send(self, request: HttpRequest) -> Exchange:
        """See HttpTransport."""
        if self._closed:
            raise UpstreamUnavailable("the gateway has closed its connections")
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        endpoint = request.endpoint
        connection = self._take_idle(endpoint, started_at)
        if connection is None:
            connection = await self._connect(loop, endpoint, request.timeouts)
        body = request.body
        own = "".join([f"{name}: {value}\r\n" for name, value in request.headers]) if request.headers else ""
        head = f"{own}X-Request-Id: {request.request_id}\r\nContent-Length: {len(body)}\r\n\r\n".encode("ascii")
        exchange = connection.start(endpoint.head + head, body, request.timeouts, request.max_answer_bytes, started_at)
        if not self._swept_fast:
            self._sweep_after(loop, _SWEEP_S)
        try:
            await exchange.until_headers()
        except BaseException:
            exchange.close()
            raise
        return exchange

    async def aclose(self) -> None:
        """See HttpTransport."""
        self._closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        for connection in list(self._origins):
            connection.close()
        await asyncio.sleep(0)  # lets the aborted transports report their loss

    def _take_idle(self, endpoint: Endpoint, at: float) -> HttpConnection | None:
        """The connection used last, so that surplus ones grow old and are closed."""
        idle = self._idle.get((endpoint.scheme, endpoint.host, endpoint.port))
        while idle:
            connection = idle.pop()
            if connection.usable:
                if at - connection.idle_since < _kept_s(connection):
                    return connection
                connection.close()
        return None

    async def _connect(self, loop: asyncio.AbstractEventLoop, endpoint: Endpoint, timeouts: Timeouts) -> HttpConnection:
        if len(self._origins) + self._connecting >= MAX_CONNECTIONS:
            raise NotReached("the gateway has too many connections to providers")
        tls = None
        if endpoint.scheme == "https":
            if self._tls is None:
                self._tls = ssl.create_default_context()
            tls = self._tls
        self._connecting += 1
        try:
            async with asyncio.timeout(min(timeouts.connect_s, timeouts.total_s)):
                _, connection = await loop.create_connection(
                    lambda: HttpConnection(loop, self._freed, self._lost),
                    endpoint.host,
                    endpoint.port,
                    ssl=tls,
                    server_hostname=endpoint.host if tls is not None else None,
                )
        except TimeoutError as error:
            raise UpstreamTimeout("connect") from error
        except (OSError, UnicodeError) as error:
            raise NotReached(f"no connection to the provider ({type(error).__name__})") from error
        finally:
            self._connecting -= 1
        if self._closed or not connection.usable:
            connection.close()
            raise NotReached("the connection to the provider closed at once")
        self.opened += 1
        self._origins[connection] = (endpoint.scheme, endpoint.host, endpoint.port)
        return connection

    def _freed(self, connection: HttpConnection) -> None:
        connection.idle_since = asyncio.get_running_loop().time()
        self._idle.setdefault(self._origins[connection], []).append(connection)

    def _lost(self, connection: HttpConnection) -> None:
        origin = self._origins.pop(connection, None)
        idle = self._idle.get(origin) if origin is not None else None
        if idle and connection in idle:
            idle.remove(connection)

    def _sweep_after(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
        self._swept_fast = seconds == _SWEEP_S
        self._sweeping = loop.call_later(seconds, self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Fail what is overdue, close what is old; once a second while all is idle, not at all while all is closed."""
        self._sweeping = None
        read_until, at = self._swept_at, loop.time()
        self._swept_at = at
        busy = 0
        for connection in list(self._origins):
            if connection.exchange is not None:
                busy += 1
                connection.check_time(read_until)
            elif at - connection.idle_since >= _kept_s(connection):
                connection.close()
        if busy:
            self._sweep_after(loop, _SWEEP_S)
        elif self._origins:
            self._sweep_after(loop, _SLOW_SWEEP_S)
        else:
            self._swept_fast = False


def _kept_s(connection: HttpConnection) -> float:
    """How long it stays idle: never up to the instant at which the provider would close it."""
    if connection.keep_alive_s is None:
        return IDLE_KEPT_S
    return max(0.0, min(IDLE_KEPT_S, connection.keep_alive_s - _MARGIN_S))
