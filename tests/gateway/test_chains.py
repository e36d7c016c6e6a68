"""Chained models: steps under one hold, billed and streamed as one call, and clean when they fail."""

import asyncio
from datetime import timedelta
from typing import Any

import orjson
import pytest

from accounts.rules.roles import Role
from accounts.views import Principal
from gateway.chain_stream import LastStream
from gateway.errors import (
    CallTooDear,
    ChainRefused,
    ChainsNotInPlan,
    ModelNotFound,
    PublisherPlanTooSmall,
    UpstreamFailed,
)
from gateway.views import CallRequest, StreamedEnd, StreamedEvent, StreamedFailure
from kit import clock
from kit.errors import InvalidInput
from kit.ids import encode_id
from metering.ledger import Ledger
from metering.reaper import reap_holds
from providers.base import Operation, StreamChunk
from providers.message_events import EventsOfChat
from tests.gateway.market import CREDITS_MICRO, Market

PRICES = [{"meter": "OUTPUT_TOKENS", "credits": "1", "per": "1000"}, {"meter": "INPUT_TOKENS", "credits": "1", "per": "1000"}]  # fmt: skip
EACH = 30 * 1_000
"""What a step of a priced part costs: 10 tokens in and 20 out."""


def step(name: str, model: str, prompt: str = "{{ input.text }}", **more: Any) -> dict:
    return {"name": name, "model": model, "prompt": prompt, "max_tokens": 100, **more}


