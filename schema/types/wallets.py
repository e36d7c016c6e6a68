"""Wallets and their movements as the API shows them."""

from datetime import datetime
from typing import Annotated, Self

import strawberry

from kit.ids import encode_id
from kit.money import usd_text
from metering.views import EntryView, WalletView
from metering.wallets import EntryFilter
from resolvers import billing, catalog, wallets
from schema.cost import Cost
from schema.enums import EntryKind
from schema.inputs.values import as_tuple, given
from schema.node import Info, Node
from schema.pagination import After, Connection, First, connection_of, listed
from schema.scalars import Credits, Usd
from schema.types.billing import AutoRecharge
from schema.types.calls import ModelCall
from schema.types.grants import CreditGrant

Kinds = Annotated[list[EntryKind] | None, strawberry.argument(description="Only movements of these kinds")]
Since = Annotated[
    datetime | None, strawberry.argument(name="from", description="Only what happened at this instant or later")
]
Until = Annotated[datetime | None, strawberry.argument(description="Only what happened before this instant")]
Instant = Annotated[datetime, strawberry.argument(description="The instant")]
Live = Annotated[bool | None, strawberry.argument(description="Leave out what is used up or expired")]


@strawberry.type(description="One movement of a wallet's credits; never changed afterwards")
class LedgerEntry(Node):
    """The contract's LedgerEntry."""

    view: strawberry.Private[EntryView]
    kind: EntryKind = strawberry.field(description="What moved the credits")
    amount: Credits = strawberry.field(description="How many: above zero came in, below went out")
    balance_after: Credits = strawberry.field(description="The ledger's balance after it, frozen credits included")
    created_at: datetime = strawberry.field(description="When it was posted")
    description: str = strawberry.field(description="A line for people")

    @strawberry.field(description="The grant whose credits moved")
    async def grant(self, info: Info) -> CreditGrant | None:
        """The grant."""
        view = await wallets.grant(info.context, self.view.grant_id)
        return None if view is None else CreditGrant.of(view)

    @strawberry.field(description="The call that was paid; null for other movements")
    async def call(self, info: Info) -> ModelCall | None:
        """The call."""
        view = await wallets.call_of_entry(info.context, self.view)
        return None if view is None else ModelCall.of(view)

    @classmethod
    def of(cls, view: EntryView) -> Self:
        """The entry."""
        return cls(
            id=strawberry.ID(encode_id("entry", view.id)),
            view=view,
            kind=EntryKind(view.kind),
            amount=Credits(view.amount_micro),
            balance_after=Credits(view.balance_after_micro),
            created_at=view.created_at,
            description=view.description,
        )


@strawberry.type(description="A workspace's credits")
class Wallet(Node):
    """The contract's Wallet."""

    view: strawberry.Private[WalletView]
    balance: Credits = strawberry.field(
        description="Everything not yet spent or expired, held credits included, frozen ones not"
    )
    held: Credits = strawberry.field(description="Reserved for calls still running")
    available: Credits = strawberry.field(description="What a new call can spend: balance - held")
    frozen: Credits = strawberry.field(description="Kept, but not spendable for now: see `CreditGrant.frozenReason`")
    transferable: Credits = strawberry.field(
        description="What may be paid out: earnings, and top-ups where the catalog says so"
    )

    @strawberry.field(description="The balance in dollars")
    def balance_usd(self, info: Info) -> Usd:
        """The balance at the catalog's rate."""
        return Usd(usd_text(self.view.balance_micro, catalog.credits_per_usd(info.context)))

    @strawberry.field(description="How it is filled by itself when few credits are left")
    async def auto_recharge(self, info: Info) -> AutoRecharge:
        """The settings, and how it stands with them."""
        return AutoRecharge.of(await billing.recharge_of(info.context, self.view))

    @listed("Its lots of credits, the newest first")
    async def grants(
        self, info: Info, first: First = 20, after: After = strawberry.UNSET, live: Live = True
    ) -> Connection[CreditGrant]:
        """A page of grants."""
        page = await wallets.grants(info.context, self.view, first=first, after=after, live=live)
        return connection_of(page, CreditGrant.of)

    @listed("Its movements, the newest first")
    async def entries(
        self,
        info: Info,
        first: First = 20,
        after: After = strawberry.UNSET,
        kinds: Kinds = strawberry.UNSET,
        begin: Since = strawberry.UNSET,
        to: Until = strawberry.UNSET,
    ) -> Connection[LedgerEntry]:
        """A page of entries."""
        wanted = EntryFilter(as_tuple(kinds), given(begin), given(to))
        page = await wallets.entries(info.context, self.view, first=first, after=after, wanted=wanted)
        return connection_of(page, LedgerEntry.of)

    @strawberry.field(
        description="The ledger's balance as it stood at an instant, frozen credits included",
        directives=[Cost(weight="3")],
    )
    async def balance_at(self, info: Info, at: Instant) -> Credits:
        """The balance after the last entry until then."""
        return Credits(await wallets.balance_of(info.context, self.view, at))

    @classmethod
    def of(cls, view: WalletView) -> Self:
        """The wallet as it stood when it was read."""
        return cls(
            id=strawberry.ID(encode_id("wal", view.id)),
            view=view,
            balance=Credits(view.balance_micro),
            held=Credits(view.held_micro),
            available=Credits(view.available_micro),
            frozen=Credits(view.frozen_micro),
            transferable=Credits(view.transferable_micro),
        )
