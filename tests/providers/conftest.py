"""The same tests for both transports, and one sandbox server for all."""

import pytest

from providers.aiohttp_transport import AiohttpTransport
from providers.http_client import KeepAliveTransport
from providers.openai_compatible import OpenAICompatibleProvider
from tests.providers.upstreams import KEY, sandbox_process


@pytest.fixture(params=["ours", "aiohttp"])
async def transport(request):
    transport = KeepAliveTransport() if request.param == "ours" else AiohttpTransport()
    yield transport
    await transport.aclose()


@pytest.fixture
def provider_at(transport):
    def make(url: str, **settings) -> OpenAICompatibleProvider:
        return OpenAICompatibleProvider("up", base_url=url, api_key=KEY, transport=transport, **settings)

    return make


@pytest.fixture(scope="session")
def sandbox_log(tmp_path_factory):
    return tmp_path_factory.mktemp("sandbox") / "served.jsonl"


@pytest.fixture(scope="session")
def sandbox_url(sandbox_log):
    with sandbox_process("--log", str(sandbox_log), "--api-key", KEY) as url:
        yield url
