"""Alerts: each line is told once when it is crossed, and its recovery once, whoever looks and however often."""

import asyncio
from datetime import timedelta

import pytest

from accounts.alert_mails import AlertMails
from billing.alerts import AlertSettings, alert_settings, change_alert_settings, look_at_wallets
from billing.event_kinds import EventKind
from billing.events import dispatch_events
from billing.rules.alerts import GrantFacts, Standing, Wanted, look_below
from kit import clock
from kit.errors import InvalidInput
from kit.ids import uuid7
from kit.sealing import Sealer
from metering.ledger import Ledger
from metering.operations import Expire, Freeze
from metering.spend_limits import set_limit
from models.database import transaction
from tests.metering.money import START, grant, hold, open_wallet, settle

DAY = timedelta(days=1)
MICRO = 1_000_000


class Life:
    """A wallet that spends, and what is told of it."""

    def __init__(self, database, ledger, wallet, pg, at):
        self.database, self.ledger, self.wallet, self.pg, self.clock = database, ledger, wallet, pg, at

    async def spend(self, amount, **rest):
        call = hold(self.wallet, amount, expires_at=self.clock.at + DAY, **rest)
        await self.ledger.submit(call)
        await self.ledger.submit(settle(self.wallet, call.call_id, amount))

    async def due(self):
        return await self.pg.fetchval("SELECT bool_or(is_due) FROM workspace_alerts")

    async def told(self):
        """The events since the last question, after a look."""
        while await look_at_wallets(self.database, limit=50):
            if not await self.due():
                break
        rows = await self.pg.fetch(
            "UPDATE outbox_events SET attempts = 9 WHERE attempts = 0 AND kind = ANY ($1) RETURNING kind, payload, id",
            list(EventKind),
        )
        import json

        facts = [(row["kind"], json.loads(row["payload"])) for row in sorted(rows, key=lambda row: row["id"])]
        return [(kind, each.get("percent", each.get("days"))) for kind, each in facts]


@pytest.fixture
async def life(database, pg):
    at = clock.VirtualClock(START)
    with clock.installed(at):
        ledger = await Ledger.open(database)
        yield Life(database, ledger, await open_wallet(pg), pg, at)
        await ledger.close()


def cycle(life, amount, days=30, **rest):
    at = life.clock.at
    return grant(life.wallet[0], amount, "CYCLE", at=at, expires_at=at + days * DAY, **rest)


async def test_each_line_of_a_cycle_is_told_once_in_order_and_renewed_by_the_next(life):
    await life.ledger.submit(cycle(life, 100))
    assert await life.told() == []
    await life.spend(49)
    assert not await life.due()  # a settlement that crosses nothing leaves nothing to do
    assert await life.told() == []
    await life.spend(1)
    assert await life.due()
    assert await life.told() == [("credits.used", 50)]
    await life.spend(5)
    assert await life.told() == []
    await life.spend(45)
    assert await life.told() == [("credits.used", 80), ("credits.used", 100)]
    life.clock.at += 30 * DAY
    await life.ledger.submit(cycle(life, 100))
    assert await life.told() == [("credits.renewed", 50), ("credits.renewed", 80), ("credits.renewed", 100)]
    await life.spend(60)
    assert await life.told() == [("credits.used", 50)]


async def test_a_cycle_beside_other_credits_is_told_as_its_own_part_is_used(life):
    await life.ledger.submit(grant(life.wallet[0], 1000, "TOP_UP"))
    await life.ledger.submit(cycle(life, 100))
    assert await life.told() == []
    await life.spend(80)
    assert await life.told() == [("credits.used", 50), ("credits.used", 80)]
    await life.ledger.submit(grant(life.wallet[0], 5000, "TOP_UP"))  # the balance rises, the cycle does not
    assert await life.told() == []
    await life.spend(30)
    assert await life.told() == [("credits.used", 100)]


async def test_more_credits_in_the_cycle_recover_a_line_and_it_can_be_crossed_again(life):
    await life.ledger.submit(cycle(life, 100))
    await life.spend(60)
    assert await life.told() == [("credits.used", 50)]
    await life.ledger.submit(cycle(life, 100))
    assert await life.told() == [("credits.renewed", 50)]
    await life.spend(50)
    assert await life.told() == [("credits.used", 50)]