async def until(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not (await condition() if asyncio.iscoroutinefunction(condition) else condition()):
            await asyncio.sleep(0.01)


async def test_B14_what_the_steps_wrote_to_caches_is_priced_at_each_step_and_summed_for_the_chain(
    market: Market,
) -> None:
    writes = [{"meter": "CACHE_WRITE_INPUT_TOKENS", "credits": "3", "per": "1000"}]
    first, second = await market.part("a", prices=[*PRICES, *writes]), await market.part("b", prices=PRICES)
    own = [{"meter": "INPUT_TOKENS", "credits": "0"}, {"meter": "LONG_CACHE_WRITE_INPUT_TOKENS", "credits": "0.01"}]
    chain = await market.chain("pipe", step("one", first), step("two", second, "{{ steps.one.content }}"), prices=own)
    lives = {"ttl_30m_tokens": 2, "ttl_12h_tokens": 4}
    details = {"cached_tokens": 1, "cache_write_tokens": 6, "cache_write_tokens_details": lives}
    market.provider.usage = {"prompt_tokens": 10, "completion_tokens": 20, "prompt_tokens_details": details}
    result = await market.call(chain, "hello")
    of_first, of_second, of_chain = 4 * 1_000 + 6 * 3_000 + 20 * 1_000, EACH, 2 * 4 * 10_000
    assert [each["cost_micro"] for each in (await market.details())["steps"]] == [of_first, of_second]
    assert result.charged_micro == of_first + of_second + of_chain
    usage = result.usage
    assert (usage.input_tokens, usage.cached_input_tokens, usage.cache_write_input_tokens) == (20, 2, 12)
    assert (await market.details())["long_cache_write_input_tokens"] == usage.long_cache_write_input_tokens == 8
    await market.agrees()


async def test_B14_steps_are_metered_one_by_one_and_billed_as_one_call(market: Market) -> None:
    first, second = await market.part("a", prices=PRICES), await market.part("b", prices=PRICES)
    chain = await market.chain(
        "pipe",
        step("one", first, "Say {{ input.text }}"),
        step("two", second, "Then {{ steps.one.content }}, not {{ steps.one.content }}", system="Be {{ input.tone }}."),
        prices=[{"meter": "REQUESTS", "credits": "0.01"}],
    )
    market.provider.texts = {"a": "from {{ input.text }}", "b": "the end"}
    result = await market.call(chain, "hello", input={"tone": "brief"})
    assert market.provider.heard("a")[0]["messages"] == [{"role": "user", "content": "Say hello"}]
    spoken = "Then from {{ input.text }}, not from {{ input.text }}"  # what a model says is no template
    assert market.provider.heard("b")[0]["messages"] == [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": spoken},
    ]  # fmt: skip
    assert result.body is not None
    assert result.body["choices"][0]["message"]["content"] == "the end"
    assert result.body["model"] == chain
    cost = 2 * EACH + 10_000
    assert result.charged_micro == cost
    assert (result.usage.input_tokens, result.usage.output_tokens, result.usage.requests) == (20, 40, 2)
    details = await market.details()
    assert [(each["step"], each["cost_micro"]) for each in details["steps"]] == [("one", EACH), ("two", EACH)]
    assert await market.balance(market.buyer) == CREDITS_MICRO - cost
    assert await market.balance(market.maker) == CREDITS_MICRO + cost * 80 // 100
    pool = market.services.database.pool
    assert await pool.fetchval("SELECT count(*) FROM usage_events") == 1
    assert await pool.fetchval("SELECT count(*) FROM ledger_entries WHERE kind = 'USAGE'") == 1
    assert await pool.fetchval("SELECT count(*) FROM published_uses") == 3
    await market.agrees()


async def test_B14_the_last_step_is_streamed_with_the_usage_of_all(market: Market) -> None:
    first, second = await market.part("a", prices=PRICES), await market.part("b", prices=PRICES)
    chain = await market.chain("pipe", step("one", first), step("two", second, "{{ steps.one.content }}"))
    market.provider.texts = {"a": "in the middle", "b": "streamed"}
    stream = await market.services.streams.open(await market.caller(market.buyer), streamed(chain))
    events = [event async for event in stream]
    spoken = [event.parsed for event in events if isinstance(event, StreamedEvent)]
    assert "".join(each["choices"][0]["delta"]["content"] for each in spoken) == "streamed"
    last = events[-1]
    assert isinstance(last, StreamedEnd)
    assert last.last_chunk is not None
    assert last.last_chunk["usage"]["total_tokens"] == 60
    assert last.result.charged_micro == 2 * EACH
    assert market.provider.heard("a")[0].get("stream") is None
    assert market.provider.heard("b")[0]["stream"] is True
    await market.agrees()


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        (Operation.RESPONSES, {"input": "hi", "max_output_tokens": 50}),
        (Operation.MESSAGES, {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 50}),
    ],
)
async def test_B14_a_chain_answers_in_the_form_it_is_asked_in(market: Market, operation: Operation, body: dict) -> None:
    first, second = await market.part("a", prices=PRICES), await market.part("b", prices=PRICES)
    chain = await market.chain("pipe", step("one", first), step("two", second, "{{ steps.one.content }}"))
    market.provider.texts = {"a": "in the middle", "b": "at last"}
    buyer = await market.caller(market.buyer)
    result = await market.services.calls.call(buyer, CallRequest(chain, operation, body))
    stream = await market.services.streams.open(buyer, CallRequest(chain, operation, {**body, "stream": True}))
    events = [event async for event in stream]
    last = events[-1]
    assert isinstance(last, StreamedEnd)
    assert result.body is not None
    assert last.last_chunk is not None
    if operation is Operation.RESPONSES:
        whole, told = result.body, last.last_chunk["response"]
        assert whole["output"][0]["content"][0]["text"] == told["output"][0]["content"][0]["text"] == "at last"
    else:
        whole, told = result.body, last.last_chunk
        assert whole["content"][0]["text"] == "at last"
    assert (whole["usage"]["output_tokens"], told["usage"]["output_tokens"]) == (40, 40)
    assert whole["model"] == chain
    assert market.provider.heard("a")[0]["messages"] == [{"role": "user", "content": "hi"}]
    assert market.provider.heard("b")[0]["max_tokens"] == 50
    assert result.charged_micro == last.result.charged_micro == 2 * EACH
    await market.agrees()


def streamed(chain: str, **more: object) -> CallRequest:
    body = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
    return CallRequest(chain, Operation.CHAT, body, **more)


