"""Sound and transcriptions piece by piece, with OpenAI's SDK over real sockets."""

import asyncio
import base64
from fractions import Fraction

import openai
import orjson
import pytest

from tests.e2e.test_audio import HEARD_MICRO, HEARING, RECORDING, SPEECH
from tests.e2e.vendors import Line, price_micro

TEXT = "Hello there. " * 10
ALONE = {"X-Tollgate-Dedupe": "off"}
"""No retry of the SDK is waited for: a client that leaves stops its provider."""


def behaving(**how: object) -> dict:
    return {"metadata": {f"sandbox_{name}": str(value) for name, value in how.items()}}


async def settled(vendors: Line) -> dict:
    async with asyncio.timeout(30):
        while True:
            row = await vendors.pg.fetchrow(
                "SELECT c.status, u.characters, u.seconds, u.estimated, u.charged_micro FROM calls c LEFT JOIN usage_events u"
                " ON u.call_id = c.id WHERE c.workspace_id = $1 ORDER BY c.id DESC LIMIT 1",
                vendors.seeded.workspace_id,
            )
            if row is not None:
                return dict(row)
            await asyncio.sleep(0.02)


async def test_D2_sound_comes_chunked_with_its_charge_before_it(vendors: Line) -> None:
    async with vendors.openai() as client:
        whole = (await client.audio.speech.create(model=SPEECH, voice="alloy", input=TEXT)).content
        async with client.audio.speech.with_streaming_response.create(
            model=SPEECH, voice="alloy", input=TEXT, extra_body=behaving(chunk_delay_ms=5)
        ) as got:
            pieces = [piece async for piece in got.iter_bytes()]
    expected = price_micro(SPEECH, CHARACTERS=len(TEXT))
    assert got.headers["transfer-encoding"] == "chunked"
    assert got.headers["content-type"] == "audio/wav"
    assert len(pieces) > 5
    assert b"".join(pieces) == whole
    assert Fraction(got.headers["x-tollgate-credits"]) * 1_000_000 == expected
    assert await vendors.spent() == 2 * expected
    assert (await vendors.event())["estimated"] is False


async def test_the_first_sound_arrives_while_the_provider_holds_back_the_rest(vendors: Line) -> None:
    async with vendors.openai() as client:
        async with client.audio.speech.with_streaming_response.create(
            model=SPEECH,
            voice="alloy",
            input=TEXT,
            extra_headers=ALONE,
            extra_body=behaving(fault="hang", fault_after=1),
        ) as got:
            pieces = got.iter_bytes()  # kept: a client whose iterator is collected closes its connection
            first = await anext(pieces)
            assert first.startswith(b"RIFF")
            assert await vendors.pg.fetchval("SELECT count(*) FROM holds") == 1
        ended = await settled(vendors)  # its client has left
    assert (ended["status"], ended["characters"], ended["estimated"]) == ("CANCELED", len(TEXT), True)
    assert await vendors.spent() == ended["charged_micro"] == price_micro(SPEECH, CHARACTERS=len(TEXT))


async def test_sound_that_breaks_off_is_seen_to_be_cut_and_is_not_whole(vendors: Line) -> None:
    cut = behaving(fault="half", fault_after=2)
    async with vendors.openai() as client:
        with pytest.raises(openai.APIConnectionError):
            await client.audio.speech.create(model=SPEECH, voice="alloy", input=TEXT, extra_body=cut)
        with pytest.raises(openai.InternalServerError):  # before its first sound
            await client.audio.speech.create(
                model=SPEECH, voice="alloy", input=TEXT, extra_body=behaving(fault="close", fault_after=0)
            )
    assert await vendors.spent() == price_micro(SPEECH, CHARACTERS=len(TEXT))


async def test_D2_speech_comes_as_events_whose_last_one_has_usage_and_charge(vendors: Line) -> None:
    async with vendors.openai() as client:
        whole = (await client.audio.speech.create(model=SPEECH, voice="alloy", input=TEXT)).content
        async with client.audio.speech.with_streaming_response.create(
            model=SPEECH, voice="alloy", input=TEXT, stream_format="sse"
        ) as got:
            events = [orjson.loads(line[6:]) async for line in got.iter_lines() if line]
    expected = price_micro(SPEECH, CHARACTERS=len(TEXT))
    assert {each["type"] for each in events[:-1]} == {"speech.audio.delta"}
    assert b"".join(base64.b64decode(each["audio"]) for each in events[:-1]) == whole
    usage = events[-1]["usage"]
    assert events[-1]["type"] == "speech.audio.done"
    assert Fraction(usage["credits"]) * 1_000_000 == expected
    assert (usage["characters"], usage["estimated"]) == (len(TEXT), False)
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0
    assert await vendors.spent() == 2 * expected


async def test_D2_a_transcription_comes_word_by_word_and_ends_with_usage_and_charge(vendors: Line) -> None:
    async with vendors.openai() as client:
        whole = await client.audio.transcriptions.create(model=HEARING, file=("a.wav", RECORDING))
        stream = await client.audio.transcriptions.create(model=HEARING, file=("a.wav", RECORDING), stream=True)
        events = [event async for event in stream]
    assert [each.type for each in events] == ["transcript.text.delta"] * 12 + ["transcript.text.done"]
    assert "".join(each.delta for each in events[:-1]) == events[-1].text == whole.text
    usage = events[-1].usage
    assert Fraction(usage.credits) * 1_000_000 == HEARD_MICRO
    assert usage.estimated is False
    assert await vendors.spent() == 2 * HEARD_MICRO


async def test_the_first_words_arrive_while_the_provider_holds_back_the_rest(vendors: Line) -> None:
    form = {f"metadata[sandbox_{name}]": value for name, value in (("fault", "hang"), ("fault_after", "2"))}
    async with vendors.openai() as client:
        stream = await client.audio.transcriptions.create(
            model=HEARING, file=("a.wav", RECORDING), stream=True, extra_body=form
        )
        words = aiter(stream)
        first = await anext(words)
        assert first.type == "transcript.text.delta"
        await stream.close()
        ended = await settled(vendors)
    assert (ended["status"], ended["seconds"], ended["estimated"]) == ("CANCELED", 13, True)
    assert await vendors.spent() == HEARD_MICRO


async def test_a_transcription_that_breaks_off_ends_with_an_error_and_its_charge(vendors: Line) -> None:
    form = {f"metadata[sandbox_{name}]": value for name, value in (("fault", "error_event"), ("fault_after", "2"))}
    async with vendors.openai() as client:
        stream = await client.audio.transcriptions.create(
            model=HEARING, file=("a.wav", RECORDING), stream=True, extra_body=form
        )
        with pytest.raises(openai.APIError, match="provider"):
            async for _ in stream:
                pass
    assert (await settled(vendors))["status"] == "FAILED"
    assert await vendors.spent() == HEARD_MICRO
