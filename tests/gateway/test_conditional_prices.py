"""Prices that depend on what is asked, at every door: what is held, charged and remembered is the request's own price."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import orjson
import pytest

from accounts.views import Environment
from gateway.errors import CallTooDear
from gateway.views import CallRequest
from providers.base import Operation
from providers.sandbox_audio import speech
from tests.gateway.conftest import CREDITS_MICRO, Gate, OpenShop, chat, open_gate
from tests.gateway.job_shop import Shop
from tests.gateway.test_batches import BOUNDARY, begun, content, line, told, work
from tests.metering.invariants import assert_invariants

IMAGES, SPEECH, HEARING = "/v1/images/generations", "/v1/audio/speech", "/v1/audio/transcriptions"
RECORDING, _ = speech({"model": "m", "input": "x" * 1_000})  # 10 s

MODELS = """
[models.poster]
name = "Poster"
modality = "IMAGE"
max_images = 4
routes = [{ provider = "sandbox", upstream_model = "sandbox-image" }]
prices = [
    { meter = "IMAGES", credits = "4" },
    { meter = "IMAGES", when = { quality = "hd" }, credits = "8" },
    { meter = "IMAGES", when = { size = ["1024x1792", "1792x1024"] }, credits = "6" },
    { meter = "IMAGES", when = { quality = "hd", size = ["1024x1792", "1792x1024"] }, credits = "12" },
]

[models.thinker]
name = "Thinker"
modality = "TEXT"
context_tokens = 1_000
max_output_tokens = 100
routes = [{ provider = "sandbox", upstream_model = "sandbox-chat" }]
prices = [
    { meter = "REQUESTS", credits = "1" },
    { meter = "REQUESTS", when = { reasoning_effort = "high" }, credits = "3" },
    { meter = "REQUESTS", when = { "thinking.type" = "enabled" }, credits = "3" },
    { meter = "REQUESTS", when = { temperature = 2 }, credits = "2" },
    { meter = "REQUESTS", when = { service_tier = "priority" }, credits = "6" },
]

[models.voice]
name = "Voice"
modality = "AUDIO"
max_characters = 100
routes = [{ provider = "sandbox", upstream_model = "sandbox-audio" }]
prices = [
    { meter = "CHARACTERS", credits = "1" },
    { meter = "CHARACTERS", when = { response_format = "wav" }, credits = "2" },
]

