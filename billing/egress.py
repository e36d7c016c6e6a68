"""Sends one request to an address that a customer gave, and nowhere else: resolved once, checked, connected to exactly that.

The name is resolved here, every address it has is checked, and the connection goes to those addresses; so a name that
resolves otherwise a moment later changes nothing. Redirects are not followed, proxies of the environment not used.
"""

import asyncio
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from billing.rules.egress import Network, literal_address, may_reach, mistake_in_url
from billing.webhook_errors import UrlRefused

TIMEOUT_S: Final = 15.0
"""From the first packet to the status of the answer; its body is not read."""
RESOLVE_TIMEOUT_S: Final = 5.0
_NOT_THERE: Final = "url leads to a private or reserved address; webhooks are sent to public ones"


_Place = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[object, ...]]
"""aiohttp's AddrInfoType: what a socket is made for, its address last."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`status_code` None: there was no answer, and `error` says why in words that tell nothing of our network."""

    status_code: int | None
    error: str | None


class _AddressRefused(OSError):
    """The name leads where we do not send."""


class CheckedResolver(AbstractResolver):
    """Resolves names, and refuses one of which any address may not be reached."""

    def __init__(self, allowed: Sequence[Network]) -> None:
        """`allowed`: networks that may be reached besides public ones."""
        self._allowed = allowed

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses, as numbers; OSError where there are none, or one that may not be reached."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        results: list[ResolveResult] = []
        for each_family, _, protocol, _, place in found:
            text = str(place[0]).partition("%")[0]
            if not may_reach(ip_address(text), self._allowed):
                raise _AddressRefused(_NOT_THERE)
            flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
            results.append(
                ResolveResult(hostname=host, host=text, port=port, family=each_family, proto=protocol, flags=flags)
            )
        return results

    async def close(self) -> None:
        """Nothing is kept."""


def checked_connector(
    allowed: Sequence[Network], *, limit: int = 100, per_host: int = 0, force_close: bool = False
) -> aiohttp.TCPConnector:
    """Connects to public addresses and to `allowed` ones: the only way to an address that somebody else named.

    What a name resolves to is checked; and every address once more as its socket is made, for aiohttp resolves no host
    that looks like an address, and takes hosts for addresses that urlsplit takes for names ("１２７.0.0.1").
    """
    networks = tuple(allowed)

    def opened(place: _Place) -> socket.socket:
        family, kind, protocol, _, address = place
        literal = literal_address(str(address[0]).partition("%")[0])
        if literal is None or not may_reach(literal, networks):
            raise _AddressRefused(_NOT_THERE)
        return socket.socket(family=family, type=kind, proto=protocol)

    return aiohttp.TCPConnector(
        resolver=CheckedResolver(networks),
        use_dns_cache=False,
        limit=limit,
        limit_per_host=per_host,
        force_close=force_close,
        socket_factory=opened,
    )


class Egress:
    """Opened for a round of requests and closed after it."""

    def __init__(self, allowed: Sequence[Network]) -> None:
        """`allowed`: TOLLGATE_EGRESS_ALLOW."""
        self._allowed = tuple(allowed)
        self._resolver = CheckedResolver(self._allowed)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=checked_connector(self._allowed, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def check(self, url: str) -> None:
        """UrlRefused where we would not send: a wrong form, a reserved address, or plain http to a public one."""
        mistake = mistake_in_url(url)
        if mistake is not None:
            raise UrlRefused(mistake)
        parts = urlsplit(url)
        host = parts.hostname or ""
        try:
            async with asyncio.timeout(RESOLVE_TIMEOUT_S):
                places = await self._addresses(host, parts.port or 0)
        except _AddressRefused as error:
            raise UrlRefused(_NOT_THERE) from error
        except (OSError, UnicodeError) as error:  # TimeoutError is an OSError
            raise UrlRefused("url's host has no address") from error
        if parts.scheme == "http" and not all(self._is_ours(place) for place in places):
            raise UrlRefused("url must begin with https://")

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send once. Whatever goes wrong is part of the answer."""
        assert self._session is not None, "opened by `async with`"
        host = urlsplit(url).hostname or ""
        literal = literal_address(host)  # which the connector does not resolve
        if mistake_in_url(url) is not None or (literal is not None and not may_reach(literal, self._allowed)):
            return Answer(None, _NOT_THERE)
        try:
            async with self._session.post(
                url,
                data=body,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            ) as response:
                return Answer(response.status, None)
        except TimeoutError:
            return Answer(None, f"no answer within {TIMEOUT_S:.0f} seconds")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            refused = isinstance(error.__cause__, _AddressRefused) or isinstance(
                getattr(error, "os_error", None), _AddressRefused
            )
            return Answer(None, _NOT_THERE if refused else f"the connection failed ({type(error).__name__})")

    async def _addresses(self, host: str, port: int) -> list[str]:
        literal = literal_address(host)
        if literal is None:
            return [result["host"] for result in await self._resolver.resolve(host, port)]
        if not may_reach(literal, self._allowed):
            raise _AddressRefused(_NOT_THERE)
        return [str(literal)]

    def _is_ours(self, text: str) -> bool:
        place = ip_address(text)
        return any(place in network for network in self._allowed if network.version == place.version)
