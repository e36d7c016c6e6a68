"""Records are dataclasses to whoever uses them, and frozen."""

from dataclasses import asdict, field, fields, replace
from typing import Any

import pytest

from kit.records import record


@record
class Parcel:
    """A thing with a weight."""

    name: str
    grams: int = 1
    content: bytes = field(default=b"", repr=False)
    labels: tuple[str, ...] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        if self.grams < 0:
            raise ValueError("a parcel weighs something")

    @property
    def heavy(self) -> bool:
        return self.grams > 1000


def test_a_record_has_defaults_methods_and_its_own_name():
    parcel = Parcel("tea", labels=("fragile",))
    assert (parcel.grams, parcel.labels, parcel.heavy) == (1, ("fragile",), False)
    assert Parcel("tea", 2000).heavy
    assert (Parcel.__name__, Parcel.__module__, Parcel.__doc__) == ("Parcel", __name__, "A thing with a weight.")


def test_nobody_assigns_to_a_record():
    parcel: Any = Parcel("tea")
    with pytest.raises(AttributeError):
        parcel.grams = 2
    with pytest.raises(AttributeError):
        parcel.colour = "red"


def test_records_are_equal_and_hashable_by_their_fields():
    assert Parcel("tea") == Parcel("tea", 1)
    assert len({Parcel("tea"), Parcel("tea"), Parcel("tea", 2)}) == 2
    assert Parcel("tea") != Parcel("salt")


def test_a_changed_copy_is_checked_as_a_new_one_is():
    assert replace(Parcel("tea"), grams=7) == Parcel("tea", 7)
    with pytest.raises(ValueError, match="weighs"):
        replace(Parcel("tea"), grams=-1)
    make: Any = Parcel
    with pytest.raises(TypeError):
        make("tea", color="red")
    with pytest.raises(TypeError):
        make()


def test_what_is_not_to_be_shown_is_not_in_its_text():
    text = repr(Parcel("tea", content=b"secret"))
    assert "secret" not in text
    assert text == "Parcel(name='tea', grams=1, labels=())"


def test_its_fields_can_be_listed():
    assert [each.name for each in fields(Parcel)] == ["name", "grams", "content", "labels"]
    assert asdict(Parcel("tea")) == {"name": "tea", "grams": 1, "content": b"", "labels": ()}
