"""API keys: making, changing, rotating, revoking and listing them."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg import Record

from accounts import audit
from accounts.errors import KeyEnded, NotFoundHere, NotInPlan, TooMany
from accounts.invalidation import Change, ChangeKind
from accounts.rules import key_form
from accounts.rules.key_terms import KeyTerms, check_overlap, checked
from accounts.rules.roles import ApiScope
from accounts.services import Accounts
from accounts.views import Actor, ActorKind, ApiKeySecret, ApiKeyView, Environment
from kit.clock import now
from kit.ids import uuid7
from kit.pages import Page, PageRequest, decode_cursor, encode_cursor, pages_of
from metering.spend_limits import clear_limit, limits_of, set_limit
from models.database import connection, transaction
from models.pool import PoolConnection

MAX_LIVE_KEYS: Final = 500
"""Live keys of a workspace where its plan names no lower number."""


async def create_key(
    accounts: Accounts, actor: Actor, workspace_id: UUID, terms: KeyTerms, environment: Environment = Environment.LIVE
) -> ApiKeySecret:
    """A new key and its secret, shown here only. NotInPlan without API access, TooMany, InvalidInput."""
    at = now()
    stored = checked(terms, at)
    entitlements = await accounts.plans.entitlements_of(workspace_id)
    if not entitlements.api_access:
        raise NotInPlan("API access")
    limit = min(MAX_LIVE_KEYS, entitlements.api_keys_limit or MAX_LIVE_KEYS)
    async with transaction(accounts.database) as conn:
        await _lock_workspace(conn, workspace_id)
        live = await conn.fetchval(
            "SELECT count(*) FROM api_keys WHERE workspace_id = $1 AND revoked_at IS NULL"
            " AND (expires_at IS NULL OR expires_at > $2)",
            workspace_id,
            at,
        )
        if live >= limit:
            raise TooMany("API keys", limit)
        made = await _insert(conn, actor, workspace_id, stored, environment, at)
        await audit.record(
            conn,
            actor,
            "api_key.create",
            "api_key",
            made.key.id,
            workspace_id=workspace_id,
            facts={"scopes": [*stored.scopes], "environment": environment, "cache_answers": stored.cache_answers},
        )
    return made


async def update_key(
    accounts: Accounts, actor: Actor, workspace_id: UUID, key_id: UUID, change: Callable[[KeyTerms], KeyTerms]
) -> ApiKeyView:
    """Change a live key's terms. KeyEnded, NotFoundHere, InvalidInput, and what `change` raises.

    It is given the terms as they stand under the lock, so that it undoes nothing that is changed at the same time.
    A key within the overlap of its rotation has ended in this sense: a change must not lengthen its life.
    """
    at = now()
    async with transaction(accounts.database) as conn:
        before = await _locked(conn, workspace_id, key_id)
        if _has_ended(before, at) or before.rotated_to is not None:
            raise KeyEnded
        terms = change(terms_of(before))
        kept_end = before.expires_at is not None and terms.expires_at == before.expires_at
        stored = checked(replace(terms, expires_at=None) if kept_end else terms, at)
        await conn.execute(
            "UPDATE api_keys SET name = $2, scopes = $3, models = $4, addresses = $5, requests_per_hour = $6,"
            " expires_at = $7, cache_answers = $8 WHERE id = $1",
            key_id,
            stored.name,
            list(stored.scopes),
            stored.models,
            stored.addresses,
            stored.requests_per_hour,
            terms.expires_at,
            stored.cache_answers,
        )
        if stored.monthly_limit_micro != before.monthly_limit_micro:
            await _set_limit(conn, workspace_id, key_id, stored.monthly_limit_micro, at)
        await audit.record(
            conn,
            actor,
            "api_key.update",
            "api_key",
            key_id,
            workspace_id=workspace_id,
            facts={"scopes": [*stored.scopes], "cache_answers": stored.cache_answers},
        )
        after = await _locked(conn, workspace_id, key_id)
    await accounts.invalidations.publish(Change(ChangeKind.API_KEY, key_id))
    return after


async def rotate_key(
    accounts: Accounts, actor: Actor, workspace_id: UUID, key_id: UUID, overlap_s: int = 0
) -> ApiKeySecret:
    """A new secret on the same terms; the old one ends after the overlap, at once without. KeyEnded, NotFoundHere.

    The new key begins its own month of credits: the limits of both hold during the overlap.
    """
    overlap = check_overlap(overlap_s)
    at = now()
    async with transaction(accounts.database) as conn:
        old = await _locked(conn, workspace_id, key_id)
        if _has_ended(old, at) or old.rotated_to is not None:
            raise KeyEnded
        made = await _insert(conn, actor, workspace_id, terms_of(old), old.environment, at)
        ends_at = at + overlap if old.expires_at is None else min(old.expires_at, at + overlap)
        await conn.execute(
            "UPDATE api_keys SET rotated_to = $2, expires_at = $3, revoked_at = $4 WHERE id = $1",
            key_id,
            made.key.id,
            ends_at,
            at if ends_at <= at else None,
        )
        await audit.record(
            conn,
            actor,
            "api_key.rotate",
            "api_key",
            key_id,
            workspace_id=workspace_id,
            facts={"rotated_to": str(made.key.id), "overlap_s": overlap_s},
        )
    await accounts.invalidations.publish(Change(ChangeKind.API_KEY, key_id))
    return made


async def revoke_key(accounts: Accounts, actor: Actor, workspace_id: UUID | None, key_id: UUID) -> ApiKeyView:
    """End a key everywhere within a second; the second time changes nothing. `workspace_id` None: an operator's reach."""
    async with transaction(accounts.database) as conn:
        before = await _locked(conn, workspace_id, key_id)
        if before.revoked_at is None:
            await conn.execute("UPDATE api_keys SET revoked_at = $2 WHERE id = $1", key_id, now())
            await audit.record(conn, actor, "api_key.revoke", "api_key", key_id, workspace_id=before.workspace_id)
        after = await _locked(conn, before.workspace_id, key_id)
    await accounts.invalidations.publish(Change(ChangeKind.API_KEY, key_id))
    return after


