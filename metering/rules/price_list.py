"""Which of a model's prices a call has: its request decides, and never comes out below what its provider may make of it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import lcm
from typing import Final

from kit.json_values import JsonObject, folded, is_object
from metering.rules.conditions import Conditions, compared, kind_of
from metering.rules.rating import MeterPrice, Rates

LEFT_TO_THE_PROVIDER: Final = frozenset({"auto", "automatic"})
"""Values that leave the choice to whoever makes the output, unless a price of the meter names them."""
MAX_KEPT: Final = 256
WRAPPER: Final = "extra_body"
"""An object whose fields count beside the body's: gateways of models put them into what they send their vendor."""
_ANY: Final = ""
"""What a field is seen to say that may come to any value."""
_SEVERAL: Final = object()
"""What is said under a name that is there twice, in other letters."""
_Read = dict[int, JsonObject]
"""Objects of a request by their identity, with their names as these are compared: each is read once for all fields."""


@dataclass(frozen=True, slots=True)
class ListedPrice:
    """A meter's price where all of `when` holds."""

    price: MeterPrice
    when: Conditions = ()


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of a meter's conditions with all values that any of them names, and how others of their kind look."""

    values: frozenset[str]
    kind: re.Pattern[str] | None

    def seen(self, said: str | None) -> str | None:
        """What counts as said: a choice left to the provider, and what is of another kind, may come to any value.

        "yes" may be true to a provider, and "1_080" a number.
        """
        if said is None or said in self.values:
            return said
        if said in LEFT_TO_THE_PROVIDER or (self.kind is not None and not self.kind.fullmatch(said)):
            return _ANY
        return said


@dataclass(frozen=True, slots=True)
class _Row:
    """A price with its conditions by field. `weight`: its price of a unit, on one scale with its meter's others."""

    price: MeterPrice
    weight: int
    when: Mapping[str, frozenset[str]]

    def may_hold(self, seen: Mapping[str, str | None]) -> bool:
        return all(seen[field] == _ANY or seen[field] in values for field, values in self.when.items())

    def goes_before(self, other: "_Row", seen: Mapping[str, str | None]) -> bool:
        """Whether it has more conditions and holds whenever the other does; both may hold."""
        return len(self.when) > len(other.when) and all(
            seen[field] != _ANY or (field in other.when and other.when[field] <= values)
            for field, values in self.when.items()
        )


class PriceList:
    """A model's prices, weighed once for all its calls. `ordinary`: those without conditions.

    `is_conditional`: a request decides something, else it has the ordinary ones.

    Of a meter's prices whose conditions all hold, the one with most conditions counts; of several, the dearest. A field
    that says what may come to any value counts as each of them, so that the dearest of what it may come to counts.
    """

    __slots__ = ("_fields", "_kept", "_meters", "_paths", "is_conditional", "ordinary")

    def __init__(self, prices: Iterable[ListedPrice]) -> None:
        """A meter with a conditional price has one without conditions too; the catalog is refused else."""
        listed = tuple(prices)
        by_meter: dict[str, list[ListedPrice]] = {}
        for each in listed:
            by_meter.setdefault(each.price.meter, []).append(each)
        self._meters: Final = tuple(_rows(found) for found in by_meter.values())
        self._fields: Final = tuple(_named(rows) for rows in self._meters)
        self._paths: Final = {field: field.split(".") for named in self._fields for field in named}
        self.ordinary: Final = Rates(each.price for each in listed if not each.when)
        self.is_conditional: Final = bool(self._paths)
        self._kept: Final[dict[tuple[MeterPrice, ...], Rates]] = {}

    def names(self, field: str, value: object) -> bool:
        """Whether a price is for this value of a field."""
        name, said = folded(field), compared(value)
        return any(name in named and said in named[name].values for named in self._fields)

    def rates_for(self, body: JsonObject, otherwise: JsonObject | None = None) -> Rates:
        """The prices of a request; the same object for all that have the same.

        `otherwise`: the same request in another form. Where the two contradict each other, either may be what counts.
        """
        if not self.is_conditional:
            return self.ordinary
        read: _Read = {}
        said = {field: _said(body, path, read) for field, path in self._paths.items()}
        if otherwise is not None:
            said = {field: _either(each, _said(otherwise, self._paths[field], read)) for field, each in said.items()}
        chosen = tuple(
            _chosen(rows, {field: known.seen(said[field]) for field, known in named.items()})
            for rows, named in zip(self._meters, self._fields, strict=True)
        )
        found = self._kept.get(chosen)
        if found is None:
            found = Rates(chosen)
            if len(self._kept) < MAX_KEPT:
                self._kept[chosen] = found
        return found


