"""Payment methods, invoices, tax ids and transfers as the API shows them."""

from datetime import datetime
from typing import Self

import strawberry

from billing.invoices import InvoiceView
from billing.payment_methods import PaymentMethodView
from billing.payment_port import TaxId as TaxIdView
from billing.previews import ChangePreview
from billing.transfers import TransferView
from kit.ids import encode_id
from kit.money import usd_micro_text
from resolvers import billing, payments
from schema.enums import PlanChangeKind, TransferStatus
from schema.errors import Payload
from schema.node import Info, Node
from schema.scalars import Credits, Usd
from schema.types.wallets import Wallet


@strawberry.type(description="A saved card or account")
class PaymentMethod(Node):
    """The contract's PaymentMethod."""

    kind: str = strawberry.field(description="Such as card or paypal, in the payment provider's word")
    brand: str | None = strawberry.field(description="The card's brand")
    last4: str | None = strawberry.field(description="The end of the card's number")
    exp_month: int | None = strawberry.field(description="The month at whose end the card expires")
    exp_year: int | None = strawberry.field(description="And its year")
    is_default: bool = strawberry.field(description="Whether this one is charged")

    @classmethod
    def of(cls, view: PaymentMethodView) -> Self:
        """The method."""
        return cls(
            id=strawberry.ID(encode_id("pm", view.id)),
            kind=view.kind,
            brand=view.brand,
            last4=view.last4,
            exp_month=view.exp_month,
            exp_year=view.exp_year,
            is_default=view.is_default,
        )


@strawberry.type(description="An invoice that the payment provider wrote")
class Invoice(Node):
    """The contract's Invoice."""

    number: str | None = strawberry.field(description="Its number, once it is final")
    status: str = strawberry.field(description="Such as open, paid or void")
    total: Usd = strawberry.field(description="Over how much")
    created_at: datetime = strawberry.field(description="When it was written")
    hosted_url: str | None = strawberry.field(description="Where it can be seen, and paid")
    pdf_url: str | None = strawberry.field(description="The same as a PDF")

    @classmethod
    def of(cls, view: InvoiceView) -> Self:
        """The invoice."""
        return cls(
            id=strawberry.ID(encode_id("bill", view.id)),
            number=view.number,
            status=view.status,
            total=Usd(usd_micro_text(view.total_usd_micro)),
            created_at=view.created_at,
            hosted_url=view.hosted_url,
            pdf_url=view.pdf_url,
        )


@strawberry.type(description="A tax id such as a VAT number, which stands on invoices")
class TaxId:
    """As the payment provider has it."""

    id: strawberry.ID = strawberry.field(description="For `removeTaxId`")
    kind: str = strawberry.field(description="Such as eu_vat, in the payment provider's word")
    value: str = strawberry.field(description="The number")
    status: str | None = strawberry.field(description="How far it is verified")

    @classmethod
    def of(cls, view: TaxIdView) -> Self:
        """The tax id."""
        return cls(id=strawberry.ID(view.id), kind=view.kind, value=view.value, status=view.status)


@strawberry.type(description="Credits that are paid out to a bank account")
class Transfer(Node):
    """The contract's Transfer."""

    amount: Credits = strawberry.field(description="How many credits")
    usd: Usd = strawberry.field(description="How much money")
    status: TransferStatus = strawberry.field(description="How far it is; see docs/payments.md")
    requested_at: datetime = strawberry.field(description="When it was asked for")
    completed_at: datetime | None = strawberry.field(description="When it was paid, or failed and came back")
    failure_code: str | None = strawberry.field(description="Why it failed, in the payment provider's word")
    returned: Usd = strawberry.field(
        description="How much of it came back as credits: all of a failed or reversed one, else what was reversed in part"
    )

    @classmethod
    def of(cls, view: TransferView) -> Self:
        """The transfer."""
        return cls(
            id=strawberry.ID(encode_id("xfer", view.id)),
            amount=Credits(view.amount_micro),
            usd=Usd(usd_micro_text(view.amount_usd_micro)),
            status=view.status,
            requested_at=view.requested_at,
            completed_at=view.completed_at,
            failure_code=view.failure_code,
            returned=Usd(usd_micro_text(view.returned_usd_micro)),
        )


@strawberry.type(description="What a plan change would cost and bring")
class PlanChangePreview:
    """Nothing is changed by it."""

    kind: PlanChangeKind = strawberry.field(description="When and how it would be done")
    prorated_at: datetime = strawberry.field(
        description="Given to `changePlan` within ten minutes, the change costs what is said here"
    )
    due_now: Usd = strawberry.field(description="What is charged at once")
    credits_now: Credits = strawberry.field(description="What credits come at once")
    next_period_at: datetime | None = strawberry.field(description="When the next period begins; null for none")
    next_amount: Usd = strawberry.field(description="What each period costs from then on")

    @classmethod
    def of(cls, view: ChangePreview) -> Self:
        """The preview."""
        return cls(
            kind=view.kind,
            prorated_at=view.at,
            due_now=Usd(usd_micro_text(view.due_usd_micro)),
            credits_now=Credits(view.credits_micro),
            next_period_at=view.next_at,
            next_amount=Usd(usd_micro_text(view.next_usd_micro)),
        )


@strawberry.type(description="A preview, or why there is none")
class PlanChangePreviewPayload(Payload):
    """What previewPlanChange answers."""

    preview: PlanChangePreview | None = strawberry.field(default=None, description="The preview")

    @classmethod
    def of(cls, view: ChangePreview) -> Self:
        """The preview."""
        return cls(preview=PlanChangePreview.of(view))


@strawberry.type(description="A page of the payment provider, to be opened in a browser")
class HostedPagePayload(Payload):
    """The contract's HostedPagePayload."""

    url: str | None = strawberry.field(default=None, description="Its address, for once")

    @classmethod
    def of(cls, view: str) -> Self:
        """The page."""
        return cls(url=view)


@strawberry.type(description="A payment method that was changed")
class PaymentMethodPayload(Payload):
    """The contract's PaymentMethodPayload."""

    payment_method: PaymentMethod | None = strawberry.field(default=None, description="The method as it is now")

    @classmethod
    def of(cls, view: PaymentMethodView) -> Self:
        """Done."""
        return cls(payment_method=PaymentMethod.of(view))


@strawberry.type(description="A tax id that was kept")
class TaxIdPayload(Payload):
    """What addTaxId answers."""

    tax_id: TaxId | None = strawberry.field(default=None, description="The tax id")

    @classmethod
    def of(cls, view: TaxIdView) -> Self:
        """Done."""
        return cls(tax_id=TaxId.of(view))


@strawberry.type(description="A transfer out that was asked for")
class TransferPayload(Payload):
    """The contract's TransferPayload."""

    view: strawberry.Private[TransferView | None] = None
    transfer: Transfer | None = strawberry.field(default=None, description="The transfer, on its way")

    @strawberry.field(description="The wallet after it; null for those who may not read it")
    async def wallet(self, info: Info) -> Wallet | None:
        """The wallet."""
        view = await billing.wallet_after(info.context, await payments.shown_after(info.context, self.view))
        return None if view is None else Wallet.of(view)

    @classmethod
    def of(cls, view: TransferView) -> Self:
        """Accepted."""
        return cls(view=view, transfer=Transfer.of(view))
