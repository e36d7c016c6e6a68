"""What each role, and each scope of an API key, may do: one table, as data."""

from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """A member's role in a workspace (contract: `Role`)."""

    OWNER = "OWNER"
    ADMIN = "ADMIN"
    BILLING = "BILLING"
    MEMBER = "MEMBER"


class ApiScope(StrEnum):
    """What an API key was given (contract: `ApiScope`)."""

    CALLS_WRITE = "CALLS_WRITE"
    CALLS_READ = "CALLS_READ"
    USAGE_READ = "USAGE_READ"
    WALLET_READ = "WALLET_READ"
    WORKSPACE_READ = "WORKSPACE_READ"
    WORKSPACE_WRITE = "WORKSPACE_WRITE"
    BILLING_WRITE = "BILLING_WRITE"


class Action(StrEnum):
    """Everything that can be done in a workspace. A field of the API names one of these, or none where it is public."""

    WORKSPACE_READ = "WORKSPACE_READ"
    WORKSPACE_UPDATE = "WORKSPACE_UPDATE"
    WORKSPACE_DELETE = "WORKSPACE_DELETE"
    WORKSPACE_LEAVE = "WORKSPACE_LEAVE"
    MEMBERS_READ = "MEMBERS_READ"
    INVITATIONS_READ = "INVITATIONS_READ"
    MEMBERS_INVITE = "MEMBERS_INVITE"
    MEMBERS_UPDATE = "MEMBERS_UPDATE"
    MEMBERS_REMOVE = "MEMBERS_REMOVE"
    KEYS_READ = "KEYS_READ"
    KEYS_WRITE = "KEYS_WRITE"
    PLAN_READ = "PLAN_READ"
    RATE_LIMIT_READ = "RATE_LIMIT_READ"
    CALLS_MAKE = "CALLS_MAKE"
    CALLS_READ = "CALLS_READ"
    CALLS_CANCEL = "CALLS_CANCEL"
    CONTENT_READ_ALL = "CONTENT_READ_ALL"
    ASSETS_DELETE = "ASSETS_DELETE"
    USAGE_READ = "USAGE_READ"
    WALLET_READ = "WALLET_READ"
    BILLING_READ = "BILLING_READ"
    BILLING_WRITE = "BILLING_WRITE"
    TRANSFERS_WRITE = "TRANSFERS_WRITE"
    SPEND_LIMITS_WRITE = "SPEND_LIMITS_WRITE"
    WEBHOOKS_READ = "WEBHOOKS_READ"
    WEBHOOKS_WRITE = "WEBHOOKS_WRITE"
    MODELS_PUBLISH = "MODELS_PUBLISH"
    AUDIT_READ = "AUDIT_READ"


_ALL: Final = frozenset(Role)
_ADMINS: Final = frozenset({Role.OWNER, Role.ADMIN})
_MONEY: Final = frozenset({Role.OWNER, Role.ADMIN, Role.BILLING})
_CALLERS: Final = frozenset({Role.OWNER, Role.ADMIN, Role.MEMBER})

ROLES: Final[dict[Action, frozenset[Role]]] = {
    Action.WORKSPACE_READ: _ALL,
    Action.WORKSPACE_UPDATE: _ADMINS,
    Action.WORKSPACE_DELETE: frozenset({Role.OWNER}),
    Action.WORKSPACE_LEAVE: _ALL,
    Action.MEMBERS_READ: _ALL,
    Action.INVITATIONS_READ: _ADMINS,
    Action.MEMBERS_INVITE: _ADMINS,
    Action.MEMBERS_UPDATE: _ADMINS,
    Action.MEMBERS_REMOVE: _ADMINS,
    Action.KEYS_READ: _ADMINS,
    Action.KEYS_WRITE: _ADMINS,
    Action.PLAN_READ: _ALL,
    Action.RATE_LIMIT_READ: _ALL,
    Action.CALLS_MAKE: _CALLERS,
    Action.CALLS_READ: _ALL,
    Action.CALLS_CANCEL: _ADMINS,
    Action.CONTENT_READ_ALL: _ADMINS,
    Action.ASSETS_DELETE: _ADMINS,
    Action.USAGE_READ: _ALL,
    Action.WALLET_READ: _ALL,
    Action.BILLING_READ: _MONEY,
    Action.BILLING_WRITE: _MONEY,
    Action.TRANSFERS_WRITE: _MONEY,
    Action.SPEND_LIMITS_WRITE: _MONEY,
    Action.WEBHOOKS_READ: _ADMINS,
    Action.WEBHOOKS_WRITE: _ADMINS,
    Action.MODELS_PUBLISH: _ADMINS,
    Action.AUDIT_READ: _ADMINS,
}
"""The roles that may do an action."""

