"""Plans, payments and credits over GraphQL: what is done, paid, declined, repeated and noted."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from accounts.rules.roles import ApiScope, Role
from accounts.views import Principal
from billing.catalog_apply import apply
from billing.catalog_file import read_catalog
from billing.payment_port import ActionNeeded, Declined
from billing.payments import apply_payment
from kit import clock
from kit.ids import encode_id, uuid7
from tests.billing.shop import Provider
from tests.schema.conftest import House, open_house
from tests.seeding import ROOT

ERRORS = "userErrors { code field message }"
SUBSCRIPTION = f"""
  subscription {{
    id status cancelAtPeriodEnd nextGrantAt plan {{ code }} price {{ id amount period }} scheduledPrice {{ amount }}
  }}
  checkoutUrl {ERRORS}
"""
BOUGHT = f"payment {{ id amount status failureCode }} grant {{ kind amount }} wallet {{ available }} actionUrl {ERRORS}"
REDEEMED = f"grant {{ kind amount }} bonusPercent wallet {{ available }} {ERRORS}"
RECHARGE = f"wallet {{ autoRecharge {{ enabled threshold amount monthlyLimit status suspendedReason }} }} {ERRORS}"
PAYLOADS = {
    "subscribe": ("SubscribeInput", SUBSCRIPTION),
    "changePlan": ("ChangePlanInput", SUBSCRIPTION),
    "cancelSubscription": ("CancelSubscriptionInput", SUBSCRIPTION),
    "resumeSubscription": ("ResumeSubscriptionInput", SUBSCRIPTION),
    "addCredits": ("AddCreditsInput", BOUGHT),
    "buyCreditPack": ("BuyCreditPackInput", BOUGHT),
    "redeemPromoCode": ("RedeemPromoCodeInput", REDEEMED),
    "updateAutoRecharge": ("UpdateAutoRechargeInput", RECHARGE),
}

CUSTOM_PLAN = """
[plans.agreed]
name = "Agreed"
rank = 30
public = false
workspace = "{workspace_id}"
models = ["*"]

[plans.agreed.entitlements]
requests_per_hour = 9_000
support_level = "PRIORITY"

[[plans.agreed.prices]]
code = "monthly"
amount = "99"
period = "MONTH"
credits = {{ amount = "9000", cadence = "BILLING_PERIOD", rollover = false }}
"""


class Till:
    """A house on one catalog, a payment provider that does what it is told, and the person who pays."""

    def __init__(self, house: House, provider: Provider, payer: Principal) -> None:
        self.house, self.provider, self.payer = house, provider, payer

    @property
    def billing(self):
        return self.house.resolver_services.billing

    def price(self, plan: str, code: str) -> str:
        prices = self.billing.catalog.current.plans_by_code[plan].prices
        return encode_id("price", next(each.id for each in prices if each.code == code))

    async def do(self, name: str, by: Principal | None = None, **given: object) -> dict:
        """The payload of one mutation, with a key of its own unless one is given."""
        kind, selected = PAYLOADS[name]
        keyed = {} if name == "updateAutoRecharge" else {"idempotencyKey": uuid7().hex}
        document = f"mutation($input: {kind}!) {{ {name}(input: $input) {{ {selected} }} }}"
        answer = await self.house.read(
            document, by or self.payer, input={"workspaceId": self.house.workspace_id, **keyed, **given}
        )
        return answer[name]

    async def refused(self, name: str, **given: object) -> str:
        """The code of the one refusal that it must be answered with."""
        (error,) = (await self.do(name, **given))["userErrors"]
        return error["code"]

    async def pay(self) -> None:
        """What the provider's hosted page does when the customer pays."""
        pool = self.house.services.database.pool
        await apply_payment(
            self.billing,
            await pool.fetchval("SELECT id FROM payments WHERE applied_at IS NULL ORDER BY id DESC LIMIT 1"),
        )

    async def set_method(self) -> None:
        await self.house.services.database.pool.execute(
            "INSERT INTO payment_methods (id, workspace_id, stripe_payment_method_id, kind, is_default, created_at)"
            " VALUES ($1, $2, 'pm_card', 'card', true, now())",
            uuid7(),
            self.house.seeded.workspace_id,
        )

    async def current(self) -> dict:
        document = "query($id: ID!) { workspace(id: $id) { subscription { id status plan { code } price { amount } scheduledPrice { amount } } } }"
        return (await self.house.read(document, self.payer, id=self.house.workspace_id))["workspace"]["subscription"]

    async def audited(self) -> list[str]:
        document = "query($id: ID!) { workspace(id: $id) { auditLog { nodes { action } } } }"
        found = await self.house.read(document, self.payer, id=self.house.workspace_id)
        return [each["action"] for each in found["workspace"]["auditLog"]["nodes"]]