async def test_a_balance_below_the_figure_is_told_once_and_its_recovery_once(life):
    await life.ledger.submit(grant(life.wallet[0], 100 * MICRO))
    await change_alert_settings(life.database, life.wallet[1], lambda _: AlertSettings(low_balance_micro=20 * MICRO))
    assert await life.told() == []
    await life.spend(80 * MICRO)
    assert await life.told() == []  # exactly at the figure is not below
    await life.spend(1)
    assert await life.told() == [("balance.low", None)]
    await life.spend(MICRO)
    assert await life.told() == []
    await life.ledger.submit(grant(life.wallet[0], 100 * MICRO))
    assert await life.told() == [("balance.recovered", None)]
    await life.spend(110 * MICRO)
    assert await life.told() == [("balance.low", None)]


async def test_a_hold_crosses_nothing_before_it_is_spent(life):
    await life.ledger.submit(grant(life.wallet[0], 100))
    await change_alert_settings(life.database, life.wallet[1], lambda _: AlertSettings(low_balance_micro=50))
    call = hold(life.wallet, 90)
    await life.ledger.submit(call)
    assert await life.told() == []
    await life.ledger.submit(settle(life.wallet, call.call_id, 60))
    assert await life.told() == [("balance.low", None)]


async def test_freezing_and_expiry_are_seen_too(life):
    lapsing = grant(life.wallet[0], 100, "PACK", at=START, expires_at=START + 365 * DAY)
    await life.ledger.submit(lapsing)
    await life.ledger.submit(grant(life.wallet[0], 10))
    await change_alert_settings(life.database, life.wallet[1], lambda _: AlertSettings(low_balance_micro=50))
    assert await life.told() == []
    await life.ledger.submit(Freeze(life.wallet[0], "DISPUTE", (lapsing.grant_id,)))
    life.clock.at += DAY
    assert await life.told() == [("balance.low", None)]
    life.clock.at = START + 365 * DAY
    await life.ledger.submit(Expire(lapsing.grant_id, life.wallet[0]))
    assert ("balance.low", None) not in await life.told()


async def test_credits_that_expire_are_told_30_7_and_1_days_before_each_once(life):
    await life.ledger.submit(grant(life.wallet[0], 100, "PACK", expires_at=START + 365 * DAY))
    assert await life.told() == []
    for days, expected in ((334, []), (1, [("credits.expiring", 30)]), (1, []), (22, [("credits.expiring", 7)])):
        life.clock.at += days * DAY
        assert await life.told() == expected
    life.clock.at += 6 * DAY
    assert await life.told() == [("credits.expiring", 1)]
    life.clock.at += 2 * DAY
    assert await life.told() == []


async def test_a_months_credits_are_not_told_at_30_days_and_used_ones_not_at_all(life):
    await life.ledger.submit(cycle(life, 100))
    assert await life.told() == []
    life.clock.at += 24 * DAY
    assert await life.told() == [("credits.expiring", 7)]
    await life.spend(100)
    assert ("credits.expiring", 1) not in await life.told()
    life.clock.at += 5 * DAY
    assert await life.told() == []


async def test_a_limit_of_a_key_is_told_at_80_and_100_percent_and_when_its_period_is_over(life):
    key = uuid7()
    await life.pg.execute(
        "INSERT INTO api_keys (id, workspace_id, name, environment, prefix, digest, scopes, created_at)"
        " VALUES ($1, $2, 'k', 'live', 'p', $3, ARRAY['CALLS_WRITE'], now())",
        key, life.wallet[1], key.bytes,
    )  # fmt: skip
    await life.ledger.submit(grant(life.wallet[0], 1000))
    async with transaction(life.database) as conn:
        await set_limit(conn, life.wallet[1], "API_KEY", key, "MONTH", 100, START)
    assert await life.told() == []
    await life.spend(79, api_key_id=key)
    assert await life.told() == []
    await life.spend(1, api_key_id=key)
    assert await life.told() == [("spend_limit.reached", 80)]
    await life.spend(20, api_key_id=key)
    assert await life.told() == [("spend_limit.reached", 100)]
    async with transaction(life.database) as conn:
        await set_limit(conn, life.wallet[1], "API_KEY", key, "MONTH", 120, START)
    assert await life.told() == [("spend_limit.recovered", 100)]
    life.clock.at = START.replace(month=4, day=1)
    assert await life.told() == [("spend_limit.recovered", 80)]


