"""The catalogue of events that a workspace can be told: their names, what they mean and what they carry."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class EventKind(StrEnum):
    """What happened, as `type` in a webhook's body."""

    CREDITS_USED = "credits.used"
    CREDITS_RENEWED = "credits.renewed"
    CREDITS_EXPIRING = "credits.expiring"
    BALANCE_LOW = "balance.low"
    BALANCE_RECOVERED = "balance.recovered"
    SPEND_LIMIT_REACHED = "spend_limit.reached"
    SPEND_LIMIT_RECOVERED = "spend_limit.recovered"
    AUTO_RECHARGE_SUSPENDED = "auto_recharge.suspended"
    PAYMENT_METHOD_REFUSED = "payment_method.refused"
    PAYMENT_FAILED = "payment.failed"
    SUBSCRIPTION_PAST_DUE = "subscription.past_due"
    SUBSCRIPTION_ENDED = "subscription.ended"
    TRANSFER_UPDATED = "transfer.updated"
    AUTO_RECHARGE_ACTION_REQUIRED = "auto_recharge.action_required"
    PAYMENT_UNAPPLIED = "payment.unapplied"
    PAYMENT_GIVEN_BACK = "payment.given_back"
    REFUND_FAILED = "refund.failed"
    FREE_CREDITS_REFUSED = "free_credits.refused"
    WEBHOOK_DISABLED = "webhook.disabled"
    WEBHOOK_TEST = "webhook.test"


@dataclass(frozen=True, slots=True)
class EventTerms:
    """`facts`: the fields of `data` and what they mean."""

    meaning: str
    facts: Mapping[str, str]


_WORKSPACE: Final = {"workspaceId": "the workspace"}
_PERCENT: Final = {**_WORKSPACE, "percent": "the line, of the cycle's credits"}
_PAYMENT: Final = {**_WORKSPACE, "paymentId": "the payment", "amount": "its amount, in dollars"}
_LIMIT: Final = {
    **_WORKSPACE,
    "subjectKind": "API_KEY, MEMBER or WORKSPACE",
    "subjectId": "the key, member or workspace",
    "percent": "80 or 100",
    "limit": "the limit, in credits",
    "spent": "what is spent of it in this period, in credits",
}

CATALOGUE: Final[Mapping[EventKind, EventTerms]] = {
    EventKind.CREDITS_USED: EventTerms(
        "A line of the cycle's credits was crossed (50, 80 and 100 % unless set otherwise); once for each crossing",
        {**_PERCENT, "granted": "the cycle's credits", "remaining": "what is left of them"},
    ),
    EventKind.CREDITS_RENEWED: EventTerms("Less than that line is used again, as a new cycle began", _PERCENT),
    EventKind.CREDITS_EXPIRING: EventTerms(
        "Credits expire in 30, 7 or 1 days (unless set otherwise) if they are not used before",
        {**_WORKSPACE, "grantId": "whose credits", "days": "the line", "remaining": "how many", "expiresAt": "when"},
    ),
    EventKind.BALANCE_LOW: EventTerms(
        "The balance fell below the figure that the workspace has set",
        {**_WORKSPACE, "balance": "the balance, in credits", "figure": "the figure, in credits"},
    ),
    EventKind.BALANCE_RECOVERED: EventTerms(
        "The balance is not below the figure any more",
        {**_WORKSPACE, "balance": "the balance, in credits", "figure": "the figure, in credits"},
    ),
    EventKind.SPEND_LIMIT_REACHED: EventTerms("A limit of spending was nearly or wholly used", _LIMIT),
    EventKind.SPEND_LIMIT_RECOVERED: EventTerms("A new period began, or the limit was raised", _LIMIT),
    EventKind.AUTO_RECHARGE_SUSPENDED: EventTerms(
        "Auto-recharge was turned off, as payments failed or no payment method is left, or waits for a confirmation",
        {**_WORKSPACE, "reason": "why", "actionUrl": "where a payment is confirmed, which turns it on again, or null"},
    ),
    EventKind.PAYMENT_METHOD_REFUSED: EventTerms(
        "A payment method was not kept, or a payment with it given back: prepaid and gift cards are not accepted",
        {**_WORKSPACE, "reason": "prepaid", "last4": "the end of the card's number, or null"},
    ),
    EventKind.PAYMENT_FAILED: EventTerms(
        "A renewal could not be charged, or waits for a confirmation; once for each try",
        {
            **_WORKSPACE,
            "paymentId": "the payment",
            "amountUsd": "how much",
            "failureCode": "why, in the payment provider's word",
            "url": "where it can be paid or confirmed, or null",
            "nextTryAt": "when it is tried again, or null",
        },
    ),
    EventKind.SUBSCRIPTION_PAST_DUE: EventTerms(
        "The period is over and not paid; the plan stays until the grace ends",
        {**_WORKSPACE, "subscriptionId": "the subscription", "graceEndsAt": "until when the plan stays"},
    ),
    EventKind.SUBSCRIPTION_ENDED: EventTerms(
        "A subscription ended: unpaid, cancelled, or no longer sold",
        {**_WORKSPACE, "subscriptionId": "the subscription", "status": "CANCELED or EXPIRED"},
    ),
    EventKind.TRANSFER_UPDATED: EventTerms(
        "A transfer out went a step further, failed, or came back in part",
        {
            **_WORKSPACE,
            "transferId": "the transfer",
            "status": "see docs/payments.md",
            "amountUsd": "how much",
            "returnedUsd": "how much of it came back",
            "failureCode": "why it failed, or null",
        },
    ),
    EventKind.AUTO_RECHARGE_ACTION_REQUIRED: EventTerms(
        "A recharge waits until somebody confirms it at the bank; auto-recharge stands still meanwhile",
        {**_PAYMENT, "actionUrl": "where it is confirmed"},
    ),
    EventKind.PAYMENT_UNAPPLIED: EventTerms(
        "Money came for which there is no place any more, such as of a checkout that was replaced; it is given back",
        _PAYMENT,
    ),
    EventKind.PAYMENT_GIVEN_BACK: EventTerms("All money of such a payment was given back", _PAYMENT),
    EventKind.REFUND_FAILED: EventTerms(
        "The bank sent a refund back, so that it did not arrive; the credits that it took are back",
        {**_WORKSPACE, "paymentId": "the payment", "amount": "how much did not arrive, in dollars"},
    ),
    EventKind.FREE_CREDITS_REFUSED: EventTerms(
        "Credits of a sign-up, a trial or a free plan were withheld, as many workspaces of one origin have had theirs",
        {**_WORKSPACE, "reason": "ADDRESS_RANGE, MAIL_DOMAIN or PAYMENT_FINGERPRINT"},
    ),
    EventKind.WEBHOOK_DISABLED: EventTerms(
        "An endpoint was turned off, as it failed for five days or answered 410",
        {**_WORKSPACE, "endpointId": "the endpoint", "url": "its address", "reason": "FAILING or GONE"},
    ),
    EventKind.WEBHOOK_TEST: EventTerms(
        "Sent by hand, to try an endpoint", {**_WORKSPACE, "endpointId": "the endpoint"}
    ),
}