async def test_B14_branches_run_side_by_side(market: Market) -> None:
    parts = {name: await market.part(name, prices=PRICES) for name in "abcd"}
    chain = await market.chain(
        "pipe",
        step("last", parts["d"], "{{ steps.left.content }} {{ steps.right.content }}"),
        step("left", parts["b"], "{{ steps.first.content }}"),
        step("right", parts["c"], "{{ steps.first.content }}"),
        step("first", parts["a"]),
        chain={"output": "last"},
    )
    market.provider.texts = {"b": "L", "c": "R"}
    market.provider.gates = {"b": asyncio.Event(), "c": asyncio.Event()}
    call = asyncio.create_task(market.call(chain))
    await until(lambda: market.provider.heard("b") and market.provider.heard("c"))
    for gate in market.provider.gates.values():
        gate.set()
    assert (await call).charged_micro == 4 * EACH
    assert market.provider.heard("d")[0]["messages"][0]["content"] == "L R"
    await market.agrees()


@pytest.mark.parametrize("verdict", ["GOOD", "bad"])
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "streamed"])
async def test_B14_a_condition_skips_a_step_and_the_next_output_answers(
    market: Market, verdict: str, whole: bool
) -> None:
    parts = {name: await market.part(name, prices=PRICES) for name in "abc"}
    chain = await market.chain(
        "pipe",
        step("draft", parts["a"]),
        step("judge", parts["b"], "{{ steps.draft.content }}", response_format={"type": "json_object"}),
        step(
            "mended", parts["c"], "{{ steps.judge.json.why }}",
            when={"value": "{{ steps.judge.json.verdict }}", "is_not": "good"},
        ),
        chain={"output": ["mended", "draft"]},
    )  # fmt: skip
    market.provider.texts = {"a": "draft", "b": f'{{"verdict": "{verdict}", "why": "dull"}}', "c": "mended"}
    if whole:
        result = await market.call(chain)
        assert result.body is not None
        text = result.body["choices"][0]["message"]["content"]
    else:
        stream = await market.services.streams.open(await market.caller(market.buyer), streamed(chain))
        events = [event async for event in stream]
        spoken = [event.parsed["choices"] for event in events if isinstance(event, StreamedEvent)]
        text = "".join(each[0]["delta"]["content"] for each in spoken if each)
        result = events[-1].result
    good = verdict == "GOOD"
    assert text == ("draft" if good else "mended")
    assert result.charged_micro == (2 if good else 3) * EACH
    assert [asked["messages"][0]["content"] for asked in market.provider.heard("c")] == ([] if good else ["dull"])
    await market.agrees()


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "streamed"])
async def test_B14_a_step_that_fails_ends_the_chain_and_only_finished_steps_are_charged(
    market: Market, whole: bool
) -> None:
    parts = {name: await market.part(name, prices=PRICES) for name in "abc"}
    chain = await market.chain(
        "pipe",
        step("one", parts["a"]),
        step("two", parts["b"], "{{ steps.one.content }}"),
        step("three", parts["c"], "{{ steps.two.content }}"),
        prices=[{"meter": "REQUESTS", "credits": "0.01"}],
    )
    market.provider.statuses = {"b": 400}
    if whole:
        with pytest.raises(UpstreamFailed, match="step 'two'") as failed:
            await market.call(chain)
        assert failed.value.call_id is not None
    else:
        stream = await market.services.streams.open(await market.caller(market.buyer), streamed(chain))
        (event,) = [event async for event in stream]
        assert isinstance(event, StreamedFailure)
        assert event.result is not None
        assert event.result.charged_micro == EACH
    assert market.provider.heard("c") == []
    assert await market.balance(market.buyer) == CREDITS_MICRO - EACH
    assert await market.balance(market.maker) == CREDITS_MICRO + EACH * 80 // 100  # and nothing for the chain itself
    row = await market.services.database.pool.fetchrow("SELECT status, error_code FROM calls")
    assert tuple(row) == ("FAILED", "UPSTREAM_ERROR")
    assert [each["step"] for each in (await market.details())["steps"]] == ["one"]
    await market.agrees()


