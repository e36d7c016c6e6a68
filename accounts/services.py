"""What the verbs of this room are given: built once by app.lifespan."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from accounts.invalidation import Invalidations
from accounts.passwords import PasswordHasher
from billing.rules.entitlements import Entitlements
from kit.sealing import Sealer
from models.database import Database
from models.pool import PoolConnection


class AttemptKind(StrEnum):
    """What a bucket of attempts counts."""

    SIGN_IN_ADDRESS = "SIGN_IN_ADDRESS"
    SIGN_IN_ACCOUNT = "SIGN_IN_ACCOUNT"
    TWO_FACTOR_ACCOUNT = "TWO_FACTOR_ACCOUNT"
    SIGN_UP_ADDRESS = "SIGN_UP_ADDRESS"
    TOKEN_ADDRESS = "TOKEN_ADDRESS"  # noqa: S105 - the name of a bucket
    MAIL_ACCOUNT = "MAIL_ACCOUNT"
    INVITE_WORKSPACE = "INVITE_WORKSPACE"


class AttemptLimiter(Protocol):
    """Token buckets for attempts; app wires metering.limiter to it."""

    async def take(self, kind: AttemptKind, key: str) -> None:
        """Take one token; kit.errors.RateLimited when there is none."""
        ...


class PlanReader(Protocol):
    """Reads the workspace's effective plan; app wires billing.plans to it."""

    async def entitlements_of(self, workspace_id: UUID) -> Entitlements:
        """What the plan that holds now allows."""
        ...


class FreeCreditsJudge(Protocol):
    """Judges whether a new workspace may have free credits; app wires billing.free_credits to it."""

    async def judge(
        self,
        conn: PoolConnection,
        workspace_id: UUID,
        wallet_id: UUID,
        owner_id: UUID,
        *,
        address: str | None,
        email_key: str,
        first: bool,
    ) -> None:
        """In the transaction that makes the workspace. `first`: the person's first one."""
        ...


@dataclass(frozen=True, slots=True)
class Accounts:
    """The services and settings that this room's verbs need. `free_credits` None: nobody is judged, as by the operator."""

    database: Database
    sealer: Sealer
    hasher: PasswordHasher
    invalidations: Invalidations
    attempts: AttemptLimiter
    plans: PlanReader
    public_url: str
    free_credits: FreeCreditsJudge | None = None
    product_name: str = "Tollgate"
    access_lifetime: timedelta = timedelta(minutes=15)
    session_lifetime: timedelta = timedelta(days=30)
    verification_lifetime: timedelta = timedelta(days=1)
    reset_lifetime: timedelta = timedelta(hours=1)
    invitation_lifetime: timedelta = timedelta(days=7)
