"""Reading wallets, grants, entries and calls."""

import pytest

from kit import clock
from kit.errors import InvalidInput
from kit.ids import uuid7
from kit.pages import PageRequest
from metering.errors import UnknownWallet
from metering.operations import Checkpoint, Freeze, Reap, Release, UsageFacts
from metering.usage import calls_by_id, calls_page
from metering.views import WalletView
from metering.wallets import (
    entries_by_id,
    entries_page,
    grants_by_id,
    grants_page,
    wallet_figures,
    wallet_view,
    wallets_by_workspace,
)
from tests.metering.money import HOUR, START, grant, hold, open_wallet, settle
from tests.metering.test_ledger import ledger_on


async def all_pages(read, first):
    items, after = [], None
    while True:
        page = await read(PageRequest(first, after))
        assert page.has_previous is (after is not None)
        items += page.items
        if not page.has_next:
            return items
        assert len(page.items) == first
        after = page.cursors[-1]


async def test_a_wallet_shows_what_a_new_call_can_spend_at_an_instant(database_url, pg):
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        frozen = grant(wallet[0], 1000, "BONUS")
        for each in (
            grant(wallet[0], 100, "CYCLE", expires_at=START + HOUR),
            grant(wallet[0], 30, "TOP_UP", transferable=True),
            grant(wallet[0], 5, effective_at=START + 5 * HOUR),
            frozen,
        ):
            await ledger.submit(each)
        await ledger.submit(hold(wallet, 120))
        await ledger.submit(Freeze(wallet[0], "DISPUTE", (frozen.grant_id,)))
        database = ledger._database
        # 100 of the hold stand on CYCLE, 20 on BONUS, which froze after it
        assert await wallet_view(database, wallet[0], START) == WalletView(*wallet, 150, 120, 30, 980, 30)
        assert await wallet_view(database, wallet[0], START + HOUR) == WalletView(*wallet, 150, 120, 30, 980, 30)
        assert (await wallet_figures(database, wallet[0], START + 5 * HOUR)).available_micro == 35
        assert set(await wallets_by_workspace(database, [wallet[1], uuid7()], START)) == {wallet[1]}
        with pytest.raises(UnknownWallet):
            await wallet_view(database, uuid7(), START)


async def test_pages_of_grants_and_entries_hold_each_once_newest_first(database_url, pg):
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        grants = [grant(wallet[0], 10, expires_at=START + HOUR if n % 2 else None) for n in range(7)]
        for each in grants:
            await ledger.submit(each)
        database = ledger._database
        ids = sorted((each.grant_id for each in grants), reverse=True)
        found = await all_pages(lambda request: grants_page(database, wallet[0], request, live=True, now=START), 3)
        assert [each.id for each in found] == ids
        later = await grants_page(database, wallet[0], PageRequest(9), live=True, now=START + HOUR)
        assert len(later.items) == 4
        entries = await all_pages(lambda request: entries_page(database, wallet[0], request), 2)
        assert [entry.balance_after_micro for entry in entries] == [70, 60, 50, 40, 30, 20, 10]
        assert (await entries_by_id(database, [entries[0].id]))[entries[0].id] == entries[0]
        assert set(await grants_by_id(database, [ids[0], uuid7()])) == {ids[0]}
        with pytest.raises(InvalidInput):
            await entries_page(database, wallet[0], PageRequest(2, "rubbish"))


async def test_calls_show_running_ended_and_corrected(database_url, pg):
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        given = grant(wallet[0], 1000)
        await ledger.submit(given)
        running, settled, failed, lost = (
            hold(wallet, 100, model_slug=slug, expires_at=START + HOUR) for slug in ("a", "a", "b", "a")
        )
        for op in (running, settled, failed, lost):
            await ledger.submit(op)
        await ledger.submit(settle(wallet, settled.call_id, 40))
        await ledger.submit(Release(failed.call_id, *wallet, error_code="UPSTREAM_ERROR", error_message="no"))
        usage = UsageFacts(output_tokens=5, provider="x")
        await ledger.submit(Checkpoint(lost.call_id, wallet[0], 70, usage, START + HOUR))
        with clock.installed(clock.VirtualClock(START + HOUR)):
            await ledger.submit(Reap(lost.call_id, wallet[0]))
            await ledger.submit(settle(wallet, lost.call_id, 30, usage=UsageFacts(output_tokens=2, provider="y")))
        database = ledger._database
        calls = await all_pages(lambda request: calls_page(database, wallet[1], request), 2)
        assert [call.id for call in calls] == [op.call_id for op in (lost, failed, settled, running)]
        assert [call.status for call in calls] == ["SUCCEEDED", "FAILED", "SUCCEEDED", "RUNNING"]
        assert calls[0].usage.charged_micro == 30
        assert calls[0].usage.output_tokens == 2
        assert calls[0].usage.provider == "y"
        assert calls[2].usage.charges == ((given.grant_id, 40),)
        assert calls[1].usage is None
        assert calls[1].error_code == "UPSTREAM_ERROR"
        of_model = await calls_page(database, wallet[1], PageRequest(9), model_slug="b")
        assert [call.id for call in of_model.items] == [failed.call_id]
        assert set(await calls_by_id(database, [running.call_id, uuid7()])) == {running.call_id}
