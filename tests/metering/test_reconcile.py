"""`reconcile` agrees with what the ledger wrote, and names each way in which tables can be made to disagree."""

import tracemalloc
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import pytest

from app.reconcile_command import run_reconcile
from kit.ids import uuid7
from metering.ledger import Ledger
from metering.operations import Checkpoint, Clawback, Expire, Reap, Refund, Reinstate, Release, TransferOut, UsageFacts
from metering.reconcile import reconcile
from metering.rules.uses import USES, PublishedUse, uses_json
from metering.spend_limits import set_limit
from models.database import Database
from tests.metering.invariants import broken_invariants
from tests.metering.money import HOUR, START, claim, grant, hold, open_wallet, settle

USED = UsageFacts(input_tokens=1, output_tokens=2, requests=1, provider="sandbox")


@dataclass
class Built:
    """A small history with every kind of entry, and the ids that tests tamper with."""

    wallet: tuple[UUID, UUID]
    payee: tuple[UUID, UUID]
    settled: UUID
    running: UUID
    presumed: UUID
    failed: UUID
    grant: UUID
    lapsed: UUID


@pytest.fixture
async def database(database_url: str):
    opened = await Database.open(database_url)
    yield opened
    await opened.close()


@pytest.fixture
async def built(database: Database) -> Built:
    ledger = await Ledger.open(database)
    try:
        return await _build(database, ledger)
    finally:
        await ledger.close()


async def _build(database: Database, ledger: Ledger) -> Built:
    async with database.pool.acquire() as conn, conn.transaction():

        async def post(*operations, at=START):
            return await ledger.post(conn, operations, now=at)

        wallet, payee, other = await open_wallet(conn), await open_wallet(conn), await open_wallet(conn)
        await set_limit(conn, wallet[1], "WORKSPACE", wallet[1], "DAY", 10**12, START)
        top_up = grant(wallet[0], 100_000, transferable=True)
        cycle = grant(wallet[0], 5_000, "CYCLE", expires_at=START + HOUR)
        await post(top_up, cycle, grant(other[0], 700))
        shared = hold(wallet, 2_000, payee_wallet_id=payee[0], payee_share_percent=70, idempotency=claim("k1"))
        running, failed = hold(wallet, 3_000, idempotency=claim("k2")), hold(wallet, 500, idempotency=claim("k3"))
        presumed = hold(wallet, 4_000, expires_at=START + HOUR)
        # `running` is placed first: it stands on the cycle's credits that nobody else gets.
        await post(running, shared, failed, presumed)
        use = PublishedUse(uuid7(), payee[0], "maker/model", 1_500, 70)
        used = UsageFacts(requests=1, provider="maker", details={USES: uses_json([use])})
        await post(settle(wallet, shared.call_id, 1_500, payee_wallet_id=payee[0], usage=used))
        await post(Release(failed.call_id, wallet[0], wallet[1], error_code="X", error_message="x"))
        await post(Checkpoint(presumed.call_id, wallet[0], 900, USED, START + HOUR))
        await post(Reap(presumed.call_id, wallet[0]), at=START + 2 * HOUR)
        await post(settle(wallet, presumed.call_id, 1_100), at=START + 3 * HOUR)
        dear = hold(other, 700, expires_at=START + HOUR)
        await post(dear)
        await post(Reap(dear.call_id, other[0]), at=START + 2 * HOUR)
        await post(settle(other, dear.call_id, 1_000), at=START + 3 * HOUR)
        await post(Expire(cycle.grant_id, wallet[0]), at=START + 2 * HOUR)
        await post(Refund("r1", wallet[0], top_up.grant_id, 50), Clawback("c1", wallet[0], top_up.grant_id, 70))
        await post(Reinstate("c1", wallet[0]), TransferOut("t1", wallet[0], 30))
        return Built(
            wallet,
            payee,
            shared.call_id,
            running.call_id,
            presumed.call_id,
            failed.call_id,
            top_up.grant_id,
            cycle.grant_id,
        )


