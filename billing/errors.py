"""Refusals of the billing room: what a catalog, a plan or a payment does not allow."""

from collections.abc import Sequence
from datetime import datetime

from kit.errors import Code, Refusal, Unavailable
from kit.money import format_micro, usd_micro_text


class CatalogErrors(Exception):
    """A catalog file is not acceptable. `problems`: one line each, with file, key and what was expected."""

    def __init__(self, problems: Sequence[str]) -> None:
        """`problems` is not empty."""
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class CatalogRefused(Exception):
    """A catalog is good in itself but may not replace the one that is applied. `reasons`: one sentence each."""

    def __init__(self, reasons: Sequence[str]) -> None:
        """`reasons` is not empty."""
        super().__init__("\n".join(reasons))
        self.reasons = tuple(reasons)


class CatalogMissing(Unavailable):
    """No catalog with a default plan has been applied to this database yet; a request meets it as a 503."""

    def __init__(self) -> None:
        """The message says what to do."""
        super().__init__("no catalog is applied to this database: run `tollgate catalog apply FILE`")


class UnknownPlan(Refusal):
    """There is no plan of this code on offer."""

    code = Code.NOT_FOUND

    def __init__(self, plan_code: str) -> None:
        """`plan_code` as the caller gave it."""
        super().__init__(f"there is no plan '{plan_code}'")
        self.plan_code = plan_code


class NotInPlan(Refusal):
    """The workspace's plan does not include a feature."""

    code = Code.NOT_IN_PLAN

    def __init__(self, feature: str, plan_name: str, plans_with_it: Sequence[str]) -> None:
        """`feature` in words ("API access"); `plans_with_it`: names of the plans on offer that include it."""
        instead = f"; it is part of {', '.join(plans_with_it)}" if plans_with_it else ""
        super().__init__(f"the plan {plan_name} does not include {feature}{instead}")
        self.feature = feature
        self.plan_name = plan_name


class UnknownPrice(Refusal):
    """There is no such price on offer to this workspace."""

    code = Code.NOT_FOUND

    def __init__(self) -> None:
        """Another workspace's price is not told from one that does not exist."""
        super().__init__("there is no such price on offer", field=["priceId"])


class UnknownPack(Refusal):
    """There is no credit pack of this code on offer."""

    code = Code.NOT_FOUND

    def __init__(self, pack_code: str) -> None:
        """`pack_code` as the caller gave it."""
        super().__init__(f"there is no credit pack '{pack_code}'", field=["packCode"])
        self.pack_code = pack_code


class UnknownPayment(Refusal):
    """There is no such payment."""

    code = Code.NOT_FOUND

    def __init__(self) -> None:
        """No facts."""
        super().__init__("there is no such payment")


class UnknownWorkspace(Refusal):
    """The workspace does not exist, or is deleted."""

    code = Code.NOT_FOUND

    def __init__(self) -> None:
        """No facts."""
        super().__init__("there is no such workspace", field=["workspaceId"])


class AlreadySubscribed(Refusal):
    """The workspace has a subscription; it can be changed, or cancelled."""

    code = Code.CONFLICT

    def __init__(self, plan_name: str) -> None:
        """`plan_name` of the subscription that lives."""
        super().__init__(f"this workspace is subscribed to {plan_name}; change the plan instead")
        self.plan_name = plan_name


class NoSubscription(Refusal):
    """The workspace has no subscription that could be changed."""

    code = Code.SUBSCRIPTION_INACTIVE

    def __init__(self) -> None:
        """No facts."""
        super().__init__("this workspace has no active subscription")


class ChangeRefused(Refusal):
    """The subscription cannot be changed in this way; the message says what can be done."""

    code = Code.CONFLICT


class NothingToResume(Refusal):
    """The subscription was not cancelled."""

    code = Code.CONFLICT

    def __init__(self) -> None:
        """No facts."""
        super().__init__("this subscription is not cancelled")


class PaymentsNotConfigured(Refusal):
    """No payment provider is connected to this installation."""

    code = Code.PAYMENTS_NOT_CONFIGURED

    def __init__(self) -> None:
        """Says who can mend it."""
        super().__init__("payments are not set up here; the operator can connect a payment provider")


class PaymentMethodRequired(Refusal):
    """No payment method is set (B5)."""

    code = Code.PAYMENT_METHOD_REQUIRED

    def __init__(self, hosted: str | None = None) -> None:
        """`hosted`: what makes the same request one for a hosted page, which needs no method; None: nothing does."""
        otherwise = "" if hosted is None else f", or pay on a hosted page ({hosted})"
        super().__init__(f"no payment method is saved: set one up (createPaymentMethodSetup){otherwise}")


