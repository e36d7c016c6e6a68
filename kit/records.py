"""Records: immutable values that cost little to make, for the parts of a call that are made thousands of times a second."""

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Final, TypeVar, cast, dataclass_transform

import msgspec

T = TypeVar("T")

_OF_THE_CLASS_ITSELF: Final = frozenset({"__dict__", "__weakref__", "__doc__", "__module__", "__qualname__"})


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[T]) -> type[T]:
    """A dataclass to whoever reads it, a msgspec.Struct to Python: frozen, made in C, equal and hashable by its fields.

    A call makes records of about two hundred fields in all; msgspec makes them six times as fast as a dataclass with slots,
    and a frozen dataclass takes twice as long as that. `dataclasses.replace`, `fields` and `asdict` work, and `field` with
    a default, a `default_factory` or `repr=False`. Where such a record is made once and kept, `dataclass(frozen=True)` does
    as well.
    """
    own: Mapping[str, object] = dict(cls.__dict__)
    plain = dataclass(cls)
    of_dataclass: tuple[Field[Any], ...] = fields(plain)  # pyright: ignore[reportArgumentType] -- it is one now
    names = {each.name for each in of_dataclass}
    namespace = {name: value for name, value in own.items() if name not in names and name not in _OF_THE_CLASS_ITSELF}
    namespace["__doc__"] = cls.__doc__
    namespace["__repr__"] = plain.__repr__  # which leaves out what is not to be shown
    struct = msgspec.defstruct(
        cls.__name__,
        [_as_msgspec(each) for each in of_dataclass],
        namespace=namespace,
        module=cls.__module__,
        frozen=True,
    )
    struct.__qualname__ = cls.__qualname__
    struct.__dataclass_fields__ = plain.__dict__["__dataclass_fields__"]  # pyright: ignore[reportAttributeAccessIssue]
    return cast("type[T]", struct)


def _as_msgspec(given: Field[Any]) -> tuple[str, type, object] | tuple[str, type]:
    if given.default is not MISSING:
        return given.name, object, given.default
    if given.default_factory is not MISSING:
        return given.name, object, msgspec.field(default_factory=given.default_factory)
    return given.name, object
