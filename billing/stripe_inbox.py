"""The inbox of what Stripe tells: verified and stored once, worked off later by object, swept for gaps, replayed by hand."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from asyncpg import Record

from billing.rules.stripe_values import StripeJson, instant, part, required_id, text
from billing.services import Billing
from billing.stripe_client import StripeAway, StripeForbidden, StripeRefused, read_event
from billing.stripe_link import StripeLink
from billing.stripe_objects import object_changed
from kit import clock
from kit.errors import Refusal
from kit.ids import uuid7
from models.database import Database, connection
from models.pool import PoolConnection

SOURCE: Final = "stripe"
LEASE: Final = timedelta(minutes=3)
"""Longer than the requests that one object takes; then another worker may try it."""

RETRIES: Final = (30, 120, 600, 3600, 6 * 3600, 24 * 3600)
"""Pauses in seconds after a failure of ours or Stripe's; the last one for all later tries."""

SWEEP_OVERLAP: Final = timedelta(hours=1)
SWEEP_EVERY: Final = timedelta(hours=24)
SWEEP_MOST: Final = timedelta(days=30)
"""Stripe keeps its events so long."""

HANDLED: Final = (
    "checkout.session.completed",
    "checkout.session.async_payment_succeeded",
    "checkout.session.async_payment_failed",
    "checkout.session.expired",
    "customer.updated",
    "customer.deleted",
    "customer.subscription.created",
    "customer.subscription.updated",
    "customer.subscription.deleted",
    "customer.subscription.paused",
    "customer.subscription.resumed",
    "customer.subscription.trial_will_end",
    "customer.subscription.pending_update_applied",
    "customer.subscription.pending_update_expired",
    "subscription_schedule.updated",
    "subscription_schedule.released",
    "subscription_schedule.canceled",
    "subscription_schedule.completed",
    "subscription_schedule.aborted",
    "invoice.finalized",
    "invoice.paid",
    "invoice.payment_failed",
    "invoice.payment_action_required",
    "invoice.finalization_failed",
    "invoice.voided",
    "invoice.marked_uncollectible",
    "invoice_payment.paid",
    "payment_intent.succeeded",
    "payment_intent.payment_failed",
    "payment_intent.requires_action",
    "payment_intent.processing",
    "payment_intent.canceled",
    "setup_intent.succeeded",
    "setup_intent.setup_failed",
    "payment_method.attached",
    "payment_method.detached",
    "payment_method.automatically_updated",
    "charge.refunded",
    "refund.created",
    "refund.updated",
    "refund.failed",
    "charge.dispute.created",
    "charge.dispute.closed",
    "charge.dispute.funds_withdrawn",
    "charge.dispute.funds_reinstated",
    "credit_note.created",
    "transfer.created",
    "transfer.reversed",
    "payout.paid",
    "payout.failed",
    "account.updated",
)
"""The kinds to choose for the webhook endpoint at Stripe; others are stored, and do nothing."""

_INSERT: Final = """INSERT INTO inbox_events (id, source, event_id, kind, object_id, payload, received_at, due_at)
    VALUES ($1, 'stripe', $2, $3, $4, $5, $6, $6) ON CONFLICT (source, event_id) DO NOTHING RETURNING true"""
_CLAIM: Final = """WITH due AS (SELECT DISTINCT ON (object_id) id, object_id FROM inbox_events e
        WHERE completed_at IS NULL AND due_at <= $1 AND object_id IS NOT NULL
          AND NOT EXISTS (SELECT FROM inbox_events l WHERE l.object_id = e.object_id AND l.completed_at IS NULL
              AND l.leased_until > $1)
        ORDER BY object_id, due_at LIMIT $3),
    taken AS (SELECT i.id FROM inbox_events i JOIN due USING (id) FOR UPDATE OF i SKIP LOCKED)
    UPDATE inbox_events e SET leased_until = $2, attempts = attempts + 1
    WHERE e.completed_at IS NULL AND e.object_id IN (SELECT object_id FROM due JOIN taken USING (id))
      AND (e.leased_until IS NULL OR e.leased_until <= $1)
    RETURNING e.id, e.object_id, e.payload, e.attempts, e.received_at"""
_DONE: Final = """UPDATE inbox_events SET completed_at = $2, leased_until = NULL, last_error = $3 WHERE id = ANY ($1)
    AND completed_at IS NULL"""
