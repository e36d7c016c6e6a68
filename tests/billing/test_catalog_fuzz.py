"""Whatever stands in a catalog file, the answer is a catalog or CatalogErrors, never another exception."""

from datetime import datetime

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.catalog_check import check
from billing.catalog_file import catalog_of, parse_catalog
from billing.catalog_text import render_catalog, render_check
from billing.errors import CatalogErrors
from tests.billing.catalog_samples import SMALL, small

WORDS = [
    "plans",
    "pro",
    "models",
    "prices",
    "period",
    "credits",
    "*",
    "TEXT",
    "IMAGE:basic",
    "MONTH",
    "1.5",
    "0",
    "chat",
    "when",
]
LEAVES = st.one_of(
    st.sampled_from(WORDS),
    st.text(max_size=8),
    st.integers(),
    st.integers(0, 3),
    st.floats(),
    st.booleans(),
    st.datetimes(),
    st.dates(),
    st.times(),
    st.none().map(lambda _: datetime.max),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(value: object, path: tuple = ()) -> list[tuple]:
    """Every place of the skeleton at which another value can be put."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


PLACES = places(small())


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(PLACES), st.booleans(), VALUES), min_size=1, max_size=4))
def test_random_values_in_a_good_catalog_give_a_catalog_or_its_problems(changes):
    values = small()
    for path, beside, value in changes:
        put(values, path, "strange" if beside else None, value)
    file, problems = outcome(lambda: catalog_of(values, "", "f.toml"))
    assert all(problem.startswith("f.toml: ") and "\n" not in problem for problem in problems)
    if file is not None:
        render_check(file, check(file))
        render_catalog(file)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(SMALL)), st.integers(0, 30), st.text(max_size=6))
def test_a_damaged_text_gives_a_catalog_or_its_problems(start, length, instead):
    text = SMALL[:start] + instead + SMALL[start + length :]
    _, problems = outcome(lambda: parse_catalog(text, "f.toml"))
    assert all(problem.startswith("f.toml: ") for problem in problems)


def outcome(read):
    try:
        return read(), ()
    except CatalogErrors as error:
        return None, error.problems


def put(values: object, path: tuple, beside: str | None, value: object) -> None:
    """Follow the path as far as it still leads, for another change may have cut it."""
    for key in path[:-1]:
        try:
            values = values[key]
        except (KeyError, IndexError, TypeError):
            return
    if isinstance(values, dict):
        values[beside or path[-1]] = value
    elif isinstance(values, list) and isinstance(path[-1], int) and path[-1] < len(values):
        values[path[-1]] = value
