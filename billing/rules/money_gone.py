"""How much of a payment's money is gone, to refunds and to disputes, and where the payment stands with it."""

from dataclasses import dataclass

from models.enums import DisputeStatus, PaymentStatus

_PAID = frozenset({PaymentStatus.SUCCEEDED, PaymentStatus.REFUNDED, PaymentStatus.DISPUTED})


@dataclass(frozen=True, slots=True)
class Dispute:
    """`id` is the provider's. While it is open, and once it is lost, the bank has its money."""

    id: str
    usd_micro: int
    status: DisputeStatus


@dataclass(frozen=True, slots=True)
class MoneyGone:
    """What went back of a payment of `amount_usd_micro`; `disputes` in the order in which they were heard of."""

    amount_usd_micro: int
    refunded_usd_micro: int
    disputes: tuple[Dispute, ...] = ()

    @property
    def is_disputed(self) -> bool:
        """Whether a dispute is open."""
        return any(dispute.status is DisputeStatus.OPEN for dispute in self.disputes)

    @property
    def is_whole(self) -> bool:
        """Whether nothing of the money is left for good: refunded, or lost to disputes, in as many parts as it may be.

        Of a payment of nothing none can go.
        """
        lost = sum(dispute.usd_micro for dispute in self.disputes if dispute.status is DisputeStatus.LOST)
        return 0 < self.amount_usd_micro <= self.refunded_usd_micro + lost

    def with_banks(self) -> tuple[tuple[str, int], ...]:
        """What each dispute has of the money now, open or lost; together no more than was not refunded."""
        rest = self.amount_usd_micro - self.refunded_usd_micro
        parts: list[tuple[str, int]] = []
        for dispute in self.disputes:
            if dispute.status is not DisputeStatus.WON:
                part = min(dispute.usd_micro, rest)
                rest -= part
                parts.append((dispute.id, part))
        return tuple(parts)

    def status_from(self, before: PaymentStatus) -> PaymentStatus:
        """Disputed until the last dispute is closed, and for good where one was lost; one not paid yet stays so.

        What an older version disputed has no row: it stays as it is until its dispute is told of.
        """
        if before in _PAID and self.is_disputed:
            return PaymentStatus.DISPUTED
        if 0 < self.amount_usd_micro <= self.refunded_usd_micro:
            return PaymentStatus.REFUNDED
        if before not in _PAID or (before is PaymentStatus.DISPUTED and not self.disputes):
            return before
        lost = any(dispute.status is DisputeStatus.LOST for dispute in self.disputes)
        return PaymentStatus.DISPUTED if lost else PaymentStatus.SUCCEEDED
