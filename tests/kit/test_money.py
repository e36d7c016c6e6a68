"""Amounts: exact both ways, refused where they are not, and dollars that are right to the last digit shown."""

from decimal import ROUND_CEILING, Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.money import (
    MAX_MICRO,
    AmountError,
    credits_micro_for_usd,
    format_micro,
    micro_of,
    parse_micro,
    usd_micro_text,
    usd_text,
)

AMOUNTS = st.integers(-MAX_MICRO, MAX_MICRO)
RATES = st.decimals("0.000001", "1000000000000", places=6, allow_nan=False, allow_infinity=False)


@given(AMOUNTS)
def test_every_amount_survives_its_text(micro: int) -> None:
    assert parse_micro(format_micro(micro)) == micro
    assert Fraction(format_micro(micro)) == Fraction(micro, 1_000_000)


@given(st.text(alphabet="0123456789.-+eE_ \n\u0663nNaAiIfF", max_size=40))
def test_a_text_is_an_exact_amount_or_refused(text: str) -> None:
    try:
        micro = parse_micro(text)
    except AmountError:
        return
    assert Fraction(micro, 1_000_000) == Fraction(text)
    assert text.isascii()
    assert not set(text) & set("eE_ \n+")


@pytest.mark.parametrize(
    "text",
    ["", " 1", "1 ", "+1", "--1", "1.", ".5", "1e3", "NaN", "Infinity", "1_000", "1,5", "\u0661", "1\n", "0x1", "1.0000001",
     "9223372036854.775808", "-9223372036854.775808", "1" * 20],
)  # fmt: skip
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(AmountError):
        parse_micro(text)


@pytest.mark.parametrize("text", ["1" * 20, "-" + "9" * 30, "1" + "0" * 40 + ".5", "9223372036854.775808", "9" * 19])
def test_an_amount_of_too_many_digits_is_told_to_be_too_large(text: str) -> None:
    with pytest.raises(AmountError, match="the amount is too large"):
        parse_micro(text)


def test_the_bounds_of_an_amount_are_the_databases() -> None:
    assert parse_micro("9223372036854.775807") == MAX_MICRO
    assert parse_micro("0.000001") == 1
    assert parse_micro("1.500000000000") == 1_500_000
    assert parse_micro("-0") == 0


@given(AMOUNTS)
def test_a_decimal_is_taken_exactly(micro: int) -> None:
    with localcontext(prec=40):
        value = Decimal(micro).scaleb(-6)
    assert micro_of(value) == micro


@pytest.mark.parametrize(
    "value",
    [Decimal("0.0000001"), Decimal("1.0000000000000000000000000000001"), Decimal("NaN"), Decimal("Infinity"),
     Decimal("1e30"), Decimal("1e999999"), Decimal("1e-999999"), Decimal("9223372036854.775808"), 2**63],
)  # fmt: skip
def test_a_decimal_that_is_no_exact_amount_is_refused_however_long_it_is(value: Decimal | int) -> None:
    with pytest.raises(AmountError):
        micro_of(value)


@given(AMOUNTS, RATES)
def test_dollars_of_credits_are_exact_or_right_to_half_of_the_twelfth_digit(micro: int, rate: Decimal) -> None:
    shown = usd_text(micro, rate)
    exact = Fraction(micro, 1_000_000) / Fraction(rate)
    assert abs(Fraction(shown) - exact) <= Fraction(1, 2 * 10**12)
    assert len(shown.partition(".")[2]) >= 2
    assert "e" not in shown.lower()
    denominator = exact.denominator
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    if denominator == 1:
        assert Fraction(shown) == exact


@pytest.mark.parametrize(
    ("micro", "rate", "shown"),
    [
        (32_390_000, "1", "32.39"),
        (1, "2000000", "0.0000000000005"),
        (2_000_000_000_000, "2000000", "1.00"),
        (1_000_000, "3", "0.333333333333"),
        (-1, "3000000", "0.00"),
        (0, "2000000", "0.00"),
        (-2_500_000, "1", "-2.50"),
    ],
)
def test_dollars_are_shown_as_money_is(micro: int, rate: str, shown: str) -> None:
    assert usd_text(micro, Decimal(rate)) == shown


@given(st.integers(0, MAX_MICRO), RATES)
def test_credits_for_dollars_are_rounded_up_by_less_than_one_micro_credit(usd_micro: int, rate: Decimal) -> None:
    exact = usd_micro * Fraction(rate)
    bought = credits_micro_for_usd(usd_micro, rate)
    assert 0 <= bought - exact < 1


def test_ten_dollars_buy_twenty_million_credits_of_the_prepaid_catalog() -> None:
    assert credits_micro_for_usd(10_000_000, Decimal(2_000_000)) == 20_000_000 * 1_000_000


@given(AMOUNTS)
def test_micro_dollars_are_shown_exactly(usd_micro: int) -> None:
    shown = usd_micro_text(usd_micro)
    assert Fraction(shown) == Fraction(usd_micro, 1_000_000)
    assert len(shown.partition(".")[2]) >= 2


def test_money_does_not_depend_on_the_threads_decimal_context() -> None:
    with localcontext(prec=3, rounding=ROUND_CEILING):
        assert usd_text(123_456_789, Decimal("1.5")) == "82.304526"
        assert usd_micro_text(123_456_789) == "123.456789"
        assert parse_micro("123.456789") == 123_456_789
        assert micro_of(Decimal("123.456789")) == 123_456_789
        assert credits_micro_for_usd(123_456_789, Decimal("1.5")) == 185_185_184
