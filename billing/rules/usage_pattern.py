"""Says how many credits a simulated workspace wants to use on each day: a named pattern, or days read from a CSV file."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from random import Random
from typing import Final

from kit.money import AmountError, micro_of, parse_micro

PATTERNS: Final = (
    "steady:CREDITS/day, weekday:CREDITS/day (Monday to Friday), bursty:CREDITS/day (on average; one day in five, five"
    " times as much), growth:CREDITS/day+PERCENT% (more each month), none, or a CSV file with the columns day or date,"
    " and credits"
)
MONTH_DAYS: Final = 30
BURST_DAYS: Final = 5
MOST_DAYS_OF_FILE: Final = 20_000
_OPENING: Final = timedelta(hours=9)
_BETWEEN: Final = timedelta(hours=2)
_NAMED: Final = re.compile(r"(?P<kind>[a-z]+):(?P<credits>[0-9.]+)/day(?:\+(?P<percent>[0-9]{1,3})%)?")


class PatternError(ValueError):
    """The pattern or the file cannot be read; the message says what to give instead."""


class Shape(StrEnum):
    """How use is spread over days."""

    STEADY = "steady"
    WEEKDAY = "weekday"
    BURSTY = "bursty"
    GROWTH = "growth"
    NONE = "none"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class UsagePattern:
    """`credits_micro` a day by its shape. `days`: of a file, by day since the start."""

    shape: Shape
    credits_micro: int = 0
    percent_a_month: int = 0
    days: Mapping[int, int] | None = None


@dataclass(frozen=True, slots=True)
class WantedCall:
    """A call that the simulated workspace would like to make."""

    at: datetime
    credits_micro: int


def parse_pattern(text: str) -> UsagePattern:
    """A named pattern such as "steady:50/day" or "growth:50/day+10%"; PatternError for anything else."""
    if text == Shape.NONE:
        return UsagePattern(Shape.NONE)
    found = _NAMED.fullmatch(text)
    if found is None or found["kind"] not in {Shape.STEADY, Shape.WEEKDAY, Shape.BURSTY, Shape.GROWTH}:
        raise PatternError(f"{text!r} is no usage pattern; give {PATTERNS}")
    shape = Shape(found["kind"])
    if (shape is Shape.GROWTH) != (found["percent"] is not None):
        raise PatternError("growth, and only growth, has a percentage: growth:50/day+10%")
    try:
        amount = parse_micro(found["credits"])
    except AmountError as error:
        raise PatternError(f"{found['credits']!r}: {error}") from error
    if amount <= 0:
        raise PatternError("the credits of a day must be above zero; `none` is no use at all")
    return UsagePattern(shape, amount, int(found["percent"] or 0))


def parse_days(text: str, start: date) -> UsagePattern:
    """A CSV text with a header: `day` (0 is the first) or `date` (2027-01-31), and `credits`; days may repeat and add up."""
    reader = csv.DictReader(io.StringIO(text))
    names = set(reader.fieldnames or ())
    if "credits" not in names or not names & {"day", "date"}:
        raise PatternError("the file needs a header line with the columns day or date, and credits")
    days: dict[int, int] = {}
    for line, row in enumerate(reader, start=2):
        if line > MOST_DAYS_OF_FILE:
            raise PatternError(f"the file has more than {MOST_DAYS_OF_FILE} lines")
        try:
            day = int(row["day"]) if "day" in names else (date.fromisoformat(row["date"].strip()) - start).days
            credits_micro = micro_of(Decimal(row["credits"].strip()))
        except (ArithmeticError, AttributeError, TypeError, ValueError) as error:
            raise PatternError(f"line {line} of the file cannot be read: a day and a number of credits") from error
        if credits_micro < 0:
            raise PatternError(f"line {line} of the file: credits below zero")
        days[day] = days.get(day, 0) + credits_micro
    return UsagePattern(Shape.FILE, days=days)


def wanted_calls(
    pattern: UsagePattern, start: datetime, end: datetime, *, calls_per_day: int, seed: int
) -> Sequence[WantedCall]:
    """The calls between two instants, in order; a day's credits are split evenly over its calls. The same for one seed."""
    random = Random(seed)  # noqa: S311 -- a simulation, no secret
    calls: list[WantedCall] = []
    for day in range((end - start).days + 1):
        morning = datetime.combine(start.date() + timedelta(days=day), time(), start.tzinfo) + _OPENING
        wanted = _credits_of(pattern, day, morning.weekday(), random)
        share, rest = divmod(wanted, calls_per_day)
        for number in range(calls_per_day):
            at = morning + number * _BETWEEN
            amount = share + (rest if number == 0 else 0)
            if amount and start <= at < end:
                calls.append(WantedCall(at, amount))
    return calls


def _credits_of(pattern: UsagePattern, day: int, weekday: int, random: Random) -> int:
    match pattern.shape:
        case Shape.STEADY:
            return pattern.credits_micro
        case Shape.WEEKDAY:
            return pattern.credits_micro if weekday < 5 else 0
        case Shape.BURSTY:
            return pattern.credits_micro * BURST_DAYS if random.randrange(BURST_DAYS) == 0 else 0
        case Shape.GROWTH:
            months = day // MONTH_DAYS
            return pattern.credits_micro * (100 + pattern.percent_a_month) ** months // 100**months
        case Shape.FILE:
            return (pattern.days or {}).get(day, 0)
        case Shape.NONE:
            return 0
