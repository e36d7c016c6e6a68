"""The frozen answers that this room hands upstairs."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from uuid import UUID

from accounts.rules.roles import ApiScope, Role

__all__ = ["ApiScope", "Role"]


class PrincipalKind(StrEnum):
    """Who a credential stands for."""

    USER = "USER"
    API_KEY = "API_KEY"
    ANONYMOUS = "ANONYMOUS"


class Environment(StrEnum):
    """Whether an API key spends credits; a test key calls the sandbox provider only and is never charged."""

    LIVE = "live"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Principal:
    """What a credential proves. Role and membership are looked up per workspace: `Principals.role_of`."""

    kind: PrincipalKind
    user_id: UUID | None = None
    session_id: UUID | None = None
    api_key_id: UUID | None = None
    workspace_id: UUID | None = None
    scopes: frozenset[ApiScope] = frozenset()
    allowed_models: frozenset[str] | None = None
    requests_per_hour: int | None = None
    environment: Environment = Environment.LIVE
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    expires_at: datetime | None = None
    cache_answers: bool = False

    @property
    def is_anonymous(self) -> bool:
        """No credential was given."""
        return self.kind is PrincipalKind.ANONYMOUS


ANONYMOUS = Principal(kind=PrincipalKind.ANONYMOUS)


class ActorKind(StrEnum):
    """Who did what the audit log tells."""

    USER = "USER"
    API_KEY = "API_KEY"
    OPERATOR = "OPERATOR"
    SYSTEM = "SYSTEM"
    ANONYMOUS = "ANONYMOUS"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does it, and from where, for the audit log and for rules that ask who acts."""

    kind: ActorKind
    id: UUID | None = None
    address: str | None = None
    request_id: str | None = None
    user_agent: str | None = None

    @staticmethod
    def of(
        principal: Principal,
        *,
        address: str | None = None,
        request_id: str | None = None,
        user_agent: str | None = None,
    ) -> "Actor":
        """The actor behind a principal."""
        return Actor(
            kind=ActorKind(principal.kind),
            id=principal.user_id if principal.kind is PrincipalKind.USER else principal.api_key_id,
            address=address,
            request_id=request_id,
            user_agent=user_agent,
        )


@dataclass(frozen=True, slots=True)
class UserView:
    """A person with an account."""

    id: UUID
    email: str
    name: str
    created_at: datetime
    email_verified: bool
    two_factor: bool


@dataclass(frozen=True, slots=True)
class WorkspaceView:
    """A workspace; `viewer_role` only where it was read for a member."""

    id: UUID
    name: str
    slug: str
    wallet_id: UUID
    store_outputs: bool
    time_zone: str
    concurrent_calls_limit: int | None
    default_plan_id: UUID | None
    created_at: datetime
    viewer_role: Role | None = None


@dataclass(frozen=True, slots=True)
class MemberView:
    """A user's membership in a workspace."""

    id: UUID
    workspace_id: UUID
    user: UserView
    role: Role
    joined_at: datetime


@dataclass(frozen=True, slots=True)
class InvitationView:
    """An open invitation."""

    id: UUID
    workspace_id: UUID
    email: str
    role: Role
    created_at: datetime
    expires_at: datetime
    invited_by: UserView | None


@dataclass(frozen=True, slots=True)
class ApiKeyView:
    """An API key without its secret. `models` None: every model the plan gives."""

    id: UUID
    workspace_id: UUID
    created_by: UUID | None
    name: str
    environment: Environment
    prefix: str
    scopes: frozenset[ApiScope]
    models: tuple[str, ...] | None
    addresses: tuple[str, ...] | None
    requests_per_hour: int | None
    monthly_limit_micro: int | None
    cache_answers: bool
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    rotated_to: UUID | None


@dataclass(frozen=True, slots=True)
class ApiKeySecret:
    """A key just made or rotated, with its secret: shown once, never stored."""

    key: ApiKeyView
    secret: str


@dataclass(frozen=True, slots=True)
class SessionView:
    """A signed-in session as its owner sees it in the list."""

    id: UUID
    created_at: datetime
    last_refreshed_at: datetime
    expires_at: datetime
    address: str | None
    user_agent: str | None


@dataclass(frozen=True, slots=True)
class SessionTokens:
    """What a sign-in answers. `expires_at` is the access token's."""

    user: UserView
    session_id: UUID
    access_token: str
    refresh_token: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class AuditEventView:
    """One line of the audit log."""

    id: UUID
    workspace_id: UUID | None
    actor_kind: ActorKind
    actor_id: UUID | None
    action: str
    subject_kind: str
    subject_id: UUID | None
    facts: dict[str, object]
    address: str | None
    request_id: str | None
    created_at: datetime
