"""Reads which requests a model's price is for: fields of their bodies, and the values that count."""

from collections.abc import Iterator, Mapping

from billing.catalog_reader import Section, join_path, shown
from billing.rules.price_conditions import conditions_in
from kit.json_values import is_object
from metering.rules.conditions import Conditions


def read_conditions(price: Section) -> Conditions:
    """A price's `when`, none where it is left out. What cannot stand is noted, and counts as left out."""
    given = price.raw("when")
    if given is None:
        return ()
    path = join_path(price.path, "when")
    if not is_object(given) or not given:
        price.add("when", f'expected a table of fields and values, such as {{ quality = "hd" }}, found {shown(given)}')
        return ()
    conditions, problems = conditions_in(_fields(given, ""))
    for field, problem in problems:
        price.findings.add(join_path(path, field) if field else path, problem)
    return () if problems else conditions


def _fields(given: Mapping[str, object], before: str) -> Iterator[tuple[str, object]]:
    """Fields with their values: `{ a.b = 1 }` and `{ "a.b" = 1 }` are the same."""
    for name, value in given.items():
        field = f"{before}{name}"
        if is_object(value) and value:
            yield from _fields(value, f"{field}.")
        else:
            yield field, value
