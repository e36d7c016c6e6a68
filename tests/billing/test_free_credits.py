"""Free credits: limited by address range, mail domain and payment method, exactly, and nobody is shut out by it."""

import asyncio
import json
from datetime import timedelta

import pytest

from billing.due import subscribe_by_default
from billing.free_credits import (
    FreeCredits,
    allow_free_credits,
    forget_origins,
    free_credit_refusals,
    refused_workspaces,
)
from billing.rules.free_credits import address_range, counted_domain, fingerprint_digest, origin_digest
from billing.subscribing import start_trial, subscribe
from kit.errors import NotFound
from kit.ids import uuid7
from models.database import transaction
from models.enums import FreeCreditsRefusal
from tests.billing.catalog_samples import small
from tests.billing.shop import SECRET, START, open_shop
from tests.metering.invariants import assert_invariants

ADDRESS, DOMAIN, CARD = FreeCreditsRefusal


def catalog(**sign_up):
    values = small()
    values["sign_up"] = sign_up
    values["plans"]["pro"]["prices"][0]["trial_days"] = 7
    return values


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("203.0.113.7", "203.0.113.0/24"),
        ("203.0.113.255", "203.0.113.0/24"),
        ("203.0.114.7", "203.0.114.0/24"),
        ("::ffff:203.0.113.7", "203.0.113.0/24"),
        ("2001:db8:1:2:3::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        (None, None),
        ("unknown", None),
    ],
)
def test_an_address_counts_by_its_range(address, found):
    assert address_range(address) == found


@pytest.mark.parametrize(
    ("email", "found"),
    [
        ("ada@firm.example", "firm.example"),
        ("ada@a.b.firm.example", "firm.example"),
        ("ada@FIRM.example", "firm.example"),
        ("ada@firm.co.uk", "firm.co.uk"),
        ("ada@x.firm.co.uk", "firm.co.uk"),
        ("ada@x.firm.de", "firm.de"),
        ("ada@gmail.com", None),
        ("ada@yahoo.co.uk", None),
        ("ada@mx.gmail.com", None),
        ("ada@school.example", None),
    ],
)
def test_a_domain_counts_with_its_subdomains_unless_it_is_a_public_mail_providers(email, found):
    assert counted_domain(email, ("School.example",)) == found


def test_what_is_kept_of_an_origin_tells_nothing_without_the_key():
    digest = origin_digest(SECRET, ADDRESS, "203.0.113.0/24")
    assert digest != origin_digest(b"another key", ADDRESS, "203.0.113.0/24")
    assert digest != origin_digest(SECRET, DOMAIN, "203.0.113.0/24")
    assert len(digest) == 32


async def made(shop, *, address="203.0.113.7", email="ada@firm.example", owner=None, first=True):
    """A workspace, judged as it is made."""
    customer = await shop.workspace(method=False)
    return await judged(shop, customer, address=address, email=email, owner=owner, first=first)


async def judged(shop, customer, *, address, email, owner=None, first=True):
    async with transaction(shop.billing.database) as conn:
        await FreeCredits(shop.billing).judge(
            conn, customer.id, customer.wallet_id, owner or uuid7(), address=address, email_key=email, first=first
        )
    return customer


async def refusal_of(shop, customer):
    return (await free_credit_refusals(shop.billing.database, [customer.id])).get(customer.id)


async def told(shop):
    rows = await shop.pg.fetch("SELECT workspace_id, payload FROM outbox_events WHERE kind = 'free_credits.refused'")
    return {row["workspace_id"]: json.loads(row["payload"])["reason"] for row in rows}, len(rows)


