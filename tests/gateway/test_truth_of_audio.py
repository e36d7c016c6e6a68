"""Every way in which streamed speech and transcriptions can end, played by a provider over a real socket: the truth table's rows."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from gateway.rules.truth import ROWS
from kit.clock import now
from providers.base import Upload
from providers.multipart import write_form
from tests.gateway.conftest import Answer
from tests.gateway.upstream import (
    AUDIO_PRICES,
    ENDED_WITHIN_S,
    Play,
    Theatre,
    closing,
    failing,
    patience_s,
    read_by_now,
    saying,
    silent,
    streaming,
    theatre,
)
from tests.metering.invariants import assert_invariants
from tests.providers.upstreams import answer, chunk

TEXT = "Zwölf Wörter, ü."
MP3 = Upload("a.mp3", "audio/mpeg", b"ID3" + b"x" * 79_997)
"""Probably 10 seconds, at most 161."""
SOUND_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nTransfer-Encoding: chunked\r\n\r\n"
PIECES = (b"\xff\xfbone", b"two", b"three")


def event(body: dict) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"


def sounding(*pieces: bytes, then: Play | None = None) -> Play:
    """Sound in these pieces; `then` is what comes instead of its end."""

    async def play(reader, writer):
        writer.write(SOUND_HEAD + b"".join(chunk(piece) for piece in pieces))
        await writer.drain()
        if then is None:
            writer.write(chunk(b""))
        else:
            await then(reader, writer)

    return play


def spoken(piece: bytes) -> bytes:
    return event({"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode()})


@dataclass(frozen=True)
class Kind:
    """A way of streaming. `units`: what a whole call is charged, by meter; `broken`: one that broke off after output."""

    name: str
    model: str
    begin: Callable[..., Play]
    """A stream's output, then what is given."""
    whole: Callable[[object], Play]
    """A stream with this usage."""
    units: dict[str, int]
    broken: dict[str, int]
    more: dict[str, object]

    @property
    def path(self) -> str:
        return "/v1/audio/speech" if self.model == "voice" else "/v1/audio/transcriptions"


def said(usage: object, then: Play | None = None) -> Play:
    done = {"type": "speech.audio.done"} | ({} if usage is None else {"usage": usage})
    return streaming(*map(spoken, PIECES), event(done), then=then)


def heard(usage: object, then: Play | None = None) -> Play:
    done = {"type": "transcript.text.done", "text": "one two"} | ({} if usage is None else {"usage": usage})
    return streaming(*WORDS, event(done), then=then)


WORDS = tuple(event({"type": "transcript.text.delta", "delta": piece}) for piece in ("one", " two"))
SPOKEN = {"CHARACTERS": len(TEXT), "REQUESTS": 1}
SOUND = Kind(
    "sound", "voice", lambda then: sounding(PIECES[0], then=then), lambda usage: sounding(*PIECES), SPOKEN, SPOKEN, {}
)
EVENTS = Kind(
    "speech events", "voice", lambda then: streaming(spoken(PIECES[0]), then=then), said, SPOKEN, SPOKEN,
    {"stream_format": "sse"},
)  # fmt: skip
TRANSCRIPT = Kind(
    "transcript", "ear", lambda then: streaming(*WORDS, then=then), heard, {"SECONDS": 13}, {"SECONDS": 10},
    {"stream": True},
)  # fmt: skip
TOKENS = Kind(
    "transcript by tokens", "token-ear", lambda then: streaming(*WORDS, then=then), heard,
    {"INPUT_TOKENS": 120, "OUTPUT_TOKENS": 4}, {"INPUT_TOKENS": 100, "OUTPUT_TOKENS": 2}, {"stream": True},
)  # fmt: skip
KINDS = (SOUND, EVENTS, TRANSCRIPT, TOKENS)
TRUE = {
    "sound": None,
    "speech events": {"input_tokens": 5, "output_tokens": 9, "total_tokens": 14},
    "transcript": {"type": "duration", "seconds": 12.3},
    "transcript by tokens": {"type": "tokens", "input_tokens": 120, "output_tokens": 4, "total_tokens": 124},
}


@pytest.fixture
async def stage(
    request: pytest.FixtureRequest, database_url: str, redis_url: str, tmp_path: Path
) -> AsyncIterator[Theatre]:
    more, patience = "retries = 1\ncircuit_failures = 0", patience_s(request)
    async with theatre(database_url, redis_url, tmp_path, more, patience_s=patience) as made:
        yield made


