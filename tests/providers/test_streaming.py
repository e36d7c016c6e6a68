"""Streams are forwarded chunk by chunk, and a broken one says whether it had produced anything."""

import asyncio

import orjson
import pytest

from providers.base import Timeouts
from providers.errors import UpstreamGarbage, UpstreamRejected, UpstreamTimeout, UpstreamUnavailable
from tests.providers.upstreams import KEY, STREAM_HEAD, answer, call, chunk, hang, scripted, word

USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"
END = b"0\r\n\r\n"
WHOLE_STREAM = STREAM_HEAD + b"".join(
    chunk(text) for text in (word("hé"), word("llo"), word("", "stop"), USAGE, DONE)
) + END  # fmt: skip


async def read(stream) -> list:
    return [each async for each in stream]


async def test_a_stream_gives_each_event_its_usage_and_the_end(provider_at):
    async with scripted(WHOLE_STREAM) as upstream:
        chunks = await read(await provider_at(upstream.url).stream(call(stream_options={"x": 1}, stream=False)))
    assert [each.content_bytes for each in chunks] == [3, 3, 0, 0, 0]
    assert [each.done for each in chunks] == [False] * 4 + [True]
    assert (chunks[3].usage.input_tokens, chunks[3].usage.output_tokens) == (3, 2)
    assert chunks[0].data == word("hé")[6:-2]
    assert chunks[-1].data == b"[DONE]"
    heard = upstream.requests[0].json
    assert heard["stream"] is True
    assert heard["stream_options"] == {"x": 1, "include_usage": True}
    assert heard["model"] == "upstream-model"


async def test_each_chunk_is_given_before_the_next_one_is_written(provider_at):
    """The provider writes the next word only after the last one has been read here."""
    may_write = asyncio.Semaphore(0)

    async def step_by_step(reader, writer):
        writer.write(STREAM_HEAD)
        for number in range(5):
            await may_write.acquire()
            writer.write(chunk(word(str(number), "stop" if number == 4 else None)))
        writer.write(chunk(DONE) + END)

    async with scripted(step_by_step) as upstream:
        stream = await provider_at(upstream.url).stream(call())
        for number in range(5):
            may_write.release()
            each = await asyncio.wait_for(anext(stream), 30)
            assert each.parsed["choices"][0]["delta"]["content"] == str(number)
        assert (await anext(stream)).done
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_a_finished_stream_leaves_its_connection_to_the_next_call(provider_at):
    async def late_end(reader, writer):
        writer.write(WHOLE_STREAM[: -len(END)])
        await writer.drain()
        await asyncio.sleep(0.01)
        writer.write(END)

    for script in (WHOLE_STREAM, late_end):
        async with scripted(script) as upstream:
            provider = provider_at(upstream.url)
            for _ in range(5):
                assert len(await read(await provider.stream(call()))) == 5
            assert upstream.connections == 1


async def test_a_stream_closed_early_closes_the_connection_so_that_the_provider_stops(provider_at):
    async def endless(reader, writer):
        writer.write(STREAM_HEAD)
        while not writer.is_closing():
            writer.write(chunk(word("more ")))
            await writer.drain()
            await asyncio.sleep(0.001)

    async with scripted(endless) as upstream:
        stream = await provider_at(upstream.url).stream(call())
        assert (await anext(stream)).content_bytes == 5
        await stream.aclose()
        await stream.aclose()
        await asyncio.wait_for(upstream.ended.wait(), 30)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


BROKEN = {
    "cut off": (chunk(word("a"))[:-4], UpstreamGarbage),
    "closed between chunks": (b"", UpstreamGarbage),
    "ended without finish or mark": (END, UpstreamGarbage),
    "not JSON": (chunk(b"data: {oops\n\n"), UpstreamGarbage),
    "not an object": (chunk(b"data: [1]\n\n"), UpstreamGarbage),
    "an error event": (chunk(b'data: {"error":{"message":"overloaded %b"}}\n\n' % KEY.encode()), UpstreamUnavailable),
    "a refusal event": (chunk(b'data: {"error":{"message":"%b","code":400}}\n\n' % KEY.encode()), UpstreamRejected),
}


