"""The sandbox answers the same in the process and over a socket, and fails as told in both."""

import asyncio
import base64
import math
import struct
import zlib

import orjson
import pytest

from providers.base import Operation, Timeouts
from providers.errors import (
    ProviderError,
    UpstreamAuthFailed,
    UpstreamGarbage,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from providers.http_client import KeepAliveTransport
from providers.openai_compatible import OpenAICompatibleProvider
from providers.sandbox import SandboxProvider
from tests.providers.upstreams import KEY, call


@pytest.fixture(params=["in the process", "over a socket"])
async def sandbox(request):
    if request.param == "in the process":
        yield SandboxProvider()
        return
    transport = KeepAliveTransport()
    url = request.getfixturevalue("sandbox_url")
    yield OpenAICompatibleProvider("sandbox", base_url=url, api_key=KEY, transport=transport)
    await transport.aclose()


def told(**metadata):
    return {"metadata": {f"sandbox_{name}": str(value) for name, value in metadata.items()}}


def text_of(answer, choice=0) -> str:
    return answer.body["choices"][choice]["message"]["content"]


async def streamed(sandbox, request) -> list:
    return [each async for each in await sandbox.stream(request)]


async def test_the_same_input_gives_the_same_words_and_usage(sandbox):
    one, same, other = [await sandbox.complete(call(text)) for text in ("hello", "hello", "hellp")]
    assert text_of(one) == text_of(same) != text_of(other)
    assert one.usage == same.usage
    assert one.usage.input_tokens == 2  # five bytes
    assert one.usage.output_tokens == len(text_of(one).split())
    assert one.content_bytes == len(text_of(one))


async def test_both_ways_of_reaching_it_give_the_same(sandbox_url):
    transport = KeepAliveTransport()
    over_socket = OpenAICompatibleProvider("s", base_url=sandbox_url, api_key=KEY, transport=transport)
    for operation, body in (
        (Operation.CHAT, {"n": 3, "max_tokens": 9}),
        (Operation.EMBEDDING, {"input": ["a", "bb"], "dimensions": 8}),
        (Operation.IMAGE, {"prompt": "a cat", "n": 2}),
    ):
        here = await SandboxProvider().complete(call(operation=operation, **body))
        there = await over_socket.complete(call(operation=operation, **body))
        here.body.pop("created", None)
        there.body.pop("created", None)
        assert here.body == there.body
        assert here.usage == there.usage
    await transport.aclose()


async def test_limits_choices_and_stops_are_honoured(sandbox):
    free = text_of(await sandbox.complete(call("q", **told(output_tokens=30))))
    limited = await sandbox.complete(call("q", max_completion_tokens=4, n=2, **told(output_tokens=30)))
    assert text_of(limited) == " ".join(free.split()[:4])
    assert [choice["finish_reason"] for choice in limited.body["choices"]] == ["length", "length"]
    assert limited.usage.output_tokens == 8
    mark = free.split()[2]
    stopped = await sandbox.complete(call("q", stop=["nothing", mark], **told(output_tokens=30)))
    assert text_of(stopped) == free[: free.index(mark)]
    assert stopped.body["choices"][0]["finish_reason"] == "stop"


async def test_a_stream_carries_the_words_of_the_whole_answer_and_its_usage(sandbox):
    whole = await sandbox.complete(call("q", n=2))
    chunks = await streamed(sandbox, call("q", n=2))
    texts = ["", ""]
    for each in chunks[:-1]:
        for choice in each.parsed["choices"]:
            texts[choice["index"]] += choice["delta"].get("content", "")
    assert texts == [text_of(whole, 0), text_of(whole, 1)]
    assert chunks[-1].done
    assert chunks[-2].usage == whole.usage
    assert sum(each.content_bytes for each in chunks) == whole.content_bytes


async def test_cached_reasoning_and_empty_output_are_as_told(sandbox):
    got = await sandbox.complete(call("x" * 400, **told(cached_tokens=60, reasoning_tokens=7, output_tokens=0)))
    usage = got.usage
    assert (usage.input_tokens, usage.cached_input_tokens) == (100, 60)
    assert (usage.output_tokens, usage.reasoning_tokens) == (7, 7)
    assert got.content_bytes == 0


async def test_a_tool_call_and_a_content_filter_are_as_told(sandbox):
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    got = await sandbox.complete(call(tools=tools, tool_choice="required"))
    function = got.body["choices"][0]["message"]["tool_calls"][0]["function"]
    assert function["name"] == "weather"
    assert len(orjson.loads(function["arguments"])["text"].split()) == got.usage.output_tokens
    assert got.body["choices"][0]["finish_reason"] == "tool_calls"
    chunks = await streamed(sandbox, call(tools=tools, tool_choice="required"))
    assert sum(each.content_bytes for each in chunks) == got.content_bytes
    filtered = await sandbox.complete(call(**told(content_filter="true", output_tokens=10)))
    assert filtered.body["choices"][0]["finish_reason"] == "content_filter"
    assert filtered.usage.output_tokens == 5


@pytest.mark.parametrize("kind", ["none", "negative", "huge", "text"])
async def test_usage_told_to_be_wrong_is_not_believed(sandbox, kind):
    assert (await sandbox.complete(call(**told(usage=kind)))).usage is None
    chunks = await streamed(sandbox, call(**told(usage=kind)))
    assert all(each.usage is None for each in chunks)


async def test_inconsistent_usage_is_bounded(sandbox):
    usage = (await sandbox.complete(call(**told(usage="inconsistent")))).usage
    assert usage.cached_input_tokens == usage.input_tokens
    assert usage.reasoning_tokens == usage.output_tokens


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, UpstreamRejected), (401, UpstreamAuthFailed), (429, UpstreamRateLimited), (500, UpstreamUnavailable)],
)
async def test_a_status_it_is_told_to_fail_with_comes_as_that_failure(sandbox, status, kind):
    for attempt in (sandbox.complete, sandbox.stream):
        with pytest.raises(kind) as caught:
            await attempt(call(**told(status=status, retry_after=4)))
        assert caught.value.retry_after_s == (4.0 if status in {429, 500} else None)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("garbage", UpstreamGarbage),
        ("shape", UpstreamGarbage),
        ("html", UpstreamGarbage),
        ("half", UpstreamGarbage),
        ("empty", UpstreamGarbage),
        ("close", UpstreamUnavailable),
        ("reset", UpstreamUnavailable),
        ("error_event", UpstreamUnavailable),
    ],
)
async def test_a_fault_comes_as_its_failure(sandbox, fault, kind):
    with pytest.raises(kind):
        await sandbox.complete(call(**told(fault=fault)))
    with pytest.raises(kind):
        await streamed(sandbox, call(**told(fault=fault)))
    assert (await sandbox.complete(call())).usage is not None


