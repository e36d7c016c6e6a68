"""The demo that `tollgate run` seeds once: a user, a workspace with credits, and an API key kept beside the data."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from accounts.api_keys import create_key
from accounts.errors import NotInPlan
from accounts.rules.emails import parse_email
from accounts.rules.key_form import digest_of
from accounts.rules.key_terms import KeyTerms
from accounts.rules.roles import ApiScope
from accounts.users import insert_user
from accounts.views import Actor, ActorKind, Environment
from accounts.workspaces import open_workspace
from app.lifespan import Services
from billing.catalog import Snapshot
from billing.plans import give_plan, give_plan_within, plan_of
from billing.views import PlanView
from kit.clock import now
from kit.ids import uuid7
from kit.money import MICRO, credits_micro_for_usd, format_micro
from metering.operations import Grant
from metering.views import Posted
from metering.wallets import wallets_by_workspace
from models.database import connection, transaction
from models.enums import GrantKind

DEMO_ADDRESS: Final = "demo@example.com"
DEMO_WORKSPACE: Final = "Example"
"""Its slug is made of it, and `demo` is reserved."""
DEMO_MODEL: Final = "sandbox-chat"
DEMO_USD_MICRO: Final = 10 * MICRO
"""What the demo workspace may spend: credits worth 10 dollars."""

_OPERATOR: Final = Actor(kind=ActorKind.SYSTEM)


@dataclass(frozen=True, slots=True)
class Demo:
    """What `tollgate run` prints. `available`: credits, as a text. `api_key` None: its plan has no API access."""

    workspace_name: str
    api_key: str | None
    available: str


async def seed_demo(services: Services) -> Demo:
    """The demo workspace and its key: made at the first start, found again at every later one.

    Before the worker begins, which would subscribe a new workspace to a free default plan.
    """
    workspace_id = await _workspace(services)
    key = await _key(services, workspace_id)
    wallet = (await wallets_by_workspace(services.database, [workspace_id], now()))[workspace_id]
    return Demo(DEMO_WORKSPACE, key, format_micro(wallet.available_micro))


async def _workspace(services: Services) -> UUID:
    address = parse_email(DEMO_ADDRESS)
    async with transaction(services.database) as conn:
        found: UUID | None = await conn.fetchval(_FIND, address.key)
        if found is not None:
            return found
        user = await insert_user(conn, address, "Demo")
        await conn.execute(_CONFIRMED, user.id, now())  # else the first link in a mail would open another workspace
        workspace = await open_workspace(conn, _OPERATOR, user.id, DEMO_WORKSPACE)
        snapshot = services.catalog.current
        plan = _plan_with_access(snapshot, snapshot.default_plan)
        if plan is not None:
            await give_plan_within(conn, snapshot, workspace.id, plan.code, now=now())
        (outcome,) = await services.ledger.post(conn, [_grant(snapshot, workspace.wallet_id)])
        assert isinstance(outcome, Posted), outcome
        return workspace.id


def _grant(snapshot: Snapshot, wallet_id: UUID) -> Grant:
    return Grant(
        grant_id=uuid7(),
        wallet_id=wallet_id,
        kind=GrantKind.BONUS.value,
        amount_micro=credits_micro_for_usd(DEMO_USD_MICRO, snapshot.credits_per_usd),
        effective_at=now(),
        expires_at=None,
        source_kind="SEED",
        source_id="demo",
        description="Demo credits",
        burn_rank=snapshot.burn_ranks[GrantKind.BONUS],
    )


async def _key(services: Services, workspace_id: UUID) -> str | None:
    kept = services.settings.data_dir / "demo_key"
    if kept.exists():
        secret = kept.read_text(encoding="ascii").strip()
        async with connection(services.database) as conn:
            if await conn.fetchval(_KEY_LIVES, digest_of(secret), workspace_id):
                return secret
    snapshot = services.catalog.current
    plan = _plan_with_access(snapshot, await plan_of(services.database, snapshot, workspace_id, now()))
    if plan is not None:  # the catalog has changed since its first start
        await give_plan(services.database, snapshot, workspace_id, plan.code, now=now())
    terms = KeyTerms(name="demo", scopes=tuple(ApiScope))
    environment = Environment(services.settings.environment.value)
    try:
        made = await create_key(services.accounts, _OPERATOR, workspace_id, terms, environment)
    except NotInPlan:  # no plan has it, or a subscription of the demo's own stands before the plan it was given
        return None
    _keep(kept, made.secret)
    return made.secret


def _plan_with_access(snapshot: Snapshot, plan: PlanView) -> PlanView | None:
    """Where this plan has no API access (C1), one that has it, and the demo's model, if there is any."""
    if plan.entitlements.api_access:
        return None
    model = snapshot.models_by_slug.get(DEMO_MODEL)
    with_access = [offered for offered in snapshot.plans_on_offer() if offered.entitlements.api_access]
    with_access.sort(key=lambda offered: model is None or not snapshot.allowed(offered, model))
    return with_access[0] if with_access else None


def _keep(path: Path, secret: str) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secret)


_FIND: Final = """
    SELECT workspaces.id FROM workspaces JOIN users ON users.id = workspaces.created_by
    WHERE users.email_key = $1 AND users.erased_at IS NULL AND workspaces.deleted_at IS NULL
    ORDER BY workspaces.id LIMIT 1
"""
_CONFIRMED: Final = "UPDATE users SET email_verified_at = $2 WHERE id = $1 AND email_verified_at IS NULL"
_KEY_LIVES: Final = """
    SELECT EXISTS (SELECT FROM api_keys WHERE digest = $1 AND workspace_id = $2 AND revoked_at IS NULL
        AND (expires_at IS NULL OR expires_at > now()))
"""
