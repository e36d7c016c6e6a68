"""Rule D12's switch: a workspace that stores outputs reads them later; one that turns it off has none from then on."""

from datetime import timedelta

import pytest

from accounts.rules.roles import Role
from kit import clock
from kit.clock import now
from metering.reaper import purge_outputs
from tests.schema.conftest import House

SWITCH = """mutation($id: ID!, $on: Boolean!) { updateWorkspace(input: { workspaceId: $id, storeOutputs: $on })
{ workspace { storeOutputs } userErrors { code } } }"""
CALL = """mutation($input: ModelCallInput!) { callModel(input: $input) { call { id output { ...what } } userErrors { code } } }
fragment what on CallOutput { ... on ChatOutput { content } ... on EmbeddingOutput { embeddings } ... on AssetsOutput { assets { url } } }"""
STREAM = """subscription($input: ModelCallInput!) { streamModel(input: $input) { __typename
... on CallDelta { content } ... on CallCompleted { call { id } } } }"""
READ = """query($id: ID!) { node(id: $id) { ... on ModelCall { status output { ...what } } } }
fragment what on CallOutput { ... on ChatOutput { content } ... on EmbeddingOutput { embeddings } ... on AssetsOutput { assets { url } } }"""
CHAT = {
    "model": "sandbox-chat",
    "payload": {"chat": {"messages": [{"role": "USER", "content": "Hello"}], "maxOutputTokens": 9}},
}
KINDS = (
    CHAT,
    {"model": "sandbox-embedding", "payload": {"embedding": {"texts": ["one"]}}},
    {"model": "sandbox-image", "payload": {"image": {"prompt": "a gate"}}},
)


async def switch(house: House, *, on: bool) -> None:
    admin = await house.person(Role.ADMIN)
    changed = await house.read(SWITCH, admin, id=house.workspace_id, on=on)
    assert changed["updateWorkspace"] == {"workspace": {"storeOutputs": on}, "userErrors": []}


async def called(house: House, asked: dict = CHAT) -> tuple[str, dict]:
    made = await house.read(CALL, house.key(), input=asked)
    assert made["callModel"]["userErrors"] == []
    return made["callModel"]["call"]["id"], made["callModel"]["call"]["output"]


async def kept(house: House, call_id: str) -> dict | None:
    return (await house.read(READ, house.key(), id=call_id))["node"]["output"]


async def streamed(house: House) -> tuple[str, str]:
    source = await house.schema.subscribe(
        STREAM, variable_values={"input": CHAT}, context_value=house.context(house.key())
    )
    events = [result.data["streamModel"] async for result in source]
    return events[-1]["call"]["id"], "".join(event.get("content") or "" for event in events)


@pytest.mark.parametrize("asked", KINDS, ids=["chat", "embedding", "image"])
async def test_D12_an_output_is_stored_only_while_the_workspace_says_so(house: House, pg, asked: dict) -> None:
    before, _ = await called(house, asked)
    assert await kept(house, before) is None
    await switch(house, on=True)
    with clock.installed(clock.VirtualClock(now())):  # an asset's URL is signed for its second
        stored, output = await called(house, asked)
        assert await kept(house, stored) == output
    sealed = await pg.fetchval("SELECT sealed FROM call_outputs")
    assert b"choices" not in sealed and b"data" not in sealed
    await switch(house, on=False)
    after, _ = await called(house, asked)
    assert await kept(house, after) is None
    assert await kept(house, stored) is None  # at once, before anything is purged
    assert await purge_outputs(house.services.database) == 1
    assert await pg.fetchval("SELECT count(*) FROM call_outputs") == 0


async def test_D12_a_streams_output_is_stored_whole(house: House) -> None:
    await switch(house, on=True)
    call_id, text = await streamed(house)
    assert text
    assert await kept(house, call_id) == {"content": text}
    await switch(house, on=False)
    call_id, _ = await streamed(house)
    assert await kept(house, call_id) is None


async def test_D12_a_stored_output_is_gone_after_the_days_that_the_plan_keeps_assets(house: House, pg) -> None:
    await switch(house, on=True)
    call_id, output = await called(house)
    start = now()
    with clock.installed(clock.VirtualClock(start + timedelta(days=29, hours=23))):  # pay-as-you-go keeps for 30 days
        assert await purge_outputs(house.services.database) == 0
        assert await kept(house, call_id) == output
    with clock.installed(clock.VirtualClock(start + timedelta(days=30))):
        assert await kept(house, call_id) is None
        assert await purge_outputs(house.services.database) == 1
    assert await pg.fetchval("SELECT count(*) FROM call_outputs") == 0


async def test_D12_without_the_switch_an_output_is_kept_for_a_repeat_for_ten_minutes_and_with_it_longer(
    house: House, pg
) -> None:
    asked = {**CHAT, "idempotencyKey": "one"}
    call_id, output = await called(house, asked)
    start = now()
    assert await kept(house, call_id) == output
    with clock.installed(clock.VirtualClock(start + timedelta(minutes=10, seconds=1))):
        assert await kept(house, call_id) is None
        assert await purge_outputs(house.services.database) == 1
    await switch(house, on=True)
    stored, output = await called(house, {**CHAT, "idempotencyKey": "two"})
    await switch(house, on=False)
    assert await kept(house, stored) == output  # a repeat may still ask for it
    assert await purge_outputs(house.services.database) == 0
    with clock.installed(clock.VirtualClock(now() + timedelta(minutes=10, seconds=1))):
        assert await kept(house, stored) is None
        assert await purge_outputs(house.services.database) == 1


async def test_D12_another_workspaces_storing_is_not_touched_by_the_purge(house: House, pg) -> None:
    await switch(house, on=True)
    await called(house)
    for number in range(3):
        await pg.execute(
            "WITH made AS (INSERT INTO workspaces (id, name, slug, store_outputs, created_at, updated_at)"
            " VALUES (gen_random_uuid(), 'x', 'x-' || $1::text, $2, now(), now()) RETURNING id)"
            " INSERT INTO call_outputs (call_id, workspace_id, key_version, sealed, created_at, expires_at, repeat_until)"
            " SELECT gen_random_uuid(), id, 1, 'x', now(), now() + interval '1 day', now() FROM made",
            str(number), number == 0,
        )  # fmt: skip
    assert await purge_outputs(house.services.database, limit=1) == 1
    assert await purge_outputs(house.services.database) == 1
    assert await pg.fetchval("SELECT count(*) FROM call_outputs") == 2
