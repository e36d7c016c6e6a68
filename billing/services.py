"""What the verbs of this room are given: built once by app.lifespan."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from billing.catalog import CatalogHolder
from billing.payment_port import Payments
from metering.ledger import Ledger
from models.database import Database
from models.pool import PoolConnection


class AttemptLimiter(Protocol):
    """Token buckets against guessing; app wires metering.limiter to it."""

    async def take(self, key: str) -> None:
        """Take one token of this key's bucket; kit.errors.RateLimited when there is none."""
        ...


class Note(Protocol):
    """Writes into the audit log who did it, in the transaction of what was done; resolvers wire accounts.audit to it."""

    async def __call__(
        self, conn: PoolConnection, action: str, subject_kind: str, subject_id: UUID | None, facts: Mapping[str, str]
    ) -> None:
        """`action` is "noun.verb"; `facts` hold ids and amounts, never a code or a card."""
        ...


async def unnoted(
    conn: PoolConnection, action: str, subject_kind: str, subject_id: UUID | None, facts: Mapping[str, str]
) -> None:
    """What nobody asked for, such as the worker's doings, is in the ledger and in the payments only."""


def nobody_notes(_workspace_id: UUID) -> Note:
    """Where there is no audit log."""
    return unnoted


@dataclass(frozen=True, slots=True)
class Billing:
    """The services and settings that this room's verbs need. `secret_key` digests promo codes.

    `note_for` notes in a workspace's audit log what is done there by itself.
    """

    database: Database
    ledger: Ledger
    catalog: CatalogHolder
    payments: Payments
    attempts: AttemptLimiter
    secret_key: bytes = field(repr=False)
    note_for: Callable[[UUID], Note] = nobody_notes
