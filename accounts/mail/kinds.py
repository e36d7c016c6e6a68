"""The kinds of mail, and which of them can be turned off."""

from enum import StrEnum
from typing import Final


class MailKind(StrEnum):
    """What a person can turn off as one; TRANSACTIONAL answers something the person did and cannot be turned off."""

    TRANSACTIONAL = "TRANSACTIONAL"
    BALANCE_ALERTS = "BALANCE_ALERTS"
    BILLING_NOTICES = "BILLING_NOTICES"
    PRODUCT_NEWS = "PRODUCT_NEWS"


OPTIONAL: Final = frozenset(MailKind) - {MailKind.TRANSACTIONAL}
"""The kinds that carry an unsubscribe link (D11)."""