async def ask(stage: Theatre, kind: Kind, **options) -> Answer:
    if kind.model == "voice":
        return await stage.gate.ask(
            {"model": "voice", "voice": "alloy", "input": TEXT, **kind.more}, path=kind.path, **options
        )
    form = write_form({"model": kind.model, **kind.more}, MP3, "b" * 24)
    headers = {"content_type": f"multipart/form-data; boundary={'b' * 24}"}
    return await stage.gate.ask(form, path=kind.path, **headers, **options)


async def streamed(stage: Theatre, kind: Kind, play: Play, **options) -> Answer:
    stage.plays.plays = [play]
    got = await ask(stage, kind, **options)
    assert got.status == 200, got.raw
    return got


def told(got: Answer) -> list[dict]:
    return [orjson.loads(line[6:]) for line in got.raw.split(b"\n\n") if line and line != b"data: [DONE]"]


def price(kind: Kind, units: dict[str, int]) -> int:
    return sum(AUDIO_PRICES[kind.model][meter] * many for meter, many in units.items()) * 1_000_000


async def answered(stage: Theatre, kind: Kind) -> dict[str, int]:
    got = await streamed(stage, kind, kind.whole(TRUE[kind.name]))
    charge = str(price(kind, kind.units) // 1_000_000)
    if kind is SOUND:
        assert (got.raw, got.headers["content-type"]) == (b"".join(PIECES), "audio/mpeg")
        assert got.headers["x-tollgate-credits"] == charge
    else:
        usage = told(got)[-1]["usage"]
        assert (usage["credits"], usage["estimated"]) == (charge, False)
        assert got.raw.endswith(b"data: [DONE]\n\n") == (kind.model != "voice")
    return kind.units


async def answered_after_others(stage: Theatre, kind: Kind) -> dict[str, int]:
    stage.beta_plays.plays = [kind.whole(TRUE[kind.name])]
    await streamed(stage, kind, failing())
    assert (len(stage.alpha.requests), len(stage.beta.requests)) == (2, 1)
    assert (await stage.settled())["provider"] == "beta"
    return kind.units


async def empty_output_no_usage(stage: Theatre, kind: Kind) -> dict[str, int]:
    if kind is SOUND:
        pytest.skip("no sound is no answer: see failed_before")
    done = "speech.audio.done" if kind is EVENTS else "transcript.text.done"
    got = await streamed(stage, kind, streaming(event({"type": done, "text": ""})))
    assert [each["type"] for each in told(got)] == [done]
    return SPOKEN if kind is EVENTS else {"SECONDS": 10} if kind is TRANSCRIPT else {"INPUT_TOKENS": 100}


async def refused(stage: Theatre, kind: Kind) -> None:
    stage.plays.plays = [failing("400 Bad Request", body=b'{"error": {"message": "filtered"}}')]
    assert (await ask(stage, kind)).status == 400
    assert (len(stage.alpha.requests), len(stage.beta.requests)) == (1, 0)


async def failed_before(stage: Theatre, kind: Kind) -> None:
    rubbish = sounding() if kind is SOUND else streaming(event({"type": "odd"}), then=closing)
    stage.plays.plays, stage.beta_plays.plays = [rubbish], [failing()]
    assert (await ask(stage, kind)).status == 502
    assert len(stage.beta.requests) == 2


async def failed_during(stage: Theatre, kind: Kind) -> dict[str, int]:
    got = await streamed(stage, kind, kind.begin(closing))
    if kind is SOUND:
        assert got.raw == PIECES[0]
    else:
        last = told(got)[-1]
        assert last["error"]["code"] == "upstream_error"
        assert last["usage"]["credits"] == str(price(kind, kind.broken) // 1_000_000)
    assert (len(stage.alpha.requests), len(stage.beta.requests)) == (1, 0)
    return kind.broken


async def timed_out_before(stage: Theatre, kind: Kind) -> None:
    stage.plays.plays = stage.beta_plays.plays = [silent]
    assert (await ask(stage, kind)).status == 504


async def timed_out_during(stage: Theatre, kind: Kind) -> dict[str, int]:
    await streamed(stage, kind, kind.begin(silent))
    return kind.broken


async def client_gone_before(stage: Theatre, kind: Kind) -> None:
    await leave(stage, kind, silent)


async def client_gone_during(stage: Theatre, kind: Kind) -> dict[str, int]:
    await leave(stage, kind, kind.begin(silent))
    return kind.broken


async def leave(stage: Theatre, kind: Kind, play: Play) -> None:
    gone = asyncio.Event()
    stage.plays.plays = [play]
    asking = asyncio.create_task(ask(stage, kind, leave=gone))
    await until(lambda: stage.alpha.requests)
    await read_by_now()
    gone.set()
    await asking
    await asyncio.wait_for(stage.alpha.ended.wait(), ENDED_WITHIN_S)


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.005)


Scene = Callable[[Theatre, Kind], Awaitable[dict[str, int] | None]]
SCENES: tuple[Scene, ...] = (
    answered, answered_after_others, empty_output_no_usage, refused, failed_before, failed_during, timed_out_before,
    timed_out_during, client_gone_before, client_gone_during,
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
async def test_a_stream_of_sound_or_of_what_was_heard_ends_by_its_row(
    stage: Theatre, scene: Scene, kind: Kind, pg
) -> None:
    expected = await scene(stage, kind)
    row = next(row for row in ROWS if row.name == scene.__name__).verdict
    ended = await stage.settled()
    assert ended["status"] == row.status
    if expected is None:
        assert ended["call_id"] is None
        assert await stage.spent_micro() == 0
    else:
        assert row.usage is not None
        known = kind.model == "voice" and ended["status"] == "SUCCEEDED"  # by the text itself
        assert ended["estimated"] == (row.usage.estimated and not known)
        assert ended["charged_micro"] == price(kind, expected) == await stage.spent_micro()
    await assert_invariants(pg)


NONE, ABSURD, NEGATIVE, RUBBISH = None, {"seconds": 10**15}, {"seconds": -1}, "many"


@pytest.mark.parametrize("usage", [NONE, ABSURD, NEGATIVE, RUBBISH], ids=["none", "absurd", "negative", "rubbish"])
async def test_a_usage_that_nobody_could_believe_is_estimated_from_the_recording(stage: Theatre, usage) -> None:
    given = {"type": "duration", **usage} if isinstance(usage, dict) else usage
    got = await streamed(stage, TRANSCRIPT, heard(given))
    assert told(got)[-1]["usage"]["estimated"] is True
    ended = await stage.settled()
    assert (ended["seconds"], ended["estimated"]) == (10, True)
    assert ended["charged_micro"] == price(TRANSCRIPT, {"SECONDS": 10})


async def test_seconds_beyond_what_the_recording_can_play_are_cut(stage: Theatre) -> None:
    await streamed(stage, TRANSCRIPT, heard({"type": "duration", "seconds": 5_000}))
    ended = await stage.settled()
    assert (ended["seconds"], ended["estimated"]) == (161, True)
    assert orjson.loads(ended["details"])["reported"]["seconds"] == 5_000


@pytest.mark.parametrize("usage", [{"input_tokens": -5, "output_tokens": 3}, {"input_tokens": 10**15}, "many"])
async def test_speech_is_counted_by_its_characters_whatever_tokens_are_told(stage: Theatre, usage) -> None:
    got = await streamed(stage, EVENTS, said(usage))
    assert told(got)[-1]["usage"]["characters"] == len(TEXT)
    ended = await stage.settled()
    assert (ended["characters"], ended["input_tokens"], ended["estimated"]) == (len(TEXT), 0, False)


@pytest.mark.parametrize("kind", [EVENTS, TRANSCRIPT], ids=lambda kind: kind.name)
async def test_nothing_is_waited_for_after_the_last_event(stage: Theatre, kind: Kind) -> None:
    whole = said if kind is EVENTS else heard
    await streamed(stage, kind, whole(TRUE[kind.name], silent))
    assert (await stage.settled())["status"] == "SUCCEEDED"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_the_first_piece_arrives_while_the_provider_holds_back_the_rest(stage: Theatre, kind: Kind) -> None:
    rest = asyncio.Event()

    async def held(reader, writer):
        await rest.wait()
        writer.close()

    stage.plays.plays = [kind.begin(held)]
    arrived: asyncio.Queue[dict] = asyncio.Queue()
    asking = asyncio.create_task(ask(stage, kind, hear=arrived.put_nowait))
    async with asyncio.timeout(30):
        assert (await arrived.get())["type"] == "http.response.start"
        first = (await arrived.get())["body"]
    assert not rest.is_set()
    assert first.startswith(PIECES[0] if kind is SOUND else b"data: {")
    assert (await stage.database.pool.fetchval("SELECT count(*) FROM holds")) == 1
    rest.set()
    await asking


async def test_a_repeat_follows_sound_that_is_still_coming_and_later_gets_it_whole(stage: Theatre) -> None:
    rest = asyncio.Event()

    async def held(reader, writer):
        await rest.wait()
        writer.write(chunk(PIECES[1]) + chunk(b""))

    stage.plays.plays = [sounding(PIECES[0], then=held)]
    asking = [asyncio.create_task(ask(stage, SOUND, idempotency_key="k"))]
    await until(lambda: stage.alpha.requests)
    await asyncio.sleep(0.1)
    asking.append(asyncio.create_task(ask(stage, SOUND, idempotency_key="k")))
    await asyncio.sleep(0.1)
    rest.set()
    sound = PIECES[0] + PIECES[1]
    assert [(await each).raw for each in asking] == [sound, sound]
    again = await ask(stage, SOUND, idempotency_key="k")
    assert (again.raw, again.headers["content-type"]) == (sound, "audio/mpeg")
    assert (again.headers["idempotent-replayed"], again.headers["content-length"]) == ("true", "8")
    assert len(stage.alpha.requests) == 1
    assert await stage.spent_micro() == price(SOUND, SPOKEN)


@pytest.mark.parametrize("kind", [EVENTS, TRANSCRIPT], ids=lambda kind: kind.name)
async def test_a_repeat_of_events_has_the_output_in_one_event_and_the_same_charge(stage: Theatre, kind: Kind) -> None:
    first = told(await streamed(stage, kind, kind.whole(TRUE[kind.name]), idempotency_key="k"))
    again = told(await ask(stage, kind, idempotency_key="k"))
    assert [each["type"] for each in again] == [first[0]["type"], first[-1]["type"]]
    if kind is EVENTS:
        assert base64.b64decode(again[0]["audio"]) == b"".join(PIECES)
    else:
        assert (again[0]["delta"], again[1]["text"]) == ("one two", "one two")
    assert again[-1]["usage"] == first[-1]["usage"]
    assert await stage.spent_micro() == price(kind, kind.units)


async def test_sound_whose_client_may_ask_again_goes_on_when_that_leaves(stage: Theatre) -> None:
    gone, rest = asyncio.Event(), asyncio.Event()

    async def held(reader, writer):
        await rest.wait()
        writer.write(chunk(PIECES[1]) + chunk(b""))

    stage.plays.plays = [sounding(PIECES[0], then=held)]
    first = {"x_stainless_retry_count": "0"}
    asking = asyncio.create_task(ask(stage, SOUND, leave=gone, **first))
    await until(lambda: stage.alpha.requests)
    gone.set()
    await asyncio.sleep(0.1)
    again = asyncio.create_task(ask(stage, SOUND, **first | {"x_stainless_retry_count": "1"}))
    await asyncio.sleep(0.1)
    rest.set()
    await asking
    assert (await again).raw == PIECES[0] + PIECES[1]
    assert (await again).headers["idempotent-replayed"] == "true"
    assert len(stage.alpha.requests) == 1
    assert await stage.spent_micro() == price(SOUND, SPOKEN)


async def test_sound_with_the_cache_on_is_answered_whole_and_then_from_the_cache(stage: Theatre) -> None:
    stage.plays.plays = [sounding(*PIECES)]
    got = [await ask(stage, SOUND, x_tollgate_cache="on") for _ in range(2)]
    assert [each.headers["x-tollgate-cache"] for each in got] == ["miss", "hit"]
    assert {each.raw for each in got} == {b"".join(PIECES)}
    assert len(stage.alpha.requests) == 1


async def test_a_stored_output_of_streamed_speech_is_as_that_of_a_whole_call(stage: Theatre) -> None:
    await stage.database.pool.execute("UPDATE workspaces SET store_outputs = true")
    stage.gate.services.workspaces.forget(stage.gate.seeded.workspace_id)
    await streamed(stage, SOUND, sounding(*PIECES))
    call_id = (await stage.settled())["call_id"]
    assert await stage.gate.services.calls._outputs.read(call_id, now()) == {
        "object": "audio.speech", "content_type": "audio/mpeg", "b64_audio": base64.b64encode(b"".join(PIECES)).decode()
    }  # fmt: skip


async def test_a_provider_that_gives_sound_where_events_are_asked_for_is_translated(stage: Theatre) -> None:
    got = await streamed(stage, EVENTS, sounding(*PIECES))
    events = told(got)
    assert b"".join(base64.b64decode(each["audio"]) for each in events[:-1]) == b"".join(PIECES)
    assert (events[-1]["type"], events[-1]["usage"]["characters"]) == ("speech.audio.done", len(TEXT))
    assert got.headers["content-type"].startswith("text/event-stream")


async def test_a_provider_that_gives_a_whole_transcription_is_translated(stage: Theatre) -> None:
    body = {"text": "one two", "usage": {"type": "duration", "seconds": 12.3}}
    got = told(await streamed(stage, TRANSCRIPT, saying(answer(orjson.dumps(body)))))
    assert [each["type"] for each in got] == ["transcript.text.delta", "transcript.text.done"]
    assert (got[0]["delta"], got[1]["text"], got[1]["usage"]["seconds"]) == ("one two", "one two", 12.3)
    assert (await stage.settled())["charged_micro"] == price(TRANSCRIPT, TRANSCRIPT.units)
