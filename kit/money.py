"""Credits and dollars as exact integers, and their texts.

A credit is held as 1,000,000 micro-credits, a dollar as 1,000,000 micro-dollars. No float ever carries money.
"""

import re
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Context, Decimal, Inexact
from typing import Final

MICRO: Final = 1_000_000
"""Micro-credits in a credit, and micro-dollars in a dollar."""

MAX_MICRO: Final = 2**63 - 1
"""The largest amount the database's bigint holds."""

_DECIMAL_TEXT: Final = re.compile(r"-?[0-9]{1,19}(\.[0-9]{1,12})?")
_TOO_LONG: Final = re.compile(r"-?0*[1-9][0-9]{19,}(\.[0-9]+)?")
_WIDE: Final = Context(prec=60)
"""Room for any bigint times any rate; Decimal's own 28 digits would round before our own rounding does."""
_EXACT: Final = Context(prec=60, traps=[Inexact])
_LEAST_SHOWN: Final = Decimal("1e-12")


class AmountError(ValueError):
    """The text or number is not an exact amount within bounds; the message says what to give instead."""


def parse_micro(text: str) -> int:
    """Micro-units of an exact decimal text such as "12.5"; at most 6 fraction digits, at most 2^63-1 micro-units.

    Raises AmountError for anything else, exponents, signs other than one leading minus, blanks and NaN included.
    """
    if not _DECIMAL_TEXT.fullmatch(text):
        if _TOO_LONG.fullmatch(text):
            raise AmountError("the amount is too large")
        raise AmountError("expected a decimal number such as 12.5")
    scaled = _WIDE.scaleb(Decimal(text), 6)
    micro = int(scaled)
    if micro != scaled:
        raise AmountError("at most 6 digits after the point")
    if abs(micro) > MAX_MICRO:
        raise AmountError("the amount is too large")
    return micro


def micro_of(value: Decimal | int) -> int:
    """Micro-units of a Decimal or whole number, exactly; AmountError where it has more than 6 fraction digits."""
    given = Decimal(value)
    if not given.is_finite() or abs(given) > MAX_MICRO:
        raise AmountError("the amount is too large")
    try:
        micro = int(_EXACT.to_integral_exact(_EXACT.scaleb(given, 6)))
    except Inexact as error:
        raise AmountError(f"{value} has more than 6 digits after the point") from error
    if abs(micro) > MAX_MICRO:
        raise AmountError("the amount is too large")
    return micro


def format_micro(micro: int) -> str:
    """The shortest exact decimal text of an amount of micro-units: 1500000 -> "1.5", 0 -> "0"."""
    sign = "-" if micro < 0 else ""
    whole, fraction = divmod(abs(micro), MICRO)
    if fraction == 0:
        return f"{sign}{whole}"
    return f"{sign}{whole}.{fraction:06d}".rstrip("0")


def usd_text(credits_micro: int, credits_per_usd: Decimal) -> str:
    """The dollars that an amount of credits stands for, exactly where it is finite, else to 12 digits, half even.

    Shown with at least two fraction digits, as money is: "32.39", "0.000125".
    """
    per_dollar = _WIDE.multiply(credits_per_usd, MICRO)
    try:
        return _money_text(_EXACT.divide(credits_micro, per_dollar))
    except Inexact:
        dollars = _WIDE.divide(credits_micro, per_dollar)
        return _money_text(dollars.quantize(_LEAST_SHOWN, rounding=ROUND_HALF_EVEN, context=_WIDE))


def usd_micro_text(usd_micro: int) -> str:
    """The text of an amount of micro-dollars with at least two fraction digits: 20000000 -> "20.00"."""
    return _money_text(_WIDE.scaleb(usd_micro, -6))


def credits_micro_for_usd(usd_micro: int, credits_per_usd: Decimal) -> int:
    """Micro-credits bought by micro-dollars at the catalog's rate, rounded up in the customer's favour."""
    return int(_WIDE.multiply(credits_per_usd, usd_micro).to_integral_value(rounding=ROUND_CEILING))


def _money_text(dollars: Decimal) -> str:
    text = f"{dollars or abs(dollars):f}"
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction.rstrip('0').ljust(2, '0')}"