async def keys_by_ids(accounts: Accounts, key_ids: Sequence[UUID]) -> dict[UUID, ApiKeyView]:
    """These keys, ended ones included; says nothing about who may see them."""
    async with connection(accounts.database) as conn:
        rows = await conn.fetch("SELECT * FROM api_keys WHERE id = ANY($1::uuid[])", list(key_ids))
        return {view.id: view for view in await _views(conn, rows)}


async def keys_of_workspace(accounts: Accounts, workspace_id: UUID, request: PageRequest) -> Page[ApiKeyView]:
    """The keys of a workspace, ended ones included, the newest first."""
    return (await keys_of_workspaces(accounts, [workspace_id], request))[workspace_id]


async def keys_of_workspaces(
    accounts: Accounts, workspace_ids: Sequence[UUID], request: PageRequest
) -> dict[UUID, Page[ApiKeyView]]:
    """The same page of each of these workspaces."""
    after = decode_cursor(request.after) if request.after else (None, None)
    async with connection(accounts.database) as conn:
        rows = await conn.fetch(
            "SELECT found.* FROM unnest($1::uuid[]) AS parent(id) CROSS JOIN LATERAL (SELECT * FROM api_keys"
            " WHERE workspace_id = parent.id AND ($2::timestamptz IS NULL OR (created_at, id) < ($2, $3))"
            " ORDER BY created_at DESC, id DESC LIMIT $4) AS found ORDER BY found.created_at DESC, found.id DESC",
            list(workspace_ids),
            after[0],
            after[1],
            request.first + 1,
        )
        views = await _views(conn, rows)
    found = [(view.workspace_id, view) for view in views]
    return pages_of(workspace_ids, found, request, lambda view: encode_cursor(view.created_at, view.id))


