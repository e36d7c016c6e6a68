"""Promo codes: each answer its own, exact counts, guesses limited, nothing readable in the table."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from billing.errors import PromoAlreadyRedeemed, PromoExhausted, PromoExpired, PromoInvalid, UnknownWorkspace
from billing.promo import redeem
from billing.top_ups import add_credits
from kit.errors import Code, RateLimited
from kit.ids import uuid7
from tests.billing.catalog_samples import small
from tests.billing.shop import MICRO, START, open_shop
from tests.metering.invariants import assert_invariants

CODES = {"WELCOME_CODE": "Hello-2027"}


def campaign(**terms):
    values = small()
    values["promo"]["welcome"] = {"code_env": "WELCOME_CODE", "credits": "3"} | terms
    return values


async def try_redeem(shop, customer, code="hello 2027", key=None):
    return await redeem(shop.billing, customer.id, code, redeemed_by=None, idempotency_key=key or uuid7().hex)


async def test_B2_a_valid_code_credits_at_once_and_says_how_much(database, pg):
    async with open_shop(database, pg, campaign(grant_expires_after_days=30), codes=CODES) as shop:
        customer = await shop.workspace()
        made = await try_redeem(shop, customer, key="k")
        assert made == await try_redeem(shop, customer, key="k")
        assert (made.amount_micro, made.bonus_percent) == (3 * MICRO, None)
        assert await customer.grants("PROMO") == [(3, "2027-01-31", "2027-03-02")]
        assert await customer.available() == 3
    await assert_invariants(pg)


async def test_B2_invalid_expired_exhausted_and_already_redeemed_each_have_their_own_error(database, pg):
    ends = datetime(2027, 3, 1, tzinfo=UTC)
    async with open_shop(database, pg, campaign(total_limit=2, ends_at=ends), codes=CODES) as shop:
        customers = [await shop.workspace() for _ in range(4)]
        for nothing in ("", "   ", "wrong", "x" * 500, "\u2028"):
            with pytest.raises(PromoInvalid):
                await try_redeem(shop, customers[0], nothing)
        await try_redeem(shop, customers[0])
        with pytest.raises(PromoAlreadyRedeemed):
            await try_redeem(shop, customers[0])
        await try_redeem(shop, customers[1])
        with pytest.raises(PromoExhausted):
            await try_redeem(shop, customers[2])
        with pytest.raises(PromoAlreadyRedeemed):
            await try_redeem(shop, customers[0])
        shop.go(to=ends)
        with pytest.raises(PromoExpired):
            await try_redeem(shop, customers[3])
        codes = {each.code for each in (PromoInvalid, PromoExpired, PromoExhausted, PromoAlreadyRedeemed)}
        assert codes == {
            Code.PROMO_INVALID,
            Code.PROMO_EXPIRED,
            Code.PROMO_EXHAUSTED,
            Code.PROMO_ALREADY_REDEEMED,
        }
        with pytest.raises(UnknownWorkspace):
            await redeem(shop.billing, uuid7(), "hello-2027", redeemed_by=None, idempotency_key="k")


async def test_B2_a_code_that_has_not_begun_or_is_paused_is_not_valid_yet(database, pg):
    starts = START + timedelta(days=2)
    async with open_shop(database, pg, campaign(starts_at=starts), codes=CODES) as shop:
        customer = await shop.workspace()
        with pytest.raises(PromoInvalid):
            await try_redeem(shop, customer)
        shop.go(to=starts)
        await pg.execute("UPDATE promo_campaigns SET paused = true")
        with pytest.raises(PromoInvalid):
            await try_redeem(shop, customer)
        await pg.execute("UPDATE promo_campaigns SET paused = false")
        await try_redeem(shop, customer)


async def test_B2_two_hundred_at_once_on_a_code_with_fifty_uses_give_fifty(database, pg):
    async with open_shop(database, pg, campaign(total_limit=50), codes=CODES) as shop:
        customers = [await shop.workspace(method=False) for _ in range(200)]
        results = await asyncio.gather(*(try_redeem(shop, each) for each in customers), return_exceptions=True)
        assert sum(isinstance(result, PromoExhausted) for result in results) == 150
        assert await pg.fetchval("SELECT redeemed_count FROM promo_campaigns") == 50
        assert await pg.fetchval("SELECT count(*) FROM promo_redemptions") == 50
        assert await pg.fetchval("SELECT sum(balance_micro) FROM wallets") == 150 * MICRO
    await assert_invariants(pg)


async def test_B2_a_workspace_uses_a_code_as_often_as_it_may_whatever_it_tries_at_once(database, pg):
    async with open_shop(database, pg, campaign(per_workspace_limit=3), codes=CODES) as shop:
        customer = await shop.workspace()
        results = await asyncio.gather(*(try_redeem(shop, customer) for _ in range(12)), return_exceptions=True)
        assert sum(isinstance(result, PromoAlreadyRedeemed) for result in results) == 9
        assert await customer.available() == 9
    await assert_invariants(pg)


async def test_B2_a_percent_code_waits_for_the_next_top_up_and_counts_once(database, pg):
    values = small()
    values["promo"]["welcome"] = {"code_env": "WELCOME_CODE", "bonus_percent": 20}
    async with open_shop(database, pg, values, codes=CODES) as shop:
        customer = await shop.workspace()
        made = await try_redeem(shop, customer)
        assert (made.grant_id, made.bonus_percent) == (None, 20)
        assert await customer.available() == 0
        await add_credits(shop.billing, customer.id, 10 * MICRO, idempotency_key="k1")
        await add_credits(shop.billing, customer.id, 10 * MICRO, idempotency_key="k2")
        assert await customer.available() == 1000 + 200 + 1000
    await assert_invariants(pg)


async def test_guessing_codes_is_limited_for_the_workspace_and_for_who_guesses(database, pg):
    async with open_shop(database, pg, campaign(), codes=CODES) as shop:
        shop.attempts.allowed = 5
        one, two, guesser = await shop.workspace(), await shop.workspace(), None
        for number in range(5):
            with pytest.raises(PromoInvalid):
                await redeem(
                    shop.billing, (one, two)[number % 2].id, f"guess{number}", redeemed_by=guesser, idempotency_key="k"
                )
        shop.attempts.allowed = 3
        with pytest.raises(RateLimited):
            await try_redeem(shop, one)
        assert set(shop.attempts.taken) == {f"promo:workspace:{one.id}", f"promo:workspace:{two.id}"}


async def test_a_leak_of_the_table_does_not_give_codes_away(database, pg):
    async with open_shop(database, pg, campaign(), codes=CODES) as shop:
        customer = await shop.workspace()
        await try_redeem(shop, customer, key="k")
        import hashlib

        for table in ("promo_campaigns", "promo_redemptions", "idempotency_keys", "credit_grants", "ledger_entries"):
            text = str([dict(row) for row in await pg.fetch(f"SELECT * FROM {table}")]).lower()
            assert "hello2027" not in text.replace("-", "")
            assert hashlib.sha256(b"HELLO2027").hexdigest() not in text
        assert "kkkk" not in repr(shop.billing)
