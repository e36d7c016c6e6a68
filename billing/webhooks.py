"""Sends the deliveries that are due, each signed, again and again over days until its endpoint has taken it.

At least once: a worker that dies between sending and marking sends again, under the same `webhook-id`.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import orjson
from asyncpg import Record
from prometheus_client import Counter

from billing.egress import Answer, Egress
from billing.event_kinds import EventKind
from billing.events import emit
from billing.rules.egress import Network
from billing.rules.standard_webhooks import signed_headers
from billing.rules.webhook_retries import DisabledReason, judge
from kit.clock import now
from kit.ids import encode_id
from kit.sealing import Sealer, SealError, row_context
from models.database import Database, transaction
from models.pool import PoolConnection

LEASE: Final = timedelta(minutes=2)
"""How long a delivery taken by one worker is not taken by another; longer than an attempt may last."""
USER_AGENT: Final = "Tollgate-Webhooks/1"
_log = logging.getLogger(__name__)
_ATTEMPTS: Final = Counter("tollgate_webhook_attempts", "Webhooks sent, by how it ended.", ["outcome"])

_CLAIM: Final = """
UPDATE webhook_deliveries d SET due_at = $1::timestamptz + $2::interval, attempt = d.attempt + 1, attempted_at = $1
FROM (
    SELECT w.id FROM webhook_deliveries w JOIN webhook_endpoints p ON p.id = w.endpoint_id
    WHERE w.completed_at IS NULL AND w.due_at <= $1 AND p.deleted_at IS NULL AND p.disabled_at IS NULL
    ORDER BY w.due_at LIMIT $3 FOR UPDATE OF w SKIP LOCKED
) AS due, webhook_endpoints e, outbox_events o
WHERE d.id = due.id AND e.id = d.endpoint_id AND o.id = d.event_id
RETURNING d.id, d.attempt, d.endpoint_id, e.url, e.secret_encrypted, e.previous_secret_encrypted, e.previous_until,
    e.workspace_id, o.id AS event_id, o.kind, o.payload, o.created_at
"""
_END: Final = """
UPDATE webhook_deliveries SET completed_at = $2, due_at = coalesce($3, due_at), status_code = $4, error = $5 WHERE id = $1
"""
_WELL: Final = "UPDATE webhook_endpoints SET failing_since = NULL WHERE id = $1 AND failing_since IS NOT NULL"
_ILL: Final = """
UPDATE webhook_endpoints SET failing_since = coalesce(failing_since, $2) WHERE id = $1 RETURNING failing_since
"""
_DISABLE: Final = """
UPDATE webhook_endpoints SET disabled_at = $2, disabled_reason = $3 WHERE id = $1 AND disabled_at IS NULL RETURNING url
"""
STOP: Final = """
UPDATE webhook_deliveries SET completed_at = $2, error = $3
WHERE endpoint_id = $1 AND completed_at IS NULL
"""


@dataclass(frozen=True, slots=True)
class Message:
    """One webhook as it is sent."""

    id: str
    body: bytes

    @classmethod
    def of(cls, event_id: UUID, kind: str, workspace_id: UUID, facts: dict[str, object], at: datetime) -> "Message":
        """The event in the form of Standard Webhooks; the same bytes at every attempt."""
        data = {"workspaceId": encode_id("ws", workspace_id), **facts}
        body = orjson.dumps({"type": kind, "timestamp": at.isoformat().replace("+00:00", "Z"), "data": data})
        return cls(f"evt_{event_id.hex}", body)


async def deliver_webhooks(database: Database, sealer: Sealer, allowed: Sequence[Network], *, limit: int) -> int:
    """Send at most `limit` that are due, side by side; how many. Workers share the work: each delivery is leased."""
    at = now()
    async with transaction(database) as conn:
        rows = await conn.fetch(_CLAIM, at, LEASE, limit)
    if rows:
        async with Egress(allowed) as egress:
            # One that cannot be recorded must not cut off the others between sending and recording.
            ended = await asyncio.gather(
                *[_deliver(database, sealer, egress, row) for row in rows], return_exceptions=True
            )
        for error in ended:
            if error is not None:
                raise error
    return len(rows)


async def _deliver(database: Database, sealer: Sealer, egress: Egress, row: Record) -> None:
    at = now()
    message = Message.of(row["event_id"], row["kind"], row["workspace_id"], row["payload"], row["created_at"])
    secrets = _secrets(sealer, row, at)
    if secrets:
        headers = signed_headers(secrets, message.id, int(at.timestamp()), message.body)
        headers.update({"content-type": "application/json", "user-agent": USER_AGENT})
        answer = await egress.post(row["url"], message.body, headers)
    else:
        answer = Answer(None, "the signing secret cannot be read; rotate it")
    async with transaction(database) as conn:
        await _record(conn, row, answer)


def _secrets(sealer: Sealer, row: Record, at: datetime) -> list[bytes]:
    """The secrets to sign with: the current one, and the one before while it is still good."""
    found: list[bytes] = []
    sealed = [("secret_encrypted", row["secret_encrypted"])]
    if row["previous_until"] is not None and row["previous_until"] > at:
        sealed.append(("previous_secret_encrypted", row["previous_secret_encrypted"]))
    for column, seal in sealed:
        try:
            found.append(sealer.open(seal, row_context("webhook_endpoints", column, row["endpoint_id"])))
        except SealError:
            _log.warning("the %s of webhook endpoint %s cannot be opened", column, row["endpoint_id"])
    return found


async def _record(conn: PoolConnection, row: Record, answer: Answer) -> None:
    at = now()
    ok = answer.status_code is not None and 200 <= answer.status_code < 300
    failing_since = None if ok else await conn.fetchval(_ILL, row["endpoint_id"], at)
    verdict = judge(answer.status_code, row["attempt"], failing_since, at)
    error = None if verdict.delivered else answer.error or f"answered {answer.status_code}"
    over = None if verdict.retry_at is not None else at
    await conn.execute(_END, row["id"], over, verdict.retry_at, answer.status_code, error)
    _ATTEMPTS.labels("delivered" if verdict.delivered else "retried" if over is None else "failed").inc()
    if verdict.delivered:
        await conn.execute(_WELL, row["endpoint_id"])
    if verdict.disable is not None:
        await _disable(conn, row, verdict.disable, at)


async def _disable(conn: PoolConnection, row: Record, reason: DisabledReason, at: datetime) -> None:
    url = await conn.fetchval(_DISABLE, row["endpoint_id"], at, reason)
    if url is None:
        return  # another delivery's failure was first
    await conn.execute(STOP, row["endpoint_id"], at, "the endpoint was disabled")
    facts = {"endpointId": encode_id("hook", row["endpoint_id"]), "url": url, "reason": str(reason)}
    await emit(conn, EventKind.WEBHOOK_DISABLED, row["workspace_id"], facts)
