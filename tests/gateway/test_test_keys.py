"""Test keys call sandbox models only and are never charged; what they used is recorded all the same."""

import orjson
import pytest

from accounts.views import Environment
from tests.gateway.conftest import CREDITS_MICRO, Gate, chat
from tests.metering.invariants import assert_invariants


async def used(gate: Gate) -> list[dict]:
    rows = await gate.services.database.pool.fetch(
        "SELECT cost_micro, charged_micro, output_tokens, details FROM usage_events ORDER BY created_at, call_id"
    )
    return [dict(row) for row in rows]


async def balance(gate: Gate) -> int:
    return await gate.services.database.pool.fetchval(
        "SELECT balance_micro FROM wallets WHERE id = $1", gate.seeded.wallet_id
    )


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_test_keys_call_is_answered_recorded_and_free(gate: Gate, pg, stream: bool) -> None:
    key = await gate.key(Environment.TEST)
    assert key.startswith("tg_test_")
    answer = await gate.ask(chat(stream=stream), key=key)
    assert answer.status == 200
    usages = [event["usage"] for event in events_of(answer.raw) if event.get("usage")]
    assert usages[-1]["credits"] == "0"
    (event,) = await used(gate)
    assert (event["cost_micro"], event["charged_micro"]) == (0, 0)
    assert event["output_tokens"] > 0
    assert event["details"]["test"] is True
    assert await balance(gate) == CREDITS_MICRO
    await assert_invariants(pg)


def events_of(raw: bytes) -> list[dict]:
    if not raw.startswith(b"data:"):
        return [orjson.loads(raw)]
    texts = [line.removeprefix(b"data: ") for line in raw.split(b"\n\n") if line]
    return [orjson.loads(text) for text in texts if text != b"[DONE]"]


async def test_a_live_keys_call_of_the_same_model_is_charged_and_not_marked(gate: Gate) -> None:
    assert (await gate.ask(chat())).status == 200
    (event,) = await used(gate)
    assert event["charged_micro"] > 0
    assert not (event["details"] or {}).get("test")


async def test_a_model_without_a_sandbox_route_is_refused_with_the_reason(gate: Gate) -> None:
    answer = await gate.ask(chat("gpt-5"), key=await gate.key(Environment.TEST))
    assert (answer.status, answer.code) == (403, "model_not_in_plan")
    assert "test key" in answer.body["error"]["message"]
    assert await used(gate) == []


async def test_of_several_routes_a_test_key_takes_the_sandbox_only(gate: Gate) -> None:
    answer = await gate.ask(chat("two-routes"), key=await gate.key(Environment.TEST))
    assert answer.status == 200
    assert answer.body["usage"]["credits"] == "0"


async def test_an_empty_wallet_does_not_stop_a_test_key(gate: Gate) -> None:
    key = await gate.key(Environment.TEST, monthly_limit_micro=0)
    await gate.services.database.pool.execute("UPDATE workspaces SET default_plan_id = NULL")
    bodies = [await gate.ask(chat(max_tokens=4_000), key=key) for _ in range(2)]
    assert [answer.status for answer in bodies] == [200, 200]


async def test_the_list_of_models_shows_a_test_key_what_it_can_call(gate: Gate) -> None:
    shown = await gate.ask(path="/v1/models", key=await gate.key(Environment.TEST))
    slugs = {model["id"] for model in shown.body["data"]}
    assert {"sandbox-chat", "two-routes"} <= slugs
    assert "gpt-5" not in slugs
    live = {model["id"] for model in (await gate.ask(path="/v1/models")).body["data"]}
    assert "sandbox-chat" in live
    assert "gpt-5" not in live  # its provider has no key here
    refused = await gate.ask(chat(model="gpt-5"))
    assert (refused.status, refused.code, refused.headers["x-should-retry"]) == (502, "upstream_error", "false")
    assert "not set up here" in refused.body["error"]["message"]
    assert "OPENAI_API_KEY" not in refused.raw.decode()


async def test_a_test_key_does_not_repeat_a_live_call_nor_the_other_way_round(gate: Gate) -> None:
    key = await gate.key(Environment.TEST)
    assert (await gate.ask(chat(), idempotency_key="one")).status == 200
    crossed = await gate.ask(chat(), key=key, idempotency_key="one")
    assert crossed.code == "idempotency_key_reused"
    first, second = [await gate.ask(chat(), key=key, idempotency_key="two") for _ in range(2)]
    assert first.body["choices"] == second.body["choices"]
    assert len(await used(gate)) == 2
