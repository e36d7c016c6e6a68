"""The closed sets of values of the API: the domain's own enums, with a description on each value."""

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

import strawberry
from strawberry.types.enum import StrawberryEnumDefinition

from accounts.mail.kinds import MailKind
from accounts.rules.roles import ApiScope, Role
from accounts.views import ActorKind, Environment
from billing.event_kinds import CATALOGUE, EventKind
from billing.rules.auto_recharge import RechargeState as AutoRechargeStatus
from billing.rules.proration import ChangeKind as PlanChangeKind
from kit.errors import Code as UserErrorCode
from metering.reports import UsageDimension
from metering.rules.intervals import UsageInterval
from models.enums import (
    CallStatus,
    FreeCreditsRefusal,
    FrozenReason,
    GrantCadence,
    GrantKind,
    Meter,
    Modality,
    PaymentStatus,
    SubscriptionStatus,
    TransferStatus,
    Visibility,
)
from models.enums import PricePeriod as BillingPeriod

__all__ = [
    "ActorKind",
    "ApiScope",
    "AutoRechargeStatus",
    "BillingPeriod",
    "CallStatus",
    "ChatRole",
    "EntryKind",
    "Environment",
    "EventKind",
    "FreeCreditsRefusal",
    "FrozenReason",
    "GrantCadence",
    "GrantKind",
    "MailKind",
    "Meter",
    "Modality",
    "PaymentStatus",
    "PlanChangeKind",
    "Role",
    "SpendLimitPeriod",
    "SpendLimitSubject",
    "SubscriptionStatus",
    "TransferStatus",
    "UsageDimension",
    "UsageInterval",
    "UserErrorCode",
    "Visibility",
]

E = TypeVar("E", bound=StrEnum)


class SpendLimitSubject(StrEnum):
    """What a limit of spending is for."""

    WORKSPACE = "WORKSPACE"
    MEMBER = "MEMBER"
    API_KEY = "API_KEY"


class SpendLimitPeriod(StrEnum):
    """The calendar period, in UTC, that a limit of spending counts."""

    DAY = "DAY"
    MONTH = "MONTH"


class EntryKind(StrEnum):
    """What moved a wallet's credits. (The ledger also has SHORTFALL, which is no wallet's.)"""

    GRANT = "GRANT"
    USAGE = "USAGE"
    EXPIRY = "EXPIRY"
    REFUND = "REFUND"
    CLAWBACK = "CLAWBACK"
    TRANSFER_OUT = "TRANSFER_OUT"
    EARNING = "EARNING"
    ADJUSTMENT = "ADJUSTMENT"


class ChatRole(StrEnum):
    """Who says a message of a chat."""

    SYSTEM = "SYSTEM"
    USER = "USER"
    ASSISTANT = "ASSISTANT"
    TOOL = "TOOL"


def _described(enum: type[E], name: str, description: str, values: Mapping[str, str]) -> None:
    """Make a domain enum an enum of the API; KeyError where a value has no description."""
    strawberry.enum(enum, name=name, description=description)
    definition: StrawberryEnumDefinition = enum.__strawberry_definition__  # type: ignore[attr-defined]  # set by the line above
    for value in definition.values:  # pyright: ignore[reportUnknownVariableType] -- strawberry types its directives loosely
        value.description = values[value.name]


