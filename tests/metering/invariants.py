"""All the money's invariants over a database, in SQL; others' tests and harnesses use it too."""

import asyncpg

_CHECKS = {
    "a wallet's balance is the sum of its grants' remaining": """
        SELECT w.id::text FROM wallets w LEFT JOIN credit_grants g ON g.wallet_id = w.id
        GROUP BY w.id HAVING w.balance_micro <> coalesce(sum(g.remaining_micro), 0)""",
    "a wallet's balance is the sum of its entries": """
        SELECT w.id::text FROM wallets w LEFT JOIN ledger_entries e ON e.wallet_id = w.id
        GROUP BY w.id HAVING w.balance_micro <> coalesce(sum(e.amount_micro), 0)""",
    "a wallet's newest entry shows its balance": """
        SELECT w.id::text FROM wallets w JOIN LATERAL (SELECT balance_after_micro FROM ledger_entries e
            WHERE e.wallet_id = w.id ORDER BY e.id DESC LIMIT 1) last ON true
        WHERE last.balance_after_micro <> w.balance_micro""",
    "each entry shows the balance after it": """
        SELECT id::text FROM (SELECT id, balance_after_micro,
            sum(amount_micro) OVER (PARTITION BY wallet_id ORDER BY id) AS running
            FROM ledger_entries WHERE wallet_id IS NOT NULL) e WHERE running <> balance_after_micro""",
    "a wallet's held is the sum of its holds": """
        SELECT w.id::text FROM wallets w LEFT JOIN holds h ON h.wallet_id = w.id
        GROUP BY w.id HAVING w.held_micro <> coalesce(sum(h.amount_micro), 0)""",
    "a wallet's held is the sum of its grants' held": """
        SELECT w.id::text FROM wallets w LEFT JOIN credit_grants g ON g.wallet_id = w.id
        GROUP BY w.id HAVING w.held_micro <> coalesce(sum(g.held_micro), 0)""",
    "a grant's held is the sum of the holds' parts on it": """
        SELECT g.id::text FROM credit_grants g LEFT JOIN (
            SELECT p.grant_id, sum(p.amount) AS amount FROM holds h,
                unnest(h.grant_ids, h.grant_amounts_micro) AS p (grant_id, amount) GROUP BY p.grant_id) s
            ON s.grant_id = g.id WHERE g.held_micro <> coalesce(s.amount, 0)""",
    "a hold is the sum of its parts": """
        SELECT h.call_id::text FROM holds h
        WHERE h.amount_micro <> coalesce((SELECT sum(x) FROM unnest(h.grant_amounts_micro) AS x), 0)""",
    "a grant's parts are its entries, kind by kind": """
        SELECT g.id::text FROM credit_grants g LEFT JOIN (
            SELECT grant_id, sum(amount_micro) AS total,
                coalesce(sum(amount_micro) FILTER (WHERE kind IN ('GRANT', 'EARNING', 'ADJUSTMENT')), 0) AS given,
                coalesce(-sum(amount_micro) FILTER (WHERE kind = 'USAGE'), 0) AS spent,
                coalesce(-sum(amount_micro) FILTER (WHERE kind = 'EXPIRY'), 0) AS expired,
                coalesce(-sum(amount_micro) FILTER (WHERE kind = 'REFUND'), 0) AS refunded,
                coalesce(-sum(amount_micro) FILTER (WHERE kind = 'CLAWBACK'), 0) AS clawed_back,
                coalesce(-sum(amount_micro) FILTER (WHERE kind = 'TRANSFER_OUT'), 0) AS transferred
            FROM ledger_entries WHERE grant_id IS NOT NULL GROUP BY grant_id) e ON e.grant_id = g.id
        WHERE e.grant_id IS NULL OR g.remaining_micro <> e.total OR g.amount_micro - g.adjusted_micro <> e.given
            OR g.spent_micro <> e.spent OR g.expired_micro <> e.expired OR g.refunded_micro <> e.refunded
            OR g.clawed_back_micro - g.reinstated_micro <> e.clawed_back OR g.transferred_micro <> e.transferred""",
    "amount + reinstated = all the parts": """
        SELECT id::text FROM credit_grants WHERE amount_micro + reinstated_micro <> remaining_micro + spent_micro
            + expired_micro + clawed_back_micro + refunded_micro + transferred_micro + adjusted_micro""",
    "nothing is below zero": """
        SELECT id::text FROM wallets WHERE balance_micro < 0 OR held_micro < 0 OR held_micro > balance_micro
        UNION ALL SELECT id::text FROM credit_grants WHERE remaining_micro < held_micro OR held_micro < 0""",
    "a call's charge is its entries": """
        SELECT u.call_id::text FROM (SELECT call_id, sum(charged_micro) AS charged, sum(cost_micro) AS cost
            FROM usage_events GROUP BY call_id) u
        LEFT JOIN (SELECT call_id, -sum(amount_micro) FILTER (WHERE kind = 'USAGE') AS paid,
            -sum(amount_micro) FILTER (WHERE kind = 'SHORTFALL') AS borne
            FROM ledger_entries WHERE call_id IS NOT NULL GROUP BY call_id) e ON e.call_id = u.call_id
        WHERE u.charged <> coalesce(e.paid, 0) OR u.cost - u.charged <> coalesce(e.borne, 0)
            OR u.charged < 0 OR u.cost < u.charged""",
    "every usage entry has its call's usage event": """
        SELECT e.id::text FROM ledger_entries e WHERE e.kind IN ('USAGE', 'SHORTFALL')
            AND NOT EXISTS (SELECT FROM usage_events u WHERE u.call_id = e.call_id)""",
    "a call's grants are charged once each, but for corrections": """
        SELECT e.call_id::text FROM ledger_entries e WHERE e.kind = 'USAGE' GROUP BY e.call_id, e.grant_id
        HAVING count(*) > (SELECT count(*) FROM usage_events u WHERE u.call_id = e.call_id)""",
    "every settled call has its row": """
        SELECT u.call_id::text FROM usage_events u LEFT JOIN calls c ON c.id = u.call_id AND c.completed_at IS NOT NULL
        WHERE c.id IS NULL""",
    "no ended call holds credits": """
        SELECT h.call_id::text FROM holds h JOIN calls c ON c.id = h.call_id WHERE c.completed_at IS NOT NULL
        UNION SELECT h.call_id::text FROM holds h JOIN usage_events u ON u.call_id = h.call_id""",
    "a spend limit's held is the sum of the holds that count against it": """
        SELECT l.id::text FROM spend_limits l LEFT JOIN holds h ON l.id = ANY (h.limit_ids)
        GROUP BY l.id HAVING l.held_micro <> coalesce(sum(h.amount_micro), 0)""",
    "an unfinished idempotency key has its running call": """
        SELECT k.key FROM idempotency_keys k LEFT JOIN holds h ON h.call_id = k.call_id
        WHERE k.completed_at IS NULL AND k.call_id IS NOT NULL AND h.call_id IS NULL""",
}
_ACCOUNTS = """
SELECT coalesce(sum(amount), 0) FROM (
    SELECT coalesce(sum(balance_micro), 0)::numeric AS amount FROM wallets
    UNION ALL SELECT coalesce(sum(amount_micro), 0) FROM ledger_entries WHERE wallet_id IS NULL
    UNION ALL SELECT -coalesce(sum(amount_micro), 0) FROM ledger_entries
) accounts
"""


async def broken_invariants(conn: asyncpg.Connection) -> list[str]:
    """What does not hold, each with some ids."""
    broken = []
    for name, sql in _CHECKS.items():
        rows = await conn.fetch(f"{sql} LIMIT 5")
        if rows:
            broken.append(f"{name}: {[row[0] for row in rows]}")
    total = await conn.fetchval(_ACCOUNTS)
    if total != 0:
        broken.append(f"the sum over all accounts is zero: it is {total}")
    return broken


async def assert_invariants(conn: asyncpg.Connection) -> None:
    broken = await broken_invariants(conn)
    assert not broken, "\n".join(broken)
