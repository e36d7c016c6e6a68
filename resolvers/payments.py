"""Payment methods, invoices, tax ids, hosted pages and transfers out of a workspace."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from accounts.audit import Noting, record_alone
from accounts.rules.roles import Action
from billing import previews, transfers
from billing.errors import UnknownPaymentMethod
from billing.invoices import InvoiceView
from billing.payment_methods import PaymentMethodView
from billing.payment_port import TaxId
from billing.previews import ChangePreview
from billing.transfers import TransferView
from kit.errors import InvalidInput
from kit.ids import encode_id
from kit.pages import Page
from metering.idempotency import require_key
from resolvers.access import key_of, looked_up, permitted, require, unseen, workspace_for
from resolvers.billing import checked_url, price_key
from resolvers.context import RequestContext
from resolvers.pages import page_request

MAX_TAX_ID_CHARACTERS: Final = 64


async def methods_of(context: RequestContext, workspace_id: UUID) -> Sequence[PaymentMethodView]:
    """The saved methods, the default one first."""
    await require(context, Action.BILLING_READ, workspace_id)
    found = await context.loaders.payment_methods.load(workspace_id)
    return () if found is None else found


async def method(context: RequestContext, key: UUID) -> PaymentMethodView:
    """A saved method of a workspace whose money matters the viewer may read."""
    found = await context.loaders.methods_by_id.load(key)
    if found is None:
        raise unseen()
    await require(context, Action.BILLING_READ, found.workspace_id, seen_with=Action.BILLING_READ)
    return found


async def invoice(context: RequestContext, key: UUID) -> InvoiceView:
    """An invoice of a workspace whose money matters the viewer may read."""
    found = await context.loaders.invoices.load(key)
    if found is None:
        raise unseen()
    await require(context, Action.BILLING_READ, found.workspace_id, seen_with=Action.BILLING_READ)
    return found


async def transfer(context: RequestContext, key: UUID) -> TransferView:
    """A transfer of a workspace whose money matters the viewer may read."""
    found = await context.loaders.transfers.load(key)
    if found is None:
        raise unseen()
    await require(context, Action.BILLING_READ, found.workspace_id, seen_with=Action.BILLING_READ)
    return found


async def invoices_of(
    context: RequestContext, workspace_id: UUID, *, first: int | None, after: str | None
) -> Page[InvoiceView]:
    """The invoices, the newest first (D7)."""
    await require(context, Action.BILLING_READ, workspace_id)
    return await context.loaders.pages.invoices.load(workspace_id, page_request(first, after), None)


async def transfers_of(
    context: RequestContext, workspace_id: UUID, *, first: int | None, after: str | None
) -> Page[TransferView]:
    """The transfers out, the newest first (B6)."""
    await require(context, Action.BILLING_READ, workspace_id)
    return await context.loaders.pages.transfers.load(workspace_id, page_request(first, after), None)


async def tax_ids_of(context: RequestContext, workspace_id: UUID) -> Sequence[TaxId]:
    """The tax ids, as the payment provider has them now (D7). Unavailable where it is away."""
    await require(context, Action.BILLING_READ, workspace_id)
    return await context.services.billing.payments.tax_ids(workspace_id)


async def preview_change(context: RequestContext, *, workspace_id: str, price_id: str) -> ChangePreview:
    """What a plan change would cost and bring now. UnknownPrice, NoSubscription, ChangeRefused."""
    key = await workspace_for(context, Action.BILLING_READ, workspace_id)
    return await previews.preview_change(context.services.billing, key, price_key(price_id))


async def open_setup(context: RequestContext, *, workspace_id: str, return_url: str) -> str:
    """The page on which a method is saved (B7). PaymentsNotConfigured."""
    key = await _paying(context, workspace_id)
    return await context.services.billing.payments.open_setup(key, _back(return_url))


async def open_portal(context: RequestContext, *, workspace_id: str, return_url: str) -> str:
    """The provider's own pages (D7). PaymentsNotConfigured."""
    key = await _paying(context, workspace_id)
    return await context.services.billing.payments.open_portal(key, _back(return_url))


async def open_payout_setup(context: RequestContext, *, workspace_id: str, return_url: str) -> str:
    """The page on which a bank account is given (B6). PaymentsNotConfigured."""
    key = await workspace_for(context, Action.TRANSFERS_WRITE, workspace_id)
    url = await context.services.billing.payments.open_payout_setup(key, _back(return_url))
    await _note(context, key, "payout_account.open", "workspace", key)
    return url


