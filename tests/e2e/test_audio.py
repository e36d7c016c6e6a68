"""Speech and transcription with OpenAI's SDK over a real socket, priced by characters and by seconds."""

import aiohttp
import openai
import pytest

from providers.openai_audio import wav_seconds
from providers.sandbox_audio import speech
from tests.e2e.vendors import Line, price_micro
from tests.providers.upstreams import answer
from tests.seeding import seed_workspace

SPEECH, HEARING = "sandbox-audio", "sandbox-transcription"
RECORDING, _ = speech({"model": "m", "input": "x" * 1_234})  # 12.34 s
HEARD_MICRO = price_micro(HEARING, SECONDS=13)


async def test_D2_a_text_is_spoken_and_priced_by_its_characters(vendors: Line) -> None:
    async with vendors.openai() as client:
        got = await client.audio.speech.with_raw_response.create(model=SPEECH, voice="alloy", input="Zwölf Wörter, ü.")
        sound = got.http_response.content
    assert got.headers["content-type"] == "audio/wav"
    assert float(wav_seconds(sound)) == pytest.approx(0.16)
    expected = price_micro(SPEECH, CHARACTERS=16)
    assert int(float(got.headers["x-tollgate-credits"]) * 1_000_000) == expected
    assert float(got.headers["x-tollgate-usd"]) == pytest.approx(expected / 1_000_000 / 2_000_000)
    assert await vendors.spent() == expected
    event = await vendors.event()
    assert (event["characters"], event["estimated"]) == (16, False)


async def test_D2_a_recording_is_written_down_and_priced_by_its_seconds(vendors: Line) -> None:
    async with vendors.openai() as client:
        told = await client.audio.transcriptions.create(model=HEARING, file=("a.wav", RECORDING))
        whole = await client.audio.transcriptions.create(
            model=HEARING, file=("a.wav", RECORDING), response_format="verbose_json"
        )
    assert told.text == whole.text
    assert int(float(told.usage.credits) * 1_000_000) == HEARD_MICRO
    assert told.usage.estimated is False
    assert whole.segments[0].end == 13
    assert await vendors.spent() == 2 * HEARD_MICRO
    assert (await vendors.event())["seconds"] == 13


@pytest.mark.parametrize(
    ("form", "kind", "marks"),
    [("text", "text/plain", ""), ("srt", "application/x-subrip", "00:00:00,000 --> 00:00:13,000"), ("vtt", "text/vtt", "00:00:00.000 --> 00:00:13.000")],
)  # fmt: skip
async def test_formats_that_report_no_usage_are_metered_all_the_same(vendors: Line, form, kind, marks) -> None:
    async with vendors.openai() as client:
        got = await client.audio.transcriptions.with_raw_response.create(
            model=HEARING, file=("a.wav", RECORDING), response_format=form
        )
        plain = await client.audio.transcriptions.create(model=HEARING, file=("a.wav", RECORDING))
    text = got.http_response.text
    assert got.headers["content-type"].startswith(kind)
    assert plain.text in text
    assert marks in text
    assert int(float(got.headers["x-tollgate-credits"]) * 1_000_000) == HEARD_MICRO
    assert await vendors.spent() == 2 * HEARD_MICRO


async def test_a_repeat_gives_the_same_sound_and_text_for_one_charge(vendors: Line) -> None:
    key = {"Idempotency-Key": "again"}
    async with vendors.openai() as client:
        sounds = [
            (await client.audio.speech.create(model=SPEECH, voice="alloy", input="Hello", extra_headers=key)).content
            for _ in range(2)
        ]
        texts = [
            await client.audio.transcriptions.create(
                model=HEARING, file=("a.wav", RECORDING), extra_headers={"Idempotency-Key": "other"}
            )
            for _ in range(2)
        ]
        with pytest.raises(openai.UnprocessableEntityError):
            await client.audio.transcriptions.create(
                model=HEARING, file=("a.wav", RECORDING[:-9]), extra_headers={"Idempotency-Key": "other"}
            )
    assert sounds[0] == sounds[1]
    assert texts[0] == texts[1]
    assert await vendors.spent() == price_micro(SPEECH, CHARACTERS=5) + HEARD_MICRO


async def test_seconds_nobody_reported_are_estimated_from_the_recording_and_say_so(vendors: Line) -> None:
    mp3 = b"ID3" + b"x" * 79_997
    vendors.gpt_answers.append(lambda heard: answer(b'{"text":"hi"}'))
    async with vendors.openai() as client:
        told = await client.audio.transcriptions.create(model="whisper-1", file=("a.mp3", mp3), language="de")
    assert told.usage.estimated is True
    assert told.usage.seconds == 10
    assert await vendors.spent() == price_micro("whisper-1", SECONDS=10)
    heard = vendors.gpt.requests[-1]
    assert heard.head.startswith("POST /v1/audio/transcriptions ")
    assert mp3 in heard.body
    assert b'name="model"\r\n\r\nwhisper-1\r\n' in heard.body
    assert b'name="language"\r\n\r\nde\r\n' in heard.body
    assert b'filename="a.mp3"' in heard.body