async def test_many_settlements_and_lookers_at_once_tell_each_crossing_once(life):
    await life.ledger.submit(cycle(life, 100))
    await look_at_wallets(life.database, limit=10)
    calls = [life.spend(4) for _ in range(25)]
    looks = [look_at_wallets(life.database, limit=10) for _ in range(8)]
    await asyncio.gather(*calls, *looks)
    assert sorted(await life.told()) == [("credits.used", 50), ("credits.used", 80), ("credits.used", 100)]
    assert await life.told() == []


async def test_a_deleted_workspace_is_told_nothing(life):
    await life.ledger.submit(cycle(life, 100))
    await life.spend(100)
    await life.pg.execute("UPDATE workspaces SET deleted_at = now()")
    assert await life.told() == []
    assert not await life.due()


async def test_settings_have_defaults_are_kept_in_order_and_refuse_nonsense(life):
    assert await alert_settings(life.database, life.wallet[1]) == AlertSettings()
    changed = AlertSettings((90, 10, 90), (3,), 5, by_mail=False)
    assert (await change_alert_settings(life.database, life.wallet[1], lambda _: changed)).cycle_percents == (10, 90)
    assert await alert_settings(life.database, life.wallet[1]) == AlertSettings((10, 90), (3,), 5, by_mail=False)
    for wrong in (
        AlertSettings(cycle_percents=(0,)),
        AlertSettings(cycle_percents=(101,)),
        AlertSettings(cycle_percents=tuple(range(1, 12))),
        AlertSettings(expiry_days=(366,)),
        AlertSettings(low_balance_micro=0),
    ):
        with pytest.raises(InvalidInput):
            await change_alert_settings(life.database, life.wallet[1], lambda _, wrong=wrong: wrong)


async def test_mails_go_to_those_who_look_after_the_money_once(life):
    people = {}
    for role in ("OWNER", "BILLING", "MEMBER"):
        user = uuid7()
        people[role] = user
        await life.pg.execute(
            "INSERT INTO users (id, email, email_key, name, created_at, updated_at, email_verified_at)"
            " VALUES ($1, $2, $2, 'S', now(), now(), now())", user, f"{role}@example.com",
        )  # fmt: skip
        await life.pg.execute(
            "INSERT INTO members (id, workspace_id, user_id, role, joined_at) VALUES ($1, $2, $3, $4, now())",
            uuid7(), life.wallet[1], user, role,
        )  # fmt: skip
    mails = AlertMails(Sealer({1: b"a secret key for the tests of alerts"}, 1), "Tollgate")
    await life.ledger.submit(cycle(life, 100))
    await life.spend(50)
    await look_at_wallets(life.database, limit=10)
    assert await dispatch_events(life.database, mails, limit=10) == 1
    assert await dispatch_events(life.database, mails, limit=10) == 0
    keys = await life.pg.fetch("SELECT dedupe_key FROM outbox_events WHERE kind = 'mail.send'")
    assert {row[0].partition(":")[2] for row in keys} == {str(people["OWNER"]), str(people["BILLING"])}
    await change_alert_settings(life.database, life.wallet[1], lambda _: AlertSettings(by_mail=False))
    await life.spend(50)
    await look_at_wallets(life.database, limit=10)
    await dispatch_events(life.database, mails, limit=10)
    assert await life.pg.fetchval("SELECT count(*) FROM outbox_events WHERE kind = 'mail.send'") == 2


def test_the_next_look_comes_before_the_next_line_can_be_crossed():
    lot = GrantFacts(uuid7(), "CYCLE", 100, 70, START, START + 30 * DAY)
    standing = Standing(1070, 1070, (lot,), ())
    assert look_below(standing, Wanted(), START) == 1070 - 20 + 1
    assert look_below(standing, Wanted(low_balance_micro=1060), START) == 1060
    assert look_below(standing, Wanted(cycle_percents=()), START) is None
