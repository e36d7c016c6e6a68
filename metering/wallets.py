"""Reads wallets, their grants and their entries, as they are at an instant."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from kit.pages import Page, PageRequest, decode_cursor, encode_cursor, pages_of
from metering.errors import UnknownWallet
from metering.views import EntryView, GrantView, WalletFigures, WalletView
from models.database import Database, connection, fetch_rows

# A grant's free part counts while it is live; a held part counts until its call ends, whatever becomes of the grant.
# So balance - held is what live grants have free, and never below zero.
_WALLETS: Final = """
SELECT w.id, w.workspace_id,
    coalesce(sum(CASE WHEN g.live THEN g.remaining_micro ELSE g.held_micro END), 0)::bigint AS balance,
    w.held_micro AS held,
    coalesce(sum(g.remaining_micro - g.held_micro) FILTER (WHERE g.live), 0)::bigint AS available,
    coalesce(sum(g.remaining_micro - g.held_micro) FILTER (WHERE g.frozen), 0)::bigint AS frozen,
    coalesce(sum(g.remaining_micro - g.held_micro) FILTER (WHERE g.live AND g.transferable), 0)::bigint AS transferable
FROM wallets w LEFT JOIN LATERAL (
    SELECT c.remaining_micro, c.held_micro, c.transferable,
        c.frozen_reason IS NULL AND c.effective_at <= $2 AND (c.expires_at IS NULL OR c.expires_at > $2) AS live,
        c.frozen_reason IS NOT NULL AND (c.expires_at IS NULL OR c.expires_at > $2) AS frozen
    FROM credit_grants c WHERE c.wallet_id = w.id AND c.remaining_micro > 0
) AS g ON true
WHERE {where} = ANY ($1)
GROUP BY w.id
"""
_GRANT_COLUMNS: Final = """id, wallet_id, kind, amount_micro, remaining_micro, held_micro, effective_at, expires_at,
    frozen_reason, requires_active_plan, transferable, source_kind, source_id, description, created_at"""
_GRANTS: Final = f"""
SELECT found.* FROM unnest($1::uuid[]) AS parent(id) CROSS JOIN LATERAL (
    SELECT {_GRANT_COLUMNS} FROM credit_grants
    WHERE wallet_id = parent.id AND (created_at, id) < ($2, $3)
      AND (NOT $4 OR (remaining_micro > 0 AND (expires_at IS NULL OR expires_at > $5)))
    ORDER BY created_at DESC, id DESC LIMIT $6
) AS found ORDER BY found.created_at DESC, found.id DESC
"""  # noqa: S608  the columns are ours
_GRANTS_BY_ID: Final = f"SELECT {_GRANT_COLUMNS} FROM credit_grants WHERE id = ANY ($1)"  # noqa: S608  likewise
_ENTRY_COLUMNS: Final = (
    "id, wallet_id, grant_id, kind, amount_micro, balance_after_micro, call_id, description, created_at"
)
_ENTRIES: Final = f"""
SELECT found.* FROM unnest($1::uuid[], $2::uuid[]) AS parent(id, behind) CROSS JOIN LATERAL (
    SELECT {_ENTRY_COLUMNS} FROM ledger_entries
    WHERE wallet_id = parent.id AND id < parent.behind AND ($3::text[] IS NULL OR kind = ANY ($3))
      AND ($4::timestamptz IS NULL OR created_at >= $4) AND ($5::timestamptz IS NULL OR created_at < $5)
    ORDER BY id DESC LIMIT $6
) AS found ORDER BY found.id DESC
"""  # noqa: S608  likewise
_FIRST_ENTRY: Final = f"SELECT {_ENTRY_COLUMNS} FROM ledger_entries WHERE wallet_id = $1 ORDER BY id LIMIT 1"  # noqa: S608  likewise
_ENTRY_UNTIL: Final = f"""
SELECT {_ENTRY_COLUMNS} FROM ledger_entries WHERE wallet_id = $1 AND id <= $2 ORDER BY id DESC LIMIT 1
"""  # noqa: S608  likewise
_ENTRY_UNTIL_AT: Final = f"""
SELECT {_ENTRY_COLUMNS} FROM ledger_entries WHERE wallet_id = $1 AND id <= $2 AND created_at <= $3
ORDER BY id DESC LIMIT 1
"""  # noqa: S608  likewise
_HALVINGS: Final = 48
"""After these a range of ids spans less than a millisecond."""
_ENTRIES_BY_ID: Final = f"""
SELECT {_ENTRY_COLUMNS} FROM ledger_entries WHERE id = ANY ($1) AND wallet_id IS NOT NULL
"""  # noqa: S608  likewise
_LAST_ID: Final = UUID(int=2**128 - 1)
_LAST_AT: Final = datetime(9999, 12, 31, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """Which entries are wanted: of these kinds, in [begin, end); None for all."""

    kinds: tuple[str, ...] | None = None
    begin: datetime | None = None
    end: datetime | None = None


ALL_ENTRIES: Final = EntryFilter()


async def wallet_figures(database: Database, wallet_id: UUID, now: datetime) -> WalletFigures:
    """What a new call can spend at `now`, exactly; UnknownWallet where there is no such wallet."""
    view = await wallet_view(database, wallet_id, now)
    return WalletFigures(view.id, view.balance_micro, view.held_micro, view.available_micro)


async def wallet_view(database: Database, wallet_id: UUID, now: datetime) -> WalletView:
    """The wallet at `now`; UnknownWallet where there is none."""
    views = await wallets_by_id(database, [wallet_id], now)
    if wallet_id not in views:
        raise UnknownWallet(wallet_id)
    return views[wallet_id]


async def wallets_by_id(database: Database, wallet_ids: Sequence[UUID], now: datetime) -> dict[UUID, WalletView]:
    """Those of these wallets that exist, by id."""
    rows = await fetch_rows(database, _WALLETS.format(where="w.id"), list(wallet_ids), now)
    return {row[0]: WalletView(*row) for row in rows}


async def wallets_by_workspace(
    database: Database, workspace_ids: Sequence[UUID], now: datetime
) -> dict[UUID, WalletView]:
    """The wallets of these workspaces, by workspace."""
    rows = await fetch_rows(database, _WALLETS.format(where="w.workspace_id"), list(workspace_ids), now)
    return {row[1]: WalletView(*row) for row in rows}


async def grants_page(
    database: Database, wallet_id: UUID, request: PageRequest, *, live: bool, now: datetime
) -> Page[GrantView]:
    """A wallet's grants, the newest first; `live` leaves out what is used up or expired (frozen ones stay)."""
    return (await grants_pages(database, [wallet_id], request, live=live, now=now))[wallet_id]


