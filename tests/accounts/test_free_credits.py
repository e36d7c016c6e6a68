"""Signing up, with limits on free credits: everybody gets in, and those of a crowded origin are told why by mail."""

from dataclasses import replace

import pytest

from accounts import operator
from accounts.alert_mails import AlertMails
from accounts.users import complete_password_reset, request_password_reset, sign_up
from accounts.workspaces import create_workspace
from billing.catalog import CatalogHolder
from billing.catalog_apply import apply
from billing.due import subscribe_by_default
from billing.events import dispatch_events
from billing.free_credits import FreeCredits, free_credit_refusals
from billing.payment_port import NoPayments
from billing.services import Billing
from kit import clock
from kit.errors import NotFound
from metering.ledger import Ledger
from metering.wallets import wallet_view
from models.enums import FreeCreditsRefusal
from tests.accounts.conftest import PASSWORD, VISITOR, acting
from tests.billing.catalog_samples import file_of, small
from tests.billing.shop import Attempts


@pytest.fixture
async def billing(room):
    values = small() | {"sign_up": {"credits": "3", "per_address_range_a_day": 2}}
    await apply(room.accounts.database, file_of(values), now=clock.now())
    catalog = CatalogHolder(room.accounts.database)
    await catalog.reload()
    ledger = await Ledger.open(room.accounts.database)
    billing = Billing(room.accounts.database, ledger, catalog, NoPayments(), Attempts(), b"k" * 32)
    room.accounts = replace(room.accounts, free_credits=FreeCredits(billing))
    yield billing
    await ledger.close()


async def available(room, workspace):
    return (await wallet_view(room.accounts.database, workspace.wallet_id, clock.now())).available_micro // 1_000_000


async def test_everybody_gets_in_and_the_third_from_one_network_gets_no_credits_and_a_mail_that_says_why(room, billing):
    people = [await room.person(f"{name}@firm-{name}.example") for name in ("ada", "bob", "eve")]
    workspaces = [await room.workspace_of(person.user.id) for person in people]
    assert [await available(room, workspace) for workspace in workspaces] == [3, 3, 0]
    assert await subscribe_by_default(billing) == 3
    assert [await available(room, workspace) for workspace in workspaces] == [8, 8, 0]
    await dispatch_events(room.accounts.database, AlertMails(room.accounts.sealer, "Tollgate"), limit=10)
    [mail] = await room.mails()
    assert mail["To"] == "eve@firm-eve.example"
    assert "no free credits" in mail["Subject"]
    assert "Many new workspaces came from your network today." in mail.get_body(("plain",)).get_content()
    stored = await room.pg.fetch("SELECT digest FROM free_credit_counts")
    assert not any(b"203.0.113" in row["digest"] or b"firm" in row["digest"] for row in stored)


async def test_more_workspaces_of_one_person_count_as_any_and_have_no_sign_up_credits(room, billing):
    ada = await room.person("ada@firm.example")
    judge = room.accounts.free_credits
    more = [
        await create_workspace(room.accounts.database, acting(ada), ada.user.id, "More", judge=judge) for _ in range(2)
    ]
    found = await free_credit_refusals(room.accounts.database, [each.id for each in more])
    assert found == {more[1].id: FreeCreditsRefusal.ADDRESS_RANGE}
    assert [await available(room, each) for each in more] == [0, 0]


async def test_an_account_that_opens_by_a_password_reset_is_judged_as_well(room, billing):
    await sign_up(room.accounts, VISITOR, "ada@firm.example", PASSWORD, "Ada")
    await room.mails()
    await request_password_reset(room.accounts, VISITOR, "ada@firm.example")
    await complete_password_reset(room.accounts, VISITOR, await room.mailed_token(), "another password")
    user_id = await room.pg.fetchval("SELECT id FROM users")
    assert await available(room, await room.workspace_of(user_id)) == 3


async def test_whom_the_operator_makes_is_not_judged_and_whom_they_allow_is_noted(room, billing):
    made = await operator.make_user(room.accounts, "ada@firm.example", "Ada", PASSWORD)
    assert await room.pg.fetchval("SELECT count(*) FROM free_credit_verdicts") == 0
    with pytest.raises(NotFound):
        await operator.allow_free_credits(room.accounts, (await room.workspace_of(made.id)).id, "why not")
    people = [await room.person(f"{name}@firm-{name}.example") for name in ("bob", "cyd", "eve")]
    refused = await room.workspace_of(people[2].user.id)
    await operator.allow_free_credits(room.accounts, refused.id, "a school, they told us")
    assert await subscribe_by_default(billing) == 4
    assert await available(room, refused) == 5
    noted = await room.pg.fetchrow(
        "SELECT actor_kind, workspace_id FROM audit_events WHERE action = 'free_credits.allow'"
    )
    assert tuple(noted) == ("OPERATOR", refused.id)
