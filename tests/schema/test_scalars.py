"""What the scalars take and what they refuse; refusing is an answer of the request, never a fault of ours."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from graphql import GraphQLError

from schema.scalars import SCALARS, BigInt, Credits, Json, Usd, Vector, write_date_time
from tests.schema.conftest import House


def read(scalar: object, value: object) -> object:
    return SCALARS[scalar].parse_value(value)


@pytest.mark.parametrize(
    ("scalar", "given", "expected"),
    [
        (Credits, "12.5", 12_500_000),
        (Credits, "-0.000001", -1),
        (Usd, "20.00", "20.00"),
        (BigInt, "9223372036854775807", 2**63 - 1),
        (BigInt, 7, 7),
        (datetime, "2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        (datetime, "2026-01-31t14:00:00.5+02:00", datetime(2026, 1, 31, 12, 0, 0, 500_000, tzinfo=UTC)),
        (Json, {"a": [1, None]}, {"a": [1, None]}),
        (Json, [2**64 - 1, -(2**63)], [2**64 - 1, -(2**63)]),
        (Vector, [1, 2.5], [1, 2.5]),
    ],
)
def test_values_are_read_exactly(scalar: object, given: object, expected: object) -> None:
    assert read(scalar, given) == expected


@pytest.mark.parametrize(
    ("scalar", "given"),
    [
        (Json, {"a": [2**64]}),
        (Json, -(2**63) - 1),
        *[
            (Credits, value)
            for value in (1, 1.5, True, "", "1e3", "1,5", " 1", "NaN", "0.0000001", "9" * 30, None, [], {})
        ],
        *[(Usd, value) for value in (1, 1.5, "1e3", "$1", "0.0000001")],
        *[(BigInt, value) for value in (1.0, True, "1.0", "", "9223372036854775808", 2**63, "9" * 5000, "١")],
        *[
            (datetime, value)
            for value in (
                0,
                "",
                "2026-01-31",
                "2026-01-31T12:00:00",
                "2026-02-30T12:00:00Z",
                "0001-01-01T00:00:00+23:59",
                "x" * 9999,
            )
        ],
        (Vector, [True]),
        (Vector, "1"),
    ],
)
def test_values_that_are_not_exact_are_refused(scalar: object, given: object) -> None:
    with pytest.raises(GraphQLError) as caught:
        read(scalar, given)
    assert len(caught.value.message) < 200


def test_json_is_bounded_in_depth() -> None:
    nested: object = []
    for _ in range(60):
        nested = [nested]
    assert read(Json, nested) is nested
    for _ in range(5_000):
        nested = {"a": nested}
    with pytest.raises(GraphQLError):
        read(Json, nested)


def test_values_are_written_exactly() -> None:
    assert SCALARS[Credits].serialize(1_500_000) == "1.5"
    assert SCALARS[BigInt].serialize(2**63 - 1) == "9223372036854775807"
    at = datetime(2026, 1, 31, 14, tzinfo=timezone(timedelta(hours=2)))
    assert write_date_time(at) == "2026-01-31T12:00:00Z"


async def test_wrong_literals_are_errors_of_the_document(house: House) -> None:
    for literal in ("1.5", "1", '"x"', "{a: 1}", "[1]", "true", "1" * 5_000):
        document = (
            f'{{ estimateCall(input: {{model: "sandbox-chat", maxCredits: {literal},'
            ' payload: {embedding: {texts: ["a"]}}}) { affordable } }'
        )
        result = await house.ask(document, house.key())
        assert result.data is None, literal
        assert all(
            error.original_error is None or isinstance(error.original_error, GraphQLError) for error in result.errors
        )
