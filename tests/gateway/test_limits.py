"""Limits beside the wallet: addresses of keys, calls at once, calls of one model in an hour."""

import asyncio

import pytest

from gateway.places import TooManyCalls
from gateway.views import Caller, CallRequest
from metering.leases import Leases
from metering.redis_link import connect, script_link
from providers.base import Operation
from tests.gateway.conftest import PROXY, Gate, chat, taken


async def limit_calls(gate: Gate, limit: int) -> None:
    await gate.services.database.pool.execute("UPDATE workspaces SET concurrent_calls_limit = $1", limit)
    gate.services.workspaces.forget_all()


@pytest.mark.parametrize(
    ("client", "forwarded", "status"),
    [
        ("203.0.113.9", None, 200),
        ("198.51.100.1", None, 403),
        (PROXY, "203.0.113.9", 200),
        (PROXY, "198.51.100.1", 403),
        (PROXY, "203.0.113.9, 198.51.100.1", 403),
        ("198.51.100.1", "203.0.113.9", 403),
        (PROXY, None, 403),
        (PROXY, "nonsense", 403),
        ("::ffff:203.0.113.9", None, 200),
    ],
)
async def test_a_key_is_good_from_its_networks_only_also_behind_a_trusted_proxy(
    gate: Gate, client: str, forwarded: str | None, status: int
) -> None:
    key = await gate.key(addresses=("203.0.113.0/24",))
    headers = {} if forwarded is None else {"x_forwarded_for": forwarded}
    for _ in range(2):  # the second from the cache
        assert (await gate.ask(chat(), key=key, client=client, **headers)).status == status


@pytest.mark.parametrize(
    ("lines", "address"),
    [
        (("203.0.113.9", "198.51.100.7"), "198.51.100.7"),
        (("203.0.113.9, 203.0.113.8", f"198.51.100.7, {PROXY}"), "198.51.100.7"),
        (("198.51.100.7", PROXY), "198.51.100.7"),
        (("203.0.113.9", "nonsense"), PROXY),
    ],
)
async def test_a_line_that_a_trusted_proxy_adds_counts_after_what_the_client_sent(
    gate: Gate, lines: tuple[str, ...], address: str
) -> None:
    headers = [(b"x-forwarded-for", line.encode()) for line in lines]
    headers.insert(1, (b"accept", b"*/*"))
    scope = {"type": "http", "client": (PROXY, 1234), "headers": headers}
    assert gate.services.credentials.address_of(scope) == address


async def test_calls_above_the_limit_at_once_are_refused_and_places_come_back(gate: Gate) -> None:
    await limit_calls(gate, 2)
    slow = chat(metadata={"sandbox_delay_ms": "1500"})
    answers = await asyncio.gather(*(gate.ask(slow) for _ in range(5)))
    assert sorted(answer.status for answer in answers) == [200, 200, 429, 429, 429]
    refused = next(answer for answer in answers if answer.status == 429)
    assert refused.headers["retry-after"] == "1"
    assert refused.code == "rate_limit_exceeded"
    streamed = [await gate.ask(chat(stream=True)) for _ in range(3)]
    assert [answer.status for answer in streamed] == [200, 200, 200]
    rows = await gate.services.database.pool.fetchval("SELECT count(*) FROM calls")
    assert rows == 5, "a call that was refused leaves no record and no hold"


async def test_a_streams_place_is_taken_until_its_end(gate: Gate) -> None:
    await limit_calls(gate, 1)
    slow = chat(stream=True, metadata={"sandbox_delay_ms": "2000"})
    streaming = asyncio.create_task(gate.ask(slow))
    async with asyncio.timeout(30):
        while not await gate.services.database.pool.fetchval("SELECT count(*) FROM holds"):
            await asyncio.sleep(0.01)
    assert (await gate.ask(chat())).status == 429
    assert (await streaming).status == 200
    assert (await gate.ask(chat())).status == 200


async def test_a_refused_call_gives_its_place_back(gate: Gate) -> None:
    await limit_calls(gate, 1)
    for _ in range(3):
        assert (await gate.ask(chat(n=129))).status == 400
        assert (await gate.ask(chat(metadata={"sandbox_status": "400"}))).status == 400
    assert (await gate.ask(chat())).status == 200


async def test_the_plans_limit_holds_where_the_workspace_has_none(gate: Gate) -> None:
    assert (await gate.services.workspaces.facts(gate.seeded.workspace_id)).concurrent_calls == 200


