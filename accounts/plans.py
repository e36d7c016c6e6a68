"""Reads what a workspace's plan allows, from the catalog in memory and its subscription."""

from uuid import UUID

from billing.catalog import CatalogHolder
from billing.plans import plan_in_force
from billing.rules.entitlements import Entitlements
from kit.clock import now
from models.database import Database


class CatalogPlans:
    """The PlanReader of a running process."""

    def __init__(self, database: Database, catalog: CatalogHolder) -> None:
        """`catalog` must have been loaded when `entitlements_of` is called."""
        self._database = database
        self._catalog = catalog

    async def entitlements_of(self, workspace_id: UUID) -> Entitlements:
        """As promised by PlanReader."""
        plan = await plan_in_force(self._database, self._catalog, workspace_id, now())
        return plan.entitlements
