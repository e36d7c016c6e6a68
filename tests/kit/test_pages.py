"""Pages: cursors that survive the way to a client and back, and anything else refused as a wrong input."""

import base64
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import Code, InvalidInput
from kit.ids import uuid7
from kit.pages import MAX_PAGE_SIZE, PageRequest, decode_cursor, encode_cursor

INSTANTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))


@given(INSTANTS, st.uuids())
def test_every_position_survives_its_cursor(at: datetime, key: UUID) -> None:
    cursor = encode_cursor(at, key)
    assert decode_cursor(cursor) == (at, key)
    assert cursor.isascii()
    assert not set(cursor) & set("+/= ")


def test_a_position_comes_back_in_utc_whatever_zone_it_was_in() -> None:
    at = datetime(2026, 11, 21, 14, 0, tzinfo=timezone(timedelta(hours=5, minutes=45)))
    back, _ = decode_cursor(encode_cursor(at, uuid7()))
    assert back == at
    assert back.tzinfo is UTC


@given(
    st.text(max_size=80) | st.binary(max_size=60).map(lambda raw: base64.urlsafe_b64encode(raw).decode().rstrip("="))
)
def test_any_other_text_is_refused_as_a_wrong_input(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        decode_cursor(text)
    assert refused.value.code is Code.INVALID_INPUT
    assert refused.value.field == ("after",)


@pytest.mark.parametrize(
    "inside",
    [
        "2026-11-21T12:00:00|" + "0" * 32,
        "0001-01-01T00:00:00+23:59|" + "0" * 32,
        "9999-12-31T23:59:59-23:59|" + "0" * 32,
        "2026-11-21T12:00:00+00:00|" + "0" * 31,
        "2026-11-21T12:00:00+00:00|" + "z" * 32,
        "2026-11-21T12:00:00+00:00",
        "|" + "0" * 32,
        "yesterday|" + "0" * 32,
    ],
)
def test_a_cursor_with_a_wrong_instant_or_key_is_refused(inside: str) -> None:
    with pytest.raises(InvalidInput):
        decode_cursor(base64.urlsafe_b64encode(inside.encode()).decode().rstrip("="))


@pytest.mark.parametrize("first", [0, -1, MAX_PAGE_SIZE + 1, 10**9])
def test_a_page_has_one_to_a_hundred_items(first: int) -> None:
    with pytest.raises(InvalidInput, match="1 to 100") as refused:
        PageRequest(first)
    assert refused.value.field == ("first",)
    assert PageRequest(1).first == 1
    assert PageRequest(MAX_PAGE_SIZE).after is None