async def test_B14_the_first_step_failing_costs_nothing(market: Market) -> None:
    chain = await market.chain("pipe", step("one", await market.part("a", prices=PRICES)))
    market.provider.statuses = {"a": 500}
    with pytest.raises(UpstreamFailed):
        await market.call(chain)
    assert await market.balance(market.buyer) == CREDITS_MICRO
    assert await market.services.database.pool.fetchval("SELECT count(*) FROM usage_events") == 0
    await market.agrees()


async def test_B14_a_sibling_that_runs_when_a_step_fails_is_waited_for_and_charged(market: Market) -> None:
    parts = {name: await market.part(name, prices=PRICES) for name in "abc"}
    chain = await market.chain(
        "pipe",
        step("left", parts["a"]),
        step("right", parts["b"]),
        step("last", parts["c"], "{{ steps.left.content }}{{ steps.right.content }}"),
    )
    market.provider.statuses = {"a": 400}
    gate = market.provider.gates["b"] = asyncio.Event()
    call = asyncio.create_task(market.call(chain))
    await until(lambda: market.provider.heard("a") and market.provider.heard("b"))
    gate.set()
    with pytest.raises(UpstreamFailed):
        await call
    assert await market.balance(market.buyer) == CREDITS_MICRO - EACH
    await market.agrees()


async def test_B14_a_client_that_leaves_in_the_middle_pays_for_the_finished_steps(market: Market) -> None:
    parts = {name: await market.part(name, prices=PRICES) for name in "ab"}
    chain = await market.chain("pipe", step("one", parts["a"]), step("two", parts["b"], "{{ steps.one.content }}"))
    market.provider.gates["b"] = asyncio.Event()
    opening = asyncio.create_task(market.services.streams.open(await market.caller(market.buyer), streamed(chain)))
    await until(lambda: market.provider.heard("b"))
    opening.cancel()
    pool = market.services.database.pool

    async def ended() -> bool:
        return await pool.fetchval("SELECT count(*) FROM calls WHERE completed_at IS NOT NULL") == 1

    await until(ended)
    assert await pool.fetchval("SELECT status FROM calls") == "CANCELED"
    assert await market.balance(market.buyer) == CREDITS_MICRO - EACH
    await market.agrees()


async def test_B14_a_crash_in_the_middle_charges_the_finished_steps_and_pays_their_publisher(market: Market) -> None:
    """The hold is reaped while the second step runs, as if the process had died; its late end corrects the charge."""
    parts = {name: await market.part(name, prices=PRICES) for name in "ab"}
    chain = await market.chain("pipe", step("one", parts["a"]), step("two", parts["b"], "{{ steps.one.content }}"))
    gate = market.provider.gates["b"] = asyncio.Event()
    call = asyncio.create_task(market.call(chain))
    pool = market.services.database.pool

    async def written() -> bool:
        return await pool.fetchval("SELECT checkpoint_micro FROM holds") == EACH

    await until(written)
    at = clock.now() + timedelta(hours=1)
    reaper = await Ledger.open(market.services.database)
    with clock.installed(clock.VirtualClock(at)):
        assert await reap_holds(market.services.database, reaper) == 1
    await reaper.close()
    assert await market.balance(market.buyer) == CREDITS_MICRO - EACH
    assert await market.balance(market.maker) == CREDITS_MICRO + EACH * 80 // 100
    await market.agrees()
    gate.set()
    assert (await call).charged_micro == 2 * EACH
    assert await market.balance(market.buyer) == CREDITS_MICRO - 2 * EACH
    assert await market.balance(market.maker) == CREDITS_MICRO + 2 * EACH * 80 // 100
    await market.agrees()


