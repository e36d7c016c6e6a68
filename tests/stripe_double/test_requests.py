"""What holds for every request: keys, parameters, idempotency, lists, expansion, errors."""

import aiohttp
import pytest
import stripe

from stripe_double.params_check import names_of
from stripe_double.routes import endpoints
from stripe_double.webhooks import Deliveries
from stripe_double.world import World
from tests.stripe_shop import Shop


async def raw(shop: Shop, method: str, path: str, body: str = "", **headers: str) -> tuple[int, dict]:
    """A request as it is on the wire; the SDK would not send some of these."""
    sent = {"Authorization": "Bearer sk_test_double", "Content-Type": "application/x-www-form-urlencoded", **headers}
    async with (
        aiohttp.ClientSession() as http,
        http.request(method, shop.url + path, data=body, headers=sent) as answer,
    ):
        return answer.status, await answer.json()


async def test_a_request_without_a_test_key_is_refused(shop: Shop) -> None:
    with pytest.raises(stripe.AuthenticationError):
        await stripe.StripeClient(
            "sk_live_1", base_addresses={"api": shop.url}, http_client=shop.client._requestor._client
        ).v1.customers.list_async()


@pytest.mark.parametrize(
    ("path", "body", "code", "param"),
    [
        ("/v1/customers", "nmae=x", "parameter_unknown", "nmae"),
        (
            "/v1/customers",
            "invoice_settings[default_method]=x",
            "parameter_unknown",
            "invoice_settings[default_method]",
        ),
        ("/v1/subscriptions", "items[0][prize]=x", "parameter_unknown", "items[0][prize]"),
        ("/v1/subscriptions", "coupon=x", "parameter_unknown", "coupon"),
        ("/v1/checkout/sessions", "ui_mode=hosted&mode=payment", None, "ui_mode"),
        ("/v1/subscriptions", "payment_behavior=later", None, "payment_behavior"),
        ("/v1/payment_intents", "amount=ten&currency=usd", "parameter_invalid_integer", "amount"),
        ("/v1/payment_intents", "currency=usd", "parameter_missing", "amount"),
        ("/v1/customers", "invoice_settings=x", None, "invoice_settings"),
        ("/v1/subscriptions", "cancel_at_period_end=", "parameter_invalid_empty", "cancel_at_period_end"),
        ("/v1/customers", "email=nobody", "email_invalid", "email"),
        ("/v1/customers", f"metadata[{'k' * 41}]=x", None, "metadata"),
        ("/v1/customers", f"metadata[k]={'v' * 501}", None, "metadata[k]"),
        ("/v1/subscriptions", "default_source=x&customer=y", "double_not_offered", "default_source"),
    ],
)
async def test_parameters_are_those_of_the_sdk(shop: Shop, path: str, body: str, code: str | None, param: str) -> None:
    status, answer = await raw(shop, "POST", path, body)
    assert (status, answer["error"]["type"]) == (400, "invalid_request_error")
    assert (answer["error"].get("code"), answer["error"]["param"]) == (code, param)


def test_what_an_endpoint_honours_are_parameters_of_the_sdk() -> None:
    for endpoint in endpoints(Deliveries(World())):
        assert set(endpoint.takes) - {"created"} <= names_of(endpoint.params), endpoint.path


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/customers", "source=tok_visa", "source"),
        ("/v1/customers?test_clock=x", "", "test_clock"),
        ("/v1/payment_intents", "amount=100&currency=usd&transfer_data[destination]=x", "transfer_data"),
        ("/v1/prices", "currency=usd&tiers_mode=volume&unit_amount=1", "tiers_mode"),
        ("/v1/subscriptions/sub_1", "application_fee_percent=5", "application_fee_percent"),
    ],
)
async def test_what_is_not_honoured_is_refused_not_ignored(shop: Shop, path: str, body: str, param: str) -> None:
    status, answer = await raw(shop, "POST" if body else "GET", path, body)
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (400, "double_not_offered", param)


async def test_another_api_version_is_refused(shop: Shop) -> None:
    status, answer = await raw(shop, "GET", "/v1/customers", **{"Stripe-Version": "2024-06-20"})
    assert (status, answer["error"]["code"]) == (400, "double_not_offered")


