"""What members and the whole workspace may spend."""

from uuid import UUID

from accounts import spending
from accounts.rules.roles import Action
from kit.errors import InvalidInput
from metering.views import SpendLimitView
from resolvers.access import key_of, looked_up, require, workspace_for
from resolvers.context import RequestContext


async def of_workspace(context: RequestContext, workspace_id: UUID) -> tuple[SpendLimitView, ...]:
    """The limits of the workspace, its members and its API keys."""
    await require(context, Action.BILLING_READ, workspace_id)
    return await spending.spend_limits(context.services.accounts, workspace_id)


async def set_limit(
    context: RequestContext, *, workspace_id: str, member_id: str | None, limit_micro: int | None
) -> SpendLimitView | None:
    """Sets or lifts a limit; what holds now, None for nothing. NotFoundHere, InvalidInput."""
    key = await workspace_for(context, Action.SPEND_LIMITS_WRITE, workspace_id)
    if limit_micro is not None and limit_micro < 0:
        raise InvalidInput("limit must not be below zero", field=["limit"])
    with looked_up("member_id"):
        member = None if member_id is None else key_of(context, "mem", member_id)
    return await spending.set_spend_limit(context.services.accounts, context.actor, key, member, limit_micro)
