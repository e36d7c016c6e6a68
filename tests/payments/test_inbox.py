"""The inbox of what Stripe tells: the raw body, unknown kinds, objects that are gone, the daily sweep, the commands."""

import asyncio
import json

import orjson
import pytest
import stripe
from click.testing import CliRunner

from app.cli import cli
from billing.stripe_client import BadSignature, StripeAway
from billing.stripe_inbox import HANDLED, list_inbox, receive, sweep, work_inbox
from tests.payments.house import House, open_house
from tests.payments.test_deliveries import events_of, signed
from tests.stripe_shop import WEBHOOK_SECRET

CATALOG = "usd-balance"
TOLD = """checkout.session.{completed,async_payment_succeeded,async_payment_failed,expired}
customer.subscription.{created,updated,deleted,paused,resumed,trial_will_end,pending_update_applied,pending_update_expired}
subscription_schedule.{updated,released,canceled,completed,aborted}
invoice.{paid,payment_failed,payment_action_required,finalization_failed,voided,marked_uncollectible}
invoice_payment.{paid}
payment_intent.{succeeded,payment_failed,requires_action,processing,canceled}
setup_intent.{succeeded,setup_failed}
payment_method.{attached,detached,automatically_updated}
charge.{refunded}
refund.{created,updated,failed}
charge.dispute.{created,closed,funds_withdrawn,funds_reinstated}
credit_note.{created}
transfer.{created,reversed}
payout.{paid,failed}
account.{updated}"""
"""What the product promises to listen to."""


def event(kind: str, changed: dict, *, id_: str = "evt_told") -> dict:
    return {
        "id": id_,
        "object": "event",
        "type": kind,
        "created": 1_801_000_000,
        "livemode": False,
        "data": {"object": changed},
    }


async def swept(house: House) -> int:
    """How often Stripe's own list was asked for."""
    return len(await house.double.calls("/v1/events", "GET"))


def test_every_kind_that_matters_is_listened_to() -> None:
    kinds = {
        f"{of}.{one}"
        for of, _, ends in (line.partition(".{") for line in TOLD.split("\n"))
        for one in ends[:-1].split(",")
    }
    assert kinds - set(HANDLED) == set()


async def test_the_signature_is_of_the_bytes_that_came_not_of_what_they_mean(database, pg, double):
    told = event("invoice.paid", {"id": "in_1", "object": "invoice", "description": "Ärger"})
    spaced = json.dumps(told, indent=3, ensure_ascii=True).encode()
    _, header = signed(told)
    with pytest.raises(BadSignature):
        await receive(database, spaced, header, WEBHOOK_SECRET)
    own = stripe.WebhookSignature.generate_signature_header(spaced.decode(), WEBHOOK_SECRET)
    assert await receive(database, spaced, own, WEBHOOK_SECRET) is True
    with pytest.raises(BadSignature):
        await receive(database, orjson.dumps(told), own, WEBHOOK_SECRET)


async def test_what_nobody_listens_to_and_what_is_gone_are_stored_and_fail_nothing(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        for number, (kind, changed) in enumerate(
            (
                ("tax.settings.updated", {"id": "taxs_1", "object": "tax.settings"}),
                ("balance.available", {"object": "balance"}),
                ("payment_intent.succeeded", {"id": "pi_of_nobody", "object": "payment_intent"}),
                ("invoice.paid", {"id": "in_of_nobody", "object": "invoice"}),
            )
        ):
            assert await receive(database, *signed(event(kind, changed, id_=f"evt_{number}")), WEBHOOK_SECRET)
        while await work_inbox(house.billing, house.link):
            pass
        lines = await list_inbox(database, None, 10, only_open=False)
        assert len(lines) == 4
        assert all(line.completed_at is not None for line in lines)
        assert {line.last_error for line in lines if line.kind == "invoice.paid"} == {"resource_missing"}


async def test_the_list_is_swept_once_a_day_and_closes_each_gap(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.workspace()
        await guest.save_card()
        await guest.top_up(25)
        await sweep(house.link, force=True)
        asked = await swept(house)
        house.counter.go(hours=23)
        assert await sweep(house.link) == 0
        assert await swept(house) == asked
        await guest.top_up(30)
        house.counter.go(hours=2)
        told = {each["id"] for each in await events_of(house)}
        known = {row["event_id"] for row in await pg.fetch("SELECT event_id FROM inbox_events")}
        assert await sweep(house.link) == len(told - known) > 0
        assert {row["event_id"] for row in await pg.fetch("SELECT event_id FROM inbox_events")} == told
        asked = await swept(house)
        assert await sweep(house.link) == 0
        assert await swept(house) == asked


async def test_a_sweep_that_stripe_does_not_answer_is_made_again(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.workspace()
        await guest.save_card()
        await sweep(house.link, force=True)
        await guest.top_up(25)
        house.counter.go(hours=25)
        await double.fault("error_before", "/v1/events$", method="GET", times=3)
        with pytest.raises(StripeAway):
            await sweep(house.link)
        assert await sweep(house.link) > 0


async def test_the_commands_show_the_inbox_and_have_it_worked_off_again(
    database, pg, double, database_url, monkeypatch
):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await house.workspace()
        await guest.save_card()
        made = await guest.top_up(25)
        for _ in range(2):  # its invoice is written by the first round, and heard of by the second
            await house.work()
        intent = (await guest.payments())[0]["stripe_object_id"]
        environment = {
            "TOLLGATE_DATABASE_URL": database_url,
            "STRIPE_API_KEY": "sk_test_double",
            "STRIPE_WEBHOOK_SECRET": "whsec_double",
            "STRIPE_API_BASE": double.url,
        }

        async def types(*words: str):
            return await asyncio.to_thread(
                CliRunner().invoke, cli, ["stripe", *words], env=environment, catch_exceptions=False
            )

        shown = await types("events", "payment_intent.%")
        assert (shown.exit_code, f"payment_intent.succeeded  {intent}  done, 1 tries" in shown.output) == (0, True), (
            shown.output
        )
        assert "no such events" in (await types("events", "--open")).output
        again = await types("replay", intent)
        assert (again.exit_code, "wait for the worker again" in again.output) == (0, True)
        assert intent in (await types("events", "--open")).output
        assert (await types("replay", "evt_of_nobody")).exit_code == 1
        assert (await types("sweep")).output.startswith("0 events were missing")
        await house.work()
        assert "no such events" in (await types("events", "--open")).output
        assert made.payment.status == "SUCCEEDED"
        assert await guest.available() == 25
        await house.agree()
