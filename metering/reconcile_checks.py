"""What must hold in the money's tables, as SQL over one page of keys each.

Every check answers rows (id, figures) of what disagrees and nothing where all is well. `$1` is the page: an array of keys.
Aggregates run in the server over the rows that belong to the page, along indexes; nothing here reads a whole table.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Check:
    """`kind` is its short name in reports, `promise` the sentence that must be true, `sql` finds what breaks it."""

    kind: str
    promise: str
    sql: str


DERIVED_GRANTS: Final = """
SELECT e.grant_id,
    sum(e.amount_micro) FILTER (WHERE e.kind IN ('GRANT', 'EARNING') OR e.kind = 'ADJUSTMENT' AND e.amount_micro > 0) AS amount_micro,
    sum(e.amount_micro) AS remaining_micro,
    coalesce(sum(e.amount_micro) FILTER (WHERE e.kind = 'CLAWBACK' AND e.amount_micro > 0), 0) AS reinstated_micro,
    coalesce(-sum(e.amount_micro) FILTER (WHERE e.kind = 'USAGE'), 0) AS spent_micro,
    coalesce(-sum(e.amount_micro) FILTER (WHERE e.kind = 'EXPIRY'), 0) AS expired_micro,
    coalesce(-sum(e.amount_micro) FILTER (WHERE e.kind = 'CLAWBACK' AND e.amount_micro < 0), 0) AS clawed_back_micro,
    coalesce(-sum(e.amount_micro) FILTER (WHERE e.kind = 'REFUND'), 0) AS refunded_micro,
    coalesce(-sum(e.amount_micro) FILTER (WHERE e.kind = 'TRANSFER_OUT'), 0) AS transferred_micro,
    coalesce(-sum(e.amount_micro) FILTER (WHERE e.kind = 'ADJUSTMENT' AND e.amount_micro < 0), 0) AS adjusted_micro
FROM ledger_entries e WHERE e.wallet_id = ANY ($1) AND e.grant_id IS NOT NULL GROUP BY e.grant_id
"""
"""A grant's columns as its entries say: the entries are the truth, the columns are kept sums of them."""

PARTS: Final = (
    "amount_micro",
    "remaining_micro",
    "reinstated_micro",
    "spent_micro",
    "expired_micro",
    "clawed_back_micro",
    "refunded_micro",
    "transferred_micro",
    "adjusted_micro",
)
_DIFFERENT = " OR ".join(f"g.{part} IS DISTINCT FROM d.{part}" for part in PARTS)
_FIGURES = ", ".join(
    f"CASE WHEN g.{part} IS DISTINCT FROM d.{part}"
    f" THEN format('{part} %s, entries say %s', g.{part}, coalesce(d.{part}::text, 'nothing')) END"
    for part in PARTS
)

