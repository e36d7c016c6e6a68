"""What members and the whole workspace may spend: limits that its money roles set."""

from uuid import UUID

from accounts import audit
from accounts.errors import NotFoundHere
from accounts.members import lock_workspace
from accounts.services import Accounts
from accounts.views import Actor
from kit.clock import now
from metering.spend_limits import Period, SubjectKind, clear_limit, limits_of, limits_of_workspace, set_limit
from metering.views import SpendLimitView
from models.database import connection, transaction


async def set_spend_limit(
    accounts: Accounts, actor: Actor, workspace_id: UUID, member_id: UUID | None, limit_micro: int | None
) -> SpendLimitView | None:
    """Limit a member's calendar month, or without a member the workspace's day; None lifts the limit. NotFoundHere.

    What was spent in the running period counts. The next call is refused once the limit would be passed.
    """
    kind: SubjectKind = "WORKSPACE" if member_id is None else "MEMBER"
    period: Period = "DAY" if member_id is None else "MONTH"
    subject_id = member_id or workspace_id
    async with transaction(accounts.database) as conn:
        await lock_workspace(conn, workspace_id)
        if member_id is not None:
            found = await conn.fetchval(
                "SELECT 1 FROM members WHERE id = $1 AND workspace_id = $2 AND removed_at IS NULL",
                member_id,
                workspace_id,
            )
            if found is None:
                raise NotFoundHere("member", field=["memberId"])
        if limit_micro is None:
            await clear_limit(conn, kind, subject_id, period)
        else:
            await set_limit(conn, workspace_id, kind, subject_id, period, limit_micro, now())
        await audit.record(
            conn,
            actor,
            "spend_limit.set",
            kind.lower(),
            subject_id,
            workspace_id=workspace_id,
            facts={"period": period, "limit_micro": None if limit_micro is None else str(limit_micro)},
        )
        limits = await limits_of(conn, kind, [subject_id])
    return next((limit for limit in limits if limit.period == period), None)


async def spend_limits(accounts: Accounts, workspace_id: UUID) -> tuple[SpendLimitView, ...]:
    """Every limit in the workspace, those of API keys too."""
    async with connection(accounts.database) as conn:
        return tuple(await limits_of_workspace(conn, workspace_id))
