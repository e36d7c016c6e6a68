"""The burn order and eligibility."""

import itertools
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from kit.ids import uuid7
from metering.rules.burn import burn_key, is_live
from metering.rules.state import Lot
from tests.metering.money import HOUR, START


def lot(rank=4, expires=None, created=0, frozen=None, effective=0):
    return Lot(
        uuid7(), uuid7(), "TOP_UP", rank, 1, 1, 0,
        effective_at=START + effective * HOUR,
        expires_at=None if expires is None else START + expires * HOUR,
        frozen_reason=frozen, requires_active_plan=False, transferable=False, source_kind="", source_id="",
        created_at=START + created * HOUR,
    )  # fmt: skip


LOTS = st.builds(lot, st.integers(0, 6), st.none() | st.integers(1, 5), st.integers(-5, 0))


@given(st.lists(LOTS, max_size=8))
def test_rank_then_earliest_expiry_then_oldest(lots):
    ordered = sorted(lots, key=burn_key)
    for first, second in itertools.pairwise(ordered):
        assert first.burn_rank <= second.burn_rank
        if first.burn_rank == second.burn_rank:
            assert second.expires_at is None or (first.expires_at is not None and first.expires_at <= second.expires_at)
            if first.expires_at == second.expires_at:
                assert first.created_at <= second.created_at
                assert first.created_at < second.created_at or first.id < second.id


def test_live_from_its_effective_time_until_the_instant_of_expiry_unless_frozen():
    some = lot(expires=2, effective=1)
    instant = timedelta(microseconds=1)
    assert [
        is_live(some, START + HOUR * h - d) for h, d in ((1, instant), (1, 0 * instant), (2, instant), (2, 0 * instant))
    ] == [
        False,
        True,
        True,
        False,
    ]
    assert not is_live(lot(frozen="DISPUTE"), START)
