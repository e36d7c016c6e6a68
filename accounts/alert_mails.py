"""Mails about a workspace's credits, to those who look after its money."""

from typing import Final
from uuid import UUID

from accounts.mail.kinds import MailKind
from accounts.mail.messages import Mail
from accounts.mail.outbox import enqueue
from billing.event_kinds import EventKind
from billing.events import EventView
from billing.payment_methods import METHOD_REMOVED
from kit.clock import now
from kit.sealing import Sealer
from models.enums import FreeCreditsRefusal
from models.pool import PoolConnection

MAX_RECIPIENTS: Final = 50
_RECIPIENTS: Final = """
SELECT u.id, u.email, w.name FROM members m JOIN users u ON u.id = m.user_id JOIN workspaces w ON w.id = m.workspace_id
    LEFT JOIN workspace_alerts a ON a.workspace_id = w.id
WHERE m.workspace_id = $1 AND m.removed_at IS NULL AND m.role = ANY ($3) AND u.erased_at IS NULL
    AND u.email_verified_at IS NOT NULL AND w.deleted_at IS NULL AND ($4 OR coalesce(a.by_mail, true))
ORDER BY m.joined_at LIMIT $2
"""
_ALL: Final = ("OWNER", "ADMIN", "BILLING")
_WHO_PAY: Final = ("OWNER", "BILLING")
_TRANSACTIONAL: Final = frozenset(
    {
        EventKind.AUTO_RECHARGE_ACTION_REQUIRED,
        EventKind.PAYMENT_FAILED,
        EventKind.PAYMENT_GIVEN_BACK,
        EventKind.REFUND_FAILED,
        EventKind.SUBSCRIPTION_PAST_DUE,
    }
)
"""What somebody has to do, or nothing goes on, and money that went back or did not arrive: whatever the workspace's alerts are set to."""
_SUBJECTS: Final = {
    EventKind.CREDITS_USED: "{percent} % of this cycle's credits are used",
    EventKind.CREDITS_EXPIRING: "{remaining} credits expire in {days} days",
    EventKind.BALANCE_LOW: "The balance is below {figure} credits",
    EventKind.BALANCE_RECOVERED: "The balance is above {figure} credits again",
    EventKind.SPEND_LIMIT_REACHED: "{percent} % of a spending limit are used",
    EventKind.AUTO_RECHARGE_SUSPENDED: "Auto-recharge was turned off",
    EventKind.PAYMENT_METHOD_REFUSED: "A payment method was not accepted",
    EventKind.PAYMENT_FAILED: "A payment of ${amountUsd} failed",
    EventKind.SUBSCRIPTION_PAST_DUE: "The plan is not paid",
    EventKind.SUBSCRIPTION_ENDED: "The subscription has ended",
    EventKind.TRANSFER_UPDATED: "Transfer of ${amountUsd}: {status}",
    EventKind.AUTO_RECHARGE_ACTION_REQUIRED: "Confirm a payment of ${amount}",
    EventKind.PAYMENT_GIVEN_BACK: "A payment of ${amount} was given back",
    EventKind.REFUND_FAILED: "A refund of ${amount} failed",
    EventKind.FREE_CREDITS_REFUSED: "This workspace gets no free credits",
    EventKind.WEBHOOK_DISABLED: "A webhook endpoint was turned off",
}
"""What is worth a mail; the rest is told by webhook only."""
_DETAILS: Final = {
    EventKind.CREDITS_USED: "{remaining} of {granted} credits are left.",
    EventKind.CREDITS_EXPIRING: "They are lost at {expiresAt} if they are not used before.",
    EventKind.BALANCE_LOW: "It is {balance} credits now. Calls are refused when nothing is left.",
    EventKind.BALANCE_RECOVERED: "It is {balance} credits now.",
    EventKind.SPEND_LIMIT_REACHED: "{spent} of {limit} credits are spent in this period by {subjectKind} {subjectId}.",
    EventKind.AUTO_RECHARGE_SUSPENDED: "{words}",
    EventKind.PAYMENT_METHOD_REFUSED: "Prepaid and gift cards cannot be used ({last4}). Save another card or account.",
    EventKind.PAYMENT_FAILED: "The bank said: {failureCode}. It can be paid or confirmed on the page below.",
    EventKind.SUBSCRIPTION_PAST_DUE: "Pay before {graceEndsAt} to keep the plan. Credits that need a plan stay until then.",
    EventKind.SUBSCRIPTION_ENDED: "Its credits end with it; what was bought on top is kept. Subscribe again at any time.",
    EventKind.TRANSFER_UPDATED: "{words}",
    EventKind.AUTO_RECHARGE_ACTION_REQUIRED: "The bank wants it confirmed by the card's holder. Auto-recharge pauses until"
    " that is done: no credits are bought, and calls are refused when none are left.",
    EventKind.PAYMENT_GIVEN_BACK: "What it was for had been paid already, or is not on offer any more, so nothing was bought"
    " with it. The whole amount goes back to where it came from; a bank may need some days to show it.",
    EventKind.REFUND_FAILED: "The bank sent it back, for example because the card or account is closed. Credits that it had"
    " taken are back. We have been told as well; ask us how you want to receive the money.",
    EventKind.FREE_CREDITS_REFUSED: "{words} Everything else of the plan is yours, and credits can be bought. If you think"
    " that this is wrong, ask us.",
    EventKind.WEBHOOK_DISABLED: "{url} failed for too long or said that it is gone. Enable it again once it works.",
}

