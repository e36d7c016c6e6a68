"""Ids: UUIDs of version 7 in the order in which they were made, and global ids that nothing else can be."""

import threading
import time
from itertools import pairwise
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.ids import UnknownIdError, decode_id, encode_id, first_uuid7_at, split_id, uuid7

PREFIXES = st.text(alphabet="abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=8)


def test_ids_of_one_process_strictly_increase_and_are_version_7() -> None:
    made = [uuid7() for _ in range(5_000)]
    assert all(before < after for before, after in pairwise(made))
    assert {(each.version, each.variant) for each in made} == {(7, RFC_4122)}


def test_ids_made_by_several_threads_are_all_different_and_ordered_within_each() -> None:
    made: list[list[UUID]] = [[] for _ in range(4)]
    threads = [threading.Thread(target=lambda mine=mine: mine.extend(uuid7() for _ in range(2_000))) for mine in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({each for mine in made for each in mine}) == 8_000
    assert all(mine == sorted(mine) for mine in made)


def test_ids_go_on_increasing_when_the_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = uuid7()
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000_000_000_000)
    assert before < uuid7() < uuid7()


@given(st.integers(0, 2**48 - 1))
def test_the_first_id_of_a_millisecond_is_a_bound_for_all_of_it(milliseconds: int) -> None:
    first = first_uuid7_at(milliseconds)
    assert (first.version, first.variant, first.int >> 80) == (7, RFC_4122, milliseconds)
    assert first.int & 0xFFF << 64 == 0
    assert first.int & (1 << 62) - 1 == 0


def test_an_id_made_now_lies_between_the_bounds_of_now() -> None:
    earlier = time.time_ns() // 1_000_000 - 60_000
    assert first_uuid7_at(earlier) < uuid7() < first_uuid7_at(earlier + 3_600_000)


@given(PREFIXES, st.uuids())
def test_every_key_survives_its_global_id(prefix: str, key: UUID) -> None:
    text = encode_id(prefix, key)
    assert decode_id(prefix, text) == key
    assert split_id(text) == (prefix, key)


@given(st.uuids(), st.uuids())
def test_global_ids_sort_as_their_keys_do(one: UUID, other: UUID) -> None:
    assert (encode_id("ws", one) < encode_id("ws", other)) == (one < other)


@given(PREFIXES, PREFIXES, st.uuids())
def test_a_global_id_of_another_type_is_refused(prefix: str, other: str, key: UUID) -> None:
    if prefix == other:
        return
    with pytest.raises(UnknownIdError):
        decode_id(other, encode_id(prefix, key))


@given(st.text(max_size=40) | st.text(alphabet="0123456789abcdefghjkmnpqrstvwxyz_ILOU", min_size=27, max_size=34))
def test_any_other_text_is_refused_and_one_key_has_one_text(text: str) -> None:
    try:
        prefix, key = split_id(text)
    except UnknownIdError:
        return
    assert encode_id(prefix, key) == text


@pytest.mark.parametrize(
    "text", ["", "ws_", "_" + "0" * 26, "ws_" + "z" * 26, "ws_" + "0" * 25, "ws_" + "0" * 27, "ws_" + "A" * 26, "ws" + "0" * 26]
)  # fmt: skip
def test_texts_near_to_a_global_id_are_refused(text: str) -> None:
    with pytest.raises(UnknownIdError):
        decode_id("ws", text)
