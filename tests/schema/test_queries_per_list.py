"""No list makes a query for each of its rows: two rows ask the database as often as ten."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from accounts.rules.roles import Role
from kit.ids import uuid7
from tests.schema.conftest import House
from tests.schema.test_access import CALL

LISTS = {
    "workspaces": "{ viewer { workspaces(first: 100) { nodes { id name freeCreditsRefused plan { code } subscription { status price { amount } } wallet { balance balanceUsd autoRecharge { status } } } } } }",
    "members": "query($id: ID!) { workspace(id: $id) { members(first: 100) { nodes { role user { name email } } } } }",
    "apiKeys": "query($id: ID!) { workspace(id: $id) { apiKeys(first: 100) { nodes { name monthlyCreditLimit } } } }",
    "calls": """query($id: ID!) { workspace(id: $id) { calls(first: 100) { nodes { id status
                usage { credits charges { credits grant { kind } } } } } } }""",
    "entries": """query($id: ID!) { workspace(id: $id) { wallet { entries(first: 100) { nodes { kind grant { kind }
                  call { id usage { credits } } } } grants(first: 100) { nodes { id } } } } }""",
    "outputs": "query($id: ID!) { workspace(id: $id) { calls(first: 100) { nodes { output { __typename } } } } }",
    "nested members": "{ viewer { workspaces(first: 100) { nodes { members(first: 3) { nodes { role user { name } } } } } } }",
    "nested invitations": "{ viewer { workspaces(first: 100) { nodes { invitations(first: 3) { nodes { email } } } } } }",
    "nested apiKeys": "{ viewer { workspaces(first: 100) { nodes { apiKeys(first: 3) { nodes { name } } } } } }",
    "nested calls": """{ viewer { workspaces(first: 100) { nodes { calls(first: 3) { nodes { status usage { credits }
                       output { __typename } } } } } } }""",
    "nested wallets": """{ viewer { workspaces(first: 100) { nodes { wallet { balance
                         grants(first: 3) { nodes { kind } } entries(first: 3) { nodes { kind grant { kind } } } } } } } }""",
    "nested auditLog": "{ viewer { workspaces(first: 100) { nodes { auditLog(first: 3) { nodes { action } } } } } }",
    "users": "query($users: [ID!]!) { nodes(ids: $users) { ... on User { name } } }",
    "auditLog": "query($id: ID!) { workspace(id: $id) { auditLog(first: 100) { nodes { action } } } }",
    "nodes": "query($ids: [ID!]!) { nodes(ids: $ids) { id } }",
}


@asynccontextmanager
async def _counting(house: House) -> AsyncIterator[list[str]]:
    """The statements on any of the pool's connections."""
    seen: list[str] = []

    def count(record) -> None:
        # asyncpg learning a type, and the process following the catalog
        if not any(word in record.query for word in ("typeinfo_tree", "'jit'", "max(number) FROM catalog_versions")):
            seen.append(record.query)

    pool = house.services.database.pool
    held = [await pool.acquire() for _ in range(pool.get_max_size())]  # all of them are open from now on
    for connection in held:
        connection.add_query_logger(count)
        await pool.release(connection)
    try:
        yield seen
        await asyncio.sleep(0)  # a logger is told a turn later
    finally:
        held = [await pool.acquire() for _ in range(pool.get_max_size())]
        for connection in held:
            connection.remove_query_logger(count)
            await pool.release(connection)


async def _grow(house: House, owner, count: int) -> None:
    pool = house.services.database.pool
    for _ in range(count):
        workspace_id = uuid7()
        await pool.execute(
            "INSERT INTO workspaces (id, name, slug, created_at, updated_at) VALUES ($1, 'w', $2, now(), now())",
            workspace_id,
            workspace_id.hex,
        )
        await pool.execute(
            "INSERT INTO wallets (id, workspace_id, created_at) VALUES ($1, $2, now())", uuid7(), workspace_id
        )
        await pool.execute(
            "INSERT INTO members (id, workspace_id, user_id, role, joined_at) VALUES ($1, $2, $3, 'OWNER', now())",
            uuid7(),
            workspace_id,
            owner.user_id,
        )
        await house.person(Role.MEMBER)
        await house.read(
            'mutation($id: ID!) { createApiKey(input: {workspaceId: $id, name: "k", scopes: [CALLS_READ]}) { secret } }',
            owner,
            id=house.workspace_id,
        )
        await house.read(
            "mutation($input: ModelCallInput!) { callModel(input: $input) { userErrors { code } } }",
            house.key(),
            input=CALL,
        )


async def _counts(house: House, owner) -> dict[str, list[str]]:
    found = await house.read(
        "query($id: ID!) { workspace(id: $id) { calls(first: 100) { nodes { id } } members(first: 100) { nodes { user { id } } } } }",
        owner,
        id=house.workspace_id,
    )
    calls = [node["id"] for node in found["workspace"]["calls"]["nodes"]]
    users = [node["user"]["id"] for node in found["workspace"]["members"]["nodes"]]
    given = {"nodes": {"ids": calls}, "users": {"users": users}}
    counts = {}
    for name, document in LISTS.items():
        async with _counting(house) as seen:
            await house.read(document, owner, **given.get(name, {"id": house.workspace_id}))
        counts[name] = sorted(" ".join(query.split()) for query in seen)
    return counts


async def test_ten_rows_ask_as_often_as_two(house: House) -> None:
    owner = await house.person(Role.OWNER)
    await _grow(house, owner, 2)
    few = await _counts(house, owner)
    await _grow(house, owner, 8)
    many = await _counts(house, owner)
    assert many == few

    assert all(few.values())
