"""Money that went back: what an older version wrote of it, and credits that calls held meanwhile (D5)."""

import pytest

from billing.disputes import close_dispute, dispute_payment
from billing.refunds import refund_failed, refund_payment, seen_at
from billing.top_ups import add_credits
from models.enums import PaymentStatus
from tests.billing.catalog_samples import small
from tests.billing.shop import MICRO, open_shop
from tests.metering.invariants import assert_invariants


@pytest.mark.parametrize("won", [True, False])
async def test_D5_a_payment_disputed_before_disputes_had_rows_stays_so_until_its_dispute_is_told_of(
    database, pg, won: bool
):
    async with open_shop(database, pg, small()) as shop:
        customer = await shop.workspace()
        made = (await add_credits(shop.billing, customer.id, 20 * MICRO, idempotency_key="k")).payment
        await dispute_payment(shop.billing, made.id, "dp_1", 10 * MICRO)
        await pg.execute("DELETE FROM payment_disputes")  # as migration 0013 finds it
        view = await refund_payment(shop.billing, made.id, 5 * MICRO)
        assert (view.status, await customer.available()) == (PaymentStatus.DISPUTED, 0)
        await refund_failed(shop.billing, made.id, 0, seen=await seen_at(shop.billing, made.id))
        assert await pg.fetchval("SELECT status FROM payments") == "DISPUTED"
        assert await customer.available() == 0
        view = await close_dispute(shop.billing, made.id, "dp_1", disputed_usd_micro=10 * MICRO, won=won)
        assert view.status is (PaymentStatus.SUCCEEDED if won else PaymentStatus.DISPUTED)
        assert await customer.available() == (2000 if won else 1000)
    await assert_invariants(pg)


@pytest.mark.parametrize("how", ["refunded", "lost"])
async def test_D5_what_calls_held_when_money_went_back_goes_with_it_once_it_is_free(database, pg, how: str):
    async with open_shop(database, pg, small()) as shop:
        customer = await shop.workspace()
        made = (await add_credits(shop.billing, customer.id, 20 * MICRO, idempotency_key="k")).payment
        calls = [await customer.hold(900 * MICRO) for _ in range(2)]
        if how == "refunded":
            await refund_payment(shop.billing, made.id, 10 * MICRO)
        else:
            await close_dispute(shop.billing, made.id, "dp_1", disputed_usd_micro=10 * MICRO, won=False)
        await shop.work()
        assert await customer.available() == 0
        await customer.settle(calls[0], 100 * MICRO)
        shop.go(minutes=1)
        await shop.work()
        assert await customer.available() == 0  # 200 were free at once and 800 now: the half
        await customer.settle(calls[1], 0)
        for _ in range(2):
            shop.go(minutes=1)
            await shop.work()
            assert await customer.available() == 900
        open_ones = "SELECT count(*) FROM outbox_events WHERE kind = 'payment.take_gone' AND completed_at IS NULL"
        assert await pg.fetchval(open_ones) == 0
    await assert_invariants(pg)


async def test_D5_what_calls_held_stays_where_the_refund_failed_and_goes_with_a_later_one(database, pg):
    async with open_shop(database, pg, small()) as shop:
        customer = await shop.workspace()
        made = (await add_credits(shop.billing, customer.id, 20 * MICRO, idempotency_key="k")).payment
        call = await customer.hold(1500 * MICRO)
        await refund_payment(shop.billing, made.id, 20 * MICRO)
        await refund_failed(shop.billing, made.id, 0, seen=await seen_at(shop.billing, made.id))
        await customer.settle(call, 0)
        shop.go(minutes=1)
        await shop.work()
        assert await customer.available() == 2000
        call = await customer.hold(1500 * MICRO)
        await refund_payment(shop.billing, made.id, 20 * MICRO)
        await customer.settle(call, 0)
        shop.go(minutes=1)
        await shop.work()
        assert await customer.available() == 0
    await assert_invariants(pg)
