"""What the verbs of this room are given: built once by app.lifespan."""

from dataclasses import dataclass, field
from typing import Protocol

from billing.catalog import CatalogHolder
from billing.payment_port import Payments
from metering.ledger import Ledger
from models.database import Database


class AttemptLimiter(Protocol):
    """Token buckets against guessing; app wires metering.limiter to it."""

    async def take(self, key: str) -> None:
        """Take one token of this key's bucket; kit.errors.RateLimited when there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Billing:
    """The services and settings that this room's verbs need. `secret_key` digests promo codes."""

    database: Database
    ledger: Ledger
    catalog: CatalogHolder
    payments: Payments
    attempts: AttemptLimiter
    secret_key: bytes = field(repr=False)
