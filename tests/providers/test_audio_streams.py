"""Streamed speech and transcriptions: pieces as they come, by both transports, from the sandbox inside and outside the process."""

import asyncio
import base64

import orjson
import pytest

from gateway.audio_so_far import SoundSoFar, TranscriptSoFar
from providers.base import Operation, ProviderRequest, Timeouts, Upload
from providers.errors import ProviderError, UpstreamTimeout
from providers.sandbox import SandboxProvider
from providers.sandbox_audio import speech, transcription
from providers.sandbox_behaviour import SandboxBehaviour
from tests.providers.upstreams import STREAM_HEAD, answer, chunk, closing, scripted

SOUND_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nTransfer-Encoding: chunked\r\n\r\n"
RECORDING = Upload("a.wav", "audio/wav", speech({"model": "m", "input": "x" * 100})[0])


def spoken(stream: bool = False, timeouts: Timeouts | None = None, **more: object) -> ProviderRequest:
    body = {"model": "public", "input": "Hello there", "voice": "alloy", **more}
    body |= {"stream": True, "stream_format": "sse"} if stream else {}
    return ProviderRequest(Operation.SPEECH, "up", body, "req-1", timeouts)


def heard(**more: object) -> ProviderRequest:
    body = {"model": "public", "stream": True, **more}
    return ProviderRequest(Operation.TRANSCRIPTION, "up", body, "req-1", upload=RECORDING)


def event(**body: object) -> bytes:
    return chunk(b"data: " + orjson.dumps(body) + b"\n\n")


async def test_sound_is_given_on_before_the_rest_has_come(provider_at):
    rest = asyncio.Event()

    async def play(reader, writer):
        writer.write(SOUND_HEAD + chunk(b"one"))
        await rest.wait()
        writer.write(chunk(b"two") + chunk(b""))

    async with scripted(play) as upstream:
        stream = await provider_at(upstream.url).stream(spoken(speed=1.5))
        first = await anext(stream)
        assert (first.data, first.content_bytes, first.usage) == (b"one", 3, None)
        assert first.parsed["content_type"] == "audio/mpeg"
        rest.set()
        second, done, end = [each async for each in stream]
        assert second.data == b"two"
        assert (done.usage.characters, done.content_bytes, done.usage.reported) == (11, 0, True)
        assert end.done
        assert upstream.requests[0].json == {"model": "up", "input": "Hello there", "voice": "alloy", "speed": 1.5}
        await stream.aclose()


async def test_an_event_stream_is_asked_for_by_its_format_and_a_form_by_its_field(provider_at):
    sound = base64.b64encode(b"one").decode()
    done = event(type="speech.audio.done", usage={"input_tokens": 3, "output_tokens": 4, "total_tokens": 7})
    async with scripted(STREAM_HEAD + event(type="speech.audio.delta", audio=sound) + done + chunk(b"")) as upstream:
        chunks = [each async for each in await provider_at(upstream.url).stream(spoken(stream=True))]
        assert [each.content_bytes for each in chunks] == [3, 0, 0]
        assert (chunks[1].usage.input_tokens, chunks[1].usage.output_tokens, chunks[1].usage.characters) == (3, 4, 11)
        assert upstream.requests[0].json["stream_format"] == "sse"
        assert "stream" not in upstream.requests[0].json
    words = event(type="transcript.text.delta", delta="ü") + event(type="transcript.text.done", text="ü")
    async with scripted(STREAM_HEAD + words + chunk(b"data: [DONE]\n\n") + chunk(b"")) as upstream:
        chunks = [each async for each in await provider_at(upstream.url).stream(heard())]
        assert [each.content_bytes for each in chunks] == [2, 0, 0]
        assert (chunks[1].usage.seconds, chunks[1].usage.reported) == (1, False)
        assert b'name="stream"\r\n\r\ntrue\r\n' in upstream.requests[0].body
        assert "Accept: text/event-stream" in upstream.requests[0].head


