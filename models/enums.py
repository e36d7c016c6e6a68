"""The closed sets of values that columns hold; each equals a check constraint, which a test compares."""

from enum import StrEnum


class TokenPurpose(StrEnum):
    """What a one-time mailed token is good for."""

    VERIFY_EMAIL = "VERIFY_EMAIL"
    RESET_PASSWORD = "RESET_PASSWORD"  # noqa: S105  a purpose, not a secret
    TOTP_RECOVERY = "TOTP_RECOVERY"


class UnsubscribeSource(StrEnum):
    """How someone turned a kind of mail off."""

    ONE_CLICK = "ONE_CLICK"
    SUPPORT = "SUPPORT"
    VIEWER = "VIEWER"


class PricePeriod(StrEnum):
    """How long a price pays for."""

    FREE = "FREE"
    DAYS_30 = "DAYS_30"
    MONTH = "MONTH"
    YEAR = "YEAR"
    LIFETIME = "LIFETIME"


class GrantCadence(StrEnum):
    """How often a price's credits are granted."""

    MONTH = "MONTH"
    BILLING_PERIOD = "BILLING_PERIOD"
    ONCE = "ONCE"


class Visibility(StrEnum):
    """Who may call a published model: everybody, or its own workspace."""

    PRIVATE = "PRIVATE"
    PUBLIC = "PUBLIC"


class Modality(StrEnum):
    """What a model works with."""

    TEXT = "TEXT"
    EMBEDDING = "EMBEDDING"
    IMAGE = "IMAGE"
    VIDEO = "VIDEO"
    AUDIO = "AUDIO"


class Meter(StrEnum):
    """What a model's use is counted in."""

    INPUT_TOKENS = "INPUT_TOKENS"
    CACHED_INPUT_TOKENS = "CACHED_INPUT_TOKENS"
    CACHE_WRITE_INPUT_TOKENS = "CACHE_WRITE_INPUT_TOKENS"
    LONG_CACHE_WRITE_INPUT_TOKENS = "LONG_CACHE_WRITE_INPUT_TOKENS"
    OUTPUT_TOKENS = "OUTPUT_TOKENS"
    REASONING_TOKENS = "REASONING_TOKENS"
    REQUESTS = "REQUESTS"
    IMAGES = "IMAGES"
    SECONDS = "SECONDS"
    CHARACTERS = "CHARACTERS"


class Role(StrEnum):
    """What a member may do in a workspace."""

    OWNER = "OWNER"
    ADMIN = "ADMIN"
    BILLING = "BILLING"
    MEMBER = "MEMBER"


class ApiScope(StrEnum):
    """What an API key may do."""

    CALLS_WRITE = "CALLS_WRITE"
    CALLS_READ = "CALLS_READ"
    USAGE_READ = "USAGE_READ"
    WALLET_READ = "WALLET_READ"
    WORKSPACE_READ = "WORKSPACE_READ"
    WORKSPACE_WRITE = "WORKSPACE_WRITE"
    BILLING_WRITE = "BILLING_WRITE"


class KeyEnvironment(StrEnum):
    """Whether a key works on live or test data; part of the key's text, hence lower case."""

    LIVE = "live"
    TEST = "test"


class ActorKind(StrEnum):
    """Who did what an audit event records."""

    USER = "USER"
    API_KEY = "API_KEY"
    OPERATOR = "OPERATOR"
    SYSTEM = "SYSTEM"
    ANONYMOUS = "ANONYMOUS"


class SubscriptionStatus(StrEnum):
    """Where a subscription stands."""

    TRIALING = "TRIALING"
    ACTIVE = "ACTIVE"
    PAST_DUE = "PAST_DUE"
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"
    INCOMPLETE = "INCOMPLETE"


class GrantKind(StrEnum):
    """Where a grant's credits come from."""

    CYCLE = "CYCLE"
    PROMO = "PROMO"
    BONUS = "BONUS"
    PACK = "PACK"
    TOP_UP = "TOP_UP"
    ADJUSTMENT = "ADJUSTMENT"
    EARNINGS = "EARNINGS"


