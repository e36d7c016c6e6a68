"""What the uses of published models come to: several publishers of one call, to the micro-credit."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit import clock
from kit.ids import uuid7
from metering.journal import settlement_json, settlement_of
from metering.ledger import Ledger
from metering.operations import Checkpoint, Reap, UsageFacts
from metering.reaper import reap_holds
from metering.reconcile import reconcile
from metering.rules.uses import USES, PublishedUse, charged_parts, uses_json, uses_of
from models.database import Database
from tests.metering.invariants import assert_invariants
from tests.metering.money import HOUR, START, grant, hold, open_wallet, settle


@pytest.fixture
async def database(database_url):
    opened = await Database.open(database_url)
    yield opened
    await opened.close()


@pytest.fixture
async def ledger(database):
    opened = await Ledger.open(database)
    yield opened
    await opened.close()


def use_of(wallet, cost: int, percent: int = 80, slug: str = "maker/model") -> PublishedUse:
    return PublishedUse(uuid7(), wallet[0], slug, cost, percent, 10, 20)


def usage_of(*uses: PublishedUse) -> UsageFacts:
    return UsageFacts(input_tokens=10, output_tokens=20, requests=1, provider="x", details={USES: uses_json(uses)})


async def earned(pg, wallet) -> int:
    return await pg.fetchval("SELECT balance_micro FROM wallets WHERE id = $1", wallet[0])


async def agrees(database, pg) -> None:
    await assert_invariants(pg)
    report = await reconcile(database)
    assert report.counts == {}, report.shown


async def test_B12_several_publishers_of_one_call_earn_their_shares_and_the_platform_keeps_the_rest(
    database, ledger, pg
) -> None:
    caller, first, second = [await open_wallet(pg) for _ in range(3)]
    await ledger.submit(grant(caller[0], 10_000))
    op = hold(caller, 2_000)
    await ledger.submit(op)
    uses = (use_of(first, 333), use_of(second, 501, 70), use_of(first, 0, 0, "maker/free"))
    settled = await ledger.submit(settle(caller, op.call_id, 1_000, usage=usage_of(*uses)))
    assert settled.charged_micro == 1_000
    assert settled.earned_micro == 266 + 350
    assert (await earned(pg, first), await earned(pg, second)) == (266, 350)
    rows = await pg.fetch("SELECT model_id, charged_micro, earned_micro FROM published_uses ORDER BY charged_micro")
    assert [tuple(row) for row in rows] == [
        (uses[2].model_id, 0, 0), (uses[0].model_id, 333, 266), (uses[1].model_id, 501, 350),
    ]  # fmt: skip
    await agrees(database, pg)


async def test_B12_a_call_that_the_wallet_cannot_pay_is_shared_in_proportion(database, ledger, pg) -> None:
    caller, maker, other = [await open_wallet(pg) for _ in range(3)]
    await ledger.submit(grant(caller[0], 500))
    op = hold(caller, 400)
    await ledger.submit(op)
    usage = usage_of(use_of(maker, 600, 50), use_of(other, 400, 100))
    settled = await ledger.submit(settle(caller, op.call_id, 1_000, usage=usage))
    assert (settled.charged_micro, settled.shortfall_micro) == (500, 500)
    assert (await earned(pg, maker), await earned(pg, other)) == (150, 200)
    await agrees(database, pg)


async def test_B12_a_checkpoint_that_is_reaped_pays_its_publishers_and_a_late_end_corrects_it(
    database, ledger, pg
) -> None:
    caller, maker, other = [await open_wallet(pg) for _ in range(3)]
    await ledger.submit(grant(caller[0], 10_000))
    op = hold(caller, 2_000, expires_at=START + HOUR)
    await ledger.submit(op)
    first, second = use_of(maker, 300), use_of(other, 500)
    await ledger.submit(Checkpoint(op.call_id, caller[0], 300, usage_of(first), START + HOUR))
    with clock.installed(clock.VirtualClock(START + 2 * HOUR)):
        assert await reap_holds(database, ledger) == 1
    assert (await earned(pg, maker), await earned(pg, other)) == (240, 0)
    await agrees(database, pg)

    late = settle(
        caller, op.call_id, 700, usage=usage_of(PublishedUse(first.model_id, *maker[:1], "m/m", 200, 80), second)
    )
    settled = await ledger.submit(late)
    assert settled.earned_micro == 160 + 400
    assert (await earned(pg, maker), await earned(pg, other)) == (160, 400)
    assert (await ledger.submit(late)).duplicate
    assert await pg.fetchval("SELECT sum(earned_micro) FROM published_uses") == 560
    await agrees(database, pg)


async def test_B12_a_payee_whose_wallet_is_gone_earns_nothing_and_the_call_is_settled(database, ledger, pg) -> None:
    caller = await open_wallet(pg)
    await ledger.submit(grant(caller[0], 1_000))
    op = hold(caller, 500)
    await ledger.submit(op)
    settled = await ledger.submit(settle(caller, op.call_id, 400, usage=usage_of(use_of((uuid7(),), 400))))
    assert (settled.charged_micro, settled.earned_micro) == (400, 0)
    await agrees(database, pg)


async def test_B12_a_reap_that_does_not_name_its_payees_finds_them(ledger, pg) -> None:
    caller, maker = await open_wallet(pg), await open_wallet(pg)
    await ledger.submit(grant(caller[0], 1_000))
    op = hold(caller, 500, expires_at=START + HOUR)
    await ledger.submit(op)
    await ledger.submit(Checkpoint(op.call_id, caller[0], 100, usage_of(use_of(maker, 100)), START + HOUR))
    with clock.installed(clock.VirtualClock(START + 2 * HOUR)):
        assert (await ledger.submit(Reap(op.call_id, caller[0]))).earned_micro == 80


@given(st.lists(st.tuples(st.integers(0, 10**12), st.integers(0, 100)), max_size=6), st.integers(0, 10**12), st.data())
def test_B12_the_parts_and_shares_of_a_split_never_exceed_what_was_charged(parts, own, data) -> None:
    uses = tuple(use_of((uuid7(),), cost, percent) for cost, percent in parts)
    cost = sum(use.cost_micro for use in uses) + own
    charged = data.draw(st.integers(0, cost))
    assert uses_of(usage_of(*uses)) == uses
    shared = charged_parts(uses, cost, charged)
    assert sum(shared) <= charged
    for use, part in zip(uses, shared, strict=True):
        assert 0 <= use.earned_micro(part) <= part <= use.cost_micro


def test_B12_a_journalled_settlement_splits_as_the_first_one() -> None:
    op = settle((uuid7(), uuid7()), uuid7(), 500, usage=usage_of(use_of((uuid7(),), 500)))
    again = settlement_of(orjson.loads(orjson.dumps(settlement_json(op), default=str)))
    assert again == op
    assert uses_of(again.usage) == uses_of(op.usage)
