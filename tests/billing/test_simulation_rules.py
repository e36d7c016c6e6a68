"""The pure parts of `tollgate simulate`: patterns of use, the timeline's lines and sums, and its picture."""

from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest

from billing.rules.timeline import Moment, MomentKind, rows_of, timeline_text, totals_of
from billing.rules.timeline_svg import timeline_svg
from billing.rules.usage_pattern import PatternError, parse_days, parse_pattern, wanted_calls

START = datetime(2027, 2, 1, tzinfo=UTC)  # a Monday
MICRO = 1_000_000


def by_day(text, days, *, seed=1, calls_per_day=2):
    calls = wanted_calls(
        parse_pattern(text), START, START + timedelta(days=days), calls_per_day=calls_per_day, seed=seed
    )
    wanted = [0] * days
    for call in calls:
        wanted[(call.at - START).days] += call.credits_micro
    return [micro / MICRO for micro in wanted]


def test_steady_use_is_the_same_each_day_and_split_exactly_over_its_calls():
    assert by_day("steady:50/day", 3) == [50, 50, 50]
    calls = wanted_calls(parse_pattern("steady:1/day"), START, START + timedelta(days=1), calls_per_day=7, seed=1)
    assert len(calls) == 7
    assert sum(call.credits_micro for call in calls) == MICRO
    assert len({call.at for call in calls}) == 7


def test_weekday_use_rests_on_saturday_and_sunday():
    assert by_day("weekday:10/day", 8) == [10, 10, 10, 10, 10, 0, 0, 10]


def test_bursty_use_is_seldom_heavy_the_same_for_a_seed_and_near_its_average():
    days = by_day("bursty:10/day", 2_000)
    assert set(days) == {0, 50}
    assert 8 < sum(days) / len(days) < 12
    assert days == by_day("bursty:10/day", 2_000)
    assert days != by_day("bursty:10/day", 2_000, seed=2)


def test_growing_use_compounds_each_thirty_days():
    days = by_day("growth:100/day+10%", 61)
    assert (days[0], days[29], days[30], days[60]) == (100, 100, 110, 121)


def test_no_use_is_no_call():
    assert by_day("none", 5) == [0] * 5


def test_a_file_gives_days_by_number_or_date_and_adds_up_what_repeats():
    assert parse_days("day,credits\n0,5\n2,1.5\n2,1\n", START.date()).days == {0: 5 * MICRO, 2: 2_500_000}
    assert parse_days("date,credits\n2027-02-03, 7 \n", START.date()).days == {2: 7 * MICRO}


@pytest.mark.parametrize(
    "text",
    ["", "steady", "steady:50", "steady:0/day", "steady:-5/day", "steady:5/day+10%", "growth:5/day", "daily:5/day",
     "steady:1e9/day", "steady:0.0000001/day", "STEADY:5/day"],
)  # fmt: skip
def test_a_pattern_that_cannot_be_read_says_what_to_give(text):
    with pytest.raises(PatternError):
        parse_pattern(text)


@pytest.mark.parametrize(
    "text",
    ["", "day\n1\n", "credits\n5\n", "day,credits\nx,5\n", "day,credits\n1,x\n", "day,credits\n1,-1\n", "day,credits\n1\n",
     "date,credits\n31.1.2027,5\n", "day,credits\n1,NaN\n"],
)  # fmt: skip
def test_a_file_that_cannot_be_read_says_which_line(text):
    with pytest.raises(PatternError):
        parse_days(text, START.date())


def at(day, hour=0):
    return START + timedelta(days=day, hours=hour)


STORY = [
    Moment(at(0), MomentKind.GRANT, "CYCLE, until 2027-03-01 00:00", credits_micro=100 * MICRO),
    Moment(at(0), MomentKind.CHARGE, "SUBSCRIPTION", usd_micro=20 * MICRO),
    Moment(at(1, 9), MomentKind.USE, credits_micro=-30 * MICRO, calls=1),
    Moment(at(2, 9), MomentKind.USE, credits_micro=-60 * MICRO, calls=1),
    Moment(at(3, 9), MomentKind.REFUSED, credits_micro=30 * MICRO, calls=1),
    Moment(at(28), MomentKind.GRANT, "CYCLE, until 2027-04-01 00:00", credits_micro=100 * MICRO),
    Moment(at(28), MomentKind.EXPIRY, "CYCLE", credits_micro=-10 * MICRO),
    Moment(at(29, 9), MomentKind.USE, credits_micro=-5 * MICRO, calls=1),
    Moment(at(40), MomentKind.EXPIRY, "PACK", credits_micro=-1 * MICRO),
    Moment(at(41), MomentKind.DECLINED, "$20.00 SUBSCRIPTION: card_declined", usd_micro=20 * MICRO),
]


def test_uses_between_other_events_are_one_line_and_the_balance_follows():
    rows = rows_of(STORY)
    assert [(row.moment.kind.value, row.moment.credits_micro // MICRO, row.balance_micro // MICRO) for row in rows] == [
        ("charge", 0, 0),
        ("grant", 100, 100),
        ("use", -90, 10),
        ("refused", 30, 10),
        ("reset", -10, 0),
        ("grant", 100, 100),
        ("use", -5, 95),
        ("expiry", -1, 94),
        ("declined", 0, 94),
    ]


def test_the_totals_count_no_declined_charge_and_no_refused_credit_as_used():
    total = totals_of(STORY)
    assert (total.charged_usd_micro, total.granted_micro, total.used_micro) == (20 * MICRO, 200 * MICRO, 95 * MICRO)
    assert (total.lapsed_micro, total.refused_micro, total.calls, total.refused_calls) == (11 * MICRO, 30 * MICRO, 3, 1)
    assert timeline_text(STORY).endswith(
        "charged $20.00; credits granted 200, used 95 in 3 calls, lapsed 11; refused 1 calls of 30 credits"
    )


def test_the_picture_is_well_formed_and_marks_what_happened_where_it_happened():
    svg = ET.fromstring(timeline_svg(STORY, START, at(56), "A <plan> & more"))
    space = "{http://www.w3.org/2000/svg}"
    assert svg.find(f"{space}title").text == "A <plan> & more"
    marked = [mark.get("class") for mark in svg.iter(f"{space}circle") if mark.get("class")]
    assert sorted(marked) == ["expiry", "grant", "grant", "refused", "reset"]
    bars = [bar.get("class") for bar in svg.iter(f"{space}rect") if bar.get("class")]
    assert bars == ["charge", "declined"]
    grants = [float(mark.get("cx")) for mark in svg.iter(f"{space}circle") if mark.get("class") == "grant"]
    assert grants == [90, 535]  # the start, and half way
    [line] = [path.get("d") for path in svg.iter(f"{space}path") if path.get("class") == "balance"]
    assert line.startswith("M90 340H90.0V60.0")  # full at once
    assert line.endswith("H980.0")


def test_a_story_in_which_nothing_happens_is_drawn_as_well():
    assert ET.fromstring(timeline_svg([], START, at(1), "Nothing")) is not None
    assert "charged $0.00" in timeline_text([])
