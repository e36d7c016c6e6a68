"""Which lines of a workspace's credits are crossed, and when it must be looked at next; pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from kit.ids import encode_id
from kit.money import format_micro

LIMIT_PERCENTS: Final = (80, 100)
MIN_LIVES: Final = 2
"""Credits that live less than so many times a line's days are not told at it: a month's are always within 30 days."""
Facts = Mapping[str, str | int | None]


class LineKind(StrEnum):
    """What kind of line it is."""

    CYCLE = "CYCLE"
    EXPIRY = "EXPIRY"
    BALANCE = "BALANCE"
    LIMIT = "LIMIT"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines a workspace wants to be told of."""

    cycle_percents: tuple[int, ...] = (50, 80, 100)
    expiry_days: tuple[int, ...] = (30, 7, 1)
    low_balance_micro: int | None = None


@dataclass(frozen=True, slots=True)
class GrantFacts:
    """A lot of credits that is not over: with something left, or of the running cycle."""

    id: UUID
    kind: str
    amount_micro: int
    remaining_micro: int
    effective_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class LimitFacts:
    """A limit of spending and what is spent of it in the running period."""

    id: UUID
    subject_kind: str
    subject_id: UUID
    limit_micro: int
    spent_micro: int
    period_ends_at: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """How a workspace's credits stand. `ledger_micro`: all that the wallet's row counts; `balance_micro`: as shown."""

    ledger_micro: int
    balance_micro: int
    grants: tuple[GrantFacts, ...]
    limits: tuple[LimitFacts, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """One line, whether it is crossed, and what is told of it."""

    kind: LineKind
    subject: str
    crossed: bool
    facts: Facts


def lines(standing: Standing, wanted: Wanted, now: datetime) -> tuple[Line, ...]:
    """Every line that there is now."""
    return (
        *_cycle_lines(standing, wanted, now),
        *_expiry_lines(standing, wanted, now),
        *_balance_lines(standing, wanted),
        *_limit_lines(standing),
    )


def look_below(standing: Standing, wanted: Wanted, now: datetime) -> int | None:
    """The ledger balance below which a line not crossed yet may be; None where no spending crosses one.

    A cycle's credits cannot fall by more than the whole balance falls; a balance that rises is looked at again anyway.
    """
    granted, remaining = _cycle(standing, now)
    candidates = [
        standing.ledger_micro - (remaining - _left_at(granted, percent)) + 1
        for percent in wanted.cycle_percents
        if granted and remaining > _left_at(granted, percent)
    ]
    figure = wanted.low_balance_micro
    if figure is not None and standing.balance_micro >= figure:
        candidates.append(standing.ledger_micro - (standing.balance_micro - figure))
    return max((each for each in candidates if each > 0), default=None)


def look_at(standing: Standing, wanted: Wanted, now: datetime) -> datetime | None:
    """When time alone may cross or recover a line; None where it never does."""
    instants = [grant.effective_at for grant in standing.grants]
    for grant in standing.grants:
        if grant.expires_at is not None:
            instants.append(grant.expires_at)
            instants += [grant.expires_at - timedelta(days=days) for days in wanted.expiry_days]
    instants += [each.period_ends_at for each in standing.limits if _used(each) >= LIMIT_PERCENTS[0]]
    if wanted.low_balance_micro is not None:
        instants.append(now + timedelta(days=1))  # freezing and thawing leave the wallet's row as it is
    return min((each for each in instants if each > now), default=None)


def _cycle(standing: Standing, now: datetime) -> tuple[int, int]:
    """What the running cycle granted, and what is left of it."""
    running = [
        grant
        for grant in standing.grants
        if grant.kind == "CYCLE" and grant.effective_at <= now and (grant.expires_at is None or grant.expires_at > now)
    ]
    return sum(grant.amount_micro for grant in running), sum(grant.remaining_micro for grant in running)


def _left_at(granted: int, percent: int) -> int:
    """The most that is left when so many percent are used."""
    return granted - -(-granted * percent // 100)


def _cycle_lines(standing: Standing, wanted: Wanted, now: datetime) -> Iterator[Line]:
    granted, remaining = _cycle(standing, now)
    for percent in wanted.cycle_percents if granted else ():
        facts = {"percent": percent, "granted": format_micro(granted), "remaining": format_micro(remaining)}
        yield Line(LineKind.CYCLE, str(percent), remaining <= _left_at(granted, percent), facts)


def _expiry_lines(standing: Standing, wanted: Wanted, now: datetime) -> Iterator[Line]:
    for grant in standing.grants:
        if grant.expires_at is None or grant.expires_at <= now or grant.remaining_micro == 0:
            continue
        for days in wanted.expiry_days:
            line = timedelta(days=days)
            if grant.expires_at - grant.effective_at < MIN_LIVES * line:
                continue
            facts = {
                "grantId": encode_id("grant", grant.id),
                "days": days,
                "remaining": format_micro(grant.remaining_micro),
                "expiresAt": grant.expires_at.isoformat().replace("+00:00", "Z"),
            }
            yield Line(LineKind.EXPIRY, f"{grant.id}:{days}", now >= grant.expires_at - line, facts)


def _balance_lines(standing: Standing, wanted: Wanted) -> Iterator[Line]:
    figure = wanted.low_balance_micro
    if figure is not None:
        facts = {"balance": format_micro(standing.balance_micro), "figure": format_micro(figure)}
        yield Line(LineKind.BALANCE, "", standing.balance_micro < figure, facts)


def _limit_lines(standing: Standing) -> Iterator[Line]:
    for limit in standing.limits:
        for percent in LIMIT_PERCENTS:
            facts = {
                "subjectKind": limit.subject_kind,
                "subjectId": encode_id(_PREFIXES[limit.subject_kind], limit.subject_id),
                "percent": percent,
                "limit": format_micro(limit.limit_micro),
                "spent": format_micro(limit.spent_micro),
            }
            yield Line(LineKind.LIMIT, f"{limit.id}:{percent}", _used(limit) >= percent, facts)


_PREFIXES: Final = {"API_KEY": "key", "MEMBER": "mem", "WORKSPACE": "ws"}


def _used(limit: LimitFacts) -> int:
    """Whole percents of the limit; a limit of nothing is used up."""
    return 100 if limit.limit_micro == 0 else limit.spent_micro * 100 // limit.limit_micro


def sorted_lines(numbers: Sequence[int]) -> tuple[int, ...]:
    """Each once, in order."""
    return tuple(sorted(set(numbers)))