WALLET_CHECKS: Final = (
    Check(
        "wallet-balance-entries",
        "a wallet's balance is the sum of its entries",
        """SELECT w.id::text, format('balance %s, entries %s', w.balance_micro, coalesce(e.total, 0))
        FROM wallets w LEFT JOIN (SELECT wallet_id, sum(amount_micro) AS total FROM ledger_entries
            WHERE wallet_id = ANY ($1) GROUP BY wallet_id) e ON e.wallet_id = w.id
        WHERE w.id = ANY ($1) AND w.balance_micro <> coalesce(e.total, 0)""",
    ),
    Check(
        "wallet-balance-grants",
        "a wallet's balance is the sum of what its grants have left",
        """SELECT w.id::text, format('balance %s, grants %s', w.balance_micro, coalesce(g.total, 0))
        FROM wallets w LEFT JOIN (SELECT wallet_id, sum(remaining_micro) AS total FROM credit_grants
            WHERE wallet_id = ANY ($1) GROUP BY wallet_id) g ON g.wallet_id = w.id
        WHERE w.id = ANY ($1) AND w.balance_micro <> coalesce(g.total, 0)""",
    ),
    Check(
        "wallet-held-holds",
        "what a wallet holds is the sum of its holds",
        """SELECT w.id::text, format('held %s, holds %s', w.held_micro, coalesce(h.total, 0))
        FROM wallets w LEFT JOIN (SELECT wallet_id, sum(amount_micro) AS total FROM holds
            WHERE wallet_id = ANY ($1) GROUP BY wallet_id) h ON h.wallet_id = w.id
        WHERE w.id = ANY ($1) AND w.held_micro <> coalesce(h.total, 0)""",
    ),
    Check(
        "wallet-held-grants",
        "what a wallet holds is what its grants hold",
        """SELECT w.id::text, format('held %s, grants %s', w.held_micro, coalesce(g.total, 0))
        FROM wallets w LEFT JOIN (SELECT wallet_id, sum(held_micro) AS total FROM credit_grants
            WHERE wallet_id = ANY ($1) GROUP BY wallet_id) g ON g.wallet_id = w.id
        WHERE w.id = ANY ($1) AND w.held_micro <> coalesce(g.total, 0)""",
    ),
    Check(
        "wallet-negative",
        "no wallet is below zero or holds more than it has",
        """SELECT w.id::text, format('balance %s, held %s', w.balance_micro, w.held_micro) FROM wallets w
        WHERE w.id = ANY ($1) AND (w.balance_micro < 0 OR w.held_micro < 0 OR w.held_micro > w.balance_micro)""",
    ),
    Check(
        "entry-balance-after",
        "each entry's balance-after is the one before it plus its amount, from zero on",
        """SELECT e.id::text, format('wallet %s: before %s, amount %s, after %s', e.wallet_id, e.before, e.amount_micro,
            e.balance_after_micro)
        FROM (SELECT id, wallet_id, amount_micro, balance_after_micro,
            lag(balance_after_micro, 1, 0::bigint) OVER (PARTITION BY wallet_id ORDER BY id) AS before
            FROM ledger_entries WHERE wallet_id = ANY ($1)) e
        WHERE e.before + e.amount_micro IS DISTINCT FROM e.balance_after_micro OR e.balance_after_micro < 0""",
    ),
    Check(
        "grant-parts",
        "a grant's amount and what was reinstated is what is left, spent, expired, clawed back, refunded, transferred and adjusted",
        """SELECT g.id::text, format('%s in, %s out or left', g.amount_micro + g.reinstated_micro, g.remaining_micro
            + g.spent_micro + g.expired_micro + g.clawed_back_micro + g.refunded_micro + g.transferred_micro + g.adjusted_micro)
        FROM credit_grants g WHERE g.wallet_id = ANY ($1) AND g.amount_micro + g.reinstated_micro <> g.remaining_micro
            + g.spent_micro + g.expired_micro + g.clawed_back_micro + g.refunded_micro + g.transferred_micro + g.adjusted_micro""",
    ),
    Check(
        "grant-entries",
        "each part of a grant is the sum of its entries of that kind",
        f"""SELECT g.id::text, concat_ws('; ', {_FIGURES})
        FROM credit_grants g LEFT JOIN ({DERIVED_GRANTS}) d ON d.grant_id = g.id
        WHERE g.wallet_id = ANY ($1) AND ({_DIFFERENT})""",  # noqa: S608  constants of this file
    ),
    Check(
        "grant-held-holds",
        "what a grant holds is the sum of the holds' parts on it",
        """SELECT g.id::text, format('held %s, holds %s', g.held_micro, coalesce(h.total, 0))
        FROM credit_grants g LEFT JOIN (SELECT p.grant_id, sum(p.amount) AS total
            FROM holds h, unnest(h.grant_ids, h.grant_amounts_micro) AS p (grant_id, amount)
            WHERE h.wallet_id = ANY ($1) GROUP BY p.grant_id) h ON h.grant_id = g.id
        WHERE g.wallet_id = ANY ($1) AND g.held_micro <> coalesce(h.total, 0)""",
    ),
    Check(
        "grant-negative",
        "no grant is below zero or holds more than it has left",
        """SELECT g.id::text, format('remaining %s, held %s', g.remaining_micro, g.held_micro) FROM credit_grants g
        WHERE g.wallet_id = ANY ($1) AND (g.remaining_micro < 0 OR g.held_micro < 0 OR g.held_micro > g.remaining_micro
            OR g.amount_micro <= 0 OR least(g.reinstated_micro, g.spent_micro, g.expired_micro, g.clawed_back_micro,
                g.refunded_micro, g.transferred_micro) < 0)""",
    ),
    Check(
        "entry-grant",
        "each entry moves a grant of its own wallet",
        """SELECT e.id::text, format('wallet %s, grant %s of wallet %s', e.wallet_id, e.grant_id, g.wallet_id)
        FROM ledger_entries e LEFT JOIN credit_grants g ON g.id = e.grant_id
        WHERE e.wallet_id = ANY ($1) AND g.wallet_id IS DISTINCT FROM e.wallet_id""",
    ),
    Check(
        "entry-usage",
        "each charge belongs to a settled call of its wallet",
        """SELECT e.id::text, format('call %s, amount %s', e.call_id, e.amount_micro) FROM ledger_entries e
        WHERE e.wallet_id = ANY ($1) AND e.kind = 'USAGE' AND NOT EXISTS (
            SELECT FROM usage_events u WHERE u.call_id = e.call_id AND u.wallet_id = e.wallet_id)""",
    ),
    Check(
        "spent-after-expiry",
        "no call that began after a grant's expiry is paid from it",
        """SELECT e.id::text, format('call %s of %s, grant %s expired %s', c.id, c.created_at, g.id, g.expires_at)
        FROM ledger_entries e JOIN credit_grants g ON g.id = e.grant_id AND e.created_at >= g.expires_at
        JOIN calls c ON c.id = e.call_id AND c.created_at >= g.expires_at
        WHERE e.wallet_id = ANY ($1) AND e.kind = 'USAGE' AND e.amount_micro < 0""",
    ),
    Check(
        "reference-returned",
        "no clawback or transfer gives back more than it took",
        """SELECT format('%s %s', e.reference_kind, e.reference_id), format('grant %s: %s more came back', e.grant_id, sum(e.amount_micro))
        FROM ledger_entries e WHERE e.wallet_id = ANY ($1) AND e.kind IN ('CLAWBACK', 'TRANSFER_OUT')
        GROUP BY e.reference_kind, e.reference_id, e.grant_id HAVING sum(e.amount_micro) > 0""",
    ),
    Check(
        "limit-held",
        "what a spend limit counts as held is the sum of the holds that count against it",
        """SELECT l.id::text, format('held %s, holds %s', l.held_micro, coalesce(sum(h.amount_micro), 0))
        FROM wallets w JOIN spend_limits l ON l.workspace_id = w.workspace_id
        LEFT JOIN holds h ON h.wallet_id = w.id AND l.id = ANY (h.limit_ids)
        WHERE w.id = ANY ($1) GROUP BY l.id HAVING l.held_micro <> coalesce(sum(h.amount_micro), 0)""",
    ),
    Check(
        "transfer-entries",
        "a transfer out has taken its amount, but for what came back: all of a failed or reversed one",
        """SELECT t.id::text, format('%s of %s, %s came back, entries %s', t.status, t.amount_micro, t.returned_micro, -coalesce(sum(e.amount_micro), 0))
        FROM wallets w JOIN transfers t ON t.workspace_id = w.workspace_id
        LEFT JOIN ledger_entries e ON e.reference_kind = 'TRANSFER' AND e.reference_id = 'xfer:' || t.id AND e.call_id IS NULL
            AND e.wallet_id = w.id
        WHERE w.id = ANY ($1) GROUP BY t.id
        HAVING -coalesce(sum(e.amount_micro), 0) <> t.amount_micro - t.returned_micro
            OR (t.status IN ('FAILED', 'REVERSED') AND t.returned_micro <> t.amount_micro)""",
    ),
    Check(
        "hold-parts",
        "a hold is the sum of its parts, each on a grant of its wallet that had not expired when it was placed",
        """SELECT h.call_id::text, format('amount %s, parts %s, of them on usable grants %s', h.amount_micro,
            coalesce(sum(p.amount), 0), coalesce(sum(p.amount) FILTER (WHERE g.id IS NOT NULL), 0))
        FROM holds h JOIN wallets w ON w.id = h.wallet_id
        LEFT JOIN LATERAL unnest(h.grant_ids, h.grant_amounts_micro) AS p (grant_id, amount) ON true
        LEFT JOIN credit_grants g ON g.id = p.grant_id AND g.wallet_id = h.wallet_id
            AND (g.expires_at IS NULL OR g.expires_at > h.created_at)
        WHERE h.wallet_id = ANY ($1) GROUP BY h.call_id, w.workspace_id
        HAVING h.amount_micro <> coalesce(sum(p.amount) FILTER (WHERE g.id IS NOT NULL), 0)
            OR h.amount_micro <> coalesce(sum(p.amount), 0) OR min(p.amount) <= 0 OR h.workspace_id <> w.workspace_id""",
    ),
)