async def test_of_many_at_once_from_one_address_range_exactly_the_limit_may_have_free_credits(database, pg):
    async with open_shop(database, pg, catalog(per_address_range_a_day=5)) as shop:
        customers = [await shop.workspace(method=False) for _ in range(24)]
        await asyncio.gather(
            *(
                judged(shop, customer, address=f"203.0.113.{number}", email=f"a@firm{number}.example")
                for number, customer in enumerate(customers)
            )
        )
        refusals = await free_credit_refusals(database, [each.id for each in customers])
        assert set(refusals.values()) == {ADDRESS}
        assert len(refusals) == 24 - 5
        assert await pg.fetchval("SELECT taken FROM free_credit_counts WHERE kind = 'ADDRESS_RANGE'") == 5
        assert await pg.fetchval("SELECT sum(taken) FROM free_credit_counts WHERE kind = 'MAIL_DOMAIN'") == 5
        other = await made(shop, address="203.0.114.1")
        assert await refusal_of(shop, other) is None


async def test_of_many_at_once_from_one_domain_exactly_the_limit_and_no_address_is_charged_for_the_refused(
    database, pg
):
    async with open_shop(database, pg, catalog(per_domain_a_day=4)) as shop:
        customers = [await shop.workspace(method=False) for _ in range(16)]
        await asyncio.gather(
            *(
                judged(shop, customer, address=f"198.51.{number}.1", email=f"{number}@s{number}.firm.example")
                for number, customer in enumerate(customers)
            )
        )
        refusals = await free_credit_refusals(database, [each.id for each in customers])
        assert list(refusals.values()) == [DOMAIN] * 12
        assert await pg.fetchval("SELECT sum(taken) FROM free_credit_counts WHERE kind = 'ADDRESS_RANGE'") == 4


async def test_public_mail_domains_and_unknown_addresses_are_not_counted(database, pg):
    async with open_shop(database, pg, catalog(per_domain_a_day=1, public_domains=["uni.example"])) as shop:
        for email in ("a@gmail.com", "b@gmail.com", "a@uni.example", "b@uni.example"):
            assert await refusal_of(shop, await made(shop, address=None, email=email)) is None
        assert await pg.fetchval("SELECT count(*) FROM free_credit_counts") == 0


async def test_the_next_day_counts_anew_and_digests_are_forgotten(database, pg):
    async with open_shop(database, pg, catalog(per_address_range_a_day=1)) as shop:
        await made(shop)
        assert await refusal_of(shop, await made(shop)) is ADDRESS
        shop.go(days=1)
        assert await refusal_of(shop, await made(shop)) is None
        shop.go(days=2)
        assert await forget_origins(database, limit=100) == 2
        shop.go(days=1)
        assert await forget_origins(database, limit=100) == 2
        assert await pg.fetchval("SELECT count(*) FROM free_credit_counts") == 0


async def test_who_is_refused_has_the_free_plan_without_its_credits_and_is_told_why_once(database, pg):
    async with open_shop(database, pg, catalog(per_address_range_a_day=1)) as shop:
        lucky, refused = await made(shop), await made(shop)
        assert await told(shop) == ({}, 0)  # nothing was withheld yet
        assert await subscribe_by_default(shop.billing) == 2
        assert (await lucky.available(), await refused.available()) == (5, 0)
        assert (await refused.subscription())["status"] == "ACTIVE"
        assert await told(shop) == ({refused.id: "ADDRESS_RANGE"}, 1)
        shop.go(days=28)
        await shop.work()
        assert (await lucky.available(), await refused.available()) == (5, 0)
        assert (await refused.subscription())["period_number"] == 2
        assert await told(shop) == ({refused.id: "ADDRESS_RANGE"}, 1)
    await assert_invariants(pg)


async def test_the_operator_sees_the_refused_and_lets_one_have_free_credits_from_the_next_cycle_on(database, pg):
    async with open_shop(database, pg, catalog(per_address_range_a_day=1)) as shop:
        await made(shop)
        refused = await made(shop)
        await subscribe_by_default(shop.billing)
        [line] = await refused_workspaces(database, 10)
        assert (line.workspace_id, line.refusal, line.decided_at) == (refused.id, ADDRESS, START)
        async with transaction(database) as conn:
            await allow_free_credits(conn, refused.id, shop.time.at)
        assert await refused_workspaces(database, 10) == ()
        assert await refusal_of(shop, refused) is None
        shop.go(days=28)
        await shop.work()
        assert await refused.available() == 5
        with pytest.raises(NotFound):
            async with transaction(database) as conn:
                await allow_free_credits(conn, refused.id, shop.time.at)