@pytest.mark.parametrize("produced", [True, False])
@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_stream_says_whether_it_had_produced(provider_at, name, produced):
    text, kind = BROKEN[name]
    before = chunk(word("hello")) if produced else chunk(word(""))

    async def script(reader, writer):
        writer.write(STREAM_HEAD + before + text)
        await writer.drain()
        writer.close()

    async with scripted(script) as upstream:
        stream = await provider_at(upstream.url).stream(call())
        assert (await anext(stream)).content_bytes == (5 if produced else 0)
        with pytest.raises(kind) as caught:
            await anext(stream)
        assert caught.value.produced is produced
        assert caught.value.retryable is (not produced and kind is not UpstreamRejected)
        assert KEY not in str(vars(caught.value))
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


@pytest.mark.parametrize("rest", [END, chunk(b"data: [DONE]") + END, chunk(b"data: [DONE]\n") + END])
async def test_a_clean_end_after_a_finish_reason_needs_no_mark(provider_at, rest):
    async with scripted(STREAM_HEAD + chunk(word("a", "stop")) + rest) as upstream:
        chunks = await read(await provider_at(upstream.url).stream(call()))
    assert [each.done for each in chunks] == [False, True]


async def test_usage_in_the_stream_that_cannot_be_believed_is_none(provider_at):
    event = b'data: {"choices":[],"usage":{"prompt_tokens":-3,"completion_tokens":2}}\n\n'
    async with scripted(STREAM_HEAD + chunk(word("a", "stop") + event + DONE) + END) as upstream:
        chunks = await read(await provider_at(upstream.url).stream(call()))
    assert [each.usage for each in chunks] == [None, None, None]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (answer(b"<html>", headers="Content-Type: text/html\r\n"), UpstreamGarbage),
        (answer(b'{"choices":[]}'), UpstreamGarbage),
        (answer(b""), UpstreamGarbage),
        (answer(b'{"error":{"message":"busy"}}'), UpstreamUnavailable),
        (answer(b"", headers="Content-Type: text/event-stream\r\n"), UpstreamGarbage),
    ],
)
async def test_an_answer_that_is_no_stream_is_an_error(provider_at, text, kind):
    async with scripted(text) as upstream:
        with pytest.raises(kind):
            await read(await provider_at(upstream.url).stream(call()))


@pytest.mark.parametrize(
    ("before", "timeouts", "phase"),
    [
        (b"", Timeouts(first_byte_s=0.1, idle_s=0.1), "first_byte"),
        (STREAM_HEAD, Timeouts(first_byte_s=0.1, idle_s=0.1), "first_byte"),
        (STREAM_HEAD + chunk(word("a")), Timeouts(idle_s=0.1), "idle"),
        (STREAM_HEAD + chunk(word("a")), Timeouts(total_s=1), "total"),
    ],
)
async def test_a_stream_that_stalls_times_out(provider_at, before, timeouts, phase):
    async def script(reader, writer):
        writer.write(before)
        await reader.read()

    async with scripted(script) as upstream:
        with pytest.raises(UpstreamTimeout) as caught:
            await read(await provider_at(upstream.url).stream(call(timeouts=timeouts)))
        assert caught.value.phase == phase
        assert caught.value.produced is (phase in ("idle", "total"))
        await asyncio.wait_for(upstream.ended.wait(), 30)


async def test_a_slow_reader_holds_the_provider_back_and_loses_nothing(provider_at):
    """More is written than buffers hold; with no reader for longer than idle_s it is not the provider that idles."""
    text = "x" * 10_000
    event = chunk(word(text))
    written = 0

    async def flood(reader, writer):
        nonlocal written
        writer.write(STREAM_HEAD)
        for _ in range(2000):
            writer.write(event)
            await writer.drain()
            written += 1
        writer.write(chunk(word("", "stop") + DONE) + END)

    async with scripted(flood) as upstream:
        stream = await provider_at(upstream.url).stream(call(timeouts=Timeouts(idle_s=1)))
        await anext(stream)
        await asyncio.sleep(1.3)
        assert written < 2000
        rest = await read(stream)
    assert sum(each.content_bytes for each in rest) == 1999 * 10_000
    assert rest[-1].done


async def test_many_events_in_one_piece_are_given_one_by_one(provider_at):
    events = b"".join(word(str(number)) for number in range(1000)) + word("", "stop") + DONE
    async with scripted(STREAM_HEAD + chunk(events) + END) as upstream:
        chunks = await read(await provider_at(upstream.url).stream(call()))
    assert len(chunks) == 1002
    assert orjson.loads(chunks[999].data) == chunks[999].parsed


async def test_a_provider_that_hangs_up_on_cancel_is_seen_by_it(provider_at):
    async with scripted(hang) as upstream:
        task = asyncio.create_task(provider_at(upstream.url).stream(call()))
        while not upstream.requests:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(upstream.ended.wait(), 30)
