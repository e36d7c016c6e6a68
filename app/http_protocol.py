"""uvicorn's HTTP/1.1 protocol with one write per whole response, and each header looked at once.

uvicorn writes the head and the body of a response separately: two system calls here and two wake-ups of the client. This
keeps back the head of a response that states its Content-Length until its body comes, which the application sends at
once, and that of a stream whose application says so (BEFORE_BODY), as its first piece follows; the head of any other
stream goes out at once as ever. All else, reading, pipelining, flow control, 100-continue, time
limits and shutdown, is uvicorn's.
"""

import asyncio
import re
from typing import Final
from urllib.parse import unquote

import httptools
from uvicorn._types import ASGI3Application, ASGISendEvent
from uvicorn.protocols.http.httptools_impl import HEADER_RE, STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

_FORBIDDEN_IN_VALUES: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_PLAIN_PATH: Final = re.compile(rb"/[A-Za-z0-9_/.-]+")
_INVALID: Final = "Invalid HTTP request received."
_MOST_NAMES: Final = 1_000
BEFORE_BODY: Final = "tollgate.before_body"
"""Set in a response's start: its first body follows soon, so that the head may wait for it."""
BREAK_OFF: Final = "http.disconnect"
"""Sent as a message it closes the connection before the response's end, so that its client sees that it is not whole."""
_MOST_KEPT_BACK: Final = 1024 * 1024
"""A larger body is not worth being copied behind its head."""
_names: Final[dict[bytes, bytes]] = {}
"""Header names seen to be well-formed, with their lower case."""


class ResponseStarted(RuntimeError):
    """A second response was to be begun for one request."""


class HttpProtocol(HttpToolsProtocol):
    """One client's connection."""

    _quiet_since: float = 0.0
    """When the last response was complete, on the loop's clock; 0 once more has come. The timer of an idle connection
    looks at it when it rings: to cancel it and set another would cost each request more than its parsing."""

    def data_received(self, data: bytes) -> None:
        """Feed the parser."""
        self._quiet_since = 0.0
        parser = self.parser
        assert parser is not None, "it is dropped when the connection is lost"
        try:
            parser.feed_data(data)
        except httptools.HttpParserError:
            self.logger.warning(_INVALID)
            self.send_400_response(_INVALID)
        except httptools.HttpParserUpgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
            else:
                self._unsupported_upgrade_warning()

    def on_response_complete(self) -> None:
        """Go on with the request that waits behind this one, or let the connection be idle."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._quiet_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._wait_for_quiet(self.timeout_keep_alive)

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that was idle all the time; the response under way on another sets the timer again."""
        self.timeout_keep_alive_task = None
        if self.transport.is_closing() or not self._quiet_since:
            return
        left_s = self._quiet_since + self.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self._wait_for_quiet(left_s)
        else:
            self.transport.close()

    def _wait_for_quiet(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def on_headers_complete(self) -> None:
        """Start the request, or queue it behind the one under way."""
        parser = self.parser
        assert parser is not None, "it is dropped when the connection is lost"
        app: ASGI3Application = self.app  # pyright: ignore[reportAssignmentType, reportUnknownVariableType] -- uvicorn types it loosely
        http_version = parser.get_http_version()
        scope = self.scope
        scope["method"] = parser.get_method().decode("ascii")
        if http_version != "1.1":
            scope["http_version"] = http_version
        if parser.should_upgrade() and self._should_upgrade():
            return
        raw_path, query = self.url, b""
        if not _PLAIN_PATH.fullmatch(raw_path):
            url = httptools.parse_url(raw_path)
            raw_path, query = url.path, url.query or b""
        path = raw_path.decode("ascii")
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = raw_path
        scope["query_string"] = query
        before = self.cycle
        self.cycle = cycle = _Cycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=http_version != "1.0" and parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        if before is None or before.response_complete:  # pyright: ignore[reportUnnecessaryComparison] -- None at first
            self._start_asgi_task(cycle, app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, app))


class _Cycle(RequestResponseCycle):
    """One request with its response. `_head` is what is kept back of it."""

    _head: bytes = b""

    async def send(self, message: ASGISendEvent) -> None:
        """ASGI."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if message["type"] == "http.response.start" and not self.response_started:
            head = self._start(message["status"], [*self.default_headers, *message.get("headers", ())])
            whole = self.chunked_encoding is False and 0 < self.expected_content_length <= _MOST_KEPT_BACK
            if whole or (self.chunked_encoding and message.get(BEFORE_BODY)):
                self._head = head
            else:
                self.transport.write(head)
            return
        if message["type"] != "http.response.body" or not self.response_started or self.response_complete:
            if message["type"] == BREAK_OFF and self.response_started:
                self.disconnected = True
                self.transport.close()
                return
            kind = ResponseStarted if message["type"] == "http.response.start" else RuntimeError
            raise kind(f"{message['type']} has no place here")
        self._send_body(message.get("body", b""), more_body=message.get("more_body", False))

    def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
        """The head of the response; nothing has changed where a header is refused."""
        lines = [STATUS_LINE[status]]
        closes = False
        length: int | None = None
        chunked = False
        for given, value in headers:
            name = _names.get(given) or _checked_name(given)
            if name == b"content-length":
                length = int(value)
            elif name == b"transfer-encoding":
                chunked = value.lower() == b"chunked"
            elif name == b"connection":
                closes = closes or b"close" in [token.strip() for token in value.lower().split(b",")]
            lines += (name, b": ", value, b"\r\n")
        if _FORBIDDEN_IN_VALUES.search(b"".join([value for _, value in headers])):
            raise RuntimeError("a header's value has control characters")
        self.response_started = True
        self.waiting_for_100_continue = False
        if closes:
            self.keep_alive = False
        elif not self.keep_alive:
            lines.append(b"connection: close\r\n")
        if length is not None:
            self.chunked_encoding = False
            self.expected_content_length = length
        elif chunked:
            self.chunked_encoding = True
        elif self.scope["method"] != "HEAD" and status not in (204, 304):
            self.chunked_encoding = True
            lines.append(b"transfer-encoding: chunked\r\n")
        lines.append(b"\r\n")
        return b"".join(lines)

    def _send_body(self, body: bytes, *, more_body: bool) -> None:
        head, self._head = self._head, b""
        if self.scope["method"] == "HEAD":
            self.expected_content_length = 0
            content = head
        elif self.chunked_encoding:
            content = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            if not more_body:
                content += b"0\r\n\r\n"
            if head:
                content = head + content
        else:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0:
                raise RuntimeError("the response is longer than its Content-Length")
            content = head + body if head else body
        if content:
            self.transport.write(content)
        if not more_body:
            if self.expected_content_length:
                raise RuntimeError("the response is shorter than its Content-Length")
            self.response_complete = True
            self.message_event.set()
            if not self.keep_alive:
                self.transport.close()
            self.on_response()


def _checked_name(given: bytes) -> bytes:
    if HEADER_RE.search(given):
        raise RuntimeError("a header's name is malformed")
    if len(_names) < _MOST_NAMES:
        _names[given] = given.lower()
    return given.lower()
