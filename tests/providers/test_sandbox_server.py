"""The stand-alone sandbox server: the official SDK talks to it, and its log says what it served."""

import asyncio
import base64

import openai
import orjson
import pytest

from providers.http_client import KeepAliveTransport
from providers.openai_compatible import OpenAICompatibleProvider
from tests.providers.upstreams import KEY, call, sandbox_process


@pytest.fixture
async def sdk(sandbox_url):
    async with openai.AsyncOpenAI(base_url=sandbox_url, api_key=KEY, max_retries=0) as client:
        yield client


async def served(log, request_id: str) -> dict:
    for _ in range(500):
        for line in log.read_bytes().splitlines():
            record = orjson.loads(line)
            if record["request_id"] == request_id:
                return record
        await asyncio.sleep(0.01)
    raise AssertionError(f"{request_id} is not in the log")


async def test_the_sdk_gets_chat_embeddings_images_and_models(sdk):
    messages = [{"role": "user", "content": "hello"}]
    chat = await sdk.chat.completions.create(model="sandbox-chat", messages=messages, max_tokens=5)
    assert chat.choices[0].finish_reason == "length"
    assert (chat.usage.prompt_tokens, chat.usage.completion_tokens) == (2, 5)
    stream = await sdk.chat.completions.create(
        model="sandbox-chat", messages=messages, max_tokens=5, stream=True, stream_options={"include_usage": True}
    )
    events = [event async for event in stream]
    words = "".join(event.choices[0].delta.content or "" for event in events if event.choices)
    assert words == chat.choices[0].message.content
    assert events[-1].usage.completion_tokens == 5
    vectors = await sdk.embeddings.create(model="sandbox-embedding", input=["a", "b"], dimensions=12)
    assert [len(each.embedding) for each in vectors.data] == [12, 12]
    pictures = await sdk.images.generate(model="sandbox-image", prompt="a cat", n=2)
    assert base64.b64decode(pictures.data[1].b64_json).startswith(b"\x89PNG")
    assert "sandbox-chat" in [model.id async for model in await sdk.models.list()]


async def test_the_sdk_gets_errors_it_knows(sdk, sandbox_url):
    messages = [{"role": "user", "content": "hello"}]
    with pytest.raises(openai.NotFoundError):
        await sdk.chat.completions.create(model="missing-model", messages=messages)
    with pytest.raises(openai.RateLimitError):
        await sdk.chat.completions.create(model="m", messages=messages, metadata={"sandbox_status": "429"})
    async with openai.AsyncOpenAI(base_url=sandbox_url, api_key="wrong", max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError):
            await stranger.models.list()


async def test_the_log_tells_what_was_served(sandbox_url, sandbox_log):
    transport = KeepAliveTransport()
    provider = OpenAICompatibleProvider("s", base_url=sandbox_url, api_key=KEY, transport=transport)
    got = await provider.complete(call(request_id="logged-1"))
    record = await served(sandbox_log, "logged-1")
    assert record["complete"]
    assert (record["input_tokens"], record["output_tokens"]) == (got.usage.input_tokens, got.usage.output_tokens)
    await transport.aclose()


async def test_the_log_tells_how_much_of_a_stream_had_left_when_the_caller_went(sandbox_url, sandbox_log):
    transport = KeepAliveTransport()
    provider = OpenAICompatibleProvider("s", base_url=sandbox_url, api_key=KEY, transport=transport)
    metadata = {"sandbox_chunk_delay_ms": "10", "sandbox_output_tokens": "1000"}
    stream = await provider.stream(call(request_id="left-1", metadata=metadata))
    words = 0
    async for each in stream:
        words += each.content_bytes > 0
        if words == 3:
            break
    await stream.aclose()
    record = await served(sandbox_log, "left-1")
    assert not record["complete"]
    assert 3 <= record["streamed_tokens"] < 1000
    await transport.aclose()


async def test_pipelined_requests_are_answered_in_order(sandbox_url):
    host, port = sandbox_url.split("/")[2].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    for number in range(50):
        delay = "20" if number % 10 == 0 else "0"
        body = orjson.dumps(
            {"model": f"m{number}", "messages": [{"content": "x"}], "metadata": {"sandbox_delay_ms": delay}}
        )
        writer.write(
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
    for number in range(50):
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).decode()
        length = int(next(line for line in head.split("\r\n") if line.startswith("Content-Length")).split(":")[1])
        assert orjson.loads(await reader.readexactly(length))["model"] == f"m{number}"
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"\x00\xff\r\n\r\n", b"400"),
        (b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
        (b"GET /v1/chat/completions HTTP/1.1\r\nHost: x\r\n\r\n", b"405"),
        (b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n[1]", b"400"),
        (b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n{{{", b"400"),
    ],
)
async def test_nonsense_is_answered_with_an_error(open_sandbox_url, text, status):
    host, port = open_sandbox_url.split("/")[2].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(text)
    assert (await asyncio.wait_for(reader.readline(), 30)).split()[1] == status
    writer.close()
    await writer.wait_closed()


@pytest.fixture(scope="module")
def open_sandbox_url():
    with sandbox_process() as url:
        yield url


async def test_told_by_its_command_line_it_fails_every_call():
    with sandbox_process("--failure", "503") as url:
        async with openai.AsyncOpenAI(base_url=url, api_key="any", max_retries=0) as client:
            with pytest.raises(openai.InternalServerError):
                await client.embeddings.create(model="m", input="x")
