"""Stripe's test payment methods: what each token or number looks like, and how it behaves."""

from dataclasses import dataclass
from typing import Literal

Authentication = Literal["never", "always", "unless_set_up"]


@dataclass(frozen=True, slots=True)
class TestMethod:
    """One test payment method. `code` and `decline_code` None: charges succeed."""

    token: str
    number: str = ""
    brand: str = "visa"
    funding: str = "credit"
    country: str = "US"
    kind: str = "card"
    code: str | None = None
    decline_code: str | None = None
    attaches: bool = True
    """Whether it can be saved; Stripe declines that too for most declining cards."""
    authentication: Authentication = "never"
    dispute: str | None = None
    """The reason for which each charge is disputed at once."""
    refund_fails: bool = False
    slow: bool = False
    at_once: bool = False
    """Charges are available at once, not after two days."""
    """Charges stay in processing for a while; they end by the code."""

    @property
    def last4(self) -> str:
        """The last digits."""
        return self.number[-4:]


def _declining(name: str, number: str, code: str, decline_code: str | None, *, attaches: bool = False) -> TestMethod:
    return TestMethod(name, number, code=code, decline_code=decline_code, attaches=attaches)


_METHODS = (
    TestMethod("pm_card_visa", "4242424242424242"),
    TestMethod("pm_card_visa_debit", "4000056655665556", funding="debit"),
    TestMethod("pm_card_mastercard", "5555555555554444", brand="mastercard"),
    TestMethod("pm_card_mastercard_debit", "5200828282828210", brand="mastercard", funding="debit"),
    TestMethod("pm_card_mastercard_prepaid", "5105105105105100", brand="mastercard", funding="prepaid"),
    TestMethod("pm_card_amex", "378282246310005", brand="amex"),
    TestMethod("pm_card_de", "4000002760000016", country="DE"),
    TestMethod("pm_card_bypassPending", "4000000000000077", at_once=True),
    _declining("pm_card_chargeDeclined", "4000000000000002", "card_declined", "generic_decline"),
    _declining("pm_card_visa_chargeDeclined", "4000000000000002", "card_declined", "generic_decline"),
    _declining("pm_card_chargeDeclinedInsufficientFunds", "4000000000009995", "card_declined", "insufficient_funds"),
    _declining(
        "pm_card_visa_chargeDeclinedInsufficientFunds", "4000000000009995", "card_declined", "insufficient_funds"
    ),
    _declining("pm_card_chargeDeclinedLostCard", "4000000000009987", "card_declined", "lost_card"),
    _declining("pm_card_visa_chargeDeclinedLostCard", "4000000000009987", "card_declined", "lost_card"),
    _declining("pm_card_chargeDeclinedStolenCard", "4000000000009979", "card_declined", "stolen_card"),
    _declining("pm_card_visa_chargeDeclinedStolenCard", "4000000000009979", "card_declined", "stolen_card"),
    _declining("pm_card_chargeDeclinedFraudulent", "4100000000000019", "card_declined", "fraudulent"),
    _declining("pm_card_chargeDeclinedFraudulentCard", "4100000000000019", "card_declined", "fraudulent"),
    _declining("pm_card_chargeDeclinedExpiredCard", "4000000000000069", "expired_card", "expired_card"),
    _declining("pm_card_chargeDeclinedIncorrectCvc", "4000000000000127", "incorrect_cvc", "incorrect_cvc"),
    _declining("pm_card_chargeDeclinedProcessingError", "4000000000000119", "processing_error", "processing_error"),
    _declining(
        "pm_card_visa_chargeDeclinedVelocityLimitExceeded",
        "4000000000006975",
        "card_declined",
        "card_velocity_exceeded",
    ),
    _declining("pm_card_chargeCustomerFail", "4000000000000341", "card_declined", "generic_decline", attaches=True),
    TestMethod("pm_card_authenticationRequired", "4000002760003184", authentication="always"),
    TestMethod("pm_card_threeDSecure2Required", "4000000000003220", authentication="always"),
    TestMethod("pm_card_authenticationRequiredOnSetup", "4000002500003155", authentication="unless_set_up"),
    TestMethod(
        "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds",
        "4000008260003178",
        authentication="always",
        code="card_declined",
        decline_code="insufficient_funds",
    ),
    TestMethod("pm_card_createDispute", "4000000000000259", dispute="fraudulent"),
    TestMethod("pm_card_createDisputeProductNotReceived", "4000000000002685", dispute="product_not_received"),
    TestMethod("pm_card_refundFail", "4000000000005126", refund_fails=True),
    TestMethod("pm_paypal", kind="paypal"),
    TestMethod("pm_crypto", kind="crypto"),
    TestMethod("pm_usBankAccount_success", "000123456789", kind="us_bank_account", slow=True),
    TestMethod(
        "pm_usBankAccount_accountClosed", "000111111113", kind="us_bank_account", slow=True, code="account_closed"
    ),
)

BY_TOKEN: dict[str, TestMethod] = {method.token: method for method in _METHODS}
BY_NUMBER: dict[str, TestMethod] = {method.number: method for method in reversed(_METHODS) if method.kind == "card"}

MESSAGES: dict[str, str] = {
    "generic_decline": "Your card was declined.",
    "insufficient_funds": "Your card has insufficient funds.",
    "lost_card": "Your card was declined.",
    "stolen_card": "Your card was declined.",
    "fraudulent": "Your card was declined.",
    "expired_card": "Your card has expired.",
    "incorrect_cvc": "Your card's security code is incorrect.",
    "processing_error": "An error occurred while processing your card. Try again in a little bit.",
    "card_velocity_exceeded": "Your card was declined for making repeated attempts too frequently or exceeding its amount limit.",
    "authentication_required": "Your card was declined. This transaction requires authentication.",
    "account_closed": "The customer's bank account has been closed.",
}


def message_of(method: TestMethod) -> str:
    """The words of its decline."""
    return MESSAGES.get(method.decline_code or method.code or "", "Your card was declined.")
