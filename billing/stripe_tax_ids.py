"""Tax ids (VAT) of a workspace's customer: kept at Stripe alone, where invoices show them (D7)."""

from collections.abc import Sequence
from uuid import UUID

from billing.payment_port import TaxId
from billing.rules.stripe_values import required_id, text
from billing.stripe_client import StripeJson, StripeRefused
from billing.stripe_customers import known_customer, was_deleted, with_customer
from billing.stripe_link import StripeLink
from kit.errors import InvalidInput


async def tax_ids_of(link: StripeLink, workspace_id: UUID) -> Sequence[TaxId]:
    """What Stripe has now; nothing before there is a customer. Raises StripeAway."""
    customer = await known_customer(link, workspace_id)
    if customer is None:
        return ()
    try:
        found = await link.stripe.pages(lambda v1: v1.customers.tax_ids.list_async(customer, {"limit": 100}))
    except StripeRefused as refused:
        await was_deleted(link, workspace_id, customer, refused)
        return ()
    return [_view(entry) for entry in found]


async def add_tax_id(link: StripeLink, workspace_id: UUID, kind: str, value: str) -> TaxId:
    """Keep one more; one that is there already is not doubled. Raises InvalidInput, StripeAway."""
    for known in await tax_ids_of(link, workspace_id):
        if (known.kind, known.value) == (kind, value):
            return known
    try:
        made = await with_customer(
            link,
            workspace_id,
            lambda customer: link.stripe.call(
                lambda v1: v1.customers.tax_ids.create_async(customer, {"type": kind, "value": value})
            ),
        )
    except StripeRefused as refused:
        raise InvalidInput(f"this is no tax id of the kind {kind} ({refused.code})", field=["value"]) from refused
    return _view(made)


async def remove_tax_id(link: StripeLink, workspace_id: UUID, tax_id: str) -> None:
    """Forget one of this workspace's; another's, or none, changes nothing. Raises StripeAway."""
    customer = await known_customer(link, workspace_id)
    if customer is None:
        return
    try:
        await link.stripe.call(lambda v1: v1.customers.tax_ids.delete_async(customer, tax_id))
    except StripeRefused:
        return


def _view(entry: StripeJson) -> TaxId:
    return TaxId(
        id=required_id(entry),
        kind=text(entry, "type") or "",
        value=text(entry, "value") or "",
        status=text(entry, "verification", "status"),
    )
