"""A workspace's customer at Stripe: made when it is first needed (A1), forgotten when somebody has deleted it there."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar
from uuid import UUID

from asyncpg import Record

from billing.errors import UnknownWorkspace
from billing.payment_methods import forget_customer
from billing.rules.stripe_values import flag, required_id
from billing.stripe_client import StripeRefused
from billing.stripe_link import StripeLink
from models.database import connection

GONE: Final = "resource_missing"
"""Stripe's code where a request names what is deleted, or was never there."""

_WORKSPACE: Final = """SELECT w.stripe_customer_id, w.name, (SELECT u.email FROM members m JOIN users u ON u.id = m.user_id
    WHERE m.workspace_id = w.id AND m.role = 'OWNER' AND m.removed_at IS NULL ORDER BY m.joined_at LIMIT 1) AS email,
    (SELECT count(*) FROM former_customers f WHERE f.workspace_id = w.id) AS deleted
    FROM workspaces w WHERE w.id = $1"""
_SAVE: Final = """UPDATE workspaces SET stripe_customer_id = coalesce(stripe_customer_id, $2) WHERE id = $1
    AND NOT EXISTS (SELECT FROM former_customers WHERE stripe_customer_id = $2) RETURNING stripe_customer_id"""
_WHOSE: Final = """SELECT id FROM workspaces WHERE stripe_customer_id = $1
    UNION ALL SELECT workspace_id FROM former_customers WHERE stripe_customer_id = $1 LIMIT 1"""
_ALL: Final = """SELECT stripe_customer_id AS id FROM workspaces WHERE id = $1 AND stripe_customer_id IS NOT NULL
    UNION ALL (SELECT stripe_customer_id FROM former_customers WHERE workspace_id = $1 ORDER BY deleted_at DESC)"""
logger = logging.getLogger(__name__)

_T = TypeVar("_T")


async def customer_of(link: StripeLink, workspace_id: UUID) -> str:
    """The workspace's customer at Stripe, made when it is first needed (A1). Raises UnknownWorkspace, StripeAway.

    The request that makes it carries nothing that can change, so that its repeat is the same request. One that was
    deleted at Stripe is followed by another, under another key: the last one's would answer with what is gone.
    """
    while True:
        async with connection(link.database) as conn:
            row = await conn.fetchrow(_WORKSPACE, workspace_id)
        if row is None:
            raise UnknownWorkspace
        if row["stripe_customer_id"] is not None:
            return row["stripe_customer_id"]
        customer_id = await _make(link, workspace_id, row["deleted"])
        try:
            await _name(link, customer_id, row)
        except StripeRefused as refused:  # deleted before it was written down here
            if not await was_deleted(link, workspace_id, customer_id, refused):
                raise
            continue
        async with connection(link.database) as conn:
            saved: str | None = await conn.fetchval(_SAVE, workspace_id, customer_id)
        if saved is not None:
            return saved


async def with_customer(link: StripeLink, workspace_id: UUID, ask: Callable[[str], Awaitable[_T]]) -> _T:
    """Ask something in the name of the workspace's customer; where it was deleted at Stripe, in the name of a new one.

    Raises what `ask` raises, UnknownWorkspace, StripeAway.
    """
    customer = await customer_of(link, workspace_id)
    try:
        return await ask(customer)
    except StripeRefused as refused:
        if not await was_deleted(link, workspace_id, customer, refused):
            raise
    return await ask(await customer_of(link, workspace_id))


async def was_deleted(link: StripeLink, workspace_id: UUID, customer: str | None, refused: StripeRefused) -> bool:
    """Whether Stripe refused because this customer was deleted: then it is forgotten here. Raises StripeAway.

    Only where Stripe says so of the customer itself: one that another account's key does not know is not forgotten.
    """
    if refused.code != GONE or customer is None:
        return False
    try:
        found = await link.stripe.call(lambda v1: v1.customers.retrieve_async(customer))
    except StripeRefused:
        logger.error("customer %s of workspace %s is not of this account at Stripe", customer, workspace_id)
        return False
    if not flag(found, "deleted"):
        return False
    await note_deleted(link, workspace_id, customer)
    return True


async def note_deleted(link: StripeLink, workspace_id: UUID, customer: str) -> None:
    """Forget a customer that Stripe calls deleted, and its saved methods."""
    logger.warning("customer %s of workspace %s was deleted at Stripe", customer, workspace_id)
    await forget_customer(link.database, workspace_id, customer)


async def known_customer(link: StripeLink, workspace_id: UUID) -> str | None:
    """The customer where there is one already."""
    async with connection(link.database) as conn:
        return await conn.fetchval("SELECT stripe_customer_id FROM workspaces WHERE id = $1", workspace_id)


async def customers_of(link: StripeLink, workspace_id: UUID) -> Sequence[str]:
    """Every customer the workspace has had: the one it has now first, then those that were deleted."""
    async with connection(link.database) as conn:
        return [row["id"] for row in await conn.fetch(_ALL, workspace_id)]


async def workspace_of(link: StripeLink, customer_id: str | None) -> UUID | None:
    """Whose customer it is, or was before it was deleted; None for one of another installation."""
    if customer_id is None:
        return None
    async with connection(link.database) as conn:
        return await conn.fetchval(_WHOSE, customer_id)


async def _make(link: StripeLink, workspace_id: UUID, deleted: int) -> str:
    """`deleted`: how many the workspace had before."""
    key = f"ws:{workspace_id}:customer" + (f":{deleted}" if deleted else "")
    return required_id(
        await link.stripe.call(
            lambda v1: v1.customers.create_async(
                {"metadata": {"workspace_id": str(workspace_id)}}, {"idempotency_key": key}
            )
        )
    )


async def _name(link: StripeLink, customer_id: str, workspace: Record) -> None:
    email: str | None = workspace["email"]
    name: str = workspace["name"]
    await link.stripe.call(
        lambda v1: v1.customers.update_async(
            customer_id, {"name": name} if email is None else {"name": name, "email": email}
        )
    )