USAGE_CHECKS: Final = (
    Check(
        "call-charge",
        "a call's charge is the sum of its entries, its corrections included",
        """SELECT u.call_id::text, format('charged %s, entries %s', u.charged, coalesce(e.paid, 0))
        FROM (SELECT call_id, sum(charged_micro) AS charged FROM usage_events WHERE call_id = ANY ($1) GROUP BY call_id) u
        LEFT JOIN (SELECT call_id, -sum(amount_micro) AS paid FROM ledger_entries
            WHERE call_id = ANY ($1) AND kind = 'USAGE' GROUP BY call_id) e ON e.call_id = u.call_id
        WHERE u.charged <> coalesce(e.paid, 0)""",
    ),
    Check(
        "call-shortfall",
        "what a call cost above its charge is recorded as the platform's shortfall, never the other way round",
        """SELECT u.call_id::text, format('cost %s, charged %s, shortfall entries %s', u.cost, u.charged, coalesce(e.borne, 0))
        FROM (SELECT call_id, sum(cost_micro) AS cost, sum(charged_micro) AS charged FROM usage_events
            WHERE call_id = ANY ($1) GROUP BY call_id) u
        LEFT JOIN (SELECT call_id, -sum(amount_micro) AS borne FROM ledger_entries
            WHERE call_id = ANY ($1) AND kind = 'SHORTFALL' GROUP BY call_id) e ON e.call_id = u.call_id
        WHERE u.cost - u.charged <> coalesce(e.borne, 0) OR u.charged < 0 OR u.cost < u.charged""",
    ),
    Check(
        "call-settled-once",
        "a call is settled once: one usage event, corrected at most once where it was presumed",
        """SELECT u.call_id::text, format('%s usage events, %s presumed', count(*), count(*) FILTER (WHERE u.presumed))
        FROM usage_events u WHERE u.call_id = ANY ($1) GROUP BY u.call_id
        HAVING min(u.sequence) <> 0 OR count(*) > 2 OR max(u.sequence) <> count(*) - 1
            OR count(*) = 2 AND NOT bool_or(u.presumed AND u.sequence = 0)""",
    ),
    Check(
        "call-grant-once",
        "a call charges each grant once, but for corrections",
        """SELECT e.call_id::text, format('grant %s charged %s times', e.grant_id, count(*)) FROM ledger_entries e
        WHERE e.call_id = ANY ($1) AND e.kind = 'USAGE' GROUP BY e.call_id, e.grant_id
        HAVING count(*) > (SELECT count(*) FROM usage_events u WHERE u.call_id = e.call_id)""",
    ),
    Check(
        "call-row",
        "each settled call has its row, ended, in the workspace of the wallet that paid",
        """SELECT u.call_id::text, format('status %s, workspace %s', coalesce(c.status, 'no row'), u.workspace_id)
        FROM usage_events u LEFT JOIN calls c ON c.id = u.call_id AND c.completed_at IS NOT NULL
        LEFT JOIN wallets w ON w.id = u.wallet_id
        WHERE u.call_id = ANY ($1) AND (c.workspace_id IS DISTINCT FROM u.workspace_id
            OR w.workspace_id IS DISTINCT FROM u.workspace_id)""",
    ),
    Check(
        "call-held",
        "no settled call still holds credits",
        """SELECT h.call_id::text, format('held %s', h.amount_micro) FROM holds h
        WHERE h.call_id = ANY ($1) AND EXISTS (SELECT FROM usage_events u WHERE u.call_id = h.call_id)""",
    ),
    Check(
        "call-earnings",
        "publishers earn of a call not less than nothing and not more than was charged",
        """SELECT e.call_id::text, format('earned %s of %s, wallets %s', sum(e.amount_micro), min(u.charged), count(DISTINCT e.wallet_id))
        FROM ledger_entries e LEFT JOIN LATERAL (SELECT coalesce(sum(charged_micro), 0) AS charged FROM usage_events
            WHERE call_id = e.call_id) u ON true
        WHERE e.call_id = ANY ($1) AND e.counter_account = 'EARNINGS' GROUP BY e.call_id
        HAVING sum(e.amount_micro) < 0 OR sum(e.amount_micro) > min(u.charged)""",
    ),
    Check(
        "call-uses",
        "what the uses of published models earned is what their publishers' wallets got, and was charged",
        """SELECT p.call_id::text, format('uses earned %s of %s, wallets got %s', p.earned, p.charged, coalesce(e.earned, 0))
        FROM (SELECT call_id, sum(earned_micro) AS earned, sum(charged_micro) AS charged FROM published_uses
            WHERE call_id = ANY ($1) GROUP BY call_id) p
        LEFT JOIN LATERAL (SELECT sum(amount_micro) AS earned FROM ledger_entries
            WHERE call_id = p.call_id AND counter_account = 'EARNINGS') e ON true
        LEFT JOIN LATERAL (SELECT coalesce(sum(charged_micro), 0) AS charged FROM usage_events
            WHERE call_id = p.call_id) u ON true
        WHERE p.earned <> coalesce(e.earned, 0) OR p.charged > u.charged""",
    ),
)

