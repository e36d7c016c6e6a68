"""The same transport on aiohttp: the yardstick of ours, and the way through a proxy of the environment."""

import asyncio
import io
from collections.abc import Callable
from typing import Final

import aiohttp
import yarl

from providers.base import Timeouts
from providers.errors import (
    NotReached,
    ProviderError,
    TimeoutPhase,
    UpstreamGarbage,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from providers.transport import Endpoint, HttpRequest

MAX_CONNECTIONS: Final = 4096
_STREAMED_BODY_BYTES: Final = 1024 * 1024
_FINISH_WITHIN_S: Final = 0.25
_UNANSWERED: Final = "the provider closed the connection without an answer"
_BROKEN_OFF: Final = "the provider broke off in the middle of its answer"


class AiohttpAnswer:
    """Serves HttpAnswer."""

    __slots__ = ("_begun", "_complete", "_deadline", "_first_byte_at", "_loop", "_response", "_room_bytes", "_timeouts")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        response: aiohttp.ClientResponse,
        request: HttpRequest,
        started_at: float,
        first_byte_at: float,
    ) -> None:
        """`first_byte_at` is until when the body may take to begin, by the loop's clock."""
        self._loop = loop
        self._response = response
        self._timeouts = request.timeouts
        self._room_bytes = request.max_answer_bytes
        self._deadline = started_at + request.timeouts.total_s
        self._first_byte_at = first_byte_at
        self._begun = False
        self._complete = False

    @property
    def status(self) -> int:
        """See HttpAnswer."""
        return self._response.status

    def header(self, name: str) -> str:
        """See HttpAnswer."""
        return self._response.headers.get(name, "")

    async def next_part(self) -> bytes:
        """See HttpAnswer."""
        wait_until = self._loop.time() + self._timeouts.idle_s if self._begun else self._first_byte_at
        phase: TimeoutPhase = "idle" if self._begun else "first_byte"
        if self._deadline < wait_until:
            wait_until, phase = self._deadline, "total"
        try:
            async with asyncio.timeout_at(wait_until):
                part = await self._response.content.readany()
        except TimeoutError as error:
            self.close()
            raise UpstreamTimeout(phase) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            self.close()
            raise UpstreamGarbage(_BROKEN_OFF) from error
        except asyncio.CancelledError:
            self.close()
            raise
        self._begun = True
        self._complete = not part
        self._room_bytes -= len(part)
        if self._room_bytes < 0:
            self.close()
            raise UpstreamGarbage("the provider's answer is too long")
        return part

    async def finish(self) -> None:
        """See HttpAnswer."""
        try:
            async with asyncio.timeout(_FINISH_WITHIN_S):
                while await self.next_part():
                    pass
        except (TimeoutError, ProviderError):
            pass
        finally:
            self.close()

    def close(self) -> None:
        """See HttpAnswer."""
        if not self._complete:
            self._response.close()


class AiohttpTransport:
    """Serves HttpTransport. Where idle_s exceeds first_byte_s, the wait for the headers is up to connect_s longer."""

    def __init__(
        self, *, trust_env: bool = False, connector: Callable[[], aiohttp.BaseConnector] | None = None
    ) -> None:
        """`trust_env` uses the environment's proxies; looking for them multiplies what a call costs (threefold).

        `connector` makes what opens the connections, where not every address may be reached.
        """
        self._trust_env = trust_env
        self._connector = connector or _plain_connector
        self._session: aiohttp.ClientSession | None = None
        self._closed = False
        self._urls: dict[str, tuple[yarl.URL, dict[str, str]]] = {}

    @property
    def open_connections(self) -> int:
        """Connections open now, idle ones included."""
        connector = None if self._session is None else self._session.connector
        if connector is None:
            return 0
        idle = sum(len(connections) for connections in connector._conns.values())  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] -- no public count
        return idle + len(connector._acquired)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] -- as above

    async def send(self, request: HttpRequest) -> AiohttpAnswer:
        """See HttpTransport."""
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        timeouts = request.timeouts
        url, headers = self._url_of(request.endpoint)
        wait_s = timeouts.connect_s + timeouts.first_byte_s
        phase: TimeoutPhase = "first_byte"
        if timeouts.total_s < wait_s:
            wait_s, phase = timeouts.total_s, "total"
        try:
            async with asyncio.timeout(wait_s):
                response = await self._open_session().post(
                    url,
                    data=request.body if len(request.body) < _STREAMED_BODY_BYTES else io.BytesIO(request.body),
                    headers=headers
                    | dict(request.headers)
                    | {"X-Request-Id": request.request_id, "Content-Length": str(len(request.body))},
                    allow_redirects=False,
                    timeout=_client_timeout(timeouts),
                )
        except aiohttp.ConnectionTimeoutError as error:
            raise UpstreamTimeout("connect") from error
        except aiohttp.SocketTimeoutError as error:
            raise UpstreamTimeout("first_byte") from error
        except TimeoutError as error:
            raise UpstreamTimeout(phase) from error
        except aiohttp.ClientResponseError as error:
            raise UpstreamGarbage("the provider's answer is not HTTP") from error
        except aiohttp.ServerDisconnectedError as error:
            raise UpstreamUnavailable(_UNANSWERED) from error
        except aiohttp.ClientConnectorError as error:
            raise NotReached(f"no connection to the provider ({type(error).__name__})") from error
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            raise UpstreamUnavailable(f"no connection to the provider ({type(error).__name__})") from error
        first_byte_at = max(loop.time(), started_at + timeouts.first_byte_s)
        return AiohttpAnswer(loop, response, request, started_at, first_byte_at)

    async def aclose(self) -> None:
        """See HttpTransport."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    def _open_session(self) -> aiohttp.ClientSession:
        """A session is bound to the running loop, so it is opened with the first call."""
        if self._closed:
            raise UpstreamUnavailable("the gateway has closed its connections")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=self._connector(),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=self._trust_env,
            )
        return self._session

    def _url_of(self, endpoint: Endpoint) -> tuple[yarl.URL, dict[str, str]]:
        """The parsed address; cached, as parsing costs more than sending. As many as there are endpoints."""
        # The head tells apart two providers at one address with different keys.
        key = endpoint.head.decode("latin-1")
        found = self._urls.get(key)
        if found is None:
            found = self._urls[key] = (yarl.URL(endpoint.url, encoded=True), dict(endpoint.headers))
        return found


def _plain_connector() -> aiohttp.BaseConnector:
    return aiohttp.TCPConnector(limit=MAX_CONNECTIONS, limit_per_host=0)


def _client_timeout(timeouts: Timeouts) -> aiohttp.ClientTimeout:
    """Aiohttp's read timeout covers first byte and idle alike: it takes the longer, AiohttpAnswer keeps the shorter."""
    return aiohttp.ClientTimeout(
        total=None, connect=timeouts.connect_s, sock_read=max(timeouts.first_byte_s, timeouts.idle_s)
    )