async def test_what_the_ledger_wrote_agrees_in_every_check(built: Built, database: Database, pg: asyncpg.Connection):
    assert await broken_invariants(pg) == []

    report = await reconcile(database)

    assert (report.counts, report.shown) == ({}, [])
    assert report.agrees
    assert report.checked["wallets"] == 3
    assert report.checked["usage"] == 3
    assert report.checked["idempotency keys"] == 3
    assert sum(report.accounts.values()) == 0
    assert report.accounts["SHORTFALL"] == -300
    assert {"ISSUED", "REVENUE", "EXPIRED", "REFUNDED", "CLAWED_BACK", "PAID_OUT", "EARNINGS"} <= report.accounts.keys()


UNCHECKED = {
    "wallets": ("wallets_balance", "wallets_held"),
    "credit_grants": ("credit_grants_held", "credit_grants_parts", "credit_grants_balance", "credit_grants_amount"),
    "ledger_entries": (
        "ledger_entries_balance",
        "ledger_entries_of_wallet",
        "ledger_entries_counter",
        "ledger_entries_amount",
    ),
    "holds": ("holds_amount", "holds_allocation", "holds_wallet_id_fkey"),
}
A_USAGE = "SELECT id FROM ledger_entries WHERE call_id = '{settled}' AND kind = 'USAGE' LIMIT 1"
INSERT = (
    "INSERT INTO ledger_entries (id, wallet_id, grant_id, kind, amount_micro, balance_after_micro, counter_account, call_id,"
    " reference_kind, reference_id, description, created_at) SELECT gen_random_uuid(), {columns} FROM ledger_entries"
    " WHERE id = ({one})"
)
TAMPERINGS = {
    "a wallet with more than its entries": (
        "UPDATE wallets SET balance_micro = balance_micro + 1 WHERE id = '{wallet}'",
        {"wallet-balance-entries": "{wallet}", "wallet-balance-grants": "{wallet}", "accounts-zero": "all accounts"},
    ),
    "a wallet that holds what no call holds": (
        "UPDATE wallets SET held_micro = held_micro + 1 WHERE id = '{wallet}'",
        {"wallet-held-holds": "{wallet}", "wallet-held-grants": "{wallet}"},
    ),
    "a wallet below zero": (
        "UPDATE wallets SET balance_micro = -1 WHERE id = '{wallet}'",
        {"wallet-negative": "{wallet}"},
    ),
    "a grant with too much left": (
        "UPDATE credit_grants SET remaining_micro = remaining_micro + 7 WHERE id = '{grant}'",
        {"grant-parts": "{grant}", "grant-entries": "{grant}", "wallet-balance-grants": "{wallet}"},
    ),
    "a grant whose parts were shifted in balance": (
        "UPDATE credit_grants SET spent_micro = spent_micro - 5, refunded_micro = refunded_micro + 5 WHERE id = '{grant}'",
        {"grant-entries": "{grant}"},
    ),
    "a grant that holds what no call holds": (
        "UPDATE credit_grants SET held_micro = held_micro + 3 WHERE id = '{grant}'",
        {"grant-held-holds": "{grant}", "wallet-held-grants": "{wallet}"},
    ),
    "a grant below zero": (
        "UPDATE credit_grants SET remaining_micro = -1 WHERE id = '{grant}'",
        {"grant-negative": "{grant}"},
    ),
    "an entry deleted": (
        f"DELETE FROM ledger_entries WHERE id = ({A_USAGE})",
        {"call-charge": "{settled}", "entry-balance-after": None, "wallet-balance-entries": "{wallet}"},
    ),
    "an entry changed": (
        f"UPDATE ledger_entries SET amount_micro = amount_micro - 1 WHERE id = ({A_USAGE})",
        {"call-charge": "{settled}", "entry-balance-after": None, "grant-entries": None},
    ),
    "an entry's running balance changed": (
        f"UPDATE ledger_entries SET balance_after_micro = balance_after_micro + 1 WHERE id = ({A_USAGE})",
        {"entry-balance-after": None},
    ),
    "a debit posted twice": (
        INSERT.format(
            columns="wallet_id, grant_id, kind, amount_micro, balance_after_micro + amount_micro, counter_account, call_id,"
            " reference_kind, reference_id, description, created_at",
            one=A_USAGE,
        ),
        {"call-charge": "{settled}", "call-grant-once": "{settled}"},
    ),
    "an entry against the wrong account": (
        f"UPDATE ledger_entries SET counter_account = 'ISSUED' WHERE id = ({A_USAGE})",
        {"entry-counter": None},
    ),
    "an entry of a wallet that is not there": (
        f"UPDATE ledger_entries SET wallet_id = gen_random_uuid() WHERE id = ({A_USAGE})",
        {"entry-wallet": None, "wallet-balance-entries": "{wallet}"},
    ),
    "an entry on another wallet's grant": (
        f"UPDATE ledger_entries SET grant_id = (SELECT id FROM credit_grants WHERE wallet_id = '{{payee}}') WHERE id = ({A_USAGE})",
        {"entry-grant": None},
    ),
    "a charge without its usage event": (
        "DELETE FROM usage_events WHERE call_id = '{settled}'",
        {"entry-usage": None, "call-without-usage": "{settled}"},
    ),
    "a shortfall without its usage event": (
        "DELETE FROM usage_events WHERE call_id = (SELECT call_id FROM ledger_entries WHERE kind = 'SHORTFALL')",
        {"entry-shortfall": None},
    ),
    "a usage event that charged more": (
        "UPDATE usage_events SET charged_micro = charged_micro + 1, cost_micro = cost_micro + 1 WHERE call_id = '{settled}'",
        {"call-charge": "{settled}"},
    ),
    "a cost that nobody bears": (
        "UPDATE usage_events SET cost_micro = cost_micro + 1 WHERE call_id = '{settled}'",
        {"call-shortfall": "{settled}"},
    ),
    "a call settled twice": (
        (
            "INSERT INTO usage_events (call_id, sequence, workspace_id, wallet_id, model_slug, modality, cost_micro, charged_micro,"
            " estimated, provider, created_at) SELECT call_id, 1, workspace_id, wallet_id, model_slug, modality, 0, 0, false,"
            " provider, created_at FROM usage_events WHERE call_id = '{settled}'"
        ),
        {"call-settled-once": "{settled}"},
    ),
    "a settled call without its row": (
        "DELETE FROM calls WHERE id = '{settled}'",
        {"call-row": "{settled}", "key-answered": "k1"},
    ),
    "a settled call in another workspace": (
        "UPDATE usage_events SET workspace_id = gen_random_uuid() WHERE call_id = '{settled}'",
        {"call-row": "{settled}"},
    ),
    "a call that earned more than it was charged": (
        "UPDATE ledger_entries SET amount_micro = 2000 WHERE call_id = '{settled}' AND kind = 'EARNING'",
        {"call-earnings": "{settled}", "call-uses": "{settled}", "wallet-balance-entries": "{payee}"},
    ),
    "a use whose earnings its publisher never got": (
        "UPDATE published_uses SET earned_micro = 1 WHERE call_id = '{settled}'",
        {"call-uses": "{settled}"},
    ),
    "a succeeded call that nobody was charged for": (
        "UPDATE calls SET status = 'SUCCEEDED' WHERE id = '{failed}'",
        {"call-without-usage": "{failed}"},
    ),
    "a hold taken away": (
        "DELETE FROM holds WHERE call_id = '{running}'",
        {"wallet-held-holds": "{wallet}", "grant-held-holds": "{lapsed}", "limit-held": None, "key-running": "k2"},
    ),
    "a hold whose parts do not add up": (
        "UPDATE holds SET grant_amounts_micro[1] = grant_amounts_micro[1] - 1 WHERE call_id = '{running}'",
        {"hold-parts": "{running}", "grant-held-holds": "{lapsed}"},
    ),
    "a hold on a grant that had expired": (
        "UPDATE holds SET created_at = created_at + interval '2 hours' WHERE call_id = '{running}'",
        {"hold-parts": "{running}"},
    ),
    "a hold of an ended call": (
        (
            "INSERT INTO holds SELECT gen_random_uuid(), wallet_id, workspace_id, 0, '{{}}', '{{}}', model_slug, user_id, api_key_id,"
            " request_id, idempotency_key, owner, payee_wallet_id, payee_share_percent, terms, 0, NULL, created_at, expires_at,"
            " modality, '{{}}' FROM holds WHERE call_id = '{running}';"
            " UPDATE holds SET call_id = '{settled}' WHERE amount_micro = 0"
        ),
        {"call-held": "{settled}", "call-ended-held": "{settled}"},
    ),
    "a spend limit that counts what nobody holds": (
        "UPDATE spend_limits SET held_micro = held_micro + 1",
        {"limit-held": None},
    ),
    "an expired grant that paid for a later call": (
        (
            "UPDATE credit_grants SET expires_at = effective_at + interval '1 microsecond' WHERE id = '{grant}';"
            " UPDATE calls SET created_at = created_at + interval '1 second' WHERE id = '{presumed}'"
        ),
        {"spent-after-expiry": None},
    ),
    "a clawback that gave back more": (
        "UPDATE ledger_entries SET amount_micro = 71 WHERE kind = 'CLAWBACK' AND amount_micro > 0",
        {"reference-returned": "CLAWBACK c1"},
    ),
    "a transfer that took nothing": (
        (
            "INSERT INTO transfers (id, workspace_id, amount_micro, amount_usd_micro, status, grant_ids, grant_amounts_micro,"
            " requested_at, updated_at) SELECT gen_random_uuid(), workspace_id, 5, 5, 'SENT', '{{}}', '{{}}', now(), now()"
            " FROM wallets WHERE id = '{wallet}'"
        ),
        {"transfer-entries": None},
    ),
}