class UnknownPaymentMethod(Refusal):
    """There is no such saved payment method."""

    code = Code.NOT_FOUND

    def __init__(self) -> None:
        """Another workspace's is not told from one that does not exist."""
        super().__init__("there is no such payment method", field=["paymentMethodId"])


class PaymentDeclined(Refusal):
    """The payment method was charged in vain."""

    code = Code.PAYMENT_DECLINED

    def __init__(self, failure_code: str) -> None:
        """`failure_code` of the payment provider, such as "card_declined"."""
        super().__init__(f"the payment was declined ({failure_code}); try another payment method")
        self.failure_code = failure_code


class PaymentRefused(Refusal):
    """The payment provider cannot do this with a payment; its word is in the message."""

    code = Code.CONFLICT


class PaymentActionRequired(Refusal):
    """The bank wants the customer to confirm the payment."""

    code = Code.PAYMENT_ACTION_REQUIRED

    def __init__(self) -> None:
        """The page stands beside it in the answer."""
        super().__init__("confirm the payment on the page that the answer names; it finishes by itself then")


class TopUpsNotOffered(Refusal):
    """The catalog sells no credits by amount."""

    code = Code.NOT_IN_PLAN

    def __init__(self) -> None:
        """No facts."""
        super().__init__("credits by amount are not on offer here")


class AmountOutOfBounds(Refusal):
    """An amount of money is outside the catalog's bounds."""

    code = Code.INVALID_INPUT

    def __init__(self, field: str, min_usd_micro: int, max_usd_micro: int) -> None:
        """`field` of the input; both bounds are allowed values."""
        low, high = usd_micro_text(min_usd_micro), usd_micro_text(max_usd_micro)
        super().__init__(f"give an amount from ${low} to ${high}", field=[field])
        self.min_usd_micro = min_usd_micro
        self.max_usd_micro = max_usd_micro


class AutoRechargeNotOffered(Refusal):
    """The catalog offers no automatic recharge."""

    code = Code.NOT_IN_PLAN

    def __init__(self) -> None:
        """No facts."""
        super().__init__("automatic recharge is not on offer here")


class TransfersNotOffered(Refusal):
    """The catalog pays nothing out."""

    code = Code.NOT_IN_PLAN

    def __init__(self) -> None:
        """No facts."""
        super().__init__("transfers out are not on offer here")


class PayoutsNotSetUp(Refusal):
    """There is no bank account to pay to yet (B6)."""

    code = Code.CONFLICT

    def __init__(self) -> None:
        """Says what to do first."""
        super().__init__("set up a bank account first: createPayoutSetup gives the page for it")


class NothingToTransfer(Refusal):
    """More is asked for than may be paid out."""

    code = Code.INSUFFICIENT_CREDITS

    def __init__(self, wanted_micro: int, transferable_micro: int) -> None:
        """Micro-credits asked for, and those that may be paid out."""
        super().__init__(
            f"{format_micro(transferable_micro)} credits can be transferred, not {format_micro(wanted_micro)}",
            field=["amount"],
        )
        self.transferable_micro = transferable_micro


class UnknownTransfer(Refusal):
    """There is no such transfer."""

    code = Code.NOT_FOUND

    def __init__(self) -> None:
        """No facts."""
        super().__init__("there is no such transfer")


class PromoInvalid(Refusal):
    """There is no such promo code, or it cannot be used now."""

    code = Code.PROMO_INVALID

    def __init__(self) -> None:
        """Unknown, paused and not yet begun are not told apart: guesses learn nothing."""
        super().__init__("this promo code is not valid", field=["code"])


class PromoExpired(Refusal):
    """The campaign is over."""

    code = Code.PROMO_EXPIRED

    def __init__(self, ended_at: datetime) -> None:
        """`ended_at`: since when."""
        super().__init__(f"this promo code ended on {ended_at.date().isoformat()}", field=["code"])
        self.ended_at = ended_at


class PromoExhausted(Refusal):
    """Every use of the campaign is taken."""

    code = Code.PROMO_EXHAUSTED

    def __init__(self) -> None:
        """No facts."""
        super().__init__("this promo code is used up", field=["code"])


class PromoAlreadyRedeemed(Refusal):
    """The workspace has used the code as often as it may."""

    code = Code.PROMO_ALREADY_REDEEMED

    def __init__(self, uses: int) -> None:
        """`uses`: how often it may, and did."""
        often = "" if uses == 1 else f" {uses} times, as often as it may"
        super().__init__(f"this workspace has redeemed this promo code already{often}", field=["code"])
        self.uses = uses