async def test_the_old_form_of_the_billing_cycle_anchor_is_refused(shop: Shop) -> None:
    status, answer = await raw(shop, "POST", "/v1/subscriptions/sub_1", "billing_cycle_anchor=now")
    assert (status, answer["error"]["param"]) == (400, "billing_cycle_anchor")


async def test_the_same_key_gives_the_same_answer_and_one_object(shop: Shop) -> None:
    options = {"idempotency_key": "ws:1:customer"}
    first = await shop.v1.customers.create_async({"email": "a@example.com"}, options)
    again = await shop.v1.customers.create_async({"email": "a@example.com"}, options)
    assert again.id == first.id
    assert again.last_response.headers["idempotent-replayed"] == "true"
    assert len((await shop.v1.customers.list_async()).data) == 1


async def test_the_same_key_with_other_parameters_is_refused(shop: Shop) -> None:
    await shop.v1.customers.create_async({"email": "a@example.com"}, {"idempotency_key": "k"})
    with pytest.raises(stripe.IdempotencyError):
        await shop.v1.customers.create_async({"email": "b@example.com"}, {"idempotency_key": "k"})


async def test_a_decline_is_replayed_too(shop: Shop) -> None:
    customer = await shop.customer("pm_card_chargeCustomerFail")
    method = customer.invoice_settings.default_payment_method
    wanted = {"amount": 500, "currency": "usd", "customer": customer.id, "payment_method": method, "confirm": True}
    intents = set()
    for _ in range(2):
        with pytest.raises(stripe.CardError) as refused:
            await shop.v1.payment_intents.create_async({**wanted, "off_session": True}, {"idempotency_key": "topup:1"})
        intents.add(refused.value.error.payment_intent.id)
    assert len(intents) == 1
    assert len((await shop.v1.charges.list_async()).data) == 1


async def test_a_key_is_free_again_after_a_day(shop: Shop) -> None:
    first = await shop.v1.customers.create_async({}, {"idempotency_key": "k"})
    await shop.pass_time(hours=25)
    assert (await shop.v1.customers.create_async({}, {"idempotency_key": "k"})).id != first.id


async def test_a_refused_parameter_does_not_use_up_the_key(shop: Shop) -> None:
    assert (await raw(shop, "POST", "/v1/customers", "nmae=x", **{"Idempotency-Key": "k"}))[0] == 400
    assert (await raw(shop, "POST", "/v1/customers", "name=x", **{"Idempotency-Key": "k"}))[0] == 200


async def test_lists_are_paged_newest_first(shop: Shop) -> None:
    made = [(await shop.v1.customers.create_async({"name": str(n)})).id for n in range(5)]
    page = await shop.v1.customers.list_async({"limit": 2})
    assert ([c.id for c in page.data], page.has_more) == ([made[4], made[3]], True)
    page = await shop.v1.customers.list_async({"limit": 2, "starting_after": made[1]})
    assert ([c.id for c in page.data], page.has_more) == ([made[0]], False)
    page = await shop.v1.customers.list_async({"limit": 2, "ending_before": made[2]})
    assert ([c.id for c in page.data], page.has_more) == ([made[4], made[3]], False)
    walked = [c.id async for c in (await shop.v1.customers.list_async({"limit": 2})).auto_paging_iter()]
    assert walked == made[::-1]


async def test_metadata_is_merged_and_removed_by_empty_values(shop: Shop) -> None:
    made = await shop.v1.customers.create_async({"metadata": {"a": "1", "b": "2"}})
    changed = await shop.v1.customers.update_async(made.id, {"metadata": {"a": "", "c": "3"}})
    assert changed.metadata.to_dict() == {"b": "2", "c": "3"}
    assert (await shop.v1.customers.update_async(made.id, {"metadata": ""})).metadata.to_dict() == {}


async def test_expansion_fills_in_objects_and_refuses_what_is_none(shop: Shop) -> None:
    customer, price = await shop.customer(), await shop.price(2000)
    made = await shop.subscription(customer, price, expand=["latest_invoice.payments", "customer"])
    assert made.customer.id == customer.id
    assert made.latest_invoice.payments.data[0].payment.payment_intent.startswith("pi_")
    plain = await shop.v1.invoices.retrieve_async(made.latest_invoice.id)
    assert "payments" not in plain
    assert "payment_intent" not in plain
    with pytest.raises(stripe.InvalidRequestError):
        await shop.v1.subscriptions.retrieve_async(made.id, {"expand": ["latest_invoice.payment_intent"]})
    listed = await shop.v1.subscriptions.list_async({"expand": ["data.customer"]})
    assert listed.data[0].customer.email == "owner@example.com"