@pytest.mark.parametrize("how", TAMPERINGS)
async def test_each_way_of_tampering_is_found_and_named(
    built: Built, database: Database, pg: asyncpg.Connection, how: str
):
    sql, expected = TAMPERINGS[how]
    names = _names(built)
    await _drop_constraints(pg)
    await pg.execute(sql.format(**names))

    report = await reconcile(database)

    assert not report.agrees
    found = {(each.kind, each.id) for each in report.shown}
    for kind, row_id in expected.items():
        assert report.counts.get(kind), f"{kind} is missing among {report.counts}"
        assert row_id is None or (kind, row_id.format(**names)) in found


async def test_every_check_has_a_tampering_that_it_finds():
    from metering import reconcile_checks as checks

    kinds = {
        check.kind
        for group in (
            checks.WALLET_CHECKS,
            checks.USAGE_CHECKS,
            checks.CALL_CHECKS,
            checks.KEY_CHECKS,
            checks.ENTRY_CHECKS,
            [checks.ACCOUNTS_CHECK],
        )
        for check in group
    }
    assert kinds == {kind for _, expected in TAMPERINGS.values() for kind in expected}


async def test_repair_restores_every_kept_sum_and_no_fact(built: Built, database: Database, pg: asyncpg.Connection):
    await _drop_constraints(pg)
    before = await _facts_and_sums(pg)
    await pg.execute(
        "UPDATE wallets SET balance_micro = balance_micro + 11, held_micro = 1;"
        "UPDATE credit_grants SET held_micro = 2, spent_micro = 3, remaining_micro = remaining_micro - 4, adjusted_micro = 9;"
        "UPDATE spend_limits SET held_micro = 5"
    )
    told = []

    report = await reconcile(database, repair=True, told=told.append)

    assert report.counts == {}
    assert await _facts_and_sums(pg) == before
    assert {(each.table, each.column) for each in told} == {
        ("wallets", "balance_micro"),
        ("wallets", "held_micro"),
        ("credit_grants", "held_micro"),
        ("credit_grants", "spent_micro"),
        ("credit_grants", "remaining_micro"),
        ("credit_grants", "adjusted_micro"),
        ("spend_limits", "held_micro"),
    }
    wallet = next(each for each in told if each.id == built.wallet[0] and each.column == "balance_micro")
    assert wallet.before == wallet.after + 11