SCOPES: Final[dict[Action, ApiScope | None]] = {
    Action.WORKSPACE_READ: ApiScope.WORKSPACE_READ,
    Action.WORKSPACE_UPDATE: ApiScope.WORKSPACE_WRITE,
    Action.WORKSPACE_DELETE: None,
    Action.WORKSPACE_LEAVE: None,
    Action.MEMBERS_READ: ApiScope.WORKSPACE_READ,
    Action.INVITATIONS_READ: ApiScope.WORKSPACE_READ,
    Action.MEMBERS_INVITE: ApiScope.WORKSPACE_WRITE,
    Action.MEMBERS_UPDATE: None,
    Action.MEMBERS_REMOVE: ApiScope.WORKSPACE_WRITE,
    Action.KEYS_READ: ApiScope.WORKSPACE_READ,
    Action.KEYS_WRITE: None,
    Action.PLAN_READ: ApiScope.WORKSPACE_READ,
    Action.RATE_LIMIT_READ: ApiScope.CALLS_WRITE,
    Action.CALLS_MAKE: ApiScope.CALLS_WRITE,
    Action.CALLS_READ: ApiScope.CALLS_READ,
    Action.CALLS_CANCEL: ApiScope.CALLS_WRITE,
    Action.CONTENT_READ_ALL: None,
    Action.ASSETS_DELETE: None,
    Action.USAGE_READ: ApiScope.USAGE_READ,
    Action.WALLET_READ: ApiScope.WALLET_READ,
    Action.BILLING_READ: ApiScope.BILLING_WRITE,
    Action.BILLING_WRITE: ApiScope.BILLING_WRITE,
    Action.TRANSFERS_WRITE: None,
    Action.SPEND_LIMITS_WRITE: None,
    Action.WEBHOOKS_READ: ApiScope.WORKSPACE_READ,
    Action.WEBHOOKS_WRITE: ApiScope.WORKSPACE_WRITE,
    Action.MODELS_PUBLISH: ApiScope.WORKSPACE_WRITE,
    Action.AUDIT_READ: None,
}
"""The scope that lets an API key do an action; None: people only, so that a key can neither mint keys nor raise itself."""

ADMINISTERING: Final = _ADMINS
"""The roles meant by "the accounts I administer" (B1)."""


def role_may(role: Role | None, action: Action) -> bool:
    """Whether a member of this role may; None, a stranger, may nothing."""
    return role is not None and role in ROLES[action]


def scopes_may(scopes: frozenset[ApiScope], action: Action) -> bool:
    """Whether an API key with these scopes may, in its own workspace."""
    needed = SCOPES[action]
    return needed is not None and needed in scopes


def as_markdown() -> str:
    """The table as docs/roles.md shows it."""
    lines = [
        "| action | owner | admin | billing | member | API key scope |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for action in Action:
        marks = " | ".join("yes" if role_may(role, action) else "–" for role in Role)
        scope = SCOPES[action]
        lines.append(f"| `{action}` | {marks} | {f'`{scope}`' if scope else 'people only'} |")
    return "\n".join(lines) + "\n"
