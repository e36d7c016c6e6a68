"""Answers which plan holds for a workspace: its subscription's, else its own default, else the catalog's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from billing.catalog import CatalogHolder, Snapshot
from billing.errors import NotInPlan, UnknownPlan
from billing.rules.entitlements import FEATURE_NAMES
from billing.rules.standing import gives_plan
from billing.views import PlanView
from models.database import Database, connection, transaction
from models.pool import PoolConnection

_STANDINGS: Final = """
    SELECT w.id, w.default_plan_id, s.plan_id, s.status, s.current_period_end, s.grace_ends_at, s.cancel_at_period_end
    FROM workspaces w LEFT JOIN subscriptions s ON s.workspace_id = w.id AND s.ended_at IS NULL
    WHERE w.id = ANY($1)"""


@dataclass(frozen=True, slots=True)
class Standing:
    """Which plans a workspace stands on, by id. `subscribed`: its subscription gives `plan_id` (A9)."""

    plan_id: UUID | None
    subscribed: bool


async def plan_of(database: Database, snapshot: Snapshot, workspace_id: UUID, now: datetime) -> PlanView:
    """The plan that holds for a workspace at an instant; the catalog's default for one that does not exist."""
    standings = await standings_of(database, [workspace_id], now)
    return effective_plan(snapshot, standings.get(workspace_id))


async def plan_in_force(database: Database, holder: CatalogHolder, workspace_id: UUID, now: datetime) -> PlanView:
    """As `plan_of`, with the catalog loaded anew where the workspace stands on a plan that this process has not seen."""
    standing = (await standings_of(database, [workspace_id], now)).get(workspace_id)
    if standing is not None and standing.plan_id is not None and standing.plan_id not in holder.current.plans_by_id:
        await holder.reload()
    return effective_plan(holder.current, standing)


async def plans_of(
    database: Database, snapshot: Snapshot, workspace_ids: Sequence[UUID], now: datetime
) -> dict[UUID, PlanView]:
    """The same for many workspaces in one query."""
    standings = await standings_of(database, workspace_ids, now)
    return {workspace_id: effective_plan(snapshot, standings.get(workspace_id)) for workspace_id in workspace_ids}


async def standings_of(database: Database, workspace_ids: Sequence[UUID], now: datetime) -> dict[UUID, Standing]:
    """Where each workspace that exists stands."""
    async with connection(database) as checked:
        rows = await checked.fetch(_STANDINGS, list(workspace_ids))
    standings: dict[UUID, Standing] = {}
    for row in rows:
        subscribed = row["status"] is not None and gives_plan(
            row["status"],
            now,
            current_period_end=row["current_period_end"],
            grace_ends_at=row["grace_ends_at"],
            cancel_at_period_end=row["cancel_at_period_end"],
        )
        standings[row["id"]] = Standing(row["plan_id"] if subscribed else row["default_plan_id"], subscribed)
    return standings


def effective_plan(snapshot: Snapshot, standing: Standing | None) -> PlanView:
    """The plan that a standing means. One that this process's snapshot does not know yet is the default until it does."""
    if standing is None or standing.plan_id is None:
        return snapshot.default_plan
    return snapshot.plans_by_id.get(standing.plan_id, snapshot.default_plan)


async def give_plan(
    database: Database, snapshot: Snapshot, workspace_id: UUID, plan_code: str | None, *, now: datetime
) -> PlanView:
    """Make a plan the workspace's own default, without a subscription (D10); None goes back to the catalog's.

    UnknownPlan where there is none of this code, or it is for another workspace.
    """
    async with transaction(database) as checked:
        return await give_plan_within(checked, snapshot, workspace_id, plan_code, now=now)


async def give_plan_within(
    conn: PoolConnection, snapshot: Snapshot, workspace_id: UUID, plan_code: str | None, *, now: datetime
) -> PlanView:
    """The same in the caller's transaction."""
    plan = None if plan_code is None else snapshot.plans_by_code.get(plan_code)
    if plan_code is not None and (plan is None or plan.workspace_id not in {None, workspace_id}):
        raise UnknownPlan(plan_code)
    await conn.execute(
        "UPDATE workspaces SET default_plan_id = $2, updated_at = $3 WHERE id = $1",
        workspace_id,
        plan.id if plan else None,
        now,
    )
    return plan or snapshot.default_plan


def require_feature(snapshot: Snapshot, plan: PlanView, feature: str) -> None:
    """NotInPlan unless the plan's yes-or-no entitlement of this name, such as "api_access", is true."""
    if not has_feature(plan, feature):
        others = [other.name for other in snapshot.plans_on_offer() if has_feature(other, feature)]
        raise NotInPlan(FEATURE_NAMES[feature], plan.name, others)


def has_feature(plan: PlanView, feature: str) -> bool:
    """Whether the plan includes a feature of FEATURE_NAMES; KeyError for any other name."""
    features: Mapping[str, bool] = {
        "api_access": plan.entitlements.api_access,
        "team_management": plan.entitlements.team_management,
        "credit_packs": plan.entitlements.credit_packs,
        "monetization": plan.entitlements.monetization,
        "chained_models": plan.entitlements.chained_models,
        "branding": plan.entitlements.branding,
    }
    return features[feature]