async def test_B14_a_chain_never_costs_more_than_its_max_cost(market: Market) -> None:
    part = await market.part("a", prices=PRICES)
    steps = [step("s0", part), *[step(f"s{n}", part, f"{{{{ steps.s{n - 1}.content }}}}") for n in range(1, 6)]]
    limit = 0.5  # a step could cost 0.1 and more, so that there is room for three or four
    chain = await market.chain("pipe", *steps, chain={"max_cost": str(limit)})
    caller = await market.caller(market.buyer)
    request = CallRequest(chain, Operation.CHAT, {"messages": [{"role": "user", "content": "hi"}]})
    assert (await market.services.calls.estimate(caller, request)).bound_micro == limit * 1_000_000
    market.provider.tokens = (100, 100)
    with pytest.raises(UpstreamFailed, match="max_cost"):
        await market.services.calls.call(caller, request)
    spent = CREDITS_MICRO - await market.balance(market.buyer)
    assert 0 < spent <= limit * 1_000_000
    await market.agrees()
    with pytest.raises(CallTooDear):
        await market.services.calls.call(caller, CallRequest(chain, Operation.CHAT, request.body, None, 1))


async def test_B14_a_chain_within_a_chain_with_its_own_price(market: Market) -> None:
    part = await market.part("a", prices=PRICES)
    inner = await market.chain(
        "inner", step("x", part, "in: {{ input.text }} {{ input.more }}"), prices=[{"meter": "REQUESTS", "credits": "0.002"}]
    )  # fmt: skip
    outer = await market.chain(
        "outer",
        step("one", inner, "{{ input.text }}", input={"more": "and more"}),
        step("two", inner, "{{ steps.one.content }}"),
        prices=[{"meter": "OUTPUT_TOKENS", "credits": "1", "per": "1000"}],
    )
    result = await market.call(outer, "hello")
    assert [asked["messages"][0]["content"] for asked in market.provider.heard("a")] == [
        "in: hello and more", "in: made here ",
    ]  # fmt: skip
    cost = 2 * EACH + 2 * 2_000 + 40 * 1_000
    assert result.charged_micro == cost
    assert [each["step"] for each in (await market.details())["steps"]] == ["one.x", "two.x"]
    assert await market.balance(market.maker) == CREDITS_MICRO + cost * 80 // 100
    stream = await market.services.streams.open(await market.caller(market.buyer), streamed(outer))
    assert [event async for event in stream][-1].result.charged_micro == cost
    await market.agrees()


async def test_B14_a_chain_may_not_lead_back_to_itself(market: Market) -> None:
    part = await market.part("a")
    inner = await market.chain("inner", step("x", part))
    outer = await market.chain("outer", step("x", inner))
    pool = market.services.database.pool
    inner_id = encode_id("pub", await pool.fetchval("SELECT id FROM models WHERE slug = $1", inner))
    for slug in (inner, outer):
        circle = await market.do(
            "updatePublishedModel", "publishedModel { id }", publishedModelId=inner_id, chain={"steps": [step("x", slug)]}
        )  # fmt: skip
        assert circle["userErrors"][0]["field"] == ["chain", "steps"]
    # What two updates at once could make is refused when it is called.
    await pool.execute(
        "UPDATE published_models SET chain = $2, updated_at = now() WHERE model_id = (SELECT id FROM models WHERE slug = $1)",
        inner, {"steps": [step("x", outer)]},
    )  # fmt: skip
    market.services.resolver_services.publishing.models.forget_all()
    with pytest.raises(ChainRefused, match="itself"):
        await market.call(outer)


async def test_B14_chained_models_need_pro_to_publish_and_to_stay(market: Market) -> None:
    chain = await market.chain("pipe", step("one", await market.part("a")))
    assert (await market.call(chain)).body is not None  # the buyer needs none
    await market.on_plan(market.maker.workspace_id, "personal")
    with pytest.raises(PublisherPlanTooSmall):
        await market.call(chain)
    given = market.model(
        slug="other", provider=None, maxOutputTokens=None, chain={"steps": [step("one", "sandbox-chat")]}
    )
    refused = await market.do("publishModel", "publishedModel { id }", **given)
    assert refused["userErrors"][0]["code"] == "NOT_IN_PLAN"
    assert "Pro" in refused["userErrors"][0]["message"]


