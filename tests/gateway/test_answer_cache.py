"""Answers given again to equal calls that ask for it: metered, at a price of their own, sealed, of one workspace."""

import asyncio
from dataclasses import replace
from functools import partial

import orjson
import pytest

from accounts import api_keys
from accounts.views import Environment
from gateway import answer_cache
from gateway.answer_cache import CACHE_S
from tests.gateway.conftest import CREDITS_MICRO, SYSTEM, Answer, Gate, chat
from tests.metering.invariants import assert_invariants
from tests.seeding import apply_catalog, seed_workspace

HIT, MISS = "hit", "miss"


async def asked(gate: Gate, body: dict | None = None, **more: str) -> Answer:
    return await gate.ask(body or chat(), **{"x_tollgate_cache": "on", **more})


def state(answer: Answer) -> str | None:
    return answer.headers.get("x-tollgate-cache")


async def events(pg) -> list[tuple[int, int, object]]:
    rows = await pg.fetch("SELECT charged_micro, output_tokens, details FROM usage_events ORDER BY call_id")
    return [(row[0], row[1], orjson.loads(row[2] or "{}").get("cached")) for row in rows]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", chat()),
        ("/v1/embeddings", {"model": "sandbox-embedding", "input": "one"}),
        ("/v1/images/generations", {"model": "sandbox-image", "prompt": "a gate"}),
    ],
    ids=["chat", "embedding", "image"],
)
async def test_an_equal_call_gets_the_answer_as_a_free_call_of_its_own(gate: Gate, pg, path: str, body: dict) -> None:
    first = await asked(gate, body, path=path)
    second = await asked(gate, body, path=path)
    assert [state(first), state(second)] == [MISS, HIT]
    assert second.headers["x-tollgate-call-id"] != first.headers["x-tollgate-call-id"]
    key = "choices" if "choices" in first.body else "data"
    assert second.body[key] == first.body[key]
    assert (second.body["usage"]["credits"], second.body["usage"]["cached"]) == ("0", True)
    assert "cached" not in first.body["usage"]
    (paid, tokens, _), (again, same, cached) = await events(pg)
    assert (paid > 0, again, same, cached) == (True, 0, tokens, True)
    record = (await gate.ask(path=f"/v1/calls/{second.headers['x-tollgate-call-id']}")).body
    assert (record["status"], record["usage"]["credits"], record["usage"]["cached"]) == ("succeeded", "0", True)
    await assert_invariants(pg)


