"""The rooms' services that resolvers ask: built once by app.lifespan."""

from dataclasses import dataclass
from typing import Protocol

from accounts.oidc import OidcVerifier
from accounts.principals import Principals
from accounts.services import Accounts
from accounts.views import Principal
from billing.catalog import CatalogHolder
from billing.publishing import Publishing
from billing.services import Billing
from billing.views import ModelView
from billing.webhook_endpoints import WebhookEndpoints
from gateway.assets import Assets
from gateway.callers import WorkspaceFacts, Workspaces
from gateway.calls import Calls
from gateway.jobs import Jobs
from gateway.outputs import Outputs
from gateway.streaming import Streams
from metering.ledger import Ledger
from metering.limiter import BucketState
from models.database import Database
from resolvers.live import Live


class RequestThrottle(Protocol):
    """The token buckets of a workspace and its keys; app.throttle is one."""

    async def take(
        self, principal: Principal, facts: WorkspaceFacts, requests: int, *, model: ModelView | None = None
    ) -> object:
        """Take so many requests, of the model's own bucket as well; kit.errors.RateLimited when there are not as many."""
        ...

    async def peek(self, principal: Principal, facts: WorkspaceFacts) -> BucketState:
        """The bucket that limits first, with nothing taken."""
        ...


@dataclass(frozen=True, slots=True)
class ResolverServices:
    """One per process."""

    database: Database
    ledger: Ledger
    catalog: CatalogHolder
    principals: Principals
    accounts: Accounts
    calls: Calls
    streams: Streams
    outputs: Outputs
    jobs: Jobs
    assets: Assets
    workspaces: Workspaces
    webhooks: WebhookEndpoints
    billing: Billing
    publishing: Publishing
    throttle: RequestThrottle
    live: Live
    identity: OidcVerifier | None = None