def terms_of(key: ApiKeyView) -> KeyTerms:
    """The terms a key has now, to change some of them with dataclasses.replace."""
    return KeyTerms(
        name=key.name,
        scopes=tuple(sorted(key.scopes)),
        models=key.models,
        addresses=key.addresses,
        requests_per_hour=key.requests_per_hour,
        monthly_limit_micro=key.monthly_limit_micro,
        expires_at=key.expires_at,
        cache_answers=key.cache_answers,
    )


async def _insert(
    conn: PoolConnection,
    actor: Actor,
    workspace_id: UUID,
    terms: KeyTerms,
    environment: Environment,
    at: datetime,
) -> ApiKeySecret:
    secret = key_form.compose(environment, os.urandom(32))
    key_id = uuid7()
    row = await conn.fetchrow(
        "INSERT INTO api_keys (id, workspace_id, created_by, name, environment, prefix, digest, scopes, models, addresses,"
        " requests_per_hour, created_at, expires_at, cache_answers)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) RETURNING *",
        key_id,
        workspace_id,
        actor.id if actor.kind is ActorKind.USER else None,
        terms.name,
        environment,
        secret[: key_form.PREFIX_LENGTH],
        key_form.digest_of(secret),
        list(terms.scopes),
        terms.models,
        terms.addresses,
        terms.requests_per_hour,
        at,
        terms.expires_at,
        terms.cache_answers,
    )
    await _set_limit(conn, workspace_id, key_id, terms.monthly_limit_micro, at)
    assert row is not None, "INSERT … RETURNING answers a row"
    return ApiKeySecret(key=_view(row, terms.monthly_limit_micro), secret=secret)


async def _set_limit(
    conn: PoolConnection, workspace_id: UUID, key_id: UUID, limit_micro: int | None, at: datetime
) -> None:
    if limit_micro is None:
        await clear_limit(conn, "API_KEY", key_id, "MONTH")
    else:
        await set_limit(conn, workspace_id, "API_KEY", key_id, "MONTH", limit_micro, at)


async def _lock_workspace(conn: PoolConnection, workspace_id: UUID) -> None:
    found = await conn.fetchval(
        "SELECT 1 FROM workspaces WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE", workspace_id
    )
    if found is None:
        raise NotFoundHere("workspace")


async def _locked(conn: PoolConnection, workspace_id: UUID | None, key_id: UUID) -> ApiKeyView:
    row = await conn.fetchrow(
        "SELECT * FROM api_keys WHERE id = $1 AND ($2::uuid IS NULL OR workspace_id = $2) FOR NO KEY UPDATE",
        key_id,
        workspace_id,
    )
    if row is None:
        raise NotFoundHere("API key")
    return (await _views(conn, [row]))[0]


def _has_ended(key: ApiKeyView, at: datetime) -> bool:
    return key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= at)


async def _views(conn: PoolConnection, rows: Sequence[Record]) -> tuple[ApiKeyView, ...]:
    found = await limits_of(conn, "API_KEY", [row["id"] for row in rows])
    limits = {limit.subject_id: limit.limit_micro for limit in found if limit.period == "MONTH"}
    return tuple(_view(row, limits.get(row["id"])) for row in rows)


def _view(row: Record, monthly_limit_micro: int | None) -> ApiKeyView:
    return ApiKeyView(
        id=row["id"],
        workspace_id=row["workspace_id"],
        created_by=row["created_by"],
        name=row["name"],
        environment=Environment(row["environment"]),
        prefix=row["prefix"],
        scopes=frozenset(ApiScope(scope) for scope in row["scopes"]),
        models=None if row["models"] is None else tuple(row["models"]),
        addresses=None if row["addresses"] is None else tuple(row["addresses"]),
        requests_per_hour=row["requests_per_hour"],
        monthly_limit_micro=monthly_limit_micro,
        cache_answers=row["cache_answers"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        last_used_at=row["last_used_at"],
        rotated_to=row["rotated_to"],
    )
