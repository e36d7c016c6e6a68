"""Whose published models a call used: told in its usage's details, and what the split of its charge goes by.

They travel with the usage, so that a checkpoint that is settled after a crash and a journalled settlement split alike.
"""

from collections.abc import Iterable
from typing import Final
from uuid import UUID

from kit.json_values import is_list, is_object
from kit.records import record
from metering.operations import UsageFacts

USES: Final = "uses"
"""The key of the details under which they stand."""


@record
class PublishedUse:
    """One use of a published model within a call: `cost_micro` of the call's cost is for it.

    `share_percent` of what is charged of that becomes earnings of `wallet_id`; 0 for a model that is free.
    """

    model_id: UUID
    wallet_id: UUID
    slug: str
    cost_micro: int
    share_percent: int
    input_tokens: int = 0
    output_tokens: int = 0

    def earned_micro(self, charged_micro: int) -> int:
        """The publisher's part of what was charged for this use, rounded down."""
        return charged_micro * self.share_percent // 100


def uses_json(uses: Iterable[PublishedUse]) -> list[dict[str, object]]:
    """The form in which they stand in a usage's details."""
    return [
        {
            "model_id": use.model_id.hex,
            "wallet_id": use.wallet_id.hex,
            "slug": use.slug,
            "cost_micro": use.cost_micro,
            "share_percent": use.share_percent,
            "input_tokens": use.input_tokens,
            "output_tokens": use.output_tokens,
        }
        for use in uses
    ]


def uses_in(details: object) -> tuple[PublishedUse, ...]:
    """The uses in a usage's details; none where nothing published was used."""
    found = details.get(USES) if is_object(details) else None
    return tuple(_use(each) for each in found if is_object(each)) if is_list(found) else ()


def payees_of(details: object) -> tuple[UUID, ...]:
    """The wallets that earn of the uses in a usage's details."""
    return () if details is None else tuple(use.wallet_id for use in uses_in(details) if use.share_percent)


def uses_of(usage: UsageFacts) -> tuple[PublishedUse, ...]:
    """The uses that a usage tells of."""
    return () if usage.details is None else uses_in(usage.details)


def charged_parts(uses: tuple[PublishedUse, ...], cost_micro: int, charged_micro: int) -> tuple[int, ...]:
    """What was charged for each use: its cost, or in proportion where the wallet could not pay the whole call."""
    if charged_micro >= cost_micro:
        return tuple(use.cost_micro for use in uses)
    return tuple(use.cost_micro * charged_micro // cost_micro for use in uses)


def _use(values: dict[str, object]) -> PublishedUse:
    return PublishedUse(
        model_id=UUID(str(values["model_id"])),
        wallet_id=UUID(str(values["wallet_id"])),
        slug=str(values["slug"]),
        cost_micro=int(str(values["cost_micro"])),
        share_percent=int(str(values["share_percent"])),
        input_tokens=int(str(values.get("input_tokens", 0))),
        output_tokens=int(str(values.get("output_tokens", 0))),
    )
