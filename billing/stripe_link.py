"""What the files that speak with Stripe share: the account, the tables, the catalog and our own address."""

from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from billing.catalog import CatalogHolder
from billing.errors import UnknownWorkspace
from billing.rules.stripe_values import required_id
from billing.stripe_client import Stripe
from models.database import Database, connection

_WORKSPACE: Final = """SELECT w.stripe_customer_id, w.name, (SELECT u.email FROM members m JOIN users u ON u.id = m.user_id
    WHERE m.workspace_id = w.id AND m.role = 'OWNER' AND m.removed_at IS NULL ORDER BY m.joined_at LIMIT 1) AS email
    FROM workspaces w WHERE w.id = $1"""
_SAVE: Final = """UPDATE workspaces SET stripe_customer_id = coalesce(stripe_customer_id, $2) WHERE id = $1
    RETURNING stripe_customer_id"""


@dataclass(frozen=True, slots=True)
class StripeLink:
    """`public_url`: where customers come back to when a caller names no page of its own. `secret_key` digests fingerprints."""

    stripe: Stripe
    database: Database
    catalog: CatalogHolder
    public_url: str
    secret_key: bytes = field(default=b"", repr=False)

    @property
    def return_url(self) -> str:
        """The page to come back to, for callers that name none."""
        return f"{self.public_url}/billing/return"

    @property
    def paid_url(self) -> str:
        """The same after a checkout, with the session's id, which Stripe fills in."""
        return f"{self.return_url}?session_id={{CHECKOUT_SESSION_ID}}"


async def customer_of(link: StripeLink, workspace_id: UUID) -> str:
    """The workspace's customer at Stripe, made when it is first needed (A1). Raises UnknownWorkspace, StripeAway.

    The request that makes it carries nothing that can change, so that its repeat is the same request.
    """
    async with connection(link.database) as conn:
        row = await conn.fetchrow(_WORKSPACE, workspace_id)
    if row is None:
        raise UnknownWorkspace
    if row["stripe_customer_id"] is not None:
        return row["stripe_customer_id"]
    made = await link.stripe.call(
        lambda v1: v1.customers.create_async(
            {"metadata": {"workspace_id": str(workspace_id)}}, {"idempotency_key": f"ws:{workspace_id}:customer"}
        )
    )
    customer_id = required_id(made)
    email: str | None = row["email"]
    name: str = row["name"]
    await link.stripe.call(
        lambda v1: v1.customers.update_async(
            customer_id, {"name": name} if email is None else {"name": name, "email": email}
        )
    )
    async with connection(link.database) as conn:
        return await conn.fetchval(_SAVE, workspace_id, customer_id)


async def known_customer(link: StripeLink, workspace_id: UUID) -> str | None:
    """The customer where there is one already."""
    async with connection(link.database) as conn:
        return await conn.fetchval("SELECT stripe_customer_id FROM workspaces WHERE id = $1", workspace_id)


async def workspace_of(link: StripeLink, customer_id: str | None) -> UUID | None:
    """Whose customer it is; None for one of another installation."""
    if customer_id is None:
        return None
    async with connection(link.database) as conn:
        return await conn.fetchval("SELECT id FROM workspaces WHERE stripe_customer_id = $1", customer_id)


async def next_fetch(link: StripeLink) -> int:
    """A number drawn before something is fetched: what is written from an older fetch does not replace a newer one's."""
    async with connection(link.database) as conn:
        return await conn.fetchval("SELECT nextval('stripe_fetches')")
