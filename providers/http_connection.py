"""One keep-alive HTTP/1.1 connection to a provider: a request out, its answer in, one at a time."""

import asyncio
from collections.abc import Callable
from typing import Final, cast

import httptools

from providers.base import Timeouts
from providers.errors import ProviderError, UpstreamGarbage, UpstreamTimeout, UpstreamUnavailable
from providers.http_exchange import Exchange
from providers.transport import MAX_HEAD_BYTES

_ONE_WRITE_BYTES: Final = 64 * 1024


class HttpConnection(asyncio.Protocol):
    """The protocol object of one connection. `on_free` is called when it may serve again, `on_lost` when it is gone."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_free: Callable[["HttpConnection"], None],
        on_lost: Callable[["HttpConnection"], None],
    ) -> None:
        """Hand it to `loop.create_connection`."""
        self._loop = loop
        self._on_free = on_free
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._exchange: Exchange | None = None
        self._interim = False
        self._excess = False
        self._keep_alive = False
        self._paused = False
        self.usable = False
        self.idle_since = 0.0
        self.keep_alive_s: float | None = None

    def start(self, request: bytes, body: bytes, timeouts: Timeouts, limit: int, started_at: float) -> Exchange:
        """Send a request on a connection that is free and usable."""
        transport = self._transport
        assert transport is not None
        assert self._exchange is None
        exchange = Exchange(self, self._loop, timeouts, limit, started_at)
        self._exchange = exchange
        if len(body) <= _ONE_WRITE_BYTES:
            transport.write(request + body)
        else:
            transport.write(request)
            transport.write(body)
        return exchange

    @property
    def exchange(self) -> Exchange | None:
        """The exchange under way."""
        return self._exchange

    def check_time(self, at: float) -> None:
        """Fail the exchange where it is overdue. While its reader is slow, silence is not the provider's."""
        exchange = self._exchange
        if exchange is None:
            return
        phase = exchange.overdue(at)
        if phase is None or (phase == "idle" and self._paused):
            return
        self._fail(UpstreamTimeout(phase))

    def resume(self, exchange: Exchange) -> None:
        """The reader of this exchange has room again."""
        if self._paused and self._exchange is exchange and self._transport is not None:
            self._paused = False
            exchange.last_at = self._loop.time()
            self._transport.resume_reading()

    def abandon(self, exchange: Exchange) -> None:
        """The reader of this exchange has gone."""
        if self._exchange is exchange:
            self._fail(UpstreamUnavailable("the call was abandoned"))

    def close(self) -> None:
        """Close at once, failing what is under way."""
        if self._exchange is not None:
            self._fail(UpstreamUnavailable("the gateway closed its connections"))
        else:
            self._drop()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is ready."""
        # uvloop's transports are asyncio's by shape, not by class.
        self._transport = cast("asyncio.Transport", transport)
        self.usable = True

    def data_received(self, data: bytes) -> None:
        """Feed the parser; a provider that speaks out of turn loses the connection."""
        exchange = self._exchange
        if exchange is None:
            self._drop()
            return
        exchange.received_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(UpstreamGarbage("the provider switched to another protocol"))
            return
        except httptools.HttpParserError:
            if not exchange.complete:
                self._fail(UpstreamGarbage("the provider's answer is not HTTP"))
                return
            self._excess = True
        if exchange.complete:
            self._end_exchange()
        elif exchange.received_bytes > exchange.max_answer_bytes:
            self._fail(UpstreamGarbage(f"the provider's answer is longer than {exchange.max_answer_bytes} bytes"))
        elif not exchange.headers_done and exchange.received_bytes > MAX_HEAD_BYTES:
            self._fail(UpstreamGarbage(f"the headers of the provider's answer exceed {MAX_HEAD_BYTES} bytes"))
        else:
            exchange.wake()

    def eof_received(self) -> bool:
        """Close our side, too."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone; this ends an answer that has no other end, and breaks any other."""
        self.usable = False
        exchange = self._exchange
        if exchange is not None:
            if exchange.headers_done and exchange.ends_with_connection and exc is None:
                exchange.complete = True
                self._exchange = None
                exchange.wake()
            elif exchange.headers_done:
                self._fail(UpstreamGarbage("the provider broke off in the middle of its answer"))
            else:
                self._fail(UpstreamUnavailable("the provider closed the connection without an answer"))
        self._transport = None
        self._on_lost(self)

    # httptools' callbacks

    def on_message_begin(self) -> None:
        """A second answer to one request is an excess."""
        if self._exchange is not None and self._exchange.complete:
            self._excess = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep headers, not trailers; of repeated ones the last."""
        exchange = self._exchange
        if exchange is not None and not exchange.headers_done:
            exchange.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Skip interim answers (1xx)."""
        exchange = self._exchange
        assert exchange is not None
        if exchange.complete:
            return
        status = self._parser.get_status_code()
        self._interim = status < 200
        if self._interim:
            exchange.headers.clear()
            return
        exchange.status = status
        exchange.headers_done = True
        exchange.ends_with_connection = (
            b"content-length" not in exchange.headers and b"transfer-encoding" not in exchange.headers
        )

    def on_body(self, body: bytes) -> None:
        """Hand on a part of the body."""
        exchange = self._exchange
        if exchange is None or exchange.complete:
            return
        exchange.last_at = self._loop.time()
        if exchange.add(body) and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """The answer is whole."""
        exchange = self._exchange
        if exchange is None or self._interim:
            return
        exchange.complete = True
        self._keep_alive = self._parser.should_keep_alive()

    def _end_exchange(self) -> None:
        """Free the connection, or close it where its state is not certainly clean."""
        exchange = self._exchange
        transport = self._transport
        assert exchange is not None
        assert transport is not None
        self._exchange = None
        if self._paused:
            self._paused = False
            transport.resume_reading()
        if self._keep_alive and not self._excess and transport.get_write_buffer_size() == 0:
            self.keep_alive_s = _keep_alive_s(exchange.headers.get(b"keep-alive"))
            self._on_free(self)
        else:
            self._drop()
        exchange.wake()

    def _fail(self, error: ProviderError) -> None:
        exchange = self._exchange
        assert exchange is not None
        self._exchange = None
        exchange.error = error
        self._drop()
        exchange.wake()

    def _drop(self) -> None:
        self.usable = False
        if self._transport is not None:
            self._transport.abort()


def _keep_alive_s(value: bytes | None) -> float | None:
    """The seconds of a `Keep-Alive: timeout=N` header."""
    if value is None:
        return None
    for field in value.split(b","):
        name, _, seconds = field.strip().partition(b"=")
        if name.lower() == b"timeout" and seconds.isdigit() and len(seconds) < 6:
            return float(seconds)
    return None
