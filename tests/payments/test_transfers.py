"""Transfers out (B6): taken at once, paid within 72 hours, given back where that fails."""

import json

import pytest

from billing.errors import AmountOutOfBounds, NothingToTransfer, PayoutsNotSetUp
from billing.stripe_client import StripeAway
from billing.stripe_inbox import sweep
from billing.stripe_objects import object_changed
from billing.stripe_transfers import move_transfers
from billing.transfers import request_transfer, review_transfer, transfers_of_workspaces
from kit.ids import uuid7
from kit.pages import PageRequest
from metering.errors import IdempotencyKeyReused
from metering.operations import Grant
from metering.reconcile import reconcile
from models.enums import GrantKind
from tests.billing.shop import MICRO
from tests.payments.house import open_house

CATALOG = "usd-balance"
GOOD_BANK = "000123456789"
CLOSED_BANK = "000111111116"


def given(house, guest, kind: str, dollars: int, *, transferable: bool) -> Grant:
    rank = house.billing.catalog.current.burn_ranks[GrantKind(kind)]
    return Grant(
        uuid7(), guest.wallet_id, kind, dollars * MICRO, house.now, None, "TEST", uuid7().hex, "test", rank,
        transferable=transferable,
    )  # fmt: skip


async def publisher(house, *, earned: int = 100, onboarded: bool = True, bank_number: str = GOOD_BANK):
    """A workspace with earnings, and a bank account at the provider."""
    guest = await house.workspace()
    await house.billing.ledger.submit(given(house, guest, "EARNINGS", earned, transferable=True))
    await house.billing.payments.open_payout_setup(guest.id, "https://app.example/back")
    if onboarded:
        account = await house.pg.fetchval(
            "SELECT stripe_account_id FROM payout_accounts WHERE workspace_id = $1", guest.id
        )
        await house.double.ask("POST", f"accounts/{account}/onboard", bank_number=bank_number)
        await house.double.ask("POST", "balance", amount=1_000_000)
        await house.work()
    return guest


async def ask(house, guest, dollars: int | None, key: str | None = None):
    amount = None if dollars is None else dollars * MICRO
    return await request_transfer(
        house.billing, guest.id, amount, requested_by=None, idempotency_key=key or uuid7().hex
    )


async def statuses(house, guest):
    pages = await transfers_of_workspaces(house.link.database, [guest.id], PageRequest(10))
    return [view.status.value for view in pages[guest.id].items]