_described(
    Role,
    "Role",
    "What a member may do in a workspace",
    {
        "OWNER": "Everything, deleting the workspace included; there is always one",
        "ADMIN": "Everything but what only owners may",
        "BILLING": "Plan, payment and usage; calls no models",
        "MEMBER": "Calls models on the workspace's credits",
    },
)
_described(
    ApiScope,
    "ApiScope",
    "What an API key may do",
    {
        "CALLS_WRITE": "Call models and pay for them",
        "CALLS_READ": "Read calls and list models",
        "USAGE_READ": "Read usage reports",
        "WALLET_READ": "Read the wallet, its grants and its entries",
        "WORKSPACE_READ": "Read the workspace, its members, keys and plan",
        "WORKSPACE_WRITE": "Change the workspace, invite and remove members",
        "BILLING_WRITE": "Change plan, payment methods and recharge, add credits",
    },
)
_described(
    Environment,
    "ApiKeyEnvironment",
    "What an API key works on",
    {"LIVE": "Calls every model of the plan and spends credits", "TEST": "Calls the sandbox only and is never charged"},
)
_described(
    MailKind,
    "MailKind",
    "A kind of mail",
    {
        "TRANSACTIONAL": "Answers what a person did; it cannot be turned off",
        "BALANCE_ALERTS": "Alerts about the balance",
        "BILLING_NOTICES": "Notices about billing",
        "PRODUCT_NEWS": "Product news",
    },
)
_described(
    SpendLimitSubject,
    "SpendLimitSubject",
    "What a limit of spending is for",
    {"WORKSPACE": "The whole workspace", "MEMBER": "One member", "API_KEY": "One API key"},
)
_described(
    SpendLimitPeriod,
    "SpendLimitPeriod",
    "The calendar period, in UTC, that a limit of spending counts",
    {"DAY": "A day", "MONTH": "A month"},
)
_described(
    ActorKind,
    "ActorKind",
    "Who did what the audit log tells",
    {
        "USER": "A signed-in person",
        "API_KEY": "An API key",
        "OPERATOR": "The operator of this gateway",
        "SYSTEM": "The gateway itself",
        "ANONYMOUS": "Somebody without a credential",
    },
)
_described(
    BillingPeriod,
    "BillingPeriod",
    "How long a price pays for",
    {
        "FREE": "For ever, at no price",
        "DAYS_30": "30 days",
        "MONTH": "A calendar month",
        "YEAR": "A year",
        "LIFETIME": "For ever, paid once",
    },
)
_described(
    GrantCadence,
    "GrantCadence",
    "How often a price's credits are granted",
    {"MONTH": "Every month", "BILLING_PERIOD": "At the start of each billing period", "ONCE": "Once, at the start"},
)
_described(
    Modality,
    "Modality",
    "What a model makes",
    {
        "TEXT": "Text from text, and pictures where the model reads them",
        "EMBEDDING": "Vectors from texts",
        "IMAGE": "Pictures",
        "VIDEO": "Films",
        "AUDIO": "Speech or sound",
    },
)
_described(
    Visibility,
    "Visibility",
    "Who may call a published model",
    {"PRIVATE": "Its own workspace", "PUBLIC": "Everybody"},
)
_described(
    Meter,
    "Meter",
    "What a model's use is counted in",
    {
        "INPUT_TOKENS": "Tokens of the input, cached ones included in the count",
        "CACHED_INPUT_TOKENS": "Tokens of the input that the provider had in its cache",
        "CACHE_WRITE_INPUT_TOKENS": "Tokens of the input that the provider wrote to its cache",
        "LONG_CACHE_WRITE_INPUT_TOKENS": "Tokens written to the cache for the longer of the provider's two lives",
        "OUTPUT_TOKENS": "Tokens of the output, reasoning included in the count",
        "REASONING_TOKENS": "Tokens of the output that were reasoning",
        "REQUESTS": "Calls",
        "IMAGES": "Pictures made",
        "SECONDS": "Seconds of film or sound made",
        "CHARACTERS": "Characters spoken",
    },
)
_described(
    SubscriptionStatus,
    "SubscriptionStatus",
    "Where a subscription stands",
    {
        "TRIALING": "In its free trial",
        "ACTIVE": "Paid, or free",
        "PAST_DUE": "A payment failed; within grace everything still works",
        "CANCELED": "Ended as its workspace wanted",
        "EXPIRED": "Ended for want of payment or because its period was over",
        "INCOMPLETE": "Waits for its first payment",
    },
)
_described(
    GrantKind,
    "GrantKind",
    "Where a grant's credits come from",
    {
        "CYCLE": "The plan, for one cycle",
        "PACK": "A credit pack that was bought",
        "TOP_UP": "Money that was added",
        "PROMO": "A promo code",
        "BONUS": "A bonus on money that was added",
        "EARNINGS": "Others' use of published models",
        "ADJUSTMENT": "The operator",
    },
)
_described(
    FrozenReason,
    "FrozenReason",
    "Why a grant cannot be spent for now",
    {
        "NO_ACTIVE_SUBSCRIPTION": "It needs an active subscription; it is kept until there is one",
        "DISPUTE": "Its payment is disputed",
        "WORKSPACE_DELETED": "Its workspace is deleted",
    },
)
_described(
    EntryKind,
    "EntryKind",
    "What moved a wallet's credits",
    {
        "GRANT": "Credits came in",
        "USAGE": "A model call was paid",
        "EXPIRY": "A grant's time was over",
        "REFUND": "The operator gave money back, for good",
        "CLAWBACK": "A refund or a dispute took credits back, or gave them back as it failed or was won",
        "TRANSFER_OUT": "Credits were paid out to a bank account",
        "EARNING": "Somebody used a published model",
        "ADJUSTMENT": "The operator corrected the wallet",
    },
)
_described(
    CallStatus,
    "CallStatus",
    "Where a call stands",
    {
        "QUEUED": "Waits for its turn",
        "RUNNING": "The provider works on it",
        "SUCCEEDED": "Answered and settled",
        "FAILED": "Broke; `error` says why",
        "CANCELED": "Ended by its caller",
    },
)
_described(
    PaymentStatus,
    "PaymentStatus",
    "Where a payment stands",
    {
        "PENDING": "Under way",
        "ACTION_REQUIRED": "The customer has to confirm it",
        "SUCCEEDED": "Paid",
        "FAILED": "Refused",
        "REFUNDED": "Given back",
        "DISPUTED": "The customer's bank disputes it",
    },
)
_described(
    AutoRechargeStatus,
    "AutoRechargeStatus",
    "How automatic recharge stands",
    {
        "OFF": "Turned off",
        "READY": "Buys as soon as the balance is below the threshold",
        "IN_PROGRESS": "A charge is under way",
        "COOLING_DOWN": "Waits a while after a charge, or after a decline",
        "SUSPENDED": "Stopped until another payment method is set, or the open payment is confirmed",
    },
)
_described(
    PlanChangeKind,
    "PlanChangeKind",
    "When and how a plan change is done",
    {
        "AT_ONCE": "Now, for the difference of the period's rest",
        "CHECKOUT": "By buying the new price on a hosted page; it begins when it is paid",
        "SCHEDULED": "At the end of the period",
        "IMPOSSIBLE": "Not at all: a lifetime plan can only be raised to a higher one",
    },
)
_described(
    TransferStatus,
    "TransferStatus",
    "Where a transfer out stands",
    {
        "REQUESTED": "Accepted",
        "IN_REVIEW": "Looked at by the operator",
        "SENT": "On its way to the bank",
        "PAID": "Arrived",
        "FAILED": "Did not arrive; the credits are back",
        "REVERSED": "Taken back; the credits are back",
    },
)
_described(
    ChatRole,
    "ChatRole",
    "Who says a message of a chat",
    {
        "SYSTEM": "The operator of the chat: instructions",
        "USER": "The person",
        "ASSISTANT": "The model",
        "TOOL": "A tool that the model called",
    },
)
_described(
    UserErrorCode,
    "UserErrorCode",
    "Why a rule of the domain said no",
    {
        "INVALID_INPUT": "A value is not acceptable; the message says which would be",
        "NOT_FOUND": "It does not exist, or the viewer may not know that it does",
        "ALREADY_EXISTS": "There is one already",
        "CONFLICT": "Not in the state that this needs",
        "IDEMPOTENCY_KEY_REUSED": "The key was used before with another input",
        "INSUFFICIENT_CREDITS": "The wallet cannot pay what this could cost",
        "CREDITS_HELD": "Only the holds of calls still running stand in the way",
        "SPEND_LIMIT_REACHED": "A limit set for the key, the member or the workspace would be passed",
        "SUBSCRIPTION_INACTIVE": "This needs an active subscription",
        "NOT_IN_PLAN": "The workspace's plan does not include this",
        "MODEL_NOT_IN_PLAN": "The plan or the API key does not allow the model",
        "MODEL_NOT_FOUND": "There is no model of this name",
        "MODEL_DISABLED": "The operator has switched the model off for now",
        "UPSTREAM_ERROR": "The provider failed",
        "UPSTREAM_TIMEOUT": "The provider took too long",
        "UPSTREAM_REJECTED": "The provider refused the request as it was made",
        "PROMO_INVALID": "There is no such promo code",
        "PROMO_EXPIRED": "The promo code's time is over, or has not begun",
        "PROMO_EXHAUSTED": "The promo code was redeemed as often as it may be",
        "PROMO_ALREADY_REDEEMED": "This workspace has redeemed the promo code before",
        "PAYMENT_METHOD_REQUIRED": "Set up a payment method first",
        "PAYMENT_METHOD_REFUSED": "This kind of payment method is not taken",
        "PAYMENT_DECLINED": "The payment was refused",
        "PAYMENT_ACTION_REQUIRED": "The customer has to confirm the payment",
        "PAYMENTS_NOT_CONFIGURED": "This gateway takes no payments",
        "INVITATION_EXPIRED": "The invitation is not open any more",
        "LAST_OWNER": "A workspace keeps at least one owner",
        "STORAGE_FULL": "The plan's storage is used up",
    },
)
_described(
    UsageInterval,
    "UsageInterval",
    "How long the buckets of a usage report are",
    {"HOUR": "An hour", "DAY": "From midnight to midnight", "MONTH": "A calendar month"},
)
_described(
    UsageDimension,
    "UsageDimension",
    "What a usage report tells apart",
    {
        "MODEL": "The models called",
        "MEMBER": "The people who called them",
        "API_KEY": "The API keys with which they were called",
        "MODALITY": "What the models make",
    },
)
_described(
    EventKind,
    "EventKind",
    "What a workspace can be told of",
    {kind.name: terms.meaning for kind, terms in CATALOGUE.items()},
)
_described(
    FreeCreditsRefusal,
    "FreeCreditsRefusal",
    "Why a workspace gets no free credits",
    {
        "ADDRESS_RANGE": "Many new workspaces came from the same network on that day",
        "MAIL_DOMAIN": "Many new workspaces came from the same mail domain on that day",
        "PAYMENT_FINGERPRINT": "Another workspace has had free credits with the same payment method",
    },
)
