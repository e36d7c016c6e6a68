"""Buys credit packs: credits with a life of their own, on top of the plan's (A8, C3, C7)."""

from typing import Final
from uuid import UUID

from billing.buying import Purchase, buy
from billing.errors import PaymentsNotConfigured, UnknownPack
from billing.plans import plan_in_force, require_feature
from billing.services import Billing, Note, unnoted
from kit import clock
from metering.idempotency import input_digest
from models.enums import PaymentPurpose

BUY_PACK: Final = "buy_credit_pack"


async def buy_pack(
    billing: Billing,
    workspace_id: UUID,
    pack_code: str,
    *,
    idempotency_key: str,
    return_url: str | None = None,
    checkout: bool = False,
    note: Note = unnoted,
) -> Purchase:
    """Buy a pack on offer, where the plan lets packs be bought (C3).

    Raises UnknownPack, NotInPlan, PaymentsNotConfigured, PaymentMethodRequired, UnknownWorkspace, IdempotencyKeyReused.
    """
    snapshot = billing.catalog.current
    pack = snapshot.packs_by_code.get(pack_code)
    if pack is None:
        raise UnknownPack(pack_code)
    plan = await plan_in_force(billing.database, billing.catalog, workspace_id, clock.now())
    require_feature(snapshot, plan, "credit_packs")
    if not billing.payments.configured:
        raise PaymentsNotConfigured
    return await buy(
        billing,
        workspace_id,
        PaymentPurpose.PACK,
        pack.price_usd_micro,
        operation=BUY_PACK,
        digest=input_digest(pack_code, return_url, *(("checkout",) if checkout else ())),
        idempotency_key=idempotency_key,
        pack_id=pack.id,
        return_url=return_url,
        checkout=checkout,
        note=note,
    )