async def test_repair_says_what_the_facts_do_not_allow(built: Built, database: Database, pg: asyncpg.Connection):
    await pg.execute("UPDATE holds SET amount_micro = 10000000000, grant_amounts_micro[1] = 10000000000")
    told = []

    report = await reconcile(database, repair=True, told=told.append)

    assert not report.agrees
    assert told
    assert all('"credit_grants_held"' in each.refused for each in told)


async def test_one_workspace_can_be_checked_alone(built: Built, database: Database, pg: asyncpg.Connection):
    await pg.execute("UPDATE credit_grants SET held_micro = 1 WHERE wallet_id = $1", built.payee[0])

    assert (await reconcile(database, workspace_id=built.wallet[1])).agrees
    assert (await reconcile(database, workspace_id=built.payee[1])).counts == {
        "wallet-held-grants": 1,
        "grant-held-holds": 1,
    }


async def test_the_command_prints_what_disagrees_and_exits_one(
    built: Built, database: Database, pg: asyncpg.Connection, capsys: pytest.CaptureFixture[str]
):
    assert await run_reconcile(database.url) == 0
    quiet = capsys.readouterr()
    await pg.execute("UPDATE credit_grants SET held_micro = held_micro + 3 WHERE id = $1", built.grant)

    assert await run_reconcile(database.url) == 1
    loud = capsys.readouterr()
    assert await run_reconcile(database.url, repair=True) == 0
    mended = capsys.readouterr()

    assert "every promise holds" in quiet.out
    assert "100%" in quiet.err
    assert f"{built.grant}" in loud.out
    assert "what a grant holds is the sum of the holds' parts on it" in loud.out
    assert f"credit_grants {built.grant} held_micro" in mended.out