NO_PRICES: Final = PriceList(())
"""Everything for nothing."""


def ambiguous(prices: Sequence[ListedPrice]) -> list[tuple[int, int]]:
    """Pairs of one meter's prices, by their places, between which only the dearer one's being dearer decides.

    Both can hold together, have as many conditions, and no price stands that names what both do.
    """
    rows = _rows(prices)
    return [
        (first, second)
        for second, other in enumerate(rows)
        for first, row in enumerate(rows[:second])
        if row.weight != other.weight and _meet(row, other) and not _settled(rows, row, other)
    ]


def _rows(listed: Sequence[ListedPrice]) -> tuple[_Row, ...]:
    scale = lcm(*[each.price.per for each in listed])
    return tuple(
        _Row(
            each.price,
            each.price.credits_micro * (scale // each.price.per),
            {folded(condition.field): frozenset(condition.values) for condition in each.when},
        )
        for each in listed
    )


def _named(rows: Sequence[_Row]) -> dict[str, _Field]:
    """The fields of a meter's conditions."""
    named: dict[str, frozenset[str]] = {}
    for row in rows:
        for field, values in row.when.items():
            named[field] = named.get(field, frozenset()) | values
    return {field: _Field(values, kind_of(values)) for field, values in named.items()}


def _said(body: JsonObject, path: Sequence[str], read: _Read) -> str | None:
    """What a body says there, as it is compared: None where it says nothing."""
    said, wrapped = _at(body, path, read), body.get(WRAPPER)
    return said if wrapped is None else _either(said, _at(wrapped, path, read))


def _either(first: str | None, second: str | None) -> str | None:
    """What is said in one of two places; what each says otherwise may come to anything."""
    if first is None or second is None:
        return second if first is None else first
    return first if first == second else _ANY


def _at(body: object, path: Sequence[str], read: _Read) -> str | None:
    """A name said twice, or no plain value, may come to anything."""
    for name in path:
        if body is None:
            return None
        if not is_object(body):
            return _ANY
        body = _named_once(body, read).get(name)
    return None if body is None else compared(body) or _ANY


def _named_once(value: JsonObject, read: _Read) -> JsonObject:
    found = read.get(id(value))
    if found is None:
        found = read[id(value)] = {}
        for name, each in value.items():
            same = folded(name)
            found[same] = _SEVERAL if same in found else each
    return found


def _chosen(rows: Sequence[_Row], seen: Mapping[str, str | None]) -> MeterPrice:
    possible = [row for row in rows if row.may_hold(seen)] or rows
    left = [row for row in possible if not any(other.goes_before(row, seen) for other in possible)]
    return max(left, key=lambda row: row.weight).price


def _meet(first: _Row, second: _Row) -> bool:
    """Whether one request can have both, by as many conditions."""
    return len(first.when) == len(second.when) and all(
        values & second.when.get(field, values) for field, values in first.when.items()
    )


def _settled(rows: Sequence[_Row], first: _Row, second: _Row) -> bool:
    """Whether a price with more conditions holds whenever both do."""
    both = {field: values & first.when.get(field, values) for field, values in {**first.when, **second.when}.items()}
    return any(
        len(row.when) > len(first.when)
        and all(field in both and both[field] <= values for field, values in row.when.items())
        for row in rows
    )
