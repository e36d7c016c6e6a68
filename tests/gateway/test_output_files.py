"""Files that providers made are fetched from themselves and from public addresses, never from our own network."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from ipaddress import ip_network

import aiohttp
import pytest

from billing.egress import checked_connector
from gateway import output_files
from gateway.output_files import OutputFiles
from providers import prediction_http
from providers.base import Timeouts
from providers.errors import ProviderError
from providers.prediction_http import HttpPredictionProvider
from providers.prediction_terms import PredictionTerms
from providers.predictions import OutputFile, PredictionProvider
from providers.sandbox_jobs import SandboxJobs
from tests.processes import Running


async def content(files: OutputFiles, file: OutputFile, provider: PredictionProvider | None = None) -> bytes:
    return b"".join([part async for part in files.content(provider or SandboxJobs("s"), file)])


async def test_bytes_that_came_along_need_no_fetching() -> None:
    assert await content(OutputFiles(()), OutputFile(inline=b"abc")) == b"abc"


@contextmanager
def untouched() -> Iterator[int]:
    """A port of this machine to which nobody connects in the block."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.2)
        yield listening.getsockname()[1]
        with pytest.raises(TimeoutError):
            listening.accept()


_NAMES_NO_NUMBER = ["１２７.0.0.1", "127。0。0。1", "⑫7.0.0.1", "０.0.0.0", "1２7.1", "%31%32%37.0.0.1"]
"""What urlsplit takes for names, and aiohttp for addresses."""


@pytest.mark.parametrize("host", [*_NAMES_NO_NUMBER, "a@127.0.0.1", "127.0.0.1.", "[::ffff:127.0.0.1]"])
async def test_a_private_address_is_refused_however_it_is_written(host: str) -> None:
    with untouched() as port, pytest.raises(ProviderError):
        await content(OutputFiles(()), OutputFile(url=f"http://{host}:{port}/x"))


@pytest.mark.parametrize(
    "url", ["http://[x/", "http://a:99999999/", f"https://{'a' * 300}/", "http://\ud7ff\u202e/", "http:///x"]
)
async def test_what_is_no_address_is_a_providers_mistake(url: str) -> None:
    with pytest.raises(ProviderError):
        await content(OutputFiles(()), OutputFile(url=url))


@pytest.mark.parametrize("host", ["127.0.0.1", "１２７.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "127.1", "localhost"])
async def test_the_connector_itself_opens_no_socket_to_a_private_address(host: str) -> None:
    with untouched() as port:
        async with aiohttp.ClientSession(connector=checked_connector(())) as session:
            with pytest.raises((aiohttp.ClientError, OSError)):
                await session.get(f"http://{host}:{port}/x")


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost", "169.254.169.254", "10.0.0.1", "2130706433"])
async def test_private_addresses_are_refused(host: str) -> None:
    with untouched() as port, pytest.raises(ProviderError):
        await content(OutputFiles(()), OutputFile(url=f"http://{host}:{port}/x"))


async def test_what_the_operator_allows_is_fetched_and_what_is_not_there_is_told(
    prints: tuple[Running, object],
) -> None:
    url = prints[0].url
    allowed = OutputFiles([ip_network("127.0.0.0/8")])
    assert b"sandbox-image" in await content(allowed, OutputFile(url=f"{url}/models"))
    with pytest.raises(ProviderError) as missing:
        await content(allowed, OutputFile(url=f"{url}/files/none/0"))
    assert getattr(missing.value, "status", None) == 404


@asynccontextmanager
async def slow_file(pause_s: float) -> AsyncIterator[str]:
    """The address of a file that comes byte by byte and has no end."""
    left = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: video/mp4\r\ncontent-length: 1000000\r\n\r\n")
        ends = asyncio.create_task(reader.read())
        while not ends.done():
            writer.write(b"x")
            await asyncio.wait([ends], timeout=pause_s)
        left.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/film.mp4"
    await left.wait()
    server.close()


WHAT_ENDS_IT = pytest.mark.parametrize(
    ("pause_s", "idle_s", "total_s"), [(60.0, 0.2, 900.0), (0.05, 60.0, 0.5)], ids=["a pause", "its time"]
)


@WHAT_ENDS_IT
async def test_a_file_elsewhere_that_pauses_or_comes_too_slowly_is_given_up(
    monkeypatch: pytest.MonkeyPatch, pause_s: float, idle_s: float, total_s: float
) -> None:
    times = output_files._TIMEOUT
    assert (times.sock_read, times.total) == (60, 900)
    monkeypatch.setattr(output_files, "_TIMEOUT", aiohttp.ClientTimeout(total=total_s, sock_read=idle_s))
    files = OutputFiles([ip_network("127.0.0.0/8")])
    async with asyncio.timeout(20), slow_file(pause_s) as url:
        with pytest.raises(ProviderError, match="cannot be fetched"):
            await content(files, OutputFile(url=url))


@WHAT_ENDS_IT
async def test_a_file_at_a_providers_own_address_that_pauses_or_comes_too_slowly_is_given_up(
    monkeypatch: pytest.MonkeyPatch, pause_s: float, idle_s: float, total_s: float
) -> None:
    monkeypatch.setattr(prediction_http, "MOST_FETCH_S", total_s)
    async with asyncio.timeout(20), slow_file(pause_s) as url, aiohttp.ClientSession() as session:
        provider = HttpPredictionProvider(
            "there", base_url=url.removesuffix("/film.mp4"), api_key=None, terms=PredictionTerms(), session=session,
            timeouts=Timeouts(idle_s=idle_s),
        )  # fmt: skip
        with pytest.raises(ProviderError):
            await content(OutputFiles(()), OutputFile(url=url), provider)
