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