async def test_what_is_not_there_is_404_and_400_where_a_parameter_names_it(shop: Shop) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await shop.v1.customers.retrieve_async("cus_none")
    assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")
    price = await shop.price(100)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await shop.v1.subscriptions.create_async({"customer": "cus_none", "items": [{"price": price.id}]})
    assert (refused.value.http_status, refused.value.param) == (400, "customer")
    assert (await raw(shop, "GET", "/v1/nonsense"))[0] == 404


async def test_deleted_customers_stay_known_as_deleted(shop: Shop) -> None:
    customer, price = await shop.customer(), await shop.price(2000)
    subscription = await shop.subscription(customer, price)
    answer = await shop.v1.customers.delete_async(customer.id)
    assert answer.to_dict() == {"id": customer.id, "object": "customer", "deleted": True}
    assert (await shop.v1.customers.retrieve_async(customer.id)).to_dict() == answer.to_dict()
    assert (await shop.v1.subscriptions.retrieve_async(subscription.id)).status == "canceled"
    told = await shop.events("customer.deleted", "customer.subscription.deleted")
    assert told == ["customer.subscription.deleted", "customer.deleted"]
    assert (await shop.v1.customers.list_async({})).data == []


async def test_nothing_is_written_for_a_deleted_customer(shop: Shop) -> None:
    customer, price = await shop.customer(), await shop.price(2000)
    method, back = customer.invoice_settings.default_payment_method, {"success_url": "https://app.example/back"}
    page = {"mode": "setup", "currency": "usd", **back}
    opened = await shop.v1.checkout.sessions.create_async({"customer": customer.id, **page})
    await shop.v1.customers.delete_async(customer.id)
    named, v1 = {"customer": customer.id}, shop.v1
    of_it = [
        v1.customers.update_async(customer.id, {"name": "Ada"}),
        v1.customers.delete_async(customer.id),
        v1.customers.payment_methods.list_async(customer.id),
        v1.customers.tax_ids.create_async(customer.id, {"type": "eu_vat", "value": "DE123456789"}),
    ]
    naming = [
        v1.payment_intents.create_async({**named, "amount": 500, "currency": "usd"}),
        v1.payment_intents.create_async(
            {**named, "amount": 500, "currency": "usd", "payment_method": method, "confirm": True, "off_session": True}
        ),
        v1.setup_intents.create_async(named),
        v1.checkout.sessions.create_async({**named, **page}),
        v1.billing_portal.sessions.create_async(named),
        v1.subscriptions.create_async({**named, "items": [{"price": price.id}]}),
        v1.invoices.create_async(named),
        v1.invoice_items.create_async({**named, "amount": 500, "currency": "usd"}),
        v1.payment_methods.attach_async("pm_card_visa", named),
    ]
    for status, asked in ((404, of_it), (400, naming)):
        for answer in asked:
            with pytest.raises(stripe.InvalidRequestError) as refused:
                await answer
            assert (refused.value.http_status, refused.value.code) == (status, "resource_missing")
    status, _ = await shop.try_ask("POST", f"checkout/{opened.id}/pay", card="pm_card_visa")
    assert status == 400


async def test_tax_ids_and_lookup_keys(shop: Shop) -> None:
    customer = await shop.customer(None)
    tax_id = await shop.v1.customers.tax_ids.create_async(customer.id, {"type": "eu_vat", "value": "DE123456789"})
    assert (tax_id.country, len((await shop.v1.customers.tax_ids.list_async(customer.id)).data)) == ("DE", 1)
    await shop.v1.customers.tax_ids.delete_async(customer.id, tax_id.id)
    assert (await shop.v1.customers.tax_ids.list_async(customer.id)).data == []
    first = await shop.price(100, lookup_key="pro")
    with pytest.raises(stripe.InvalidRequestError):
        await shop.price(200, lookup_key="pro")
    second = await shop.price(200, lookup_key="pro", transfer_lookup_key=True)
    found = await shop.v1.prices.list_async({"lookup_keys": ["pro"]})
    assert [p.id for p in found.data] == [second.id] != [first.id]