async def test_speech_of_a_provider_goes_through_as_it_came(vendors: Line) -> None:
    vendors.gpt_answers.append(lambda heard: answer(b"\xff\xfbsound", headers="Content-Type: audio/mpeg\r\n"))
    async with vendors.openai() as client:
        got = await client.audio.speech.create(
            model="tts-1", voice="alloy", input="Hello", speed=1.5, extra_body={"odd": 1}
        )
        assert got.content == b"\xff\xfbsound"
        assert vendors.gpt.requests[-1].json == {
            "model": "tts-1", "voice": "alloy", "input": "Hello", "speed": 1.5, "odd": 1
        }  # fmt: skip
        for rubbish in (
            answer(b"", headers="Content-Type: audio/mpeg\r\n"),
            answer(b"<html>", headers="Content-Type: text/html\r\n"),
            answer(b'{"error":{"message":"no"}}'),
        ):
            vendors.gpt_answers.append(lambda heard, rubbish=rubbish: rubbish)
            with pytest.raises(openai.InternalServerError):
                await client.audio.speech.create(model="tts-1", voice="alloy", input="Hello")
    assert await vendors.spent() == price_micro("tts-1", CHARACTERS=5)


async def test_what_is_wrong_is_refused_by_its_field_and_costs_nothing(vendors: Line) -> None:
    async with vendors.openai() as client:
        for more, field in (
            ({"input": ""}, "input"),
            ({"input": "x" * 5_000}, "input"),
            ({"model": HEARING}, "model"),
            ({"model": "sandbox-chat"}, "model"),
            ({"stream_format": "odd"}, "stream_format"),
        ):
            with pytest.raises(openai.BadRequestError) as refused:
                await client.audio.speech.create(**{"model": SPEECH, "voice": "alloy", "input": "x", **more})
            assert refused.value.param == field, more
        for more, field in (
            ({"file": ("a.wav", b"")}, "file"),
            ({"model": SPEECH}, "model"),
            ({"response_format": "odd"}, "response_format"),
            ({"response_format": "srt", "stream": True}, "response_format"),
            ({"extra_body": {"stream": "perhaps"}}, "stream"),
        ):
            with pytest.raises(openai.BadRequestError) as refused:
                await client.audio.transcriptions.create(**{"model": HEARING, "file": ("a.wav", RECORDING), **more})
            assert refused.value.param == field, more
        with pytest.raises(openai.BadRequestError):
            await client.audio.transcriptions.create(
                model=HEARING, file=("a.wav", RECORDING), extra_body={"metadata": {"sandbox_status": "400"}}
            )
    headers = {"Authorization": f"Bearer {vendors.seeded.api_key}"}
    url = f"{vendors.gateway.url}/v1/audio/transcriptions"
    async with aiohttp.ClientSession(headers=headers) as session:
        for kind, body in (
            ("application/json", b"{}"),
            ("multipart/form-data", b"x"),
            ("multipart/form-data; boundary=b", b"x"),
            (
                "multipart/form-data; boundary=b",
                b"--b\r\nContent-Disposition: form-data; name=model\r\n\r\n" + b"x" * 70_000,
            ),
        ):
            async with session.post(url, data=body, headers={"Content-Type": kind}) as got:
                assert got.status == 400, (kind, await got.text())
    assert await vendors.spent() == 0


SPEAK = """mutation { callModel(input: {model: "sandbox-audio", payload: {audio: {text: "Hello"}}}) {
  call { id usage { credits meters { meter quantity } }
    output { ... on AssetsOutput { assets { id contentType sizeBytes url expiresAt } } } }
  userErrors { code message }
} }"""
SHOWN = """query($call: ID!, $asset: ID!) { asset: node(id: $asset) { ... on Asset { contentType url } }
  call: node(id: $call) { ... on ModelCall { output { ... on AssetsOutput { assets { id } } } } }
  workspace { storage { usedBytes } assets(first: 5) { nodes { id } } } }"""


async def test_graphql_keeps_what_it_speaks_as_a_private_asset(vendors: Line) -> None:
    async def asked(session: aiohttp.ClientSession, query: str, **variables: str) -> dict:
        body = {"query": query, "variables": variables}
        async with session.post(f"{vendors.gateway.url}/graphql", json=body) as got:
            return (await got.json())["data"]

    stranger = await seed_workspace(vendors.database, 1, name="stranger-to-sound")
    headers = {"Authorization": f"Bearer {vendors.seeded.api_key}"}
    async with aiohttp.ClientSession(headers=headers) as session, aiohttp.ClientSession() as nobody:
        told = (await asked(session, SPEAK))["callModel"]
        assert told["userErrors"] == []
        assert {"meter": "CHARACTERS", "quantity": "5"} in told["call"]["usage"]["meters"]
        (asset,) = told["call"]["output"]["assets"]
        assert asset["contentType"] == "audio/wav"
        assert asset["expiresAt"] is not None
        async with nobody.get(asset["url"]) as got:
            sound = await got.read()
            assert (got.status, got.headers["Content-Type"]) == (200, "audio/wav")
        assert sound.startswith(b"RIFF")
        assert len(sound) == int(asset["sizeBytes"])
        async with nobody.get(asset["url"] + "0") as refused:
            assert refused.status in (403, 404)
        shown = await asked(session, SHOWN, call=told["call"]["id"], asset=asset["id"])
        assert shown["asset"]["contentType"] == "audio/wav"
        assert shown["workspace"]["assets"]["nodes"] == [{"id": asset["id"]}]
        assert shown["workspace"]["storage"]["usedBytes"] == asset["sizeBytes"]
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {stranger.api_key}"}) as session:
        assert (await asked(session, SHOWN, call=told["call"]["id"], asset=asset["id"]))["asset"] is None
    assert await vendors.spent() == price_micro(SPEECH, CHARACTERS=5)