@pytest.fixture
def catalog() -> str:
    return "creator-tiers"


@pytest.fixture
async def till(database_url, redis_url, tmp_path: Path, schema, catalog: str) -> AsyncIterator[Till]:
    async with open_house(database_url, redis_url, tmp_path, schema, ROOT / "catalogs" / f"{catalog}.toml") as house:
        provider = Provider()
        services = house.resolver_services
        house.resolver_services = replace(services, billing=replace(services.billing, payments=provider))
        yield Till(house, provider, await house.person(Role.OWNER))


BALANCE = pytest.mark.parametrize("catalog", ["usd-balance"])


async def test_a_free_plan_is_there_at_once_with_its_credits(till: Till) -> None:
    made = await till.do("subscribe", priceId=till.price("free", "free"))
    assert made["userErrors"] == []
    assert made["checkoutUrl"] is None
    assert made["subscription"]["status"] == "ACTIVE"
    assert made["subscription"]["plan"] == {"code": "free"}
    assert made["subscription"]["nextGrantAt"] is not None
    assert (await till.current())["id"] == made["subscription"]["id"]
    again = await till.house.read("query($id: ID!) { node(id: $id) { id } }", till.payer, id=made["subscription"]["id"])
    assert again["node"] == {"id": made["subscription"]["id"]}
    assert "subscription.begin" in await till.audited()


async def test_C2_a_paid_plan_waits_for_its_page_and_is_active_when_it_is_paid(till: Till) -> None:
    asked = {
        "priceId": till.price("starter", "monthly"),
        "idempotencyKey": "the one",
        "successUrl": "https://a.example/",
    }
    made = await till.do("subscribe", **asked)
    assert made["checkoutUrl"].startswith("https://pay.example/")
    assert made["subscription"]["status"] == "INCOMPLETE"
    assert till.provider.checkouts[0].success_url == "https://a.example/"
    assert await till.do("subscribe", **asked) == made
    assert len({order.key for order in till.provider.checkouts}) == 1
    assert await till.refused("subscribe", **{**asked, "priceId": till.price("pro", "monthly")}) == (
        "IDEMPOTENCY_KEY_REUSED"
    )
    await till.pay()
    assert (await till.current())["status"] == "ACTIVE"
    assert await till.refused("subscribe", priceId=till.price("pro", "monthly")) == "CONFLICT"


async def test_a_change_upwards_is_paid_at_once_or_leaves_the_plan_as_it_was(till: Till) -> None:
    await till.do("subscribe", priceId=till.price("starter", "monthly"))
    await till.pay()
    till.provider.result = Declined("insufficient_funds")
    declined = await till.do("changePlan", priceId=till.price("pro", "monthly"))
    assert declined["subscription"] is None
    assert [each["code"] for each in declined["userErrors"]] == ["PAYMENT_DECLINED"]
    assert "insufficient_funds" in declined["userErrors"][0]["message"]
    till.provider.result = ActionNeeded("https://bank.example/confirm")
    waiting = await till.do("changePlan", priceId=till.price("pro", "monthly"))
    assert waiting["checkoutUrl"] == "https://bank.example/confirm"
    assert [each["code"] for each in waiting["userErrors"]] == ["PAYMENT_ACTION_REQUIRED"]
    assert (await till.current())["plan"] == {"code": "starter"}
    await till.pay()
    assert (await till.current())["plan"] == {"code": "pro"}
    assert "subscription.change" in await till.audited()