[models.ear]
name = "Ear"
modality = "AUDIO"
max_seconds = 100
routes = [{ provider = "sandbox", upstream_model = "sandbox-audio" }]
prices = [
    { meter = "SECONDS", credits = "1" },
    { meter = "SECONDS", when = { temperature = 0.5 }, credits = "2" },
]
"""


@pytest.fixture
async def gate(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Gate]:
    async with open_gate(database_url, redis_url, tmp_path, MODELS) as opened:
        yield opened


def picture(**more: object) -> dict:
    return {"model": "poster", "prompt": "a gate", **more}


async def credits_of(gate: Gate, body: object, path: str = IMAGES, **headers: str) -> Decimal:
    answer = await gate.ask(body, path=path, **headers)
    assert answer.status == 200, answer.raw
    return (
        Decimal(answer.headers["x-tollgate-credits"])
        if path in (SPEECH, HEARING)
        else Decimal(answer.body["usage"]["credits"])
    )


async def spent(pg) -> Decimal:
    await assert_invariants(pg)
    balance, held = await pg.fetchrow("SELECT sum(balance_micro), sum(held_micro) FROM wallets")
    assert held == 0
    return (CREDITS_MICRO - balance) / 1_000_000


@pytest.mark.parametrize(
    ("asked", "cost"),
    [
        ({}, 4),
        ({"quality": "standard", "size": "1024x1024"}, 4),
        ({"size": "1792X1024"}, 6),
        ({"quality": "HD"}, 8),
        ({"quality": "hd", "size": "1792x1024"}, 12),
        ({"quality": "hd", "size": "1792x1024", "n": 3}, 36),
        ({"quality": "auto"}, 8),
        ({"quality": "auto", "size": "auto"}, 12),
    ],
)
async def test_a_picture_costs_by_its_quality_and_size(gate: Gate, pg, asked: dict, cost: int) -> None:
    assert await credits_of(gate, picture(**asked)) == cost
    assert await spent(pg) == cost
    event = await pg.fetchrow("SELECT cost_micro, charged_micro FROM usage_events")
    assert tuple(event) == (cost * 1_000_000, cost * 1_000_000)


async def test_the_hold_is_made_by_the_price_of_the_request_and_no_more(gate: Gate, pg) -> None:
    slow = picture(quality="hd", metadata={"sandbox_delay_ms": "3000"})
    call = asyncio.create_task(gate.ask(slow, path=IMAGES))
    async with asyncio.timeout(30):
        while (held := await pg.fetchval("SELECT held_micro FROM wallets")) == 0:
            await asyncio.sleep(0.02)
    assert held == 8_000_000
    terms = orjson.loads(await pg.fetchval("SELECT terms FROM holds"))
    assert terms["prices"] == [["IMAGES", 8_000_000, 1]]
    assert (await call).status == 200
    assert await spent(pg) == 8


async def test_a_repeat_is_the_same_call_at_the_same_price(gate: Gate, pg) -> None:
    for _ in range(2):
        assert await credits_of(gate, picture(quality="hd"), idempotency_key="again") == 8
    assert await spent(pg) == 8


async def test_a_test_keys_call_costs_nothing_whatever_it_asks(gate: Gate, pg) -> None:
    key = await gate.key(Environment.TEST)
    assert (await gate.ask(picture(quality="hd"), path=IMAGES, key=key)).body["usage"]["credits"] == "0"
    assert await spent(pg) == 0


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/v1/chat/completions", {"reasoning_effort": "high"}),
        ("/v1/chat/completions", {"reasoning_effort": "HIGH", "stream": True}),
        ("/v1/messages", {"thinking": {"type": "enabled", "budget_tokens": 1_024}}),
        ("/v1/messages", {"output_config": {"effort": "high"}}),
        ("/v1/responses", {"reasoning": {"effort": "high"}}),
    ],
)
async def test_each_form_of_a_chat_has_the_price_of_what_it_asks(gate: Gate, pg, path: str, more: dict) -> None:
    body = {"model": "thinker", "input": "Hello"} if path == "/v1/responses" else chat("thinker")
    for asked in (body, {**body, **more}):
        answer = await gate.ask(asked, path=path)
        assert answer.status == 200, answer.raw
    assert await spent(pg) == 1 + 3


@pytest.mark.parametrize("effort", ["low", None])
@pytest.mark.parametrize(
    ("path", "more"),
    [("/v1/messages", {"output_config": {"effort": "high"}}), ("/v1/responses", {"reasoning": {"effort": "high"}})],
)
async def test_a_chats_word_beside_a_forms_own_makes_nothing_cheaper(
    gate: Gate, pg, path: str, more: dict, effort: str | None
) -> None:
    body = {"model": "thinker", "input": "Hello"} if path == "/v1/responses" else chat("thinker")
    answer = await gate.ask({**body, **more, "reasoning_effort": effort}, path=path)
    assert answer.status == 200, answer.raw
    assert await spent(pg) == 3


async def test_a_dearer_way_that_has_a_price_can_be_tried_with_a_test_key(gate: Gate, pg) -> None:
    key = await gate.key(Environment.TEST)
    assert (await gate.ask(chat("thinker", service_tier="priority"), key=key)).status == 200
    assert (await gate.ask(chat("thinker", service_tier="fast"), key=key)).status == 400
    assert await spent(pg) == 0


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
async def test_a_dearer_way_that_has_a_price_is_served_at_it_and_any_other_is_refused(
    gate: Gate, pg, path: str
) -> None:
    body = {"model": "thinker", "input": "Hello"} if path == "/v1/responses" else chat("thinker")
    assert (await gate.ask({**body, "service_tier": "fast"}, path=path)).status == 400
    assert await spent(pg) == 0
    for tier, cost in (("priority", 6), ("default", 7), ("auto", 13)):
        answer = await gate.ask({**body, "service_tier": tier}, path=path)
        assert answer.status == 200, answer.raw
        assert await spent(pg) == cost


async def test_a_spoken_text_costs_by_a_setting_beside_it(gate: Gate, pg) -> None:
    text = {"model": "voice", "input": "12345", "voice": "alloy"}
    assert await credits_of(gate, text, SPEECH) == 5
    assert await credits_of(gate, {**text, "response_format": "WAV"}, SPEECH) == 10
    assert await spent(pg) == 15


async def test_a_forms_field_is_a_number_as_text(gate: Gate, pg) -> None:
    for temperature, cost in (("0.2", 10), ("0.50", 20)):
        fields = {"model": "ear", "temperature": temperature}
        parts = [
            f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()
        ]
        parts.append(b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + RECORDING)
        body = b"".join(b"--xyz\r\n" + part + b"\r\n" for part in parts) + b"--xyz--\r\n"
        kind = f"multipart/form-data; boundary={BOUNDARY}"
        answer = await gate.ask(body, path=HEARING, content_type=kind)
        assert answer.status == 200, answer.raw
        assert Decimal(answer.body["usage"]["credits"]) == cost
    assert await spent(pg) == 30


async def test_each_line_of_a_batch_has_its_own_price(gate: Gate, pg) -> None:
    batch_id = await begun(gate, line("plain", chat("thinker")), line("deep", chat("thinker", reasoning_effort="high")))
    await work(gate)
    lines = await content(gate, (await told(gate, batch_id))["output_file_id"])
    costs = {each["custom_id"]: Decimal(each["response"]["body"]["usage"]["credits"]) for each in lines}
    assert costs == {"plain": 1, "deep": 3}
    assert await spent(pg) == 4


FILMS = """
[models.film]
name = "Film"
modality = "VIDEO"
max_seconds = 10
routes = [{ provider = "prints", upstream_model = "a-video" }]
prices = [
    { meter = "REQUESTS", credits = "1" },
    { meter = "SECONDS", credits = "2" },
    { meter = "SECONDS", when = { resolution = ["1080p", 1080] }, credits = "5" },
    { meter = "SECONDS", when = { resolution = ["1080p", 1080], "audio.generate" = true }, credits = "7" },
]

