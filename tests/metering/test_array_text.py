"""Columns as texts: PostgreSQL reads back exactly what was meant."""

from datetime import UTC, datetime

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit.ids import uuid7
from metering.array_text import array_text, array_texts, braces, json_array
from metering.rows import json_text

TEXTS = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=12)
AWKWARD = [
    "null",
    "NULL",
    "",
    " ",
    "a,b",
    "{}",
    "{a}",
    '"',
    "\\",
    '\\"',
    "\n",
    "\t\r",
    "\x01",
    "\x7f",
    "é",
    "😀",
    "\u2028",
    "'",
]


async def test_awkward_texts_come_back_as_they_were(pg):
    assert await pg.fetchval("SELECT $1::text::text[]", array_text([*AWKWARD, None])) == [*AWKWARD, None]
    for text in AWKWARD[:2] + AWKWARD[3:]:
        assert await pg.fetchval("SELECT $1::text::text[]", array_text([text, None])) == [text, None]


async def test_any_texts_come_back_as_they_were(pg):
    examples = []

    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.one_of(TEXTS, st.none()), min_size=1, max_size=8))
    def collect(values):
        examples.append(values)

    collect()
    for values in examples:
        told = array_text(values)
        found = None if told is None else await pg.fetchval("SELECT $1::text::text[]", told)
        assert found == (values if any(values) else None)


async def test_numbers_flags_instants_and_ids_come_back_as_they_were(pg):
    ids = [uuid7(), None, uuid7()]
    instants = [datetime(2026, 3, 1, 12, 0, 0, 123456, UTC), None, datetime(9999, 12, 31, 23, 59, 59, 999999, UTC)]
    numbers = [0, None, -(2**63), 2**63 - 1]
    assert await pg.fetchval("SELECT $1::text::uuid[]", array_text(ids)) == ids
    assert await pg.fetchval("SELECT $1::text::timestamptz[]", array_text(instants)) == instants
    assert await pg.fetchval("SELECT $1::text::bigint[]", array_text(numbers)) == numbers
    assert await pg.fetchval("SELECT $1::text::boolean[]", array_text([True, False, None])) == [True, False, None]
    assert await pg.fetchval("SELECT $1::text::text[]::uuid[]", braces([ids[0], ids[2]])) == [ids[0], ids[2]]


def test_a_column_of_nothing_is_left_out():
    assert array_texts([(0, None, "", False), (None, None, "", False)], 4) == [None, None, None, None]
    assert list(array_texts([], 3)) == [None, None, None]


async def test_json_that_cannot_be_written_at_once_is_written_one_by_one(pg):
    values = [{"a": uuid7()}, {"told": "\x00"}, {"odd": {1, 2}}, None, {"n": 2**80}]
    found = orjson.loads(await pg.fetchval("SELECT ($1::text::jsonb)::text", json_array(values, json_text)))
    assert found[0] == {"a": str(values[0]["a"])}
    assert found[1] == {"told": "\ufffd"}
    assert list(found[2]) == list(found[4]) == ["unwritable"]
    assert found[3] is None