@pytest.mark.parametrize("catalog", ["team-workspaces"])
async def test_A7_a_lifetime_is_charged_to_the_saved_method_where_that_is_asked_for(till: Till) -> None:
    asked = {"priceId": till.price("team", "lifetime"), "savedMethod": True}
    assert await till.refused("subscribe", **asked) == "PAYMENT_METHOD_REQUIRED"
    await till.set_method()
    assert await till.refused("subscribe", priceId=till.price("studio", "monthly"), savedMethod=True) == "INVALID_INPUT"
    till.provider.result = Declined("insufficient_funds")
    assert await till.refused("subscribe", **asked) == "PAYMENT_DECLINED"
    till.provider.result = None
    made = await till.do("subscribe", **asked, idempotencyKey="once", successUrl="https://a.example/")
    assert (made["userErrors"], made["checkoutUrl"]) == ([], None)
    assert made["subscription"]["price"]["period"] == "LIFETIME"
    assert await till.do("subscribe", **asked, idempotencyKey="once", successUrl="https://a.example/") == made
    assert [order.return_url for order in till.provider.charges] == [None, "https://a.example/"]
    assert till.provider.checkouts == []


async def test_a_change_downwards_waits_for_the_period_and_can_be_taken_back(till: Till) -> None:
    await till.do("subscribe", priceId=till.price("pro", "monthly"))
    await till.pay()
    wanted = await till.do("changePlan", priceId=till.price("starter", "monthly"))
    assert wanted["subscription"]["scheduledPrice"] == {"amount": "15.00"}
    assert wanted["subscription"]["plan"] == {"code": "pro"}
    back = await till.do("changePlan", priceId=till.price("pro", "monthly"))
    assert back["subscription"]["scheduledPrice"] is None


async def test_a_cancelled_subscription_can_be_resumed_until_it_ends(till: Till) -> None:
    assert await till.refused("cancelSubscription") == "SUBSCRIPTION_INACTIVE"
    await till.do("subscribe", priceId=till.price("starter", "annual"))
    await till.pay()
    assert await till.refused("resumeSubscription") == "CONFLICT"
    assert (await till.do("cancelSubscription", idempotencyKey="c"))["subscription"]["cancelAtPeriodEnd"] is True
    assert (await till.do("resumeSubscription"))["subscription"]["cancelAtPeriodEnd"] is False
    assert {"subscription.cancel", "subscription.resume"} <= set(await till.audited())


async def test_C3_packs_are_sold_where_the_plan_has_them(till: Till) -> None:
    assert await till.refused("buyCreditPack", packCode="small") == "NOT_IN_PLAN"
    await till.do("subscribe", priceId=till.price("pro", "monthly"))
    await till.pay()
    assert await till.refused("buyCreditPack", packCode="nothing") == "NOT_FOUND"
    assert await till.refused("buyCreditPack", packCode="small") == "PAYMENT_METHOD_REQUIRED"
    await till.set_method()
    bought = await till.do("buyCreditPack", packCode="small", idempotencyKey="p")
    assert bought["userErrors"] == []
    assert bought["payment"]["status"] == "SUCCEEDED"
    assert bought["grant"] == {"kind": "PACK", "amount": "1000"}
    assert await till.do("buyCreditPack", packCode="small", idempotencyKey="p") == bought
    assert len({charge.key for charge in till.provider.charges}) == 1
    shown = await till.house.read(
        "query($id: ID!) { node(id: $id) { ... on Payment { amount refunded } } }",
        till.payer,
        id=bought["payment"]["id"],
    )
    assert shown["node"] == {"amount": "12.00", "refunded": "0.00"}