async def make_default(context: RequestContext, *, workspace_id: str, method_id: str) -> PaymentMethodView:
    """Charge this one from now on. UnknownPaymentMethod, PaymentsNotConfigured."""
    key, method_key = await _own_method(context, workspace_id, method_id)
    await context.services.billing.payments.make_default(method_key)
    await _note(context, key, "payment_method.make_default", "payment_method", method_key)
    context.renew()
    return await method(context, method_key)


async def remove_method(context: RequestContext, *, workspace_id: str, method_id: str) -> str:
    """Forget it. UnknownPaymentMethod, PaymentsNotConfigured."""
    key, method_key = await _own_method(context, workspace_id, method_id)
    await context.services.billing.payments.remove_method(method_key)
    await _note(context, key, "payment_method.remove", "payment_method", method_key)
    return encode_id("pm", method_key)


async def add_tax_id(context: RequestContext, *, workspace_id: str, kind: str, value: str) -> TaxId:
    """Keep one more. InvalidInput, PaymentsNotConfigured."""
    key = await _paying(context, workspace_id)
    for name, given in (("kind", kind), ("value", value)):
        if not given.strip() or len(given) > MAX_TAX_ID_CHARACTERS or not given.isprintable():
            raise InvalidInput(f"give 1 to {MAX_TAX_ID_CHARACTERS} printable characters", field=[name])
    made = await context.services.billing.payments.add_tax_id(key, kind.strip(), value.strip())
    await _note(context, key, "tax_id.add", "workspace", key)
    return made


async def remove_tax_id(context: RequestContext, *, workspace_id: str, tax_id: str) -> str:
    """Forget one. PaymentsNotConfigured."""
    key = await _paying(context, workspace_id)
    if len(tax_id) > MAX_TAX_ID_CHARACTERS or not tax_id.replace("_", "").isalnum():
        raise InvalidInput("this is not the id of a tax id", field=["tax_id"])
    await context.services.billing.payments.remove_tax_id(key, tax_id)
    await _note(context, key, "tax_id.remove", "workspace", key)
    return tax_id


async def request_transfer(
    context: RequestContext, *, workspace_id: str, amount_micro: int | None, idempotency_key: str
) -> TransferView:
    """Pay out part or all (B6). TransfersNotOffered, PayoutsNotSetUp, AmountOutOfBounds, NothingToTransfer."""
    key = await workspace_for(context, Action.TRANSFERS_WRITE, workspace_id)
    require_key(idempotency_key)
    return await transfers.request_transfer(
        context.services.billing,
        key,
        amount_micro,
        requested_by=context.principal.user_id,
        idempotency_key=idempotency_key,
        note=Noting(context.actor, key),
    )


async def shown_after(context: RequestContext, view: TransferView | None) -> UUID | None:
    """The workspace of a transfer whose wallet the viewer may read."""
    if view is None or not await permitted(context, Action.WALLET_READ, view.workspace_id):
        return None
    return view.workspace_id


async def _own_method(context: RequestContext, workspace_id: str, method_id: str) -> tuple[UUID, UUID]:
    """The workspace and its method; UnknownPaymentMethod where it is another workspace's of the viewer."""
    with looked_up("payment_method_id"):
        method_key = key_of(context, "pm", method_id)
        found = await context.loaders.methods_by_id.load(method_key)
        if found is None:
            raise unseen()
        await require(context, Action.BILLING_WRITE, found.workspace_id, seen_with=Action.BILLING_READ)
    with looked_up("workspace_id"):
        of_workspace = key_of(context, "ws", workspace_id) == found.workspace_id
    if not of_workspace:
        raise UnknownPaymentMethod
    return found.workspace_id, method_key


async def _paying(context: RequestContext, workspace_id: str) -> UUID:
    return await workspace_for(context, Action.BILLING_WRITE, workspace_id)


async def _note(context: RequestContext, workspace_id: UUID, action: str, subject: str, subject_id: UUID) -> None:
    """What was done at the payment provider: in no transaction of ours, so noted after it."""
    await record_alone(context.services.database, context.actor, action, subject, subject_id, workspace_id=workspace_id)


def _back(url: str) -> str:
    checked = checked_url(url, "return_url")
    assert checked is not None, "an address was given"
    return checked