async def test_B14_the_catalogs_own_chain_runs_with_pro_at_the_plans_discount(market: Market) -> None:
    with pytest.raises(ChainsNotInPlan):
        await market.call("sandbox-editor")
    await market.on_plan(market.buyer.workspace_id, "pro")
    full = await market.call("sandbox-editor", "Write about the sea.")
    steps = (await market.details())["steps"]
    assert [each["step"] for each in steps] == ["draft", "style", "facts", "final"] or [
        each["step"] for each in steps
    ] == ["draft", "facts", "style", "final"]
    assert full.charged_micro == sum(each["cost_micro"] for each in steps) + 100
    await market.on_plan(market.buyer.workspace_id, "business")  # 30 % off sandbox-chat
    less = await market.call("sandbox-editor", "Write about the sea.")
    assert less.charged_micro < full.charged_micro
    assert await market.balance(market.maker) == CREDITS_MICRO
    await market.agrees()


async def test_B14_a_repeat_with_the_same_key_runs_no_step_again(market: Market) -> None:
    chain = await market.chain("pipe", step("one", await market.part("a", prices=PRICES)))
    body = {"messages": [{"role": "user", "content": "hi"}]}
    request = CallRequest(chain, Operation.CHAT, body, idempotency_key="k")
    caller = await market.caller(market.buyer)
    first = await market.services.calls.call(caller, request)
    again = await market.services.calls.call(caller, request)
    assert (again.repeated, again.body, again.charged_micro) == (True, first.body, first.charged_micro)
    assert len(market.provider.asked) == 1
    await market.agrees()


async def test_B14_what_cannot_run_is_refused_at_its_field(market: Market) -> None:
    part = await market.part("a")
    many = [step(f"s{n}", part) for n in range(33)]
    cases: list[tuple[dict, list[str]]] = [
        ({"steps": []}, ["chain", "steps"]),
        ({"steps": many}, ["chain", "steps"]),
        ({"steps": [step("A", part)]}, ["chain", "steps", "0", "name"]),
        ({"steps": [step("a", part), step("a", part)]}, ["chain", "steps", "1", "name"]),
        ({"steps": [step("a", part, "{{ steps.b.content }}")]}, ["chain", "steps", "0"]),
        ({"steps": [step("a", part, "{{ steps.b.content }}"), step("b", part, "{{ steps.a.content }}")]}, ["chain", "steps"]),
        ({"steps": [step("a", part), step("b", part)]}, ["chain", "steps"]),
        ({"steps": [step("a", part, "{{ steps.a.usage }}")]}, ["chain", "steps", "0", "prompt"]),
        ({"steps": [step("a", part, "{% for x in y %}{{ 1 + 1 }}")]}, ["chain", "steps", "0", "prompt"]),
        ({"steps": [step("a", part, "{{ input.x")]}, ["chain", "steps", "0", "prompt"]),
        ({"steps": [step("a", part, max_tokens=0)]}, ["chain", "steps", "0", "max_tokens"]),
        ({"steps": [step("a", part, when={"value": "x"})]}, ["chain", "steps", "0", "when"]),
        ({"steps": [step("a", part, code="import os")]}, ["chain", "steps", "0", "code"]),
        ({"steps": [step("a", part, "a\0b")]}, ["chain", "steps", "0", "prompt"]),
        ({"steps": [step("a", part, when={"value": "x", "is": "\0"})]}, ["chain", "steps", "0"]),
        ({"steps": [step("a", part, response_format={"type": "text", "x": [{"\0": 1}]})]}, ["chain", "steps", "0"]),
        ({"steps": [step("a", part, input={"\0": "x"})]}, ["chain", "steps", "0"]),
        ({"steps": [step("a", "no/such\0")]}, ["chain", "steps", "0"]),
        ({"steps": [step("a", "no/such")]}, ["chain", "steps"]),
        ({"steps": [step("a", "sandbox-embedding")]}, ["chain", "steps"]),
        ({"steps": [step("a", part)], "output": "b"}, ["chain", "output"]),
        ({"steps": [step("a", part)], "max_cost": 0.5}, ["chain", "max_cost"]),
    ]  # fmt: skip
    for chain, field in cases:
        given = market.model(slug="x", provider=None, maxOutputTokens=None, chain=chain)
        refused = await market.do("publishModel", "publishedModel { id }", **given)
        assert [error["field"] for error in refused["userErrors"]] == [field], chain
        if field[-1] == "max_tokens":
            assert refused["userErrors"][0]["message"] == "max_tokens must be a whole number from 1 to 200000"