_FAILED: Final = """UPDATE inbox_events SET due_at = $2, leased_until = NULL, last_error = $3 WHERE id = ANY ($1)
    AND completed_at IS NULL"""
_NOTHING: Final = """UPDATE inbox_events SET completed_at = $1 WHERE completed_at IS NULL AND object_id IS NULL"""
_PAID_ACCOUNTS: Final = """SELECT stripe_account_id FROM payout_accounts a WHERE stripe_account_id IS NOT NULL
    AND EXISTS (SELECT FROM transfers t WHERE t.workspace_id = a.workspace_id AND t.updated_at > $1)"""
_SWEPT: Final = "SELECT swept_until FROM inbox_sweeps WHERE source = 'stripe'"
_SWEEP: Final = """INSERT INTO inbox_sweeps (id, source, swept_until) VALUES ($1, 'stripe', $2)
    ON CONFLICT (source) DO UPDATE SET swept_until = excluded.swept_until"""
_LIST: Final = """SELECT id, event_id, kind, object_id, received_at, attempts, completed_at, last_error, due_at
    FROM inbox_events WHERE source = 'stripe' AND ($1::text IS NULL OR kind LIKE $1 OR object_id LIKE $1 OR event_id LIKE $1)
      AND (NOT $2 OR completed_at IS NULL) ORDER BY received_at DESC, id DESC LIMIT $3"""
_REPLAY: Final = """UPDATE inbox_events SET completed_at = NULL, due_at = $2, leased_until = NULL, last_error = NULL
    WHERE source = 'stripe' AND (event_id = ANY ($1) OR object_id = ANY ($1)) RETURNING true"""
_PURGE: Final = """DELETE FROM inbox_events WHERE id IN (SELECT id FROM inbox_events WHERE completed_at < $1
    ORDER BY completed_at LIMIT $2)"""
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class InboxLine:
    """An event as the operator sees it."""

    event_id: str
    kind: str
    object_id: str | None
    received_at: datetime
    attempts: int
    completed_at: datetime | None
    last_error: str | None
    due_at: datetime


async def receive(database: Database, body: bytes, signature: str, secret: str) -> bool:
    """Verify a webhook on its raw body and store it; False where it is stored already. Raises BadSignature, Unavailable."""
    event = read_event(body, signature, secret)
    async with connection(database) as conn:
        return await _store(conn, event, clock.now())


async def work_inbox(billing: Billing, link: StripeLink, *, limit: int = 20) -> int:
    """Work off the objects that something was told of: each fetched anew, under a lease; how many events were done.

    All that waits for an object is done by one look at it. What fails waits longer each time, and never for ever.
    """
    now = clock.now()
    async with connection(link.database) as conn:
        await conn.execute(_NOTHING, now)
        rows = await conn.fetch(_CLAIM, now, now + LEASE, limit)
    by_object: dict[str, list[Record]] = {}
    for row in rows:
        by_object.setdefault(row["object_id"], []).append(row)
    done = 0
    for object_id, events in sorted(by_object.items(), key=lambda pair: min(row["received_at"] for row in pair[1])):
        done += await _work_off(billing, link, object_id, events)
    return done


async def sweep(link: StripeLink, *, force: bool = False) -> int:
    """Fetch what Stripe's own lists have and the inbox has not; how many events were missing. Once a day unless forced.

    The lists are the account's and those of the accounts that money was paid out to of late. Raises StripeAway: then the
    next sweep begins where this one did.
    """
    now = clock.now()
    async with connection(link.database) as conn:
        until: datetime | None = await conn.fetchval(_SWEPT)
    if until is not None and now < until + SWEEP_EVERY and not force:
        return 0
    since = max(now - SWEEP_MOST, (until or now - SWEEP_EVERY) - SWEEP_OVERLAP)
    events = await link.stripe.pages(
        lambda v1: v1.events.list_async({"created": {"gte": int(since.timestamp())}, "limit": 100})
    )
    missing = await _store_all(link, events, now)
    async with connection(link.database) as conn:
        accounts = [row["stripe_account_id"] for row in await conn.fetch(_PAID_ACCOUNTS, now - SWEEP_MOST)]
    for account in accounts:
        missing += await _store_all(link, await _events_of(link, account, since), now)
    async with connection(link.database) as conn:
        await conn.execute(_SWEEP, uuid7(), now)
    return missing