async def test_a_killed_processes_places_lapse(gate: Gate, redis_url: str) -> None:
    await limit_calls(gate, 1)
    client = connect(redis_url)
    link = script_link(client, timeout_s=5)
    try:
        assert await Leases(link).acquire(gate.seeded.workspace_id.hex, "of a process that died", 1, ttl_s=1)
        assert (await gate.ask(chat())).status == 429
        async with asyncio.timeout(30):
            while (await gate.ask(chat())).status == 429:
                await asyncio.sleep(0.1)
    finally:
        await link.aclose()
        await client.aclose()


async def test_a_long_calls_place_is_renewed(gate: Gate) -> None:
    facts = await gate.services.workspaces.facts(gate.seeded.workspace_id)
    caller = Caller("r", facts.workspace_id, facts.wallet_id, facts.plan, concurrent_calls=1)
    places = gate.services.calls._places
    places._ttl_s = 3
    async with taken(places, caller):
        for _ in range(9):
            await asyncio.sleep(0.4)
            await places.renew()
        with pytest.raises(TooManyCalls):
            async with taken(places, caller):
                pass
    await places.close()
    request = CallRequest("sandbox-chat", Operation.CHAT, chat())
    assert (await gate.services.calls.call(caller, request)).charged_micro > 0


async def test_a_models_own_hourly_limit_is_its_workspaces_and_leaves_other_models_alone(gate: Gate) -> None:
    body = {"model": "limited", "input": "x"}
    answers = [await gate.ask(body, path="/v1/embeddings") for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[0].headers["ratelimit-policy"] == '"model";q=2;w=3600'
    assert int(answers[2].headers["retry-after"]) > 1
    assert "model" in answers[2].body["error"]["message"]
    assert (await gate.ask({**body, "model": "sandbox-embedding"}, path="/v1/embeddings")).status == 200


async def test_a_body_that_cannot_be_read_counts_as_a_request(gate: Gate) -> None:
    key = await gate.key(requests_per_hour=2)
    statuses = [(await gate.ask([], key=key)).status for _ in range(3)]
    assert statuses == [400, 400, 429]


@pytest.mark.parametrize("body", [chat(n=129), chat(n=129, stream=True), chat(model="no-such-model")])
async def test_a_refused_call_counts_tells_what_is_left_and_hears_of_a_limit_before_all_else(
    gate: Gate, body: dict
) -> None:
    key = await gate.key(requests_per_hour=2)
    answers = [await gate.ask(body, key=key) for _ in range(3)]
    assert [answer.status for answer in answers][:2] in ([400, 400], [404, 404])
    assert [answer.headers["ratelimit"].split(";")[1] for answer in answers[:2]] == ["r=1", "r=0"]
    assert (answers[2].status, answers[2].code) == (429, "rate_limit_exceeded")
    assert [name for name in answers[2].headers if name == "ratelimit"] == ["ratelimit"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"model": "sandbox-embedding", "input": "x"}),
        ("/v1/images/generations", {"model": "sandbox-image", "prompt": "x"}),
    ],
)
async def test_what_is_answered_whole_is_not_asked_for_as_a_stream(gate: Gate, path: str, body: dict) -> None:
    refused = await gate.ask({**body, "stream": True}, path=path)
    assert (refused.status, refused.body["error"]["param"]) == (400, "stream")
    assert (await gate.ask({**body, "stream": False}, path=path)).status == 200


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_call_over_its_limit_holds_nothing_and_asks_no_provider(
    gate: Gate, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await gate.key(requests_per_hour=1)
    assert [(await gate.ask(chat(stream=stream), key=key)).status for _ in range(2)] == [200, 429]

    async def unasked(*_: object) -> None:
        raise AssertionError("what was refused a moment ago is refused before the ledger is asked")

    monkeypatch.setattr(gate.services.ledger, "submit", unasked)
    assert (await gate.ask(chat(stream=stream), key=key)).status == 429
    assert await gate.services.database.pool.fetchval("SELECT count(*) FROM calls") == 1
    assert await gate.services.database.pool.fetchval("SELECT count(*) FROM holds") == 0


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_limiter_that_answers_late_is_waited_for_before_anything_is_held(
    gate: Gate, stream: bool, redis_url: str
) -> None:
    key = await gate.key(requests_per_hour=1)
    assert (await gate.ask(chat(), key=await gate.key())).status == 200  # so that scripts and caches are warm
    client = connect(redis_url)
    try:
        await client.client_pause(1_000)
        both = asyncio.gather(*(gate.ask(chat(stream=stream), key=key) for _ in range(2)))
        await asyncio.sleep(0.1)
        assert await gate.services.database.pool.fetchval("SELECT count(*) FROM calls") == 1
        answers = await both
    finally:
        await client.aclose()
    assert sorted(answer.status for answer in answers) == [200, 429]
    assert {answer.headers["ratelimit"].split(";")[1] for answer in answers} == {"r=0"}
    assert await gate.services.database.pool.fetchval("SELECT count(*) FROM calls") == 2