@BALANCE
async def test_B5_credit_is_added_with_a_saved_method_between_the_bounds(till: Till) -> None:
    assert await till.refused("addCredits", amount="25") == "PAYMENT_METHOD_REQUIRED"
    await till.set_method()
    for wrong in ("4.99", "5000.01", "10.005", "0", "-5"):
        assert await till.refused("addCredits", amount=wrong) == "INVALID_INPUT", wrong
    bought = await till.do("addCredits", amount="25")
    assert bought["userErrors"] == []
    assert bought["grant"] == {"kind": "TOP_UP", "amount": "25"}
    till.provider.result = Declined("expired_card")
    declined = await till.do("addCredits", amount="25", idempotencyKey="d")
    assert (declined["payment"]["status"], declined["payment"]["failureCode"]) == ("FAILED", "expired_card")
    assert [each["code"] for each in declined["userErrors"]] == ["PAYMENT_DECLINED"]
    assert (declined["grant"], declined["wallet"]) == (None, None)
    assert await till.do("addCredits", amount="25", idempotencyKey="d") == declined
    till.provider.result = ActionNeeded("https://bank.example/3ds")
    waiting = await till.do("addCredits", amount="30", idempotencyKey="a")
    assert waiting["actionUrl"] == "https://bank.example/3ds"
    assert [each["code"] for each in waiting["userErrors"]] == ["PAYMENT_ACTION_REQUIRED"]
    await till.pay()
    done = await till.do("addCredits", amount="30", idempotencyKey="a")
    assert (done["userErrors"], done["grant"]) == ([], {"kind": "TOP_UP", "amount": "30"})
    assert "payment.open" in await till.audited()


@BALANCE
async def test_without_a_payment_provider_codes_work_and_payments_say_so(till: Till) -> None:
    till.provider.configured = False
    await till.set_method()
    assert await till.refused("addCredits", amount="25") == "PAYMENTS_NOT_CONFIGURED"
    assert await till.refused("subscribe", priceId=till.price("pro", "monthly")) == "PAYMENTS_NOT_CONFIGURED"
    assert (await till.do("subscribe", priceId=till.price("personal", "free")))["userErrors"] == []
    assert (await till.do("redeemPromoCode", code="welcome 2026"))["userErrors"] == []


@BALANCE
async def test_B2_a_promo_code_gives_credits_once_and_wrong_ones_nothing(till: Till) -> None:
    before = await till.do("redeemPromoCode", code="no such code")
    assert [each["code"] for each in before["userErrors"]] == ["PROMO_INVALID"]
    redeemed = await till.do("redeemPromoCode", code="WELCOME-2026", idempotencyKey="r")
    assert redeemed["grant"] == {"kind": "PROMO", "amount": "5"}
    assert redeemed["bonusPercent"] is None
    assert await till.do("redeemPromoCode", code="WELCOME-2026", idempotencyKey="r") == redeemed
    assert await till.refused("redeemPromoCode", code="WELCOME-2026") == "PROMO_ALREADY_REDEEMED"
    assert await till.refused("redeemPromoCode", code="MORE-FOR-ALL") == "PROMO_INVALID"
    assert (await till.audited()).count("promo.redeem") == 1


@BALANCE
async def test_B2_a_percent_code_adds_to_the_next_credits_bought(till: Till) -> None:
    await till.set_method()
    await till.house.services.database.pool.execute("UPDATE promo_campaigns SET paused = false")
    redeemed = await till.do("redeemPromoCode", code="MORE-FOR-ALL")
    assert (redeemed["grant"], redeemed["bonusPercent"]) == (None, 20)
    available = float(redeemed["wallet"]["available"])
    bought = await till.do("addCredits", amount="50")
    assert float(bought["wallet"]["available"]) == available + 60


