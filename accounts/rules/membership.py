"""Who may give, take and lose which role."""

from accounts.errors import LastOwner, RoleRefused
from accounts.rules.roles import Role


def check_may_assign(acting: Role | None, role: Role) -> None:
    """RoleRefused unless the acting one may hand out this role. `acting` None is an API key, which admits members only."""
    if acting is Role.OWNER:
        return
    if acting is Role.ADMIN and role is not Role.OWNER:
        return
    if acting is None and role is Role.MEMBER:
        return
    raise RoleRefused(acting)


def check_may_change(acting: Role | None, before: Role, after: Role, owners: int) -> None:
    """Raises RoleRefused or LastOwner. `owners` counts those before the change, under the workspace's lock."""
    check_may_assign(acting, before)
    check_may_assign(acting, after)
    if before is Role.OWNER and after is not Role.OWNER and owners <= 1:
        raise LastOwner


def check_may_remove(acting: Role | None, role: Role, owners: int, *, is_self: bool) -> None:
    """Everyone may leave; others are removed by those who may hand out their role. The last owner stays."""
    if not is_self:
        check_may_assign(acting, role)
    if role is Role.OWNER and owners <= 1:
        raise LastOwner