async def test_memory_is_bounded_however_much_disagrees(built: Built, database: Database, pg: asyncpg.Connection):
    await _drop_constraints(pg)
    await pg.execute(
        "INSERT INTO ledger_entries SELECT gen_random_uuid(), $1::uuid, $2::uuid, 'GRANT', 1, 0, 'EXPIRED', NULL, 'TEST',"
        " n::text, repeat('x', 200), now() FROM generate_series(1, 60000) AS n",
        *(built.wallet[0], built.grant),
    )
    await reconcile(database, workspace_id=built.payee[1])  # what is loaded and compiled once
    tracemalloc.start()
    try:
        report = await reconcile(database)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert report.counts["entry-counter"] == 60_000
    assert len(report.shown) < 200
    assert peak < 6_000_000


def _names(built: Built) -> dict[str, object]:
    return {
        "wallet": built.wallet[0],
        "payee": built.payee[0],
        "settled": built.settled,
        "running": built.running,
        "presumed": built.presumed,
        "failed": built.failed,
        "grant": built.grant,
        "lapsed": built.lapsed,
    }


async def _drop_constraints(pg: asyncpg.Connection) -> None:
    for table, constraints in UNCHECKED.items():
        for name in constraints:
            await pg.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")


async def _facts_and_sums(pg: asyncpg.Connection) -> dict[str, list[asyncpg.Record]]:
    tables = ("credit_grants", "holds", "ledger_entries", "usage_events", "spend_limits", "calls")
    rows = {table: await pg.fetch(f"SELECT * FROM {table} ORDER BY 1") for table in tables}
    return {**rows, "wallets": await pg.fetch("SELECT id, balance_micro, held_micro FROM wallets ORDER BY 1")}