@BALANCE
async def test_B4_automatic_recharge_keeps_what_is_left_out_and_clears_what_is_null(till: Till) -> None:
    await till.set_method()
    on = await till.do("updateAutoRecharge", enabled=True, threshold="20", amount="10", monthlyLimit="200")
    settings = on["wallet"]["autoRecharge"]
    assert settings == {
        "enabled": True, "threshold": "20.00", "amount": "10.00", "monthlyLimit": "200.00", "status": "READY",
        "suspendedReason": None,
    }  # fmt: skip
    off = await till.do("updateAutoRecharge", enabled=False)
    assert off["wallet"]["autoRecharge"] == {**settings, "enabled": False, "status": "OFF"}
    cleared = await till.do("updateAutoRecharge", enabled=True, monthlyLimit=None)
    assert cleared["wallet"]["autoRecharge"] == {**settings, "monthlyLimit": None}
    assert await till.refused("updateAutoRecharge", enabled=True, threshold="0.50") == "INVALID_INPUT"
    assert "auto_recharge.update" in await till.audited()


async def test_the_page_that_a_change_opens_leads_back_where_it_is_told_to(till: Till) -> None:
    await till.do("subscribe", priceId=till.price("free", "free"))
    pages = {"successUrl": "https://a.example/paid", "cancelUrl": "https://a.example/plans"}
    asked = {"priceId": till.price("starter", "monthly"), "idempotencyKey": "once"}
    made = await till.do("changePlan", **asked, **pages)
    assert made["checkoutUrl"]
    assert [(each.success_url, each.cancel_url) for each in till.provider.checkouts] == [tuple(pages.values())]
    assert await till.do("changePlan", **asked, **pages) == made
    assert await till.refused("changePlan", **asked) == "IDEMPOTENCY_KEY_REUSED"


async def test_what_is_no_address_or_no_key_is_refused_before_anything_is_done(till: Till) -> None:
    price = till.price("starter", "monthly")
    for wrong in ("javascript:alert(1)", "https://", "not an address", "https://a.example/" + "x" * 2_048):
        for name in ("subscribe", "changePlan"):
            made = await till.do(name, priceId=price, successUrl=wrong)
            assert [(each["code"], each["field"]) for each in made["userErrors"]] == [("INVALID_INPUT", ["successUrl"])]
    for key in ("", "x" * 256):
        assert await till.refused("subscribe", priceId=price, idempotencyKey=key) == "INVALID_INPUT"
    assert await till.current() is None
    assert till.provider.checkouts == []


async def test_a_price_made_for_another_workspace_is_not_there(till: Till, tmp_path: Path) -> None:
    for unknown in ("price_nothing", encode_id("price", uuid7()), till.house.workspace_id):
        assert await till.refused("subscribe", priceId=unknown) == "NOT_FOUND"
    custom = await _custom_price(till, tmp_path)
    assert await till.refused("subscribe", priceId=custom) == "NOT_FOUND"


async def _custom_price(till: Till, directory: Path) -> str:
    """The id of a price that was agreed with another workspace (D10)."""
    other, database = uuid7(), till.house.services.database
    await database.pool.execute(
        "INSERT INTO workspaces (id, name, slug, created_at, updated_at) VALUES ($1, 'o', 'other', now(), now())", other
    )
    path = directory / "custom.toml"
    path.write_text(
        (ROOT / "catalogs" / "creator-tiers.toml").read_text() + CUSTOM_PLAN.format(workspace_id=encode_id("ws", other))
    )
    await apply(database, read_catalog(path), now=clock.now())
    await till.billing.catalog.reload()
    return till.price("agreed", "monthly")


async def test_keys_pay_only_with_their_scope(till: Till) -> None:
    asked = {"workspaceId": till.house.workspace_id, "priceId": till.price("free", "free"), "idempotencyKey": "k"}
    document = f"mutation($input: SubscribeInput!) {{ subscribe(input: $input) {{ {SUBSCRIPTION} }} }}"
    other = till.house.key(ApiScope.WALLET_READ, ApiScope.CALLS_WRITE)
    assert await till.house.code(document, other, input=asked) == "FORBIDDEN"
    paid = await till.do("subscribe", by=till.house.key(ApiScope.BILLING_WRITE), priceId=asked["priceId"])
    assert paid["userErrors"] == []
    assert paid["subscription"]["status"] == "ACTIVE"