async def test_a_hit_costs_the_catalogs_percent_rounded_up(gate: Gate, pg) -> None:
    await pg.execute("""UPDATE models SET limits = limits || '{"cache_percent": 33}' WHERE slug = 'sandbox-chat'""")
    await gate.services.catalog.reload()
    for _ in range(2):
        await asked(gate)
    (paid, _, _), (again, _, _) = await events(pg)
    assert again == -(-paid * 33 // 100) > 0
    assert await pg.fetchval("SELECT balance_micro FROM wallets") == CREDITS_MICRO - paid - again
    await assert_invariants(pg)


async def test_without_the_header_nothing_is_kept_or_given(gate: Gate, pg) -> None:
    plain = await gate.ask(chat())
    assert state(plain) is None
    assert not await gate.services.redis.keys("*answers*")
    assert state(await asked(gate)) == MISS
    assert [state(await gate.ask(chat())), state(await asked(gate, x_tollgate_cache="off"))] == [None, None]
    assert [charged > 0 for charged, _, _ in await events(pg)] == [True] * 4


async def test_another_body_path_or_kind_of_key_is_another_call(gate: Gate) -> None:
    await asked(gate)
    test_key = await gate.key(Environment.TEST)
    assert state(await asked(gate, chat(max_tokens=6))) == MISS
    assert state(await asked(gate, chat(temperature=1))) == MISS
    assert state(await asked(gate, key=test_key)) == MISS
    reordered = dict(reversed(chat().items()))
    assert state(await asked(gate, reordered)) == HIT
    assert state(await asked(gate, key=await gate.key())) == HIT  # of the same workspace


async def test_it_is_never_given_across_workspaces(gate: Gate) -> None:
    await asked(gate)
    other = await seed_workspace(gate.services.database, CREDITS_MICRO, name="other")
    assert state(await asked(gate, key=other.api_key)) == MISS
    # Even under the other's name a kept answer does not open there.
    redis = gate.services.redis
    mine, theirs = f"*{gate.seeded.workspace_id.hex}*answers*", f"*{other.workspace_id.hex}*answers*"
    (here,), (there,) = await redis.keys(mine), await redis.keys(theirs)
    await redis.set(there, await redis.get(here))
    assert state(await asked(gate, key=other.api_key)) == MISS


async def test_what_is_kept_is_sealed_and_lapses(gate: Gate) -> None:
    body = {"model": "sandbox-chat", "messages": [{"role": "user", "content": "marker-word"}], "max_tokens": 5}
    answer = await asked(gate, body)
    (name,) = await gate.services.redis.keys("*answers*")
    kept = await gate.services.redis.get(name)
    said = answer.body["choices"][0]["message"]["content"].encode()
    assert said and said not in kept and b"marker-word" not in kept + name
    assert 0 < await gate.services.redis.ttl(name) <= CACHE_S
    await gate.services.redis.delete(name)
    assert state(await asked(gate, body)) == MISS


async def test_failures_and_large_answers_are_not_kept(gate: Gate, monkeypatch) -> None:
    failing = chat(metadata={"sandbox_status": "500"})
    assert [(await asked(gate, failing)).status for _ in range(2)] == [502, 502]
    monkeypatch.setattr(answer_cache, "MAX_CACHED_BYTES", 10)
    assert [state(await asked(gate)) for _ in range(2)] == [MISS, MISS]
    assert not await gate.services.redis.keys("*answers*")


async def test_a_new_catalog_begins_anew(gate: Gate, tmp_path) -> None:
    assert [state(await asked(gate)) for _ in range(2)] == [MISS, HIT]
    changed = tmp_path / "changed.toml"
    text = (tmp_path / "catalog.toml").read_text()
    changed.write_text(text.replace('name = "Sandbox chat"', 'name = "Sandbox chat, changed"'))
    await apply_catalog(gate.services.database, changed)
    await gate.services.catalog.reload()
    assert state(await asked(gate)) == MISS


async def test_limits_hold_for_hits_too(gate: Gate) -> None:
    key = await gate.key(requests_per_hour=2)
    statuses = [(await asked(gate, key=key)).status for _ in range(3)]
    assert statuses == [200, 200, 429]
    models = await gate.key(models=("sandbox-embedding",))
    assert (await asked(gate, key=models)).status == 403


async def test_an_idempotency_key_holds_as_ever(gate: Gate, pg) -> None:
    await asked(gate)
    first, second = [await asked(gate, idempotency_key="k") for _ in range(2)]
    assert (state(first), state(second), second.headers["idempotent-replayed"]) == (HIT, HIT, "true")
    assert second.body["choices"] == first.body["choices"]
    assert len(await events(pg)) == 2


async def test_streams_are_not_among_them(gate: Gate, pg) -> None:
    for _ in range(2):
        assert (await asked(gate, chat(stream=True))).status == 200
    assert all(charged > 0 for charged, _, _ in await events(pg))


async def test_a_key_that_caches_needs_no_header_and_a_call_may_say_otherwise(gate: Gate, pg) -> None:
    caching, plain = await gate.key(cache_answers=True), await gate.key()
    answers = [await gate.ask(chat(), key=caching) for _ in range(2)]
    assert [state(answer) for answer in answers] == [MISS, HIT]
    assert answers[1].body["usage"]["cached"] is True
    assert state(await gate.ask(chat(), key=caching, x_tollgate_cache="Off")) is None
    assert state(await gate.ask(chat(), key=plain)) is None
    assert state(await gate.ask(chat(), key=plain, x_tollgate_cache="on")) == HIT
    assert (await gate.ask(chat(), key=caching, x_tollgate_cache="perhaps")).status == 400
    charged = [micro for micro, _, _ in await events(pg)]
    assert [micro > 0 for micro in charged] == [True, False, True, True, False]
    assert await pg.fetchval("SELECT balance_micro FROM wallets") == CREDITS_MICRO - sum(charged)
    await assert_invariants(pg)


async def test_a_caching_key_off_for_a_call_leaves_no_answer_either(gate: Gate) -> None:
    caching = await gate.key(cache_answers=True)
    await gate.ask(chat(), key=caching, x_tollgate_cache="off")
    assert not await gate.services.redis.keys("*answers*")
    assert state(await gate.ask(chat(), key=caching)) == MISS


async def test_caching_keys_of_two_workspaces_share_nothing(gate: Gate) -> None:
    await gate.ask(chat(), key=await gate.key(cache_answers=True))
    other = await seed_workspace(gate.services.database, CREDITS_MICRO, name="other")
    theirs = await gate.key(cache_answers=True, workspace_id=other.workspace_id)
    assert state(await gate.ask(chat(), key=theirs)) == MISS
    assert state(await gate.ask(chat(), key=theirs)) == HIT


async def test_turning_a_keys_cache_on_or_off_takes_effect_at_the_next_call_and_is_audited(gate: Gate, pg) -> None:
    secret = await gate.key()
    accounts, workspace_id = gate.services.accounts, gate.seeded.workspace_id
    key_id = await pg.fetchval("SELECT id FROM api_keys ORDER BY created_at DESC LIMIT 1")
    assert state(await gate.ask(chat(), key=secret)) is None
    for on, expected in ((True, [MISS, HIT]), (False, [None, None])):
        change = partial(replace, cache_answers=on)
        assert (await api_keys.update_key(accounts, SYSTEM, workspace_id, key_id, change)).cache_answers is on
        assert [state(await gate.ask(chat(), key=secret)) for _ in range(2)] == expected
    facts = await pg.fetch("SELECT facts FROM audit_events WHERE action = 'api_key.update' ORDER BY created_at")
    assert [orjson.loads(row[0])["cache_answers"] for row in facts] == [True, False]


async def test_a_caching_keys_streams_are_made_each_time(gate: Gate, pg) -> None:
    caching = await gate.key(cache_answers=True)
    for _ in range(2):
        assert (await gate.ask(chat(stream=True), key=caching)).status == 200
    assert [(charged > 0, cached) for charged, _, cached in await events(pg)] == [(True, None)] * 2
    assert not await gate.services.redis.keys("*answers*")


async def test_without_redis_each_call_is_made(gate: Gate, pg, monkeypatch, caplog) -> None:
    async def away(*args: object, **kwargs: object) -> None:
        raise ConnectionError("gone")

    store = gate.services.calls._cache._store
    monkeypatch.setattr(store, "get", away)
    monkeypatch.setattr(store, "set", away)
    answers = await asyncio.gather(*(asked(gate) for _ in range(2)))
    assert [(answer.status, state(answer)) for answer in answers] == [(200, MISS)] * 2
    assert "the cache of answers is away" in caplog.text


async def test_another_beta_of_the_vendors_is_another_question(gate: Gate) -> None:
    message = {"model": "sandbox-chat", "max_tokens": 9, "messages": [{"role": "user", "content": "Hello"}]}

    async def of_beta(beta: str, **more: str) -> Answer:
        return await asked(gate, message, path="/v1/messages", anthropic_beta=beta, **more)

    assert [state(await of_beta(beta)) for beta in ("one", "two", "one")] == [MISS, MISS, HIT]
    assert [(await of_beta(beta, idempotency_key="k")).status for beta in ("one", "one", "two")] == [200, 200, 422]