class FrozenReason(StrEnum):
    """Why a grant cannot be spent for now."""

    NO_ACTIVE_SUBSCRIPTION = "NO_ACTIVE_SUBSCRIPTION"
    DISPUTE = "DISPUTE"
    WORKSPACE_DELETED = "WORKSPACE_DELETED"


class SpendLimitSubject(StrEnum):
    """Whose spending a limit bounds."""

    API_KEY = "API_KEY"
    MEMBER = "MEMBER"
    WORKSPACE = "WORKSPACE"


class SpendLimitPeriod(StrEnum):
    """The period after which a limit's count begins anew."""

    MONTH = "MONTH"
    DAY = "DAY"


class EntryKind(StrEnum):
    """What moved credits."""

    GRANT = "GRANT"
    USAGE = "USAGE"
    EXPIRY = "EXPIRY"
    REFUND = "REFUND"
    CLAWBACK = "CLAWBACK"
    TRANSFER_OUT = "TRANSFER_OUT"
    EARNING = "EARNING"
    ADJUSTMENT = "ADJUSTMENT"
    SHORTFALL = "SHORTFALL"


class CounterAccount(StrEnum):
    """The platform's account on the other side of a ledger entry."""

    ISSUED = "ISSUED"
    REVENUE = "REVENUE"
    EXPIRED = "EXPIRED"
    REFUNDED = "REFUNDED"
    CLAWED_BACK = "CLAWED_BACK"
    PAID_OUT = "PAID_OUT"
    EARNINGS = "EARNINGS"
    ADJUSTED = "ADJUSTED"
    SHORTFALL = "SHORTFALL"


class CallStatus(StrEnum):
    """Where a call stands."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"


class JobOperation(StrEnum):
    """What a job asks of a model."""

    IMAGE = "IMAGE"
    VIDEO = "VIDEO"


class PaymentPurpose(StrEnum):
    """What a payment was for."""

    TOP_UP = "TOP_UP"
    PACK = "PACK"
    AUTO_RECHARGE = "AUTO_RECHARGE"
    SUBSCRIPTION = "SUBSCRIPTION"
    PLAN_CHANGE = "PLAN_CHANGE"


class PaymentStatus(StrEnum):
    """Where a payment stands."""

    PENDING = "PENDING"
    ACTION_REQUIRED = "ACTION_REQUIRED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    REFUNDED = "REFUNDED"
    DISPUTED = "DISPUTED"


class DisputeStatus(StrEnum):
    """Where a dispute of a payment stands: the bank has its money while it is open, and for good where it is lost."""

    OPEN = "OPEN"
    WON = "WON"
    LOST = "LOST"


class TransferStatus(StrEnum):
    """Where a transfer out stands."""

    REQUESTED = "REQUESTED"
    IN_REVIEW = "IN_REVIEW"
    SENT = "SENT"
    PAID = "PAID"
    FAILED = "FAILED"
    REVERSED = "REVERSED"


class FreeCreditsRefusal(StrEnum):
    """Why a workspace gets no free credits."""

    ADDRESS_RANGE = "ADDRESS_RANGE"
    MAIL_DOMAIN = "MAIL_DOMAIN"
    PAYMENT_FINGERPRINT = "PAYMENT_FINGERPRINT"


class FilePurpose(StrEnum):
    """What a stored file is."""

    BATCH = "BATCH"
    BATCH_OUTPUT = "BATCH_OUTPUT"
    BATCH_ERRORS = "BATCH_ERRORS"


class BatchStatus(StrEnum):
    """Where a batch stands."""

    VALIDATING = "VALIDATING"
    FAILED = "FAILED"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    EXPIRED = "EXPIRED"
    CANCELLING = "CANCELLING"
    CANCELLED = "CANCELLED"


class BatchLineState(StrEnum):
    """Where a line of a batch stands."""

    PENDING = "PENDING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
