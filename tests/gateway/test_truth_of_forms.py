"""The truth table's rows for streams in Anthropic's and the Responses form, on a provider of chats and on one of messages."""

import asyncio
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import pytest

from gateway.rules.truth import ROWS
from tests.gateway import upstream
from tests.gateway.test_truth_table import until
from tests.gateway.upstream import (
    INPUT_BYTES,
    PROMPT,
    Play,
    Theatre,
    closing,
    event,
    price_micro,
    read_by_now,
    saying,
    silent,
    streaming,
    theatre,
    usage_event,
    used,
)
from tests.metering.invariants import assert_invariants
from tests.providers.claude import events, sse

TEXT = "word " * 10
TRUE = used(100, 30)
STOP = event(None, "stop")
PATHS = {"messages": "/v1/messages", "responses": "/v1/responses"}


@pytest.fixture
async def stage(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Theatre]:
    async with theatre(database_url, redis_url, tmp_path) as opened:
        yield opened


def asked(form: str) -> dict:
    said = [{"role": "user", "content": PROMPT}]
    if form == "chat":
        return upstream.asked(stream=True)
    if form == "messages":
        return {"model": "solo", "messages": said, "max_tokens": 50, "stream": True}
    return {"model": "solo", "input": said, "max_output_tokens": 50, "stream": True}


ENDED: dict[str, tuple[str, Play, tuple[int, int]]] = {
    "usage_last": ("usage_last", streaming(event(TEXT), STOP, usage_event(TRUE)), (100, 30)),
    "usage with the finish reason": ("usage_last", streaming(event(TEXT), event(None, "stop", TRUE)), (100, 30)),
    "usage_in_each_chunk": (
        "usage_in_each_chunk",
        streaming(event("word ", usage=used(100, 1)), event(TEXT, usage=used(100, 9)), event(None, "stop", used(100, 12))),
        (100, 12),
    ),
    "negative_usage": ("negative_usage", streaming(event(TEXT), STOP, usage_event(used(-100, -1))), (100, 13)),
    "no_usage": ("no_usage", streaming(event(TEXT), STOP), (100, 13)),
    "no_output_reported": ("no_output_reported", streaming(event(TEXT), STOP, usage_event(used(100, 0))), (100, 13)),
    "nothing_reported": ("nothing_reported", streaming(event(TEXT), STOP, usage_event(used(0, 0))), (100, 13)),
    "nothing reported in each chunk": (
        "nothing_reported",
        streaming(event("", usage=used(0, 0)), event(TEXT, usage=used(0, 0)), event(None, "stop", used(0, 0))),
        (100, 13),
    ),
    "usage_before_output": ("usage_before_output", streaming(event("", usage=used(100, 1)), event(TEXT), STOP), (100, 13)),
    "usage between output": (
        "usage_before_output",
        streaming(event("word "), usage_event(used(100, 1)), event(TEXT), STOP),
        (100, 14),
    ),
    "failed_during": ("failed_during", streaming(event(TEXT), then=closing), (100, 13)),
    "failed_at_end": ("failed_at_end", streaming(event(TEXT), STOP, usage_event(TRUE), then=saying(b"rubbish")), (100, 30)),
    "failed after a running usage": (
        "failed_at_end",
        streaming(event(TEXT, usage=TRUE), then=saying(b"rubbish")),
        (100, 30),
    ),
}  # fmt: skip
LEFT: dict[str, tuple[str, Play, tuple[int, int]]] = {
    "client_gone_during": ("client_gone_during", streaming(event(TEXT), then=silent), (100, 13)),
    "client_gone_at_end": (
        "client_gone_at_end",
        streaming(event(TEXT), STOP, usage_event(TRUE), then=silent),
        (100, 30),
    ),
    "client_gone_after_input": (
        "client_gone_after_input",
        streaming(event("", usage=used(100, 0)), event(TEXT), then=silent),
        (100, 13),
    ),
    "left after a running usage": ("client_gone_at_end", streaming(event(TEXT, usage=TRUE), then=silent), (100, 30)),
}


UNREPORTED = {"negative_usage", "no_usage", "absurd_usage", "nothing_reported", "failed_during", "client_gone_during"}


async def check(
    stage: Theatre, row_name: str, tokens: tuple[int, int], pg, *, unreported: Collection[str] = UNREPORTED
) -> None:
    """`tokens` in and out; the input that nobody reported, in the rows `unreported`, is about what was sent."""
    row = next(row for row in ROWS if row.name == row_name).verdict
    told = await stage.settled()
    assert row.usage is not None
    assert (told["status"], told["estimated"]) == (row.status, row.usage.estimated)
    counted_in = INPUT_BYTES // 4 <= told["input_tokens"] <= INPUT_BYTES // 4 + 2 and row_name in unreported
    expected_in = told["input_tokens"] if counted_in else tokens[0]
    assert (told["input_tokens"], told["output_tokens"]) == (expected_in, tokens[1])
    assert told["charged_micro"] == price_micro((expected_in, 0, tokens[1], 0)) == await stage.spent_micro()
    await assert_invariants(pg)


