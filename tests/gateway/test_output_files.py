"""Files that providers made are fetched from themselves and from public addresses, never from our own network."""

import socket
from ipaddress import ip_network

import pytest

from gateway.output_files import OutputFiles
from providers.errors import ProviderError
from providers.predictions import OutputFile
from providers.sandbox_jobs import SandboxJobs
from tests.processes import Running


async def content(files: OutputFiles, file: OutputFile) -> bytes:
    return b"".join([part async for part in files.content(SandboxJobs("s"), file)])


async def test_bytes_that_came_along_need_no_fetching() -> None:
    assert await content(OutputFiles(()), OutputFile(inline=b"abc")) == b"abc"


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost", "169.254.169.254", "10.0.0.1", "2130706433"])
async def test_private_addresses_are_refused(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.2)
        port = listening.getsockname()[1]
        with pytest.raises(ProviderError):
            await content(OutputFiles(()), OutputFile(url=f"http://{host}:{port}/x"))
        with pytest.raises(TimeoutError):
            listening.accept()


async def test_what_the_operator_allows_is_fetched_and_what_is_not_there_is_told(
    prints: tuple[Running, object],
) -> None:
    url = prints[0].url
    allowed = OutputFiles([ip_network("127.0.0.0/8")])
    assert b"sandbox-image" in await content(allowed, OutputFile(url=f"{url}/models"))
    with pytest.raises(ProviderError) as missing:
        await content(allowed, OutputFile(url=f"{url}/files/none/0"))
    assert getattr(missing.value, "status", None) == 404
