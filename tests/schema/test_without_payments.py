"""Without a payment provider: every mutation that would need one says so, and what needs none works."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from accounts.rules.roles import Action, Role
from accounts.views import Principal
from kit.ids import encode_id, uuid7
from resolvers.access_table import FIELDS
from tests.schema.conftest import House, open_house
from tests.seeding import ROOT

NEEDS_NONE: Final = {"updateAlertSettings", "cancelSubscription", "resumeSubscription", "redeemPromoCode"}
"""Of the mutations on money: what a free plan, a promo code and a granted credit can have done to them."""

PACK: Final = """
[packs.small]
name = "100 credits"
credits = "100"
price = "90"
requires_active_plan = false
"""


def money_mutations() -> set[str]:
    """Those that the access table gives to who may pay or pay out; a test holds that it names every field."""
    money = {Action.BILLING_WRITE, Action.TRANSFERS_WRITE}
    return {
        name.removeprefix("Mutation.")
        for name, rule in FIELDS.items()
        if name.startswith("Mutation.") and rule.action in money
    }


@pytest.fixture
async def house(database_url: str, redis_url: str, tmp_path: Path, schema) -> AsyncIterator[House]:
    catalog = tmp_path / "catalog.toml"
    text = (ROOT / "catalogs" / "usd-balance.toml").read_text()
    catalog.write_text(
        text.replace("requests_per_hour = 1_000\n", "requests_per_hour = 1_000\ncredit_packs = true\n") + PACK
    )
    async with open_house(database_url, redis_url, tmp_path, schema, catalog) as house:
        assert not house.resolver_services.billing.payments.configured
        yield house


async def answer(house: House, by: Principal, name: str, **given: object) -> list[str]:
    """The codes of the refusals of one mutation."""
    kind = f"{name[0].upper()}{name[1:]}Input"
    document = f"mutation($input: {kind}!) {{ {name}(input: $input) {{ userErrors {{ code }} }} }}"
    made = await house.read(document, by, input={"workspaceId": house.workspace_id, **given})
    return [each["code"] for each in made[name]["userErrors"]]


async def saved_method(house: House) -> str:
    """One from the time when a provider was connected."""
    key = uuid7()
    await house.services.database.pool.execute(
        "INSERT INTO payment_methods (id, workspace_id, stripe_payment_method_id, kind, is_default, created_at)"
        " VALUES ($1, $2, 'pm_card', 'card', true, now())",
        key,
        house.seeded.workspace_id,
    )
    return encode_id("pm", key)


async def test_every_mutation_that_pays_says_that_payments_are_not_configured(house: House) -> None:
    owner, method = await house.person(Role.OWNER), await saved_method(house)
    plans = house.resolver_services.billing.catalog.current.plans_by_code
    [free], [pro] = ([encode_id("price", price.id) for price in plans[code].prices] for code in ("personal", "pro"))
    back, keyed = {"returnUrl": "https://app.example/back"}, {"idempotencyKey": "once"}
    asked: dict[str, dict[str, object]] = {
        "subscribe": {"priceId": pro, **keyed},
        "changePlan": {"priceId": pro, **keyed},
        "addCredits": {"amount": "25", **keyed},
        "buyCreditPack": {"packCode": "small", **keyed},
        "updateAutoRecharge": {"enabled": True, "threshold": "20", "amount": "10"},
        "createPaymentMethodSetup": back,
        "setDefaultPaymentMethod": {"paymentMethodId": method},
        "removePaymentMethod": {"paymentMethodId": method},
        "createBillingPortalSession": back,
        "createPayoutSetup": back,
        "requestTransfer": {"amount": "10", **keyed},
        "addTaxId": {"kind": "eu_vat", "value": "DE123456789"},
        "removeTaxId": {"taxId": "txi_1"},
    }
    assert asked.keys() == money_mutations() - NEEDS_NONE
    assert await answer(house, owner, "subscribe", priceId=pro, **keyed) == ["PAYMENTS_NOT_CONFIGURED"]
    assert await answer(house, owner, "subscribe", priceId=free, idempotencyKey="free") == []
    for name, given in asked.items():
        if name != "subscribe":
            assert await answer(house, owner, name, **given) == ["PAYMENTS_NOT_CONFIGURED"], name
    assert await house.services.database.pool.fetchval("SELECT count(*) FROM payments") == 0


async def test_a_free_plan_is_cancelled_and_resumed_and_a_code_redeemed_without_a_payment_provider(
    house: House,
) -> None:
    owner = await house.person(Role.OWNER)
    [price] = house.resolver_services.billing.catalog.current.plans_by_code["personal"].prices
    done: dict[str, dict[str, object]] = {
        "subscribe": {"priceId": encode_id("price", price.id)},
        "cancelSubscription": {},
        "resumeSubscription": {},
        "redeemPromoCode": {"code": "WELCOME-2026"},
    }
    assert done.keys() - {"subscribe"} == NEEDS_NONE - {"updateAlertSettings"}
    for name, given in done.items():
        assert await answer(house, owner, name, idempotencyKey=name, **given) == [], name