[models.writer]
name = "Writer"
modality = "TEXT"
context_tokens = 1_000
max_output_tokens = 100
routes = [{ provider = "sandbox", upstream_model = "sandbox-chat" }]
prices = [
    { meter = "REQUESTS", credits = "2" },
    { meter = "REQUESTS", when = { temperature = 1.5 }, credits = "5" },
]

[models.pair]
name = "Pair"
modality = "TEXT"
prices = [{ meter = "REQUESTS", credits = "1" }]
[models.pair.chain]
steps = [
    { name = "one", model = "writer", prompt = "{{ input.text }}", max_tokens = 5, temperature = 1.5 },
    { name = "two", model = "writer", prompt = "{{ steps.one.content }}", max_tokens = 5 },
]
"""


@pytest.fixture
async def shop(open_shop_with: OpenShop) -> AsyncIterator[Shop]:
    async with open_shop_with(FILMS) as opened:
        yield opened


@pytest.mark.parametrize(
    ("asked", "cost"),
    [
        ({"resolution": "720p", "audio": {"generate": True}}, 7),
        ({"resolution": 1080}, 16),
        ({"resolution": "1080P", "audio": {"generate": "true"}}, 22),
        ({"resolution": "auto", "audio": "auto"}, 22),
    ],
)
async def test_a_film_costs_by_its_resolution_and_sound(shop: Shop, asked: dict, cost: int) -> None:
    ended = await shop.ended(await shop.start("film", **asked))
    assert (ended.status, ended.usage.seconds) == ("SUCCEEDED", 3)
    assert await shop.spent() == cost


async def test_a_job_is_held_and_ends_at_the_price_of_its_submit(shop: Shop) -> None:
    call_id = await shop.start("film", resolution="1080p")
    assert (await shop.wallet())[1] == 16_000_000
    assert orjson.loads((await shop.row(call_id))["terms"])["prices"] == [
        ["REQUESTS", 1_000_000, 1],
        ["SECONDS", 5_000_000, 1],
    ]
    await shop.pg.execute("UPDATE model_prices SET credits_micro = credits_micro * 9")
    await shop.services.catalog.reload()
    await shop.ended(call_id)
    assert await shop.spent() == 16


async def test_a_callers_own_limit_stands_against_the_price_of_the_request(shop: Shop) -> None:
    plain = CallRequest("film", Operation.VIDEO, {"prompt": "a wave", "seconds": 3}, None, 7_000_000, way="job")
    sharp = CallRequest("film", Operation.VIDEO, {**plain.body, "resolution": "1080p"}, None, 7_000_000, way="job")
    with pytest.raises(CallTooDear):
        await shop.services.jobs.jobs.start(await shop.caller(), sharp)
    await shop.ended(await shop.services.jobs.jobs.start(await shop.caller(), plain))
    assert await shop.spent() == 7


async def test_B14_a_chains_step_is_bound_and_charged_by_its_own_settings(shop: Shop) -> None:
    await shop.give_plan(chained_models=True)
    asked = CallRequest("pair", Operation.CHAT, {**chat("pair"), "temperature": 1.5}, None, 8_000_000)
    with pytest.raises(CallTooDear):
        await shop.services.calls.call(await shop.caller(), replace(asked, max_credits_micro=7_999_999))
    result = await shop.services.calls.call(await shop.caller(), asked)
    assert result.charged_micro == 8_000_000
    details = orjson.loads(await shop.pg.fetchval("SELECT details FROM usage_events"))
    assert [step["cost_micro"] for step in details["steps"]] == [5_000_000, 2_000_000]
    assert await shop.spent() == 8


async def test_B10_a_plans_discount_is_taken_off_the_price_of_the_request(shop: Shop) -> None:
    await shop.pg.execute("UPDATE plan_models SET discount_percent = 25")
    await shop.services.catalog.reload()
    await shop.ended(await shop.start("film", resolution="1080p"))
    assert await shop.spent() == 12