async def test_B14_a_private_part_of_a_public_chain_is_called_through_it_only(market: Market) -> None:
    part = await market.part("a", visibility="PRIVATE", prices=PRICES)
    chain = await market.chain("pipe", step("one", part))
    assert (await market.call(chain)).charged_micro == EACH
    with pytest.raises(Exception, match="no model"):
        await market.call(part)


async def of_the_buyer(market: Market) -> tuple[Principal, dict]:
    """Somebody who publishes for the buyer, and what says so."""
    owner = await market.house.person(Role.OWNER, market.buyer.workspace_id)
    return owner, {"workspaceId": encode_id("ws", market.buyer.workspace_id)}


async def test_B14_a_chain_never_reaches_its_callers_private_models(market: Market) -> None:
    """Its steps are its publisher's choice, and their outputs go to its publisher's other steps."""
    owner, there = await of_the_buyer(market)
    await market.on_plan(market.buyer.workspace_id, "pro")
    shown = "publishedModel { id model { slug } }"
    given = market.model(slug="secret", **there)
    secret = (await market.do("publishModel", shown, owner, **given))["publishedModel"]
    chain = await market.chain("pipe", step("one", secret["model"]["slug"]))
    around = {"steps": [step("x", chain)]}
    given = market.model(slug="around", provider=None, maxOutputTokens=None, chain=around, **there)
    outer = (await market.do("publishModel", shown, owner, **given))["publishedModel"]["model"]["slug"]
    assert (await market.call(outer)).body is not None
    await market.do("updatePublishedModel", shown, owner, publishedModelId=secret["id"], visibility="PRIVATE")
    asked = len(market.provider.asked)
    for slug, caller in ((chain, market.buyer), (chain, market.maker), (outer, market.buyer)):
        with pytest.raises(ModelNotFound):
            await market.call(slug, seeded=caller)
    assert len(market.provider.asked) == asked
    assert (await market.call(secret["model"]["slug"])).body is not None
    await market.agrees()


async def test_B14_a_chain_has_its_publishers_private_models_for_every_caller(market: Market) -> None:
    """Also where it is a step of somebody else's."""
    owner, there = await of_the_buyer(market)
    await market.on_plan(market.buyer.workspace_id, "pro")
    chain = await market.chain("pipe", step("one", await market.part("a", visibility="PRIVATE")))
    given = market.model(
        slug="around", provider=None, maxOutputTokens=None, chain={"steps": [step("x", chain)]}, **there
    )
    made = await market.do("publishModel", "publishedModel { model { slug } }", owner, **given)
    for slug in (chain, made["publishedModel"]["model"]["slug"]):
        for caller in (market.buyer, market.maker):
            assert (await market.call(slug, seeded=caller)).body is not None


async def test_B14_a_chain_gives_one_answer(market: Market) -> None:
    chain = await market.chain("pipe", step("one", await market.part("a")))
    for several in (2, [1], {}):
        with pytest.raises(InvalidInput):
            await market.call(chain, n=several)


async def test_B14_json_of_a_step_that_is_too_deep_to_be_written_is_none(market: Market) -> None:
    first, second = await market.part("a", prices=PRICES), await market.part("b", prices=PRICES)
    chain = await market.chain("pipe", step("one", first), step("two", second, "So: {{ steps.one.json.0 }}"))
    for levels, text in ((200, "[" * 199 + "]" * 199), (300, "")):
        market.provider.texts = {"a": "[" * levels + "]" * levels}
        assert (await market.call(chain)).charged_micro == 2 * EACH
        assert market.provider.heard("b")[-1]["messages"][0]["content"] == f"So: {text}"
    await market.agrees()