CALL_CHECKS: Final = (
    Check(
        "call-without-usage",
        "each call that succeeded has its usage event",
        """SELECT c.id::text, format('%s, completed %s', c.status, c.completed_at) FROM calls c
        WHERE c.id = ANY ($1) AND c.status = 'SUCCEEDED'
            AND NOT EXISTS (SELECT FROM usage_events u WHERE u.call_id = c.id AND u.sequence = 0)""",
    ),
    Check(
        "call-ended-held",
        "no ended call still holds credits",
        """SELECT c.id::text, format('%s, held %s', c.status, h.amount_micro) FROM calls c JOIN holds h ON h.call_id = c.id
        WHERE c.id = ANY ($1) AND c.completed_at IS NOT NULL""",
    ),
)

KEY_CHECKS: Final = (
    Check(
        "key-answered",
        "an idempotency key that names its call's answer has that call, ended",
        """SELECT k.key, format('workspace %s, call %s', k.workspace_id, k.call_id) FROM unnest($1::uuid[], $2::text[]) AS p (workspace_id, key)
        JOIN idempotency_keys k USING (workspace_id, key) LEFT JOIN calls c ON c.id = k.call_id AND c.completed_at IS NOT NULL
        WHERE k.completed_at IS NOT NULL AND k.call_id IS NOT NULL AND c.workspace_id IS DISTINCT FROM k.workspace_id""",
    ),
    Check(
        "key-running",
        "an unfinished idempotency key has its running call",
        """SELECT k.key, format('workspace %s, call %s', k.workspace_id, k.call_id) FROM unnest($1::uuid[], $2::text[]) AS p (workspace_id, key)
        JOIN idempotency_keys k USING (workspace_id, key) LEFT JOIN calls c ON c.id = k.call_id
        WHERE k.completed_at IS NULL AND k.call_id IS NOT NULL AND (c.id IS NULL OR c.completed_at IS NOT NULL)
            AND NOT EXISTS (SELECT FROM holds h WHERE h.call_id = k.call_id)""",
    ),
)