BROKEN = {
    "no sound": (spoken(), answer(b"", headers="Content-Type: audio/mpeg\r\n"), False),
    "a page": (spoken(), answer(b"<html>", headers="Content-Type: text/html\r\n"), False),
    "an error with status 200": (spoken(), answer(b'{"error":{"message":"no"}}'), False),
    "events where sound is asked for": (spoken(), STREAM_HEAD + chunk(b""), False),
    "sound cut short": (spoken(), closing(SOUND_HEAD + chunk(b"one")), True),
    "sound shorter than it says": (
        spoken(),
        closing(b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nContent-Length: 9\r\n\r\none"),
        True,
    ),
    "sound that is not base64": (
        spoken(stream=True),
        STREAM_HEAD + event(type="speech.audio.delta", audio="§"),
        False,
    ),
    "a piece without sound": (spoken(stream=True), STREAM_HEAD + event(type="speech.audio.delta"), False),
    "no last event": (heard(), STREAM_HEAD + event(type="transcript.text.delta", delta="x") + chunk(b""), True),
    "a mark before the last event": (heard(), STREAM_HEAD + chunk(b"data: [DONE]\n\n"), False),
    "an end without a text": (heard(), STREAM_HEAD + event(type="transcript.text.done"), False),
    "an error event": (
        heard(),
        STREAM_HEAD + event(type="transcript.text.delta", delta="x") + event(error={"message": "no"}),
        True,
    ),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_what_is_no_whole_answer_is_an_error_that_says_whether_output_came(provider_at, name):
    request, script, produced = BROKEN[name]
    async with scripted(script) as upstream:
        with pytest.raises(ProviderError) as raised:
            async for _ in await provider_at(upstream.url).stream(request):
                pass
    assert raised.value.produced is produced


async def test_a_provider_that_falls_silent_in_the_middle_is_given_up(provider_at):
    async def play(reader, writer):
        writer.write(SOUND_HEAD + chunk(b"one"))
        await reader.read()

    async with scripted(play) as upstream:
        with pytest.raises(UpstreamTimeout) as raised:
            async for _ in await provider_at(upstream.url).stream(spoken(timeouts=Timeouts(idle_s=0.2))):
                pass
        assert raised.value.produced


@pytest.mark.parametrize("wanted", [spoken(), spoken(stream=True), heard()], ids=["sound", "events", "transcript"])
async def test_the_sandbox_streams_alike_inside_the_process_and_over_http(provider_at, sandbox_url, wanted):
    inside, outside = SandboxProvider(), provider_at(sandbox_url)
    pieces, usages = [], []
    for provider in (inside, outside):
        chunks = [each async for each in await provider.stream(wanted)]
        assert chunks[-1].done
        usages.append([each.usage for each in chunks if each.usage])
        pieces.append([each.data for each in chunks if each.content_bytes])
    assert usages[0] == usages[1]
    assert len(pieces[0]) > 1
    if wanted.body.get("stream") is None:
        whole = base64.b64decode((await inside.complete(wanted)).body["b64_audio"])
        assert b"".join(pieces[0]) == b"".join(pieces[1]) == whole
    else:
        assert pieces[0] == pieces[1]


async def test_what_has_come_is_merged_into_few_events_and_into_the_whole_answer():
    so_far = SoundSoFar()
    assert so_far.is_empty
    async for each in await SandboxProvider().stream(spoken()):
        if each.parsed is not None:
            so_far.add(each.parsed)
    whole = (await SandboxProvider().complete(spoken())).body
    assert so_far.copy().body() == whole
    assert [each["type"] for each in so_far.chunks()] == ["speech.audio.delta", "speech.audio.done"]
    assert so_far.chunks()[0]["audio"] == whole["b64_audio"]

    words = TranscriptSoFar()
    assert words.is_empty
    words.add({"type": "transcript.text.segment", "text": "odd"})
    async for each in await SandboxProvider().stream(heard()):
        if each.parsed is not None:
            words.add(each.parsed)
            if each.content_bytes:
                assert words.copy().body() == {"text": words.chunks()[0]["delta"]}
    told, _ = transcription({"model": "up"}, RECORDING, SandboxBehaviour())
    assert words.body() == told
    assert [each["type"].rpartition(".")[2] for each in words.chunks()] == ["delta", "segment", "done"]