async def test_B14_a_stream_that_cannot_be_told_in_another_form_is_closed(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = await market.chain("pipe", step("one", await market.part("a", prices=PRICES)))
    closed, aclose = [], LastStream.aclose

    async def closing(stream: LastStream) -> None:
        closed.append(stream)
        await aclose(stream)

    def too_deep(self: EventsOfChat, chunk: StreamChunk) -> list[StreamChunk]:
        raise orjson.JSONEncodeError("Recursion limit reached")

    monkeypatch.setattr(LastStream, "aclose", closing)
    monkeypatch.setattr(EventsOfChat, "translate", too_deep)
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 50, "stream": True}
    buyer = await market.caller(market.buyer)
    with pytest.raises(UpstreamFailed, match="nested too deeply"):
        await market.services.streams.open(buyer, CallRequest(chain, Operation.MESSAGES, body))
    assert len(closed) == 1
    await market.agrees()


async def test_a_test_key_runs_a_chain_of_sandbox_models_for_nothing(market: Market) -> None:
    await market.on_plan(market.buyer.workspace_id, "pro")
    caller = await market.caller(market.buyer, user_id=None, api_key_id=market.buyer.api_key_id, test=True)
    request = CallRequest("sandbox-editor", Operation.CHAT, {"messages": [{"role": "user", "content": "hi"}]})
    result = await market.services.calls.call(caller, request)
    assert result.charged_micro == 0
    assert (await market.details())["test"] is True
    mixed = await market.chain("mixed", step("one", await market.part("a", prices=PRICES)))
    with pytest.raises(Exception, match="sandbox"):
        await market.services.calls.call(caller, CallRequest(mixed, Operation.CHAT, request.body))
    await market.agrees()


async def test_B14_the_callers_limit_bounds_the_step_that_answers(market: Market) -> None:
    parts = {name: await market.part(name, prices=PRICES) for name in "ab"}
    chain = await market.chain("pipe", step("one", parts["a"]), step("two", parts["b"], "{{ steps.one.content }}"))
    await market.call(chain, max_tokens=7)
    assert [market.provider.heard(name)[0]["max_tokens"] for name in "ab"] == [100, 7]


async def test_B14_a_chain_can_end_in_a_picture(market: Market) -> None:
    chain = await market.chain(
        "painter",
        step("idea", await market.part("a", prices=PRICES)),
        {"name": "picture", "model": "sandbox-image", "prompt": "{{ steps.idea.content }}"},
        modality="IMAGE",
    )
    caller = await market.caller(market.buyer)
    result = await market.services.calls.call(caller, CallRequest(chain, Operation.IMAGE, {"prompt": "the sea"}))
    assert market.provider.heard("a")[0]["messages"][0]["content"] == "the sea"
    assert result.usage.images == 1
    assert result.charged_micro == EACH + 20_000
    await market.agrees()


async def test_B14_an_input_without_messages_is_enough(market: Market) -> None:
    chain = await market.chain(
        "pipe", step("one", await market.part("a", prices=PRICES), "{{ input.topic }}", history=True)
    )
    caller = await market.caller(market.buyer)
    request = CallRequest(chain, Operation.CHAT, {"input": {"topic": "the sea"}})
    assert (await market.services.calls.call(caller, request)).charged_micro == EACH
    assert market.provider.heard("a")[0]["messages"] == [{"role": "user", "content": "the sea"}]
    await market.agrees()


async def test_B14_a_step_of_a_chain_has_its_publishers_price_for_its_own_settings(market: Market) -> None:
    price = {"meter": "REQUESTS", "credits": "1"}
    hot = [{"field": "temperature", "values": ["1.5"]}]
    part = await market.part("a", prices=[price, price | {"credits": "3", "when": hot}])
    chain = await market.chain("pipe", step("one", part, temperature=1.5), step("two", part, "{{ steps.one.content }}"))
    assert (await market.call(chain)).charged_micro == 4_000_000
    await market.agrees()