@pytest.mark.parametrize("fault", ["garbage", "shape", "half", "error_event", "hang"])
async def test_a_fault_in_the_middle_of_a_stream_comes_after_its_words(sandbox, fault):
    stream = await sandbox.stream(call(timeouts=Timeouts(idle_s=0.1), **told(fault=fault, fault_after=4)))
    words = [(await anext(stream)).content_bytes > 0 for _ in range(4)]
    assert words == [False, True, True, True]
    with pytest.raises(ProviderError) as caught:
        await anext(stream)
    assert caught.value.produced


async def test_delays_and_hanging_are_bounded_by_the_timeouts(sandbox):
    short = Timeouts(first_byte_s=0.1, idle_s=0.1)
    for metadata in (told(delay_ms=5000), told(fault="hang")):
        with pytest.raises(UpstreamTimeout, match="first byte"):
            await sandbox.complete(call(timeouts=short, **metadata))
    with pytest.raises(UpstreamTimeout, match="idle"):
        await streamed(sandbox, call(timeouts=short, **told(chunk_delay_ms=5000)))
    assert len(await streamed(sandbox, call(timeouts=short, max_tokens=2, **told(delay_ms=5, chunk_delay_ms=5)))) == 6


@pytest.mark.parametrize(
    "body",
    [
        {"messages": []},
        {"messages": "hi"},
        {"messages": ["hi"]},
        {"max_tokens": 0},
        {"max_tokens": -5},
        {"max_tokens": "many"},
        {"max_tokens": True},
        {"n": 1000},
        {"messages": [{"role": "user", "content": 5}]},
    ],
)
async def test_a_wrong_request_is_rejected_with_a_message(sandbox, body):
    with pytest.raises(UpstreamRejected) as caught:
        await sandbox.complete(call(**body))
    assert caught.value.status == 400
    assert caught.value.message