async def test_B6_a_transfer_is_taken_at_once_and_paid_within_72_hours(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await publisher(house)
        made = await ask(house, guest, 40, key="k")
        assert (made.status, made.amount_usd_micro) == ("REQUESTED", 40 * MICRO)
        assert await guest.available() == 60
        assert (await ask(house, guest, 40, key="k")).id == made.id
        with pytest.raises(IdempotencyKeyReused):
            await ask(house, guest, 41, key="k")
        await house.work()
        assert await statuses(house, guest) == ["SENT"]
        assert (await reconcile(house.link.database)).shown == []
        await house.go(days=3)
        assert await statuses(house, guest) == ["PAID"]
        books = await double.books()
        assert [payout["amount"] for payout in books["payouts"]] == [4000]
        await house.agree()


async def test_B6_all_of_it_can_be_asked_for_and_no_more(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await publisher(house)
        with pytest.raises(NothingToTransfer):
            await ask(house, guest, 101)
        with pytest.raises(AmountOutOfBounds):
            await ask(house, guest, 1)
        await guest.spend(MICRO // 3)
        made = await ask(house, guest, None)
        assert made.amount_usd_micro == 99_660_000  # whole cents
        assert (await guest.wallet()).available_micro == 6_667
        with pytest.raises(AmountOutOfBounds):
            await ask(house, guest, None)
        await house.agree()


async def test_a_transfer_needs_a_bank_account(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await publisher(house, onboarded=False)
        with pytest.raises(PayoutsNotSetUp):
            await ask(house, guest, 40)


async def test_promotional_credits_are_never_paid_out(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await publisher(house, earned=20)
        await house.billing.ledger.submit(given(house, guest, "PROMO", 500, transferable=False))
        with pytest.raises(NothingToTransfer):
            await ask(house, guest, 21)


async def test_a_large_transfer_waits_for_the_operator(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await publisher(house, earned=5000)
        first, second = await ask(house, guest, 2000), await ask(house, guest, 1500)
        assert {first.status, second.status} == {"IN_REVIEW"}
        await house.go(days=1)
        assert await statuses(house, guest) == ["IN_REVIEW", "IN_REVIEW"]
        await review_transfer(house.billing, first.id, approve=True)
        await review_transfer(house.billing, second.id, approve=False)
        await review_transfer(house.billing, second.id, approve=True)
        await house.go(days=3)
        assert sorted(await statuses(house, guest)) == ["FAILED", "PAID"]
        assert await guest.available() == 3000
        await house.agree()


async def test_a_payout_that_fails_gives_the_credits_back(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await publisher(house, bank_number=CLOSED_BANK)
        await ask(house, guest, 40)
        await house.go(days=8)
        assert await statuses(house, guest) == ["FAILED"]
        assert await guest.available() == 100
        books = await double.books()
        assert [(one["amount"], one["amount_reversed"]) for one in books["transfers"]] == [(4000, 4000)]
        await house.agree()


async def test_B6_a_payout_that_the_bank_sends_back_after_it_was_paid_gives_the_credits_back(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await publisher(house)
        await ask(house, guest, 40)
        await house.go(days=3)
        assert await statuses(house, guest) == ["PAID"]
        payout = await pg.fetchval("SELECT stripe_payout_id FROM transfers")
        account = await pg.fetchval("SELECT stripe_account_id FROM payout_accounts")
        await double.ask("POST", f"payouts/{payout}/come_back")
        for _ in range(2):  # as its webhook tells, twice: the list of our own account's events has none of others
            await object_changed(house.billing, house.link, payout, "payout", account)
        assert await statuses(house, guest) == ["FAILED"]
        assert await guest.available() == 100
        books = await double.books()
        assert [(one["amount"], one["amount_reversed"]) for one in books["transfers"]] == [(4000, 4000)]
        assert (await reconcile(house.link.database)).shown == []
        await house.go(days=1)
        assert await statuses(house, guest) == ["FAILED"]
        await house.agree()


async def test_a_platform_without_money_tries_again_and_then_gives_back(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await publisher(house, earned=900)
        await double.ask("POST", "balance", amount=-1_000_000)
        await ask(house, guest, 900)
        await house.go(days=1)
        assert await statuses(house, guest) == ["REQUESTED"]
        await house.go(days=3)
        assert await statuses(house, guest) == ["FAILED"]
        assert await guest.available() == 900
        await house.agree()


@pytest.mark.parametrize("path", ["/v1/transfers$", "/v1/payouts$"])
async def test_a_lost_answer_pays_once(database, pg, double, path):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await publisher(house)
        await ask(house, guest, 40)
        await double.fault("drop_after", path, method="POST", times=3)
        await house.work()
        await house.go(days=4)
        assert await statuses(house, guest) == ["PAID"]
        books = await double.books()
        assert [one["amount"] for one in books["transfers"]] == [4000]
        assert [one["amount"] for one in books["payouts"]] == [4000]
        await house.agree()


async def test_a_transfer_that_cannot_be_taken_back_now_keeps_no_other_waiting(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        first, second = await publisher(house), await publisher(house)
        await ask(house, first, 40)
        await house.work()
        await pg.execute("UPDATE transfers SET stripe_payout_id = 'po_gone', due_at = now() - interval '9 years'")
        await house.go(hours=73, work=False)
        await ask(house, second, 30)
        await double.fault("error_before", "/v1/transfers/.*/reversals", method="POST", times=3)
        await move_transfers(house.billing, house.link)
        assert (await statuses(house, first), await statuses(house, second)) == (["SENT"], ["SENT"])
        await house.go(days=3)
        # The account has nothing that could be taken back: its money is at the bank.
        assert (await statuses(house, first), await statuses(house, second)) == (["SENT"], ["PAID"])


async def reverse(house, guest, cents: int) -> None:
    sent = await house.pg.fetchval("SELECT stripe_transfer_id FROM transfers")
    await house.double.v1.transfers.reversals.create_async(sent, {"amount": cents})
    for _ in range(2):
        await object_changed(house.billing, house.link, sent, "transfer", None)
    await house.work()


async def returned(house, guest) -> list[tuple[str, int]]:
    pages = await transfers_of_workspaces(house.link.database, [guest.id], PageRequest(10))
    return [(view.status.value, view.returned_usd_micro // MICRO) for view in pages[guest.id].items]


async def test_B6_a_transfer_that_is_reversed_in_parts_comes_back_part_by_part_and_the_rest_is_paid(
    database, pg, double
):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await publisher(house)
        await house.billing.ledger.submit(given(house, guest, "EARNINGS", 20, transferable=True))
        await ask(house, guest, 110)
        await double.fault("error_before", "/v1/payouts$", method="POST", times=3)
        await house.work()
        await reverse(house, guest, 4000)
        assert await guest.available() == 50
        assert await returned(house, guest) == [("SENT", 40)]
        assert (await reconcile(house.link.database)).shown == []
        await house.go(days=3)
        assert (await returned(house, guest), await guest.available()) == ([("PAID", 40)], 50)
        assert [payout["amount"] for payout in (await double.books())["payouts"]] == [7000]
        told = await pg.fetch("SELECT payload FROM outbox_events WHERE kind = 'transfer.updated' ORDER BY id")
        assert [(one["status"], one["returnedUsd"]) for one in (json.loads(row["payload"]) for row in told)] == [
            ("SENT", "0.00"), ("SENT", "40.00"), ("PAID", "40.00")
        ]  # fmt: skip
        await house.agree()


async def test_B6_what_was_reversed_in_part_and_then_fails_comes_back_once(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await publisher(house, bank_number=CLOSED_BANK)
        await ask(house, guest, 40)
        await double.fault("error_before", "/v1/payouts$", method="POST", times=3)
        await house.work()
        await reverse(house, guest, 1500)
        assert await guest.available() == 75
        await house.go(days=8)
        assert (await returned(house, guest), await guest.available()) == ([("FAILED", 40)], 100)
        assert (await reconcile(house.link.database)).shown == []
        await house.agree()


async def test_B6_a_transfer_that_is_reversed_bit_by_bit_comes_back_whole(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await publisher(house)
        await ask(house, guest, 50)
        await double.fault("error_before", "/v1/payouts$", method="POST", times=9)
        await house.work()
        for cents, expected in ((2000, ("SENT", 20)), (1, ("SENT", 20)), (2999, ("REVERSED", 50))):
            await reverse(house, guest, cents)
            assert await guest.available() >= 50 + expected[1]
            assert await returned(house, guest) == [expected]
        assert await guest.available() == 100
        assert (await reconcile(house.link.database)).shown == []
        await house.agree()


async def test_a_transfer_that_is_reversed_at_stripe_comes_back(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await publisher(house)
        await ask(house, guest, 40)
        await double.fault("error_before", "/v1/payouts$", method="POST", times=3)
        await house.work()
        sent = await pg.fetchval("SELECT stripe_transfer_id FROM transfers")
        await double.v1.transfers.reversals.create_async(sent, {})
        await house.work()
        assert await statuses(house, guest) == ["REVERSED"]
        assert await guest.available() == 100
        await house.agree()


async def test_B6_a_payout_that_comes_back_is_found_in_its_accounts_events_where_no_webhook_told_of_it(
    database, pg, double
):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await publisher(house)
        await ask(house, guest, 40)
        await house.go(days=3)
        assert await statuses(house, guest) == ["PAID"]
        await double.ask("POST", f"payouts/{await pg.fetchval('SELECT stripe_payout_id FROM transfers')}/come_back")
        for _ in range(2):
            await house.go(days=1)
            assert await statuses(house, guest) == ["FAILED"]
            assert await guest.available() == 100
        assert (await reconcile(house.link.database)).shown == []
        await house.agree()


async def test_B6_an_accounts_events_that_could_not_be_fetched_are_swept_later(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await publisher(house)
        await ask(house, guest, 40)
        await house.go(days=3)
        await double.ask("POST", f"payouts/{await pg.fetchval('SELECT stripe_payout_id FROM transfers')}/come_back")
        await house.go(hours=5, work=False)
        await double.fault("error_before", "/v1/events", method="GET", after=1, times=3)
        with pytest.raises(StripeAway):
            await sweep(house.link, force=True)
        await house.go(hours=5)
        assert await statuses(house, guest) == ["FAILED"]
        assert await guest.available() == 100


async def test_an_account_that_is_gone_keeps_no_other_events_from_being_swept(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await publisher(house)
        await ask(house, guest, 40)
        await house.work()
        await pg.execute("UPDATE payout_accounts SET stripe_account_id = 'acct_gone'")
        await guest.save_card()
        assert len(await guest.methods()) == 1


async def test_B6_a_transfer_that_nobody_reviews_within_72_hours_gives_the_credits_back(database, pg, double):
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await publisher(house, earned=5000)
        left, decided = await ask(house, guest, 2000), await ask(house, guest, 1500)
        await house.go(hours=71)
        assert await statuses(house, guest) == ["IN_REVIEW", "IN_REVIEW"]
        await review_transfer(house.billing, decided.id, approve=True)
        await house.go(hours=2)
        assert await guest.available() == 3500
        row = await pg.fetchrow("SELECT status, failure_code FROM transfers WHERE id = $1", left.id)
        assert tuple(row) == ("FAILED", "not_reviewed")
        await review_transfer(house.billing, left.id, approve=True)
        await house.go(days=3)
        assert sorted(await statuses(house, guest)) == ["FAILED", "PAID"]
        assert [one["amount"] for one in (await double.books())["payouts"]] == [150_000]
        await house.agree()


async def test_money_that_could_not_be_taken_back_is_asked_for_anew_within_hours(database, pg, double):
    """Stripe gives a refusal again under its key for a day; the next try has another key, and takes it back once."""
    async with open_house(database, pg, double, CATALOG) as house:
        guest = await publisher(house)
        await ask(house, guest, 40)
        await house.work()
        await house.go(days=3)
        assert await statuses(house, guest) == ["PAID"]
        payout = await pg.fetchval("SELECT stripe_payout_id FROM transfers")
        account = await pg.fetchval("SELECT stripe_account_id FROM payout_accounts")
        await double.ask("POST", f"payouts/{payout}/come_back")
        own = {"stripe_account": account}  # by hand, in the account: nothing is left to be taken back
        await double.v1.payouts.create_async({"amount": 4000, "currency": "usd"}, own)
        await house.work()
        assert (await statuses(house, guest), await guest.available()) == (["PAID"], 60)
        await house.go(hours=2, work=False)
        await double.v1.transfers.create_async({"amount": 4000, "currency": "usd", "destination": account})
        refused = len(await double.calls("/reversals"))
        await house.work()
        await house.work()
        assert len(await double.calls("/reversals")) == refused + 1
        assert (await statuses(house, guest), await guest.available()) == (["FAILED"], 100)
        [sent] = [one for one in (await double.books())["transfers"] if one["metadata"]]
        assert (sent["amount"], sent["amount_reversed"]) == (4000, 4000)
        await house.agree()