async def grants_pages(
    database: Database, wallet_ids: Sequence[UUID], request: PageRequest, *, live: bool, now: datetime
) -> dict[UUID, Page[GrantView]]:
    """The same page of each of these wallets."""
    at, last = _start(request)
    rows = await fetch_rows(database, _GRANTS, list(wallet_ids), at, last, live, now, request.first + 1)
    found = [(grant.wallet_id, grant) for grant in [GrantView(*row) for row in rows]]
    return pages_of(wallet_ids, found, request, lambda grant: encode_cursor(grant.created_at, grant.id))


async def grants_by_id(database: Database, grant_ids: Sequence[UUID]) -> dict[UUID, GrantView]:
    """Those of these grants that exist, by id."""
    return {row[0]: GrantView(*row) for row in await fetch_rows(database, _GRANTS_BY_ID, list(grant_ids))}


async def entries_page(
    database: Database, wallet_id: UUID, request: PageRequest, wanted: EntryFilter = ALL_ENTRIES
) -> Page[EntryView]:
    """A wallet's movements, the newest first, in the order in which they were posted."""
    behind = await _id_behind(database, wallet_id, wanted.end)
    return (await _entries(database, {wallet_id: behind}, request, wanted))[wallet_id]


async def entries_pages(
    database: Database, wallet_ids: Sequence[UUID], request: PageRequest, wanted: EntryFilter = ALL_ENTRIES
) -> dict[UUID, Page[EntryView]]:
    """The same page of each of these wallets; for several in one query, which passes over what came after the end."""
    if len(wallet_ids) == 1:
        return {wallet_ids[0]: await entries_page(database, wallet_ids[0], request, wanted)}
    return await _entries(database, dict.fromkeys(wallet_ids, _LAST_ID), request, wanted)


async def _entries(
    database: Database, behind: Mapping[UUID, UUID], request: PageRequest, wanted: EntryFilter
) -> dict[UUID, Page[EntryView]]:
    """A page for each wallet, of its entries with ids below the one given for it."""
    _, last = _start(request)
    rows = await fetch_rows(
        database,
        _ENTRIES,
        list(behind),
        [min(last, limit) for limit in behind.values()],
        wanted.kinds,
        wanted.begin,
        wanted.end,
        request.first + 1,
    )
    found = [(entry.wallet_id, entry) for entry in [EntryView(*row) for row in rows]]
    return pages_of(behind, found, request, lambda entry: encode_cursor(entry.created_at, entry.id))


async def entries_by_id(database: Database, entry_ids: Sequence[UUID]) -> dict[UUID, EntryView]:
    """Those of these wallet entries that exist, by id."""
    return {row[0]: EntryView(*row) for row in await fetch_rows(database, _ENTRIES_BY_ID, list(entry_ids))}


async def balance_at(database: Database, wallet_id: UUID, at: datetime) -> int:
    """The ledger's balance after everything posted until `at`, frozen credits included, as `LedgerEntry.balanceAfter`."""
    entry = await last_entry_at(database, wallet_id, at)
    return 0 if entry is None else entry.balance_after_micro


async def last_entry_at(database: Database, wallet_id: UUID, at: datetime) -> EntryView | None:
    """The wallet's last entry that was posted at `at` or before; None where there is none.

    Entries in id order are in order of time, so it is found by halving the range of ids: some forty index look-ups,
    whatever the wallet's length and without an index over time that each settlement would have to keep.
    """
    async with connection(database) as conn:
        first = await conn.fetchrow(_FIRST_ENTRY, wallet_id)
        last = await conn.fetchrow(_ENTRY_UNTIL, wallet_id, _LAST_ID)
        if first is None or last is None or first["created_at"] > at:
            return None
        if last["created_at"] <= at:
            return EntryView(*last)
        low, high = first["id"].int, last["id"].int
        for _ in range(_HALVINGS):
            middle = (low + high) // 2
            found = await conn.fetchrow(_ENTRY_UNTIL, wallet_id, UUID(int=middle))
            if found is None or found["created_at"] <= at:
                low = middle
            else:
                high = found["id"].int
        found = await conn.fetchrow(_ENTRY_UNTIL_AT, wallet_id, UUID(int=high), at)
    return None if found is None else EntryView(*found)


async def _id_behind(database: Database, wallet_id: UUID, end: datetime | None) -> UUID:
    """The id before which the entries until `end` stand."""
    entry = None if end is None else await last_entry_at(database, wallet_id, end)
    return _LAST_ID if entry is None else UUID(int=entry.id.int + 1)


def _start(request: PageRequest) -> tuple[datetime, UUID]:
    if request.after is None:
        return _LAST_AT, _LAST_ID
    return decode_cursor(request.after)
