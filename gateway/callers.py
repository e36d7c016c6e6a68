"""Which wallet and plan stand behind a workspace: cached in the process, so that a warm call asks no database."""

from collections import OrderedDict
from dataclasses import dataclass
from time import monotonic
from typing import Final
from uuid import UUID

from accounts.views import Environment, Principal
from billing.catalog import CatalogHolder
from billing.plans import plan_in_force
from billing.views import PlanView
from gateway.views import Caller
from kit.clock import now
from kit.errors import NotFound
from models.database import Database, connection

MAX_WORKSPACES: Final = 50_000
STORED_DAYS: Final = 30
"""How long outputs are stored under a plan that keeps assets for ever."""
FRESH_S: Final = 10.0
"""Age at which the facts are read anew: the bound on staleness when an invalidation is missed."""


@dataclass(frozen=True, slots=True)
class WorkspaceFacts:
    """What a call needs to know of its workspace. `concurrent_calls`: its own limit, else its plan's; None for none.

    `stored_days`: how long its outputs are stored, where it has turned that on (D12).
    """

    workspace_id: UUID
    wallet_id: UUID
    plan: PlanView
    concurrent_calls: int | None
    stored_days: int | None = None


def caller_of(principal: Principal, facts: WorkspaceFacts, request_id: str) -> Caller:
    """On whose behalf a call is made: of a person or a key that has been admitted, in the workspace that pays."""
    return Caller(
        request_id=request_id,
        workspace_id=facts.workspace_id,
        wallet_id=facts.wallet_id,
        plan=facts.plan,
        user_id=principal.user_id,
        api_key_id=principal.api_key_id,
        allowed_models=principal.allowed_models,
        concurrent_calls=facts.concurrent_calls,
        test=principal.environment is Environment.TEST,
        stored_days=facts.stored_days,
        cache_answers=principal.cache_answers,
    )


class Workspaces:
    """The facts of workspaces that called lately, at most 10 seconds old and dropped at once by `forget`."""

    def __init__(self, database: Database, catalog: CatalogHolder) -> None:
        """`catalog` is asked for its current snapshot at each read."""
        self._database = database
        self._catalog = catalog
        self._facts: OrderedDict[UUID, tuple[float, int, WorkspaceFacts]] = OrderedDict()
        self._epoch = 0
        """Counts what was forgotten: what was being read meanwhile may be older, and is not kept."""

    async def facts(self, workspace_id: UUID) -> WorkspaceFacts:
        """The facts; NotFound for a workspace that is deleted or was never there."""
        found = self._facts.get(workspace_id)
        number = self._catalog.current.number
        if found is not None and monotonic() - found[0] < FRESH_S and found[1] == number:
            return found[2]
        epoch = self._epoch
        facts = await self._read(workspace_id)
        if epoch != self._epoch:
            return facts
        self._facts[workspace_id] = (monotonic(), number, facts)
        self._facts.move_to_end(workspace_id)
        while len(self._facts) > MAX_WORKSPACES:
            self._facts.popitem(last=False)
        return facts

    def forget(self, workspace_id: UUID) -> None:
        """Read anew at the next call: its plan or limits changed."""
        self._epoch += 1
        self._facts.pop(workspace_id, None)

    def forget_all(self) -> None:
        """After invalidations may have been missed."""
        self._epoch += 1
        self._facts.clear()

    async def _read(self, workspace_id: UUID) -> WorkspaceFacts:
        async with connection(self._database) as conn:  # Unavailable, not asyncpg's own errors, where it is away
            row = await conn.fetchrow(_FACTS, workspace_id)
        if row is None:
            raise NotFound("there is no such workspace")
        plan = await plan_in_force(self._database, self._catalog, workspace_id, now())
        limit: int | None = row["concurrent_calls_limit"]
        return WorkspaceFacts(
            workspace_id,
            row["wallet_id"],
            plan,
            plan.entitlements.concurrent_calls if limit is None else limit,
            (plan.entitlements.asset_retention_days or STORED_DAYS) if row["store_outputs"] else None,
        )


_FACTS: Final = """
    SELECT wallets.id AS wallet_id, workspaces.concurrent_calls_limit, workspaces.store_outputs
    FROM workspaces JOIN wallets ON wallets.workspace_id = workspaces.id
    WHERE workspaces.id = $1 AND workspaces.deleted_at IS NULL
"""
