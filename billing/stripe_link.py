"""What the files that speak with Stripe share: the account, the tables, the catalog and our own address."""

from dataclasses import dataclass, field

from billing.catalog import CatalogHolder
from billing.stripe_client import Stripe
from models.database import Database, connection


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


async def next_fetch(link: StripeLink) -> int:
    """A number drawn before something is fetched: what is written from an older fetch does not replace a newer one's."""
    async with connection(link.database) as conn:
        return await conn.fetchval("SELECT nextval('stripe_fetches')")