_COUNTERS: Final = """('GRANT', 'ISSUED'), ('USAGE', 'REVENUE'), ('SHORTFALL', 'REVENUE'), ('EXPIRY', 'EXPIRED'),
    ('REFUND', 'REFUNDED'), ('CLAWBACK', 'CLAWED_BACK'), ('TRANSFER_OUT', 'PAID_OUT'), ('EARNING', 'EARNINGS'),
    ('ADJUSTMENT', 'ADJUSTED'), ('ADJUSTMENT', 'EARNINGS')"""
ENTRY_CHECKS: Final = (
    Check(
        "entry-wallet",
        "each entry of a wallet has its wallet",
        """SELECT e.id::text, format('wallet %s, amount %s', e.wallet_id, e.amount_micro) FROM ledger_entries e
        WHERE e.id = ANY ($1) AND e.wallet_id IS NOT NULL AND NOT EXISTS (SELECT FROM wallets w WHERE w.id = e.wallet_id)""",
    ),
    Check(
        "entry-counter",
        "each entry names the counter-account of its kind",
        f"""SELECT e.id::text, format('%s against %s', e.kind, e.counter_account) FROM ledger_entries e
        WHERE e.id = ANY ($1) AND (e.kind, e.counter_account) NOT IN ({_COUNTERS})""",  # noqa: S608  constants
    ),
    Check(
        "entry-shortfall",
        "each shortfall belongs to a settled call",
        """SELECT e.id::text, format('call %s, amount %s', e.call_id, e.amount_micro) FROM ledger_entries e
        WHERE e.id = ANY ($1) AND e.kind = 'SHORTFALL' AND NOT EXISTS (
            SELECT FROM usage_events u WHERE u.call_id = e.call_id)""",
    ),
)

ACCOUNTS_CHECK: Final = Check(
    "accounts-zero", "over all accounts, the wallets' and the platform's, the sum is zero", ""
)
"""Counted while the entries are walked; see metering.reconcile."""
