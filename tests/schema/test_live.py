"""Watching a wallet and a call, through two whole service stacks that share PostgreSQL and Valkey."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from accounts.rules.roles import Role
from app.lifespan import open_services
from kit.ids import encode_id, uuid7
from metering.operations import Adjust, PlaceHold, Release, Settle, UsageFacts
from models.database import transaction
from tests.schema.conftest import House, settings_for
from tests.schema.test_first_call import CALL, chat

WALLET = "subscription($id: ID!) { walletChanged(workspaceId: $id) { available held balance } }"
UPDATED = "subscription($id: ID!) { callUpdated(id: $id) { id status usage { credits } error { code } } }"


@pytest.fixture
async def other(house: House, database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[House]:
    """A second process, as far as Redis and PostgreSQL can see."""
    async with AsyncExitStack() as stack:
        directory = tmp_path / "other"
        directory.mkdir()
        services = await stack.enter_async_context(open_services(settings_for(database_url, redis_url, directory)))
        yield replace(house, services=services, resolver_services=services.resolver_services)


@contextlib.asynccontextmanager
async def watching(house: House, document: str, principal, id_text: str) -> AsyncIterator["Reader"]:
    source = await house.schema.subscribe(
        document, variable_values={"id": id_text}, context_value=house.context(principal)
    )
    async with contextlib.aclosing(source):
        yield Reader(source)


class Reader:
    """Reads events, one at a time, and fails rather than waiting for ever."""

    def __init__(self, source) -> None:
        self.source = source

    async def next(self) -> dict:
        async with asyncio.timeout(30):
            result = await anext(self.source)
        assert result.errors is None, result.errors
        (shown,) = result.data.values()
        return shown

    async def until(self, wanted) -> dict:
        while True:
            shown = await self.next()
            if wanted(shown):
                return shown


def hold(house: House, micro: int = 5_000_000) -> PlaceHold:
    return PlaceHold(
        call_id=uuid7(),
        wallet_id=house.seeded.wallet_id,
        workspace_id=house.seeded.workspace_id,
        amount_micro=micro,
        model_slug="sandbox-chat",
        user_id=None,
        api_key_id=house.seeded.api_key_id,
        request_id="r",
        expires_at=datetime.now(UTC) + timedelta(minutes=5),
        terms={},
    )


def settlement(placed: PlaceHold, micro: int) -> Settle:
    return Settle(
        call_id=placed.call_id,
        wallet_id=placed.wallet_id,
        workspace_id=placed.workspace_id,
        cost_micro=micro,
        usage=UsageFacts(provider="sandbox"),
    )


async def test_a_wallet_is_shown_at_once_then_with_the_hold_then_settled_in_another_process(
    house: House, other: House
) -> None:
    async with watching(other, WALLET, other.key(), other.workspace_id) as reader:
        assert await reader.next() == {"available": "1000000", "held": "0", "balance": "1000000"}
        async with asyncio.timeout(30):
            while not other.services.resolver_services.live.watch.__self__.is_following:
                await asyncio.sleep(0.005)
        placed = hold(house)
        await house.services.ledger.submit(placed)
        assert await reader.next() == {"available": "999995", "held": "5", "balance": "1000000"}
        await house.services.ledger.submit(settlement(placed, 3_000_000))
        assert await reader.next() == {"available": "999997", "held": "0", "balance": "999997"}


async def test_a_posting_is_announced_when_its_own_transaction_commits_and_not_when_it_is_rolled_back(
    house: House,
) -> None:
    announced = []
    house.services.ledger.on_committed = announced.append
    up = Adjust(reference="up", wallet_id=house.seeded.wallet_id, amount_micro=1_000_000, reason="a gift")
    async with transaction(house.services.database) as conn:
        await house.services.ledger.post(conn, [up])
        assert announced == []
    assert announced == [{house.seeded.wallet_id}]
    with contextlib.suppress(ZeroDivisionError):
        async with transaction(house.services.database) as conn:
            await house.services.ledger.post(conn, [replace(up, reference="another")])
            raise ZeroDivisionError
    assert len(announced) == 1


async def test_a_slow_reader_is_shown_the_newest_wallet_and_nothing_of_what_was_in_between(house: House) -> None:
    async with watching(house, WALLET, house.key(), house.workspace_id) as reader:
        assert (await reader.next())["available"] == "1000000"
        for count in range(40):
            up = Adjust(f"gift {count}", house.seeded.wallet_id, 1_000_000, "a gift")
            await house.services.ledger.submit(up)
            await asyncio.sleep(0.005)
        shown = [await reader.next()]
        while shown[-1]["available"] != "1000040":
            shown.append(await reader.next())
        assert len(shown) <= 3


async def test_a_wallet_that_moves_all_the_time_is_shown_at_most_ten_times_a_second(house: House) -> None:
    async with watching(house, WALLET, house.key(), house.workspace_id) as reader:
        await reader.next()
        events = 0

        async def read() -> None:
            nonlocal events
            while True:
                await reader.next()
                events += 1

        reading = asyncio.create_task(read())
        began = asyncio.get_running_loop().time()
        for count in range(60):
            await house.services.ledger.submit(Adjust(f"{count}", house.seeded.wallet_id, 1_000_000, "a gift"))
            await asyncio.sleep(0.01)
        took = asyncio.get_running_loop().time() - began
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        assert 2 <= events <= took * 10 + 2


async def test_a_removed_member_sees_no_further_event_and_is_told_why(house: House, other: House) -> None:
    admin, owner = await house.person(Role.ADMIN), await house.person(Role.OWNER)
    member_id = await house.services.database.pool.fetchval("SELECT id FROM members WHERE user_id = $1", admin.user_id)
    while not other.services.accounts.invalidations.is_healthy:
        await asyncio.sleep(0.005)
    async with watching(other, WALLET, admin, other.workspace_id) as reader:
        await reader.next()
        removed = "mutation($id: ID!) { removeMember(input: {memberId: $id}) { userErrors { code } } }"
        assert (await house.read(removed, owner, id=encode_id("mem", member_id)))["removeMember"]["userErrors"] == []
        async with asyncio.timeout(30):
            result = await anext(reader.source)
        assert "There is nothing of this id" in result.errors[0].message


async def test_a_call_is_followed_to_its_end_from_another_process(house: House, other: House) -> None:
    for end, status, charged in (("settle", "SUCCEEDED", "3"), ("release", "FAILED", None)):
        placed = hold(house)
        await house.services.ledger.submit(placed)
        async with watching(other, UPDATED, other.key(), encode_id("call", placed.call_id)) as reader:
            running = await reader.next()
            assert (running["status"], running["usage"]) == ("RUNNING", None)
            if end == "settle":
                await house.services.ledger.submit(settlement(placed, 3_000_000))
            else:
                await house.services.ledger.submit(
                    Release(placed.call_id, placed.wallet_id, placed.workspace_id, "FAILED", "UPSTREAM_ERROR", "broke")
                )
            ended = await reader.next()
            assert ended["status"] == status
            assert ended["usage"] == (None if charged is None else {"credits": charged})
            assert [event async for event in reader.source] == []


async def test_an_ended_call_is_shown_once(house: House) -> None:
    made = (await house.read(CALL, house.key(), input=chat()))["callModel"]["call"]
    async with watching(house, UPDATED, house.key(), made["id"]) as reader:
        assert (await reader.next())["status"] == "SUCCEEDED"
        assert [event async for event in reader.source] == []


async def test_nobody_who_watches_leaves_anything_behind(house: House) -> None:
    hub = house.services.resolver_services.live.watch.__self__
    async with watching(house, WALLET, house.key(), house.workspace_id) as reader:
        await reader.next()
        assert hub.count == 2
    while hub.count:
        await asyncio.sleep(0)  # the library closes its own generator a turn later
