"""The clock: UTC, movable within a block, restored after it, and the only door to the present."""

import ast
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kit.clock import VirtualClock, installed, now

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("app", "schema", "resolvers", "gateway", "accounts", "billing", "metering", "providers", "models", "kit")
AT = datetime(2024, 2, 29, 12, tzinfo=UTC)


def test_now_is_the_present_in_utc() -> None:
    before = datetime.now(UTC)
    assert before <= now() <= datetime.now(UTC)
    assert now().tzinfo is UTC


def test_a_virtual_clock_stands_still_until_it_is_moved() -> None:
    clock = VirtualClock(AT)
    with installed(clock):
        assert now() == now() == AT
        clock.at += timedelta(days=400)
        assert now() == AT + timedelta(days=400)
    assert now() > AT + timedelta(days=400)


def test_the_innermost_clock_counts_and_the_outer_one_comes_back_after_an_error() -> None:
    with installed(VirtualClock(AT)):
        with pytest.raises(ZeroDivisionError), installed(VirtualClock(AT + timedelta(hours=1))):
            _fail(now() - AT)
        assert now() == AT


def _fail(later: timedelta) -> None:
    assert later == timedelta(hours=1)
    raise ZeroDivisionError


def test_nothing_else_reads_the_present_time() -> None:
    """`time.time`, `datetime.now` and the like stand in kit.clock alone; ids carry their own stamp, as RFC 9562 says."""
    doors = {"kit/clock.py": {"now"}, "kit/ids.py": {"time_ns"}}
    found: dict[str, set[str]] = {}
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            for call in ast.walk(ast.parse(path.read_text())):
                if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
                    continue
                of, name = call.func.value, call.func.attr
                owner = of.id if isinstance(of, ast.Name) else of.attr if isinstance(of, ast.Attribute) else ""
                if (owner, name) in PRESENT:
                    found.setdefault(str(path.relative_to(ROOT)), set()).add(name)
    assert found == doors


PRESENT = {
    ("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today"), ("time", "time"),
    ("time", "time_ns"), ("time", "gmtime"), ("time", "localtime"),
}  # fmt: skip
