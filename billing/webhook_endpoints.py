"""A workspace's webhook endpoints: making, changing, deleting and reading them, their secrets and their deliveries."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from asyncpg import Record

from billing.egress import Egress
from billing.event_kinds import EventKind
from billing.events import emit
from billing.rules.egress import Network
from billing.rules.standard_webhooks import SECRET_BYTES, secret_text
from billing.rules.webhook_retries import DisabledReason
from billing.services import Note, unnoted
from billing.webhook_errors import EndpointDisabled, TooManyEndpoints, UnknownEventKind
from billing.webhooks import STOP
from kit.clock import now
from kit.errors import InvalidInput, NotFound
from kit.ids import encode_id, uuid7
from kit.pages import Page, PageRequest, decode_cursor, encode_cursor
from kit.sealing import Sealer, row_context
from models.database import Database, connection, transaction

_SUBJECT: Final = "webhook_endpoint"
MAX_ENDPOINTS: Final = 20
MAX_DESCRIPTION: Final = 200
_CHOOSABLE: Final = frozenset(EventKind) - {EventKind.WEBHOOK_TEST}
OVERLAP: Final = timedelta(hours=24)
"""How long the old secret signs beside the new one."""

_COLUMNS: Final = (
    """id, workspace_id, url, description, event_kinds, disabled_at, disabled_reason, failing_since, created_at"""
)
_INSERT: Final = f"""
INSERT INTO webhook_endpoints (id, workspace_id, url, description, event_kinds, secret_encrypted, key_version, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING {_COLUMNS}
"""  # noqa: S608  the columns are ours
_LIST: Final = f"""
SELECT {_COLUMNS} FROM webhook_endpoints WHERE workspace_id = $1 AND deleted_at IS NULL ORDER BY created_at, id
"""  # noqa: S608  likewise
_ONE: Final = f"SELECT {_COLUMNS} FROM webhook_endpoints WHERE id = $1 AND deleted_at IS NULL"  # noqa: S608  likewise
_UPDATE: Final = f"""
UPDATE webhook_endpoints SET url = coalesce($2, url), description = coalesce($3, description),
    event_kinds = coalesce($4, event_kinds),
    disabled_at = CASE WHEN $5::boolean IS NULL THEN disabled_at WHEN $5 THEN NULL ELSE coalesce(disabled_at, $6) END,
    disabled_reason = CASE WHEN $5::boolean IS NULL THEN disabled_reason WHEN $5 THEN NULL
        ELSE coalesce(disabled_reason, $7) END,
    failing_since = CASE WHEN $5 THEN NULL ELSE failing_since END
WHERE id = $1 AND deleted_at IS NULL RETURNING {_COLUMNS}
"""  # noqa: S608  likewise
_DELETE: Final = """
UPDATE webhook_endpoints SET deleted_at = $2, secret_encrypted = '', previous_secret_encrypted = NULL
WHERE id = $1 AND deleted_at IS NULL RETURNING true
"""
_ROTATE: Final = f"""
UPDATE webhook_endpoints SET secret_encrypted = $2, key_version = $3, previous_secret_encrypted = $4, previous_until = $5
WHERE id = $1 AND deleted_at IS NULL RETURNING {_COLUMNS}
"""  # noqa: S608  likewise
_DELIVERIES: Final = """
SELECT d.id, d.endpoint_id, d.event_id, o.kind, d.attempt, d.due_at, d.attempted_at, d.status_code, d.error,
    d.completed_at, d.created_at
FROM webhook_deliveries d JOIN outbox_events o ON o.id = d.event_id
"""
_PAGE: Final = f"""{_DELIVERIES}
WHERE d.endpoint_id = $1 AND (d.created_at, d.id) < ($2, $3) ORDER BY d.created_at DESC, d.id DESC LIMIT $4
"""
_REPLAY: Final = """
UPDATE webhook_deliveries SET completed_at = NULL, due_at = $2, attempt = 0, error = NULL, status_code = NULL WHERE id = $1
"""


@dataclass(frozen=True, slots=True)
class EndpointView:
    """An endpoint without its secret."""

    id: UUID
    workspace_id: UUID
    url: str
    description: str
    event_kinds: tuple[str, ...]
    disabled_at: datetime | None
    disabled_reason: str | None
    failing_since: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class EndpointSecret:
    """An endpoint with its secret, which is shown this once."""

    endpoint: EndpointView
    secret: str


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """An event on its way to an endpoint. `due_at` counts while `completed_at` is None."""

    id: UUID
    endpoint_id: UUID
    event_id: UUID
    kind: str
    attempts: int
    due_at: datetime
    attempted_at: datetime | None
    status_code: int | None
    error: str | None
    completed_at: datetime | None
    created_at: datetime


class WebhookEndpoints:
    """One a process."""

    def __init__(self, database: Database, sealer: Sealer, allowed: Sequence[Network]) -> None:
        """`allowed`: networks that may be reached besides public ones."""
        self._database = database
        self._sealer = sealer
        self._allowed = tuple(allowed)

    async def create(
        self, workspace_id: UUID, url: str, event_kinds: Sequence[str], description: str, *, note: Note = unnoted
    ) -> EndpointSecret:
        """UrlRefused, UnknownEventKind, TooManyEndpoints."""
        kinds = _known(event_kinds)
        words = _described(description)
        await self._check(url)
        endpoint_id, raw = uuid7(), os.urandom(SECRET_BYTES)
        sealed = self._sealer.seal(raw, row_context("webhook_endpoints", "secret_encrypted", endpoint_id))
        async with transaction(self._database) as conn:
            await conn.execute("SELECT FROM workspaces WHERE id = $1 FOR UPDATE", workspace_id)
            if len(await conn.fetch(_LIST, workspace_id)) >= MAX_ENDPOINTS:
                raise TooManyEndpoints(MAX_ENDPOINTS)
            row = await conn.fetchrow(
                _INSERT, endpoint_id, workspace_id, url, words, kinds, sealed, self._sealer.current_version, now()
            )
            await note(conn, "webhook.create", _SUBJECT, endpoint_id, {"host": _host(url), "events": ", ".join(kinds)})
        return EndpointSecret(_view(row), secret_text(raw))

    async def of_workspace(self, workspace_id: UUID) -> list[EndpointView]:
        """All of them, the oldest first."""
        async with connection(self._database) as conn:
            return [_view(row) for row in await conn.fetch(_LIST, workspace_id)]

    async def get(self, endpoint_id: UUID) -> EndpointView:
        """One; NotFound."""
        async with connection(self._database) as conn:
            return _view(await conn.fetchrow(_ONE, endpoint_id))

    async def update(
        self,
        endpoint_id: UUID,
        *,
        url: str | None,
        event_kinds: Sequence[str] | None,
        description: str | None,
        enabled: bool | None,
        note: Note = unnoted,
    ) -> EndpointView:
        """Change what is given; enabling forgets its failures. UrlRefused, UnknownEventKind, NotFound."""
        kinds = None if event_kinds is None else _known(event_kinds)
        words = None if description is None else _described(description)
        if url is not None:
            await self._check(url)
        async with transaction(self._database) as conn:
            by_hand = DisabledReason.BY_HAND
            row = await conn.fetchrow(_UPDATE, endpoint_id, url, words, kinds, enabled, now(), by_hand)
            if enabled is False:
                await conn.execute(STOP, endpoint_id, now(), "the endpoint was disabled")
            view = _view(row)
            facts: dict[str, str] = {} if url is None else {"host": _host(url)}
            facts |= {} if kinds is None else {"events": ", ".join(kinds)}
            facts |= {} if enabled is None else {"enabled": str(enabled).lower()}
            await note(conn, "webhook.update", _SUBJECT, endpoint_id, facts)
        return view

    async def delete(self, endpoint_id: UUID, *, note: Note = unnoted) -> None:
        """Nothing is sent any more; its secret is gone at once. A repeat changes nothing."""
        async with transaction(self._database) as conn:
            if not await conn.fetchval(_DELETE, endpoint_id, now()):
                return
            await conn.execute(STOP, endpoint_id, now(), "the endpoint was deleted")
            await note(conn, "webhook.delete", _SUBJECT, endpoint_id, {})

    async def rotate(self, endpoint_id: UUID, *, note: Note = unnoted) -> EndpointSecret:
        """A new secret; the old one signs beside it for OVERLAP. NotFound."""
        raw = os.urandom(SECRET_BYTES)
        sealed = self._sealer.seal(raw, row_context("webhook_endpoints", "secret_encrypted", endpoint_id))
        async with transaction(self._database) as conn:
            old = await conn.fetchval(
                "SELECT secret_encrypted FROM webhook_endpoints WHERE id = $1 AND deleted_at IS NULL FOR UPDATE",
                endpoint_id,
            )
            if old is None:
                raise NotFound("there is no such endpoint")
            plain = self._sealer.open(old, row_context("webhook_endpoints", "secret_encrypted", endpoint_id))
            before = self._sealer.seal(
                plain, row_context("webhook_endpoints", "previous_secret_encrypted", endpoint_id)
            )
            version = self._sealer.current_version
            row = await conn.fetchrow(_ROTATE, endpoint_id, sealed, version, before, now() + OVERLAP)
            await note(conn, "webhook.rotate_secret", _SUBJECT, endpoint_id, {})
        return EndpointSecret(_view(row), secret_text(raw))

    async def deliveries(self, endpoint_id: UUID, request: PageRequest) -> Page[DeliveryView]:
        """What was sent or is to be sent to the endpoint, the newest first."""
        last = (datetime.max.replace(tzinfo=now().tzinfo), UUID(int=2**128 - 1))
        at, key = last if request.after is None else decode_cursor(request.after)
        async with connection(self._database) as conn:
            rows = await conn.fetch(_PAGE, endpoint_id, at, key, request.first + 1)
        found = tuple(DeliveryView(*row) for row in rows[: request.first])
        cursors = tuple(encode_cursor(each.created_at, each.id) for each in found)
        return Page(found, cursors, len(rows) > request.first, request.after is not None)

    async def delivery(self, delivery_id: UUID) -> DeliveryView:
        """One; NotFound."""
        async with connection(self._database) as conn:
            row = await conn.fetchrow(f"{_DELIVERIES} WHERE d.id = $1", delivery_id)
        if row is None:
            raise NotFound("there is no such delivery")
        return DeliveryView(*row)

    async def replay(self, delivery_id: UUID, *, note: Note = unnoted) -> DeliveryView:
        """Send it again now, with all its attempts before it. EndpointDisabled, NotFound."""
        found = await self.delivery(delivery_id)
        if (await self.get(found.endpoint_id)).disabled_at is not None:
            raise EndpointDisabled
        async with transaction(self._database) as conn:
            await conn.execute(_REPLAY, delivery_id, now())
            facts = {"delivery": str(delivery_id), "event": found.kind}
            await note(conn, "webhook.replay", _SUBJECT, found.endpoint_id, facts)
        return await self.delivery(delivery_id)

    async def send_test(self, endpoint_id: UUID, *, note: Note = unnoted) -> DeliveryView:
        """Send the endpoint an event that says nothing, to try it. EndpointDisabled, NotFound."""
        endpoint = await self.get(endpoint_id)
        if endpoint.disabled_at is not None:
            raise EndpointDisabled
        delivery_id, at = uuid7(), now()
        async with transaction(self._database) as conn:
            facts = {"endpointId": encode_id("hook", endpoint_id)}
            event_id = await emit(conn, EventKind.WEBHOOK_TEST, endpoint.workspace_id, facts)
            await conn.execute(
                "INSERT INTO webhook_deliveries (id, endpoint_id, event_id, due_at, created_at) VALUES ($1, $2, $3, $4, $4)",
                delivery_id,
                endpoint_id,
                event_id,
                at,
            )
            await note(conn, "webhook.send_test", _SUBJECT, endpoint_id, {"delivery": str(delivery_id)})
        return await self.delivery(delivery_id)

    async def _check(self, url: str) -> None:
        await Egress(self._allowed).check(url)


def _known(kinds: Sequence[str]) -> list[str]:
    if not kinds:
        raise UnknownEventKind("")
    for kind in kinds:
        if kind not in _CHOOSABLE:
            raise UnknownEventKind(kind)
    return sorted(set(kinds))


def _host(url: str) -> str:
    """What the log keeps of an address: its path may hold a secret of the receiver's."""
    return urlsplit(url).hostname or ""


def _described(text: str) -> str:
    if len(text) > MAX_DESCRIPTION or "\0" in text:
        raise InvalidInput(f"description may have at most {MAX_DESCRIPTION} characters", field=["description"])
    return text


def _view(row: Record | None) -> EndpointView:
    if row is None:
        raise NotFound("there is no such endpoint")
    return EndpointView(
        id=row["id"],
        workspace_id=row["workspace_id"],
        url=row["url"],
        description=row["description"],
        event_kinds=tuple(row["event_kinds"]),
        disabled_at=row["disabled_at"],
        disabled_reason=row["disabled_reason"],
        failing_since=row["failing_since"],
        created_at=row["created_at"],
    )
