"""Whatever a provider answers, the adapter gives an answer or one of its errors, over a real socket."""

import asyncio
from contextlib import nullcontext

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
from providers.wire import MAX_ANSWER_LEVELS
from tests.providers.upstreams import KEY, WHOLE, answer, call, chunk, closing, hang, scripted

ERROR = orjson.dumps({"error": {"message": f"bad thing near {KEY}", "type": "invalid_request_error", "param": "n"}})


async def test_the_request_is_passed_on_with_the_upstreams_model_and_unknown_fields(provider_at):
    async with scripted(answer(WHOLE, headers="x-request-id: up-7\r\n")) as upstream:
        provider = provider_at(upstream.url, headers=(("X-Custom", "yes"),))
        got = await provider.complete(call(stream=True, stream_options={"a": 1}, unknown={"deep": [1]}))
    heard = upstream.requests[0]
    assert heard.json == {
        "model": "upstream-model",
        "messages": [{"role": "user", "content": "hello"}],
        "unknown": {"deep": [1]},
    }
    assert heard.head.startswith("POST /v1/chat/completions HTTP/1.1\r\n")
    headers = dict(line.lower().split(": ", 1) for line in heard.head.strip().split("\r\n")[1:])
    assert headers["authorization"] == f"bearer {KEY}"
    assert headers["x-request-id"] == "req-1"
    assert headers["x-custom"] == "yes"
    assert headers["host"] == upstream.url.split("/")[2]
    assert got.raw == WHOLE
    assert got.body["odd"] == [1]
    assert (got.usage.input_tokens, got.usage.output_tokens) == (3, 2)
    assert got.content_bytes == len("héllo".encode())
    assert got.upstream_request_id == "up-7"


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
@pytest.mark.parametrize(("levels", "taken"), [(MAX_ANSWER_LEVELS, True), (MAX_ANSWER_LEVELS + 1, False), (900, False)])
async def test_an_answer_that_is_too_deep_to_be_told_is_garbage(provider_at, kind, levels, taken):
    deep = WHOLE[:-1] + b', "x": ' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"
    streamed = kind == "text/event-stream"
    told = b"data: " + deep + b"\n\ndata: [DONE]\n\n" if streamed else deep
    async with scripted(answer(told, headers=f"content-type: {kind}\r\n")) as upstream:
        provider = provider_at(upstream.url)
        asking = drained(provider) if streamed else provider.complete(call())
        with nullcontext() if taken else pytest.raises(UpstreamGarbage, match="nested too deeply"):
            await asking


async def drained(provider):
    async for _ in await provider.stream(call()):
        pass


@pytest.mark.parametrize("request_id", ["a\r\nX-Evil: 1", "", "é", "x" * 1000])
async def test_a_request_id_that_would_break_the_headers_is_not_sent(provider_at, request_id):
    async with scripted(answer(WHOLE)) as upstream:
        await provider_at(upstream.url).complete(call(request_id=request_id))
    assert "x-request-id: -\r\n" in upstream.requests[0].head.lower()
    assert "Evil" not in upstream.requests[0].head


@pytest.mark.parametrize(
    ("status", "kind", "retryable", "elsewhere"),
    [
        (400, UpstreamRejected, False, False),
        (404, UpstreamRejected, False, False),
        (413, UpstreamRejected, False, False),
        (422, UpstreamRejected, False, False),
        (401, UpstreamAuthFailed, False, True),
        (402, UpstreamAuthFailed, False, True),
        (403, UpstreamAuthFailed, False, True),
        (408, UpstreamTimeout, True, True),
        (429, UpstreamRateLimited, True, True),
        (301, UpstreamUnavailable, True, True),
        (204, UpstreamUnavailable, True, True),
        (500, UpstreamUnavailable, True, True),
        (503, UpstreamUnavailable, True, True),
        (504, UpstreamTimeout, True, True),
    ],
)
async def test_each_status_is_its_own_failure_and_none_shows_the_key(provider_at, status, kind, retryable, elsewhere):
    body = b"" if status == 204 else ERROR
    async with scripted(answer(body, f"{status} X", "Location: http://127.0.0.1:1/\r\nRetry-After: 7\r\n")) as upstream:
        for attempt in (provider_at(upstream.url).complete, provider_at(upstream.url).stream):
            with pytest.raises(kind) as caught:
                await attempt(call())
            error = caught.value
            assert (error.retryable, error.elsewhere, error.produced) == (retryable, elsewhere, False)
            assert KEY not in repr(error) + str(vars(error))
            if kind is UpstreamRejected:
                assert error.status == status
                assert error.message == "bad thing near [key]"
                assert error.body["param"] == "n"
            if kind is UpstreamRateLimited:
                assert error.retry_after_s == 7.0
    assert len(upstream.requests) == 2


