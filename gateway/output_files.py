"""Fetches the files that a provider made: its own by its adapter, those elsewhere from public addresses only."""

from collections.abc import AsyncGenerator, Sequence
from time import monotonic
from typing import Final

import aiohttp

from billing.egress import checked_connector
from billing.rules.egress import Network, mistake_in_url
from providers.errors import UpstreamRejected, UpstreamTimeout, UpstreamUnavailable
from providers.predictions import MOST_FETCH_S, OutputFile, PredictionProvider

MAX_URL_LENGTH: Final = 16_000
"""Longer than of addresses that people give: signed ones hold whole tokens."""
_PART_BYTES: Final = 256 * 1024
_CONNECT_S: Final = 10.0
_IDLE_S: Final = 60.0
_TIMEOUT: Final = aiohttp.ClientTimeout(total=MOST_FETCH_S, connect=_CONNECT_S, sock_read=_IDLE_S)
STRANGERS_IDLE_S: Final = 15.0
"""A pause of this length ends the fetching of a file that a publisher's provider named."""


class OutputFiles:
    """Opened for a round and closed after it."""

    def __init__(self, allowed: Sequence[Network]) -> None:
        """`allowed`: TOLLGATE_EGRESS_ALLOW."""
        self._allowed = tuple(allowed)

    async def content(
        self, provider: PredictionProvider, file: OutputFile, until: float | None = None
    ) -> AsyncGenerator[bytes]:
        """The bytes of a file, in pieces. Raises ProviderError.

        `until`, by `monotonic`, is when a file elsewhere must be here: whoever the operator does not know names it.
        """
        if file.inline is not None:
            yield file.inline
        elif file.url is not None and provider.owns(file.url):
            async for part in provider.fetch(file.url):
                yield part
        elif file.url is not None:
            async for part in self._elsewhere(file.url, _TIMEOUT if until is None else _timeout_until(until)):
                yield part

    async def _elsewhere(self, url: str, times: aiohttp.ClientTimeout) -> AsyncGenerator[bytes]:
        """Whoever writes the provider's answer could name any address: ours and private ones are refused."""
        if mistake_in_url(url, max_length=MAX_URL_LENGTH) is not None:
            raise UpstreamRejected(400, "the provider's file has no address that can be fetched")
        connector = checked_connector(self._allowed, force_close=True)
        try:
            async with (
                aiohttp.ClientSession(
                    connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, auto_decompress=False
                ) as session,
                session.get(url, allow_redirects=False, timeout=times) as answer,
            ):
                if answer.status != 200:
                    raise UpstreamUnavailable("the provider's file is not there", status=answer.status)
                async for part in answer.content.iter_chunked(_PART_BYTES):
                    yield part
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise UpstreamUnavailable("the provider's file cannot be fetched") from error


def _timeout_until(until: float) -> aiohttp.ClientTimeout:
    left_s = until - monotonic()
    if left_s <= 0:
        raise UpstreamTimeout("total")
    return aiohttp.ClientTimeout(total=left_s, connect=_CONNECT_S, sock_read=STRANGERS_IDLE_S)