@pytest.mark.parametrize("form", PATHS)
@pytest.mark.parametrize("name", ENDED)
async def test_a_row_of_the_truth_table_in_another_form(stage: Theatre, form: str, name: str, pg) -> None:
    row_name, play, tokens = ENDED[name]
    stage.plays.plays = [play]
    got = await stage.gate.ask(asked(form), path=PATHS[form])
    assert got.status == 200, got.raw
    await check(stage, row_name, tokens, pg)
    assert got.raw.count(b'"credits"') == 1, "the charge is told once"


@pytest.mark.parametrize("form", PATHS)
@pytest.mark.parametrize("name", LEFT)
async def test_a_client_that_leaves_another_form_pays_what_it_would_of_a_chat(
    stage: Theatre, form: str, name: str, pg
) -> None:
    row_name, play, tokens = LEFT[name]
    stage.plays.plays = [play]
    gone = asyncio.Event()
    asking = asyncio.create_task(stage.gate.ask(asked(form), path=PATHS[form], leave=gone))
    await until(lambda: stage.alpha.requests)
    await read_by_now()
    gone.set()
    await asking
    await check(stage, row_name, tokens, pg)


CLAUDE_TEXT = {"type": "text", "text": TEXT, "citations": None}
USED = {"input_tokens": 90, "output_tokens": 30}
"""The input is told with the first event: it holds however the message ends, but where all that is told is zero."""


def messaging(*, said: bool = True, end: dict | None = None, last: int | None = None, then: Play | None = None) -> Play:
    """A message whose end says `end` of its usage; `last` events are not sent, and `then` comes instead of them."""
    told = events([CLAUDE_TEXT] if said else (), usage=USED)
    told = [{**each, "usage": end} if each["type"] == "message_delta" else each for each in told]
    return streaming(*map(sse, told[:last]), then=then or saying(b"0\r\n\r\n"))


BEFORE_ITS_END, BEHIND_ITS_USAGE = -3, -2
OF_CLAUDE: dict[str, tuple[str, Play, tuple[int, int] | None]] = {
    "usage_last": ("usage_last", messaging(end={"output_tokens": 30}), (90, 30)),
    "no_usage": ("no_usage", messaging(), (90, 13)),
    "negative_usage": ("negative_usage", messaging(end={"output_tokens": -30}), (90, 13)),
    "negative input": ("negative_usage", messaging(end={"input_tokens": -1, "output_tokens": 30}), (90, 13)),
    "absurd_usage": ("absurd_usage", messaging(end={"output_tokens": 10**15}), (90, 13)),
    "no_output_reported": ("no_output_reported", messaging(end={"output_tokens": 0}), (90, 13)),
    "nothing_reported": ("nothing_reported", messaging(end={"input_tokens": 0, "output_tokens": 0}), (100, 13)),
    "usage_above_bound": ("usage_above_bound", messaging(end={"output_tokens": 900}), (90, 50)),
    "empty_output": ("empty_output", messaging(said=False, end={"output_tokens": 0}), (90, 0)),
    "failed_after_usage": ("failed_after_usage", messaging(said=False, last=2, then=closing), None),
    "failed_during": ("failed_during", messaging(last=BEFORE_ITS_END, then=closing), (90, 13)),
    "failed_at_end": (
        "failed_at_end",
        messaging(end={"output_tokens": 30}, last=BEHIND_ITS_USAGE, then=saying(b"rubbish")),
        (90, 30),
    ),
}


@pytest.fixture
async def claude(
    database_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Theatre]:
    kind = upstream.CATALOG.replace('"openai_compatible"\nbase_url = "{alpha}"', '"anthropic"\nbase_url = "{alpha}"')
    monkeypatch.setattr(upstream, "CATALOG", kind)
    async with theatre(database_url, redis_url, tmp_path) as opened:
        yield opened


@pytest.mark.parametrize("form", [*PATHS, "chat"])
@pytest.mark.parametrize("name", OF_CLAUDE)
async def test_a_row_of_the_truth_table_on_a_provider_of_messages(claude: Theatre, form: str, name: str, pg) -> None:
    row_name, play, tokens = OF_CLAUDE[name]
    claude.plays.plays = [play]
    got = await claude.gate.ask(asked(form), path=PATHS.get(form, "/v1/chat/completions"))
    if tokens is None:
        assert (got.status, (await claude.settled())["call_id"]) == (502, None)
        assert await claude.spent_micro() == 0
    else:
        assert got.status == 200, got.raw
        await check(claude, row_name, tokens, pg, unreported={"nothing_reported"})


@pytest.mark.parametrize("form", [*PATHS, "chat"])
@pytest.mark.parametrize(
    ("row_name", "last"), [("client_gone_after_input", BEFORE_ITS_END), ("client_gone_at_end", BEHIND_ITS_USAGE)]
)
async def test_a_client_that_leaves_a_message_pays_what_came(
    claude: Theatre, form: str, row_name: str, last: int, pg
) -> None:
    claude.plays.plays = [messaging(end={"output_tokens": 30}, last=last, then=silent)]
    gone = asyncio.Event()
    asking = asyncio.create_task(claude.gate.ask(asked(form), path=PATHS.get(form, "/v1/chat/completions"), leave=gone))
    await until(lambda: claude.alpha.requests)
    await read_by_now()
    gone.set()
    await asking
    await check(claude, row_name, (90, 13 if last == BEFORE_ITS_END else 30), pg, unreported=())