async def test_credits_of_a_sign_up_come_once_a_person_and_not_to_the_refused(database, pg):
    async with open_shop(database, pg, catalog(credits="3", expires_after_days=30, per_address_range_a_day=3)) as shop:
        owner = uuid7()
        first = await made(shop, owner=owner)
        assert await first.available() == 3
        assert (await first.grants("BONUS"))[0][2] == (START + timedelta(days=30)).date().isoformat()
        assert await (await made(shop, owner=owner, first=False)).available() == 0
        assert await (await made(shop, owner=owner)).available() == 0  # the same person again, whatever is said
        fourth = await made(shop)
        assert await fourth.available() == 0
        assert await told(shop) == ({fourth.id: "ADDRESS_RANGE"}, 1)
    await assert_invariants(pg)


async def test_a_limit_of_none_gives_nobody_free_credits(database, pg):
    async with open_shop(database, pg, catalog(per_address_range_a_day=0)) as shop:
        assert await refusal_of(shop, await made(shop)) is ADDRESS


async def test_a_catalog_without_free_credits_judges_nobody(database, pg):
    async with open_shop(database, pg, "pay-as-you-go") as shop:
        for _ in range(30):
            await made(shop)
        assert await pg.fetchval("SELECT count(*) FROM free_credit_verdicts") == 0


async def show(shop, customer, fingerprint):
    """A payment method is saved, as the payment provider's part does."""
    await shop.pg.execute(
        "INSERT INTO payment_methods (id, workspace_id, stripe_payment_method_id, kind, is_default, created_at,"
        " fingerprint_digest) VALUES ($1, $2, $3, 'card', true, $4, $5)",
        uuid7(), customer.id, f"pm_{uuid7().hex}", shop.time.at, fingerprint_digest(SECRET, fingerprint),
    )  # fmt: skip


async def try_out(shop, customer):
    price = shop.price("pro", "monthly")
    begun = await subscribe(shop.billing, customer.id, price.id, idempotency_key="trial")
    await start_trial(shop.billing, begun.subscription.id)


async def test_of_many_trials_at_once_with_one_card_exactly_one_has_credits(database, pg):
    async with open_shop(database, pg, catalog()) as shop:
        customers = [await made(shop, email=f"a@firm{number}.example") for number in range(8)]
        for customer in customers:
            await show(shop, customer, "card_1")
        await asyncio.gather(*(try_out(shop, customer) for customer in customers))
        available = [await customer.available() for customer in customers]
        assert sorted(available) == [0] * 7 + [500]
        assert {(await customer.subscription())["status"] for customer in customers} == {"TRIALING"}
        reasons, count = await told(shop)
        assert (set(reasons.values()), count) == ({"PAYMENT_FINGERPRINT"}, 7)
        other = await made(shop)
        await show(shop, other, "card_2")
        await try_out(shop, other)
        assert await other.available() == 500
    await assert_invariants(pg)


async def test_a_card_of_a_workspace_that_had_nothing_free_may_try_out_in_another(database, pg):
    async with open_shop(database, pg, catalog()) as shop:
        paying, trying = await made(shop), await made(shop)
        await show(shop, paying, "card_1")
        await show(shop, trying, "card_1")
        await try_out(shop, trying)
        assert await trying.available() == 500


async def test_a_refused_trial_that_is_paid_has_its_paid_credits(database, pg):
    async with open_shop(database, pg, catalog(per_payment_fingerprint=0)) as shop:
        customer = await made(shop)
        await show(shop, customer, "card_1")
        await try_out(shop, customer)
        assert await customer.available() == 0
        shop.go(days=7)
        await customer.pay((await customer.subscription())["id"], shop.price("pro", "monthly"))
        assert await customer.available() == 500
