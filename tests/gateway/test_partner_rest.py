"""What a partner's program asks besides calling: its balance, and what became of a call."""

import asyncio
from decimal import Decimal
from uuid import UUID

import pytest

from accounts.rules.roles import ApiScope
from kit.ids import encode_id
from metering import usage
from tests.gateway.conftest import CREDITS_MICRO, Gate, chat
from tests.seeding import seed_workspace

NOBODYS = UUID("01a22470-4005-7fa1-8701-b2d4c1d3714a")


async def asked(gate: Gate, path: str, **more: str):
    return await gate.ask(path=path, **more)


async def test_the_balance_is_told_in_credits_and_dollars(gate: Gate, pg) -> None:
    answer = await asked(gate, "/v1/balance")
    assert answer.status == 200
    whole = {"credits": "1000000", "usd": "0.50"}
    assert answer.body == {
        "object": "tollgate.balance",
        "workspace": encode_id("ws", gate.seeded.workspace_id),
        "balance": whole,
        "held": {"credits": "0", "usd": "0.00"},
        "available": whole,
    }
    assert answer.headers["ratelimit"].startswith('"workspace";r=')
    assert answer.headers["ratelimit-policy"] == '"workspace";q=18000;w=3600'
    called = await gate.ask(chat())
    after = (await asked(gate, "/v1/balance")).body
    spent = CREDITS_MICRO - round(float(after["balance"]["credits"]) * 1_000_000)
    assert spent == round(float(called.body["usage"]["credits"]) * 1_000_000) > 0


async def test_what_a_running_call_holds_is_told_apart(gate: Gate) -> None:
    call = asyncio.create_task(gate.ask(chat(metadata={"sandbox_delay_ms": "3000"})))
    async with asyncio.timeout(30):
        while (told := (await asked(gate, "/v1/balance")).body)["held"]["credits"] == "0":
            await asyncio.sleep(0.02)
    balance, held, available = (Decimal(told[name]["credits"]) for name in ("balance", "held", "available"))
    assert balance - held == available
    assert balance == Decimal(1_000_000)
    assert (await call).status == 200


@pytest.mark.parametrize("by", ["call id", "own request id", "request id of ours"])
async def test_a_call_is_found_by_its_id_and_by_its_requests(gate: Gate, by: str) -> None:
    own = {"x_request_id": "order-4711"} if by == "own request id" else {}
    called = await gate.ask(chat(), **own)
    named = called.headers["x-tollgate-call-id" if by == "call id" else "x-request-id"]
    answer = await asked(gate, f"/v1/calls/{named}")
    assert answer.status == 200
    assert answer.headers["ratelimit"].startswith('"workspace";r=')
    told = answer.body
    assert (told["id"], told["model"], told["status"]) == (
        called.headers["x-tollgate-call-id"],
        "sandbox-chat",
        "succeeded",
    )
    assert told["request_id"] == called.headers["x-request-id"]
    same = ("prompt_tokens", "completion_tokens", "total_tokens", "credits", "usd", "estimated")
    assert {name: told["usage"][name] for name in same} == {name: called.body["usage"][name] for name in same}
    assert told["created_at"] <= told["completed_at"]
    assert told["error"] is None


async def test_a_failed_call_tells_its_code_and_no_words_of_the_provider(gate: Gate) -> None:
    failed = await gate.ask(chat(metadata={"sandbox_status": "400"}), x_request_id="bad-one")
    assert failed.status == 400
    told = (await asked(gate, "/v1/calls/bad-one")).body
    assert (told["status"], told["usage"]) == ("failed", None)
    assert told["error"] == {"code": "upstream_rejected", "message": "the provider refused the request"}


async def test_a_running_call_is_found_by_its_request_id(gate: Gate) -> None:
    call = asyncio.create_task(gate.ask(chat(metadata={"sandbox_delay_ms": "3000"}), x_request_id="running-one"))
    async with asyncio.timeout(30):
        while (answer := await asked(gate, "/v1/calls/running-one")).status == 404:
            await asyncio.sleep(0.02)
    assert (answer.body["status"], answer.body["completed_at"], answer.body["usage"]) == ("running", None, None)
    assert answer.body["id"] == (await call).headers["x-tollgate-call-id"]


async def test_of_several_calls_of_one_request_id_the_newest_is_told(gate: Gate) -> None:
    calls = [await gate.ask(chat(), x_request_id="again") for _ in range(3)]
    told = (await asked(gate, "/v1/calls/again")).body
    assert told["id"] == calls[-1].headers["x-tollgate-call-id"]


async def test_a_request_id_is_looked_for_among_the_last_calls_only(gate: Gate, monkeypatch) -> None:
    monkeypatch.setattr(usage, "SEARCHED_CALLS", 2)
    for name in ("one", "two", "three"):
        await gate.ask(chat(), x_request_id=name)
    assert [(await asked(gate, f"/v1/calls/{name}")).status for name in ("one", "two", "three")] == [404, 200, 200]


async def test_another_workspaces_call_is_not_there(gate: Gate) -> None:
    called = await gate.ask(chat(), x_request_id="mine")
    other = await seed_workspace(gate.services.database, CREDITS_MICRO, name="other")
    for named in (called.headers["x-tollgate-call-id"], "mine", called.headers["x-request-id"]):
        answer = await asked(gate, f"/v1/calls/{named}", key=other.api_key)
        assert (answer.status, answer.code) == (404, "not_found")


@pytest.mark.parametrize("named", ["", "nothing", "call_", "a/b", "ü", "x" * 65, encode_id("call", NOBODYS), f"req_{NOBODYS.hex}"])  # fmt: skip
async def test_what_is_no_call_is_not_found(gate: Gate, named: str) -> None:
    answer = await asked(gate, f"/v1/calls/{named}")
    assert (answer.status, answer.code) == (404, "not_found")


async def test_each_asks_for_its_scope_and_a_key(gate: Gate) -> None:
    every = set(ApiScope)
    no_wallet = await gate.key(scopes=tuple(every - {ApiScope.WALLET_READ}))
    no_calls = await gate.key(scopes=tuple(every - {ApiScope.CALLS_READ}))
    assert [(await asked(gate, "/v1/balance", key=key)).status for key in (no_wallet, no_calls)] == [403, 200]
    assert [(await asked(gate, "/v1/calls/x", key=key)).status for key in (no_wallet, no_calls)] == [404, 403]
    for path in ("/v1/balance", "/v1/calls/x"):
        assert (await asked(gate, path, key="wrong")).status == 401
        refused = await gate.ask({}, path=path)
        assert (refused.status, refused.headers["allow"]) == (405, "GET")


async def test_the_hourly_limit_counts_them_too(gate: Gate) -> None:
    key = await gate.key(requests_per_hour=1)
    assert [(await asked(gate, "/v1/balance", key=key)).status for _ in range(2)] == [200, 429]
    assert (await asked(gate, "/v1/calls/x", key=key)).headers["retry-after"]