async def _store_all(link: StripeLink, events: Sequence[StripeJson], now: datetime) -> int:
    """The oldest first; how many were missing."""
    async with connection(link.database) as conn:
        return sum([await _store(conn, event, now) for event in reversed(events)])


async def _events_of(link: StripeLink, account: str, since: datetime) -> list[StripeJson]:
    """Of a connected account. One that is gone, or has taken its consent back, has none that could be told of."""
    created = int(since.timestamp())
    try:
        found = await link.stripe.pages(
            lambda v1: v1.events.list_async({"created": {"gte": created}, "limit": 100}, {"stripe_account": account})
        )
    except (StripeForbidden, StripeRefused) as problem:
        logger.warning("the events of account %s could not be swept: %s", account, problem)
        return []
    return [{**event, "account": account} for event in found]


async def list_inbox(database: Database, pattern: str | None, limit: int, *, only_open: bool) -> Sequence[InboxLine]:
    """The last events, those of a kind, an object or an id only where `pattern` says so (LIKE)."""
    async with connection(database) as conn:
        rows = await conn.fetch(_LIST, pattern, only_open, limit)
    return [
        InboxLine(
            event_id=row["event_id"],
            kind=row["kind"],
            object_id=row["object_id"],
            received_at=row["received_at"],
            attempts=row["attempts"],
            completed_at=row["completed_at"],
            last_error=row["last_error"],
            due_at=row["due_at"],
        )
        for row in rows
    ]


async def replay(database: Database, ids: Sequence[str]) -> int:
    """Have events, by their ids or their objects' ids, worked off once more; how many. Harmless: effects are keyed."""
    async with connection(database) as conn:
        return len(await conn.fetch(_REPLAY, list(ids), clock.now()))


async def purge_inbox(database: Database, *, limit: int = 500) -> int:
    """Forget what was done longer ago than a sweep looks back; how many events."""
    async with connection(database) as conn:
        answer: str = await conn.execute(_PURGE, clock.now() - 2 * SWEEP_MOST, limit)
    return int(answer.rsplit(" ", 1)[-1])


async def _work_off(billing: Billing, link: StripeLink, object_id: str, events: Sequence[Record]) -> int:
    ids: list[UUID] = [row["id"] for row in events]
    payload = part(events[-1]["payload"])
    kind, account = text(payload, "object") or "", text(payload, "account")
    error: str | None = None
    try:
        await object_changed(billing, link, object_id, kind, account)
    except StripeAway as away:
        return await _again(link, ids, events, away.problem)
    except StripeRefused as refused:
        if refused.code != "resource_missing":
            return await _again(link, ids, events, str(refused))
        error = refused.code  # it is gone, and so is what it would tell
    except Refusal as refusal:
        logger.exception("what Stripe told of %s was refused here", object_id)
        return await _again(link, ids, events, f"{refusal.code}: {refusal.message}")
    async with connection(link.database) as conn:
        await conn.execute(_DONE, ids, clock.now(), error)
    return len(ids)


async def _again(link: StripeLink, ids: Sequence[UUID], events: Sequence[Record], error: str) -> int:
    tries: int = max(row["attempts"] for row in events)
    pause = RETRIES[min(tries, len(RETRIES)) - 1]
    async with connection(link.database) as conn:
        await conn.execute(_FAILED, list(ids), clock.now() + timedelta(seconds=pause), error[:500])
    return 0


async def _store(conn: PoolConnection, event: StripeJson, now: datetime) -> bool:
    """What is kept is which object changed, and when: the object itself is fetched when it is worked off."""
    changed = part(event, "data", "object")
    created = instant(event, "created") or datetime.fromtimestamp(0, UTC)
    payload = {
        "object": text(changed, "object"),
        "account": text(event, "account"),
        "created": created.isoformat(),
        "livemode": event.get("livemode") is True,
    }
    object_id = text(changed, "id")
    if text(event, "type") not in HANDLED:
        object_id = None
    inserted = await conn.fetchval(
        _INSERT, uuid7(), required_id(event), text(event, "type") or "", object_id, payload, now
    )
    return bool(inserted)