GARBAGE = {
    "not JSON": answer(b"<html>hello</html>", headers="Content-Type: text/html\r\n"),
    "broken JSON": answer(WHOLE[:-5]),
    "nothing": answer(b""),
    "a list": answer(b"[1,2]"),
    "another shape": answer(b'{"hello":"world"}'),
    "choices of texts": answer(b'{"choices":["a"]}'),
    "choices of null": answer(b'{"choices":null}'),
    "bytes that are no text": answer(b'{"choices":[{"x":"\xff\xfe"}]}'),
    "compressed": answer(b"\x1f\x8b\x08\x00", headers="Content-Encoding: gzip\r\n"),
    "a bad chunk length": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", GARBAGE)
async def test_an_answer_that_is_no_answer_is_garbage(provider_at, name):
    async with scripted(closing(GARBAGE[name])) as upstream:
        with pytest.raises(UpstreamGarbage):
            await provider_at(upstream.url).complete(call())


@pytest.mark.parametrize(
    "text",
    [
        answer(WHOLE)[:-10],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(WHOLE),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{",
    ],
)
async def test_an_answer_cut_off_in_the_middle_is_garbage(provider_at, text):
    async with scripted(closing(text)) as upstream:
        with pytest.raises(UpstreamGarbage, match="broke off"):
            await provider_at(upstream.url).complete(call())


@pytest.mark.parametrize("text", [b"\x00\x01garbage\r\n\r\n", b"SSH-2.0-OpenSSH_9\r\n", b"HTTP/9.9 200 OK\r\n\r\n"])
async def test_something_that_does_not_speak_http_is_an_error_of_ours(provider_at, text):
    async with scripted(closing(text)) as upstream:
        with pytest.raises((UpstreamGarbage, UpstreamUnavailable)):
            await provider_at(upstream.url).complete(call())


@pytest.mark.parametrize("text", [b"", b"HTTP/1.1 200 OK\r\nContent-Le"])
async def test_a_connection_closed_before_the_answer_is_unavailable_and_not_sent_again(provider_at, text):
    async with scripted(closing(text)) as upstream:
        with pytest.raises(UpstreamUnavailable):
            await provider_at(upstream.url).complete(call())
    assert len(upstream.requests) == 1


async def test_a_reset_is_unavailable(provider_at):
    async def reset(reader, writer):
        writer.transport.abort()

    async with scripted(reset) as upstream:
        with pytest.raises(UpstreamUnavailable):
            await provider_at(upstream.url).complete(call())


async def test_nobody_listening_is_unavailable(provider_at):
    async with scripted(hang) as upstream:
        pass
    with pytest.raises(UpstreamUnavailable, match="no connection"):
        await provider_at(upstream.url).complete(call())


async def test_a_name_that_does_not_resolve_is_unavailable(provider_at):
    with pytest.raises(UpstreamUnavailable, match="no connection"):
        await provider_at("http://nothing.invalid/v1").complete(call())


@pytest.mark.parametrize(
    ("timeouts", "phase"),
    [
        (Timeouts(first_byte_s=0.1, idle_s=0.1), "first_byte"),
        (Timeouts(total_s=0.1), "total"),
    ],
)
async def test_a_provider_that_says_nothing_times_out(provider_at, timeouts, phase):
    async with scripted(hang) as upstream:
        with pytest.raises(UpstreamTimeout) as caught:
            await provider_at(upstream.url).complete(call(timeouts=timeouts))
        assert caught.value.phase == phase
        assert caught.value.retryable is (phase != "total")
        await asyncio.wait_for(upstream.ended.wait(), 30)


async def test_headers_without_a_body_are_no_first_byte(provider_at):
    async def headers_only(reader, writer):
        writer.write(answer(WHOLE)[: -len(WHOLE)])
        await reader.read()

    async with scripted(headers_only) as upstream:
        with pytest.raises(UpstreamTimeout, match="first byte"):
            await provider_at(upstream.url).complete(call(timeouts=Timeouts(first_byte_s=0.1, idle_s=0.1)))


async def test_a_pause_in_the_middle_times_out_as_idle(provider_at):
    async def stall(reader, writer):
        writer.write(answer(WHOLE)[:-5])
        await reader.read()

    async with scripted(stall) as upstream:
        with pytest.raises(UpstreamTimeout, match="idle"):
            await provider_at(upstream.url, timeouts=Timeouts(idle_s=0.1)).complete(call())


async def test_a_trickle_that_never_idles_ends_with_the_total(provider_at):
    async def trickle(reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b" ")
            await asyncio.sleep(0.01)

    async with scripted(trickle) as upstream:
        with pytest.raises(UpstreamTimeout, match="total"):
            await provider_at(upstream.url).complete(call(timeouts=Timeouts(idle_s=1, total_s=1.5)))


async def test_a_handshake_that_never_comes_times_out_as_connect(provider_at):
    async def silent(reader, writer):
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    with pytest.raises(UpstreamTimeout, match="connect"):
        await provider_at(url).complete(call(timeouts=Timeouts(connect_s=0.1)))
    server.close()
    await server.wait_closed()


async def test_headers_without_end_are_cut_off(provider_at):
    async def endless(reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(40_000):
            writer.write(b"X-%d: %b\r\n" % (number, b"y" * 50))
            if number % 100 == 0:
                await writer.drain()
        writer.close()

    async with scripted(endless) as upstream:
        with pytest.raises((UpstreamGarbage, UpstreamUnavailable)):
            await provider_at(upstream.url).complete(call())


async def test_an_answer_longer_than_the_limit_is_cut_off(provider_at, monkeypatch):
    import providers.wire as adapter

    request = adapter.HttpRequest
    monkeypatch.setattr(
        adapter, "HttpRequest", lambda *fields, **named: request(*fields, max_answer_bytes=1_000_000, **named)
    )
    async with scripted(answer(b'{"choices":[' + b" " * 3_000_000 + b"]}")) as upstream:
        with pytest.raises(UpstreamGarbage, match="long"):
            await provider_at(upstream.url).complete(call())


async def test_a_long_answer_comes_whole(provider_at):
    body = b'{"choices":[' + b" " * 3_000_000 + b"]}"
    async with scripted(answer(body)) as upstream:
        got = await provider_at(upstream.url).complete(call())
    assert got.raw == body


async def test_an_answer_that_ends_with_the_connection_is_taken(provider_at):
    async with scripted(closing(b"HTTP/1.1 200 OK\r\n\r\n" + WHOLE)) as upstream:
        assert (await provider_at(upstream.url).complete(call())).raw == WHOLE


async def test_odd_chunks_and_interim_answers_are_understood(provider_at):
    pieces = b"".join(chunk(WHOLE[i : i + 1]) for i in range(len(WHOLE)))
    text = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n"

    async def in_bits(reader, writer):
        for i in range(0, len(text), 37):
            writer.write(text[i : i + 37])
            await asyncio.sleep(0)

    async with scripted(in_bits) as upstream:
        provider = provider_at(upstream.url)
        assert (await provider.complete(call())).raw == WHOLE
        assert (await provider.complete(call())).raw == WHOLE
    assert upstream.connections == 1


async def test_an_error_inside_a_success_is_an_error(provider_at):
    for code, kind in ((400, UpstreamRejected), (429, UpstreamRateLimited), (None, UpstreamUnavailable)):
        body = orjson.dumps({"error": {"message": f"no {KEY}", "code": code}})
        async with scripted(answer(body)) as upstream:
            with pytest.raises(kind) as caught:
                await provider_at(upstream.url).complete(call())
            assert KEY not in str(vars(caught.value))


@pytest.mark.parametrize("body", [{"seed": 2**80}, {"user": "\ud800"}])
async def test_a_request_that_is_no_json_is_rejected_before_it_is_sent(provider_at, body):
    async with scripted(answer(WHOLE)) as upstream:
        for attempt in (provider_at(upstream.url).complete, provider_at(upstream.url).stream):
            with pytest.raises(UpstreamRejected) as caught:
                await attempt(call(**body))
            assert caught.value.status == 400
    assert upstream.requests == []


async def test_an_early_refusal_of_a_long_request_is_heard(provider_at):
    """The provider answers 413 without reading the body."""

    async def refuse(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(b'{"error":{"message":"too long"}}', "413 X", "Connection: close\r\n"))
        await writer.drain()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    with pytest.raises(ProviderError) as caught:
        await provider_at(url).complete(call("x" * 5_000_000))
    assert isinstance(caught.value, UpstreamRejected)
    server.close()
    await server.wait_closed()


async def test_embeddings_and_images_go_to_their_own_paths(provider_at):
    async with scripted(answer(b'{"data":[{"embedding":[1]}],"usage":{"prompt_tokens":4}}')) as upstream:
        got = await provider_at(upstream.url).complete(call(operation=Operation.EMBEDDING, input="x"))
        assert got.usage.input_tokens == 4
        got = await provider_at(upstream.url).complete(call(operation=Operation.IMAGE, prompt="x"))
        assert got.usage.images == 1
    assert [heard.head.split(" ")[1] for heard in upstream.requests] == ["/v1/embeddings", "/v1/images/generations"]