async def test_a_missing_model_is_not_found(sandbox):
    request = call()
    missing = type(request)(request.operation, "missing-model", request.body, "r")
    with pytest.raises(UpstreamRejected, match="does not exist") as caught:
        await sandbox.complete(missing)
    assert caught.value.status == 404


@pytest.mark.parametrize("content", [{"seed": 2**90}, {"user": "\udfff"}])
async def test_a_request_that_is_no_json_fails_with_an_error_of_ours_or_is_ignored(content):
    got = await SandboxProvider().complete(call(**content))
    assert got.usage is not None
    with pytest.raises(UpstreamRejected):
        await SandboxProvider().complete(call("\udfff"))


async def test_metadata_that_means_nothing_is_ignored(sandbox):
    metadata = {"sandbox_delay_ms": "-1", "sandbox_fault": "x", "sandbox_nothing": "1", "sandbox_status": "abc", "a": 1}
    assert (await sandbox.complete(call(metadata=metadata))).usage is not None
    assert (await sandbox.complete(call(metadata=[1]))).usage is not None


async def test_vectors_are_of_unit_length_and_as_long_as_asked(sandbox):
    body = {"input": ["a", "b"], "dimensions": 16}
    numbers = await sandbox.complete(call(operation=Operation.EMBEDDING, **body))
    packed = await sandbox.complete(call(operation=Operation.EMBEDDING, encoding_format="base64", **body))
    for plain, text in zip(numbers.body["data"], packed.body["data"], strict=True):
        assert len(plain["embedding"]) == 16
        assert math.isclose(math.hypot(*plain["embedding"]), 1, rel_tol=1e-9)
        unpacked = struct.unpack("<16f", base64.b64decode(text["embedding"]))
        assert unpacked == pytest.approx(plain["embedding"])
    tokens = await sandbox.complete(call(operation=Operation.EMBEDDING, input=[[1, 2, 3], [4]]))
    assert tokens.usage.input_tokens == 4
    for wrong in (None, "", [], [""], [{}], 5):
        with pytest.raises(UpstreamRejected):
            await sandbox.complete(call(operation=Operation.EMBEDDING, input=wrong))


async def test_pictures_are_real_and_counted(sandbox):
    got = await sandbox.complete(call(operation=Operation.IMAGE, prompt="a cat", n=2))
    assert got.usage.images == 2
    picture = base64.b64decode(got.body["data"][0]["b64_json"])
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    start = picture.index(b"IDAT") + 4
    length = struct.unpack(">I", picture[start - 8 : start - 4])[0]
    assert len(zlib.decompress(picture[start : start + length])) == 8 * 25
    address = await sandbox.complete(call(operation=Operation.IMAGE, prompt="a cat", response_format="url"))
    assert address.body["data"][0]["url"] == "data:image/png;base64," + got.body["data"][0]["b64_json"]


async def test_a_stream_in_the_process_can_be_left(sandbox):
    stream = await sandbox.stream(call())
    await anext(stream)
    await stream.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    await asyncio.sleep(0)