_REMOVED: Final = "The last payment method was removed. Save another one and turn auto-recharge on again."
_UNDER_WAY: Final = "It is visible in the workspace until it is paid."
_CAME_BACK: Final = "${returnedUsd} of it came back, and these credits are in the workspace again."
_FAILED: Final = "Payments failed ({reason}). It goes on once another payment method is set."
_WORDS: Final = {
    FreeCreditsRefusal.ADDRESS_RANGE: "Many new workspaces came from your network today.",
    FreeCreditsRefusal.MAIL_DOMAIN: "Many new workspaces came from your mail domain today.",
    FreeCreditsRefusal.PAYMENT_FINGERPRINT: "Another workspace has had free credits with this payment method.",
}


class AlertMails:
    """Writes the mails of an event into the transaction that turns it into deliveries."""

    def __init__(self, sealer: Sealer, product_name: str) -> None:
        """`product_name` stands in the subject."""
        self._sealer = sealer
        self._product = product_name

    async def __call__(self, conn: PoolConnection, event: EventView) -> None:
        """One mail to each owner, admin and billing member with a verified address, unless the workspace wants none.

        What is transactional goes to owners and billing members, whatever is set. A suspension that ends with a
        confirmation has no mail of its own: that which asks for the confirmation says it.
        """
        subject, facts = _SUBJECTS.get(event.kind), dict(event.facts)
        if subject is None or (event.kind is EventKind.AUTO_RECHARGE_SUSPENDED and facts.get("actionUrl")):
            return
        if event.kind is EventKind.AUTO_RECHARGE_SUSPENDED:
            facts["words"] = (_REMOVED if facts["reason"] == METHOD_REMOVED else _FAILED).format(**facts)
        if event.kind is EventKind.TRANSFER_UPDATED:
            facts["words"] = (_CAME_BACK if float(str(facts.get("returnedUsd", 0))) else _UNDER_WAY).format(**facts)
        if event.kind is EventKind.FREE_CREDITS_REFUSED:
            facts["words"] = _WORDS[FreeCreditsRefusal(str(facts["reason"]))]
        transactional = event.kind in _TRANSACTIONAL
        roles = _WHO_PAY if transactional else _ALL
        link = facts.get("actionUrl") or (facts.get("url") if event.kind is EventKind.PAYMENT_FAILED else None)
        for row in await conn.fetch(_RECIPIENTS, event.workspace_id, MAX_RECIPIENTS, roles, transactional):
            user_id: UUID = row["id"]
            mail = Mail(
                to=row["email"],
                subject=f"{self._product}: {subject.format(**facts)}",
                paragraphs=(
                    f"In the workspace {row['name']}: {subject.format(**facts)}.",
                    _DETAILS[event.kind].format(**facts),
                    f"{now():%Y-%m-%d %H:%M} UTC",
                ),
                link=None if link is None else str(link),
                link_text=None if link is None else "To the payment",
                kind=MailKind.TRANSACTIONAL if transactional else MailKind.BALANCE_ALERTS,
            )
            await enqueue(conn, self._sealer, mail, workspace_id=event.workspace_id, dedupe_key=f"{event.id}:{user_id}")
