"""Reads the tables of a catalog file key by key, noting every problem with its path instead of stopping at it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from enum import StrEnum
from typing import Final, TypeGuard, TypeVar

from kit.money import AmountError, format_micro, parse_micro

MAX_PROBLEMS: Final = 200
MAX_SHOWN: Final = 60
MAX_TEXT: Final = 2000
MAX_INTEGER: Final = 2**31 - 1
NAME_FORM: Final = re.compile(r"[a-z0-9]([a-z0-9_-]{0,62}[a-z0-9])?")
NAME_WORDS: Final = "lower-case letters, digits, - and _, at most 64"

E = TypeVar("E", bound=StrEnum)
T = TypeVar("T")
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Findings:
    """What is wrong with a file so far; at most MAX_PROBLEMS are kept. `asked`: the keys read, by shape of table."""

    file_name: str
    problems: list[str] = field(default_factory=list[str])
    dropped: int = 0
    asked: dict[str, set[str]] = field(default_factory=dict[str, set[str]])

    @property
    def count(self) -> int:
        """How many problems there are, dropped ones included."""
        return len(self.problems) + self.dropped

    def add(self, path: str, message: str) -> None:
        """Note a problem with the value at a path."""
        if len(self.problems) >= MAX_PROBLEMS:
            self.dropped += 1
            return
        self.problems.append(f"{self.file_name}: {path}: {message}" if path else f"{self.file_name}: {message}")


def shown(value: object) -> str:
    """A value as a message shows it, cut to a bearable length."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 128:
        return "a number beyond all bounds"
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def join_path(path: str, key: str) -> str:
    """The path of a key below a path, quoted where TOML would quote it."""
    if _BARE_KEY.fullmatch(key):
        name = key
    else:
        escaped = key[:MAX_SHOWN].encode("unicode_escape").decode()
        name = f'"{escaped}…"' if len(key) > MAX_SHOWN else f'"{escaped}"'
    return f"{path}.{name}" if path else name


def meant(word: str, known: Sequence[str]) -> str:
    """A hint at the known word that comes nearest, or nothing."""
    near = get_close_matches(word, known, n=1) if len(word) <= 100 else []
    return f"; did you mean '{near[0]}'?" if near else ""


class Section:
    """One table of the file. Each method reads one key; `finish` reports the keys that nobody asked for.

    A value that is missing or wrong is noted, and a stand-in of the right type returned: the file is refused at the end.
    """

    def __init__(self, values: Mapping[str, object], path: str, shape: str, findings: Findings) -> None:
        """`shape` is the path with names replaced, such as "plans.<code>.prices[]"; the reference is checked by it."""
        self.path = path
        self.findings = findings
        self._values = values
        self._shape = shape
        self._asked: set[str] = set()
        self._problems_before = findings.count

    def __contains__(self, key: str) -> bool:
        """Whether the table has this key."""
        return key in self._values

    @property
    def sound(self) -> bool:
        """Whether nothing was wrong with this table so far, so that its values can be held against each other."""
        return self.findings.count == self._problems_before

    def add(self, key: str, message: str, index: int | None = None) -> None:
        """Note a problem with a key's value, or with one item of its list."""
        path = join_path(self.path, key)
        self.findings.add(path if index is None else f"{path}[{index}]", message)

    def text(self, key: str, *, longest: int = MAX_TEXT) -> str:
        """A text that must be there and not be empty."""
        return self.optional_text(key, longest=longest) or self._missing(key, "")

    def optional_text(self, key: str, *, longest: int = MAX_TEXT) -> str | None:
        """A text of 1 to `longest` characters."""
        value = self._take(key)
        if value is None:
            return None
        if not isinstance(value, str):
            self.add(key, f"expected a text, found {shown(value)}")
            return "?"
        if not value.strip() or len(value) > longest or _CONTROL.search(value):
            self.add(key, f"expected 1 to {longest} characters and no control characters, found {shown(value)}")
            return "?"
        return value

    def optional_match(self, key: str, form: re.Pattern[str], words: str) -> str | None:
        """A text of a form that `words` describe."""
        value = self.optional_text(key)
        if value is not None and not form.fullmatch(value):
            self.add(key, f"{shown(value)} is not of the form expected: {words}")
        return value

    def integer(self, key: str, low: int, high: int = MAX_INTEGER, *, default: int | None = None) -> int:
        """A whole number within bounds; without a `default` it must be there."""
        value = self.optional_integer(key, low, high)
        if value is not None:
            return value
        return self._missing(key, low) if default is None else default

    def optional_integer(self, key: str, low: int, high: int = MAX_INTEGER) -> int | None:
        """A whole number within bounds."""
        value = self._take(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.add(key, f"expected a whole number from {low} to {high}, found {shown(value)}")
            return low
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """True or false."""
        value = self._take(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.add(key, f"expected true or false, found {shown(value)}")
            return default
        return value

    def choice(self, key: str, kind: type[E], *, default: E | None = None) -> E:
        """One value of a closed set; without a `default` it must be there."""
        value = self._take(key)
        if value is None:
            return self._missing(key, next(iter(kind))) if default is None else default
        found = self.one_of(key, value, kind)
        return next(iter(kind)) if found is None else found

    def one_of(self, key: str, value: object, kind: type[E], index: int | None = None) -> E | None:
        """The member of a closed set that a value names."""
        names = [member.value for member in kind]
        if isinstance(value, str) and value in names:
            return kind(value)
        hint = meant(value, names) if isinstance(value, str) else ""
        self.add(key, f"unknown value {shown(value)}, expected one of {', '.join(names)}{hint}", index)
        return None

    def amount(self, key: str, *, positive: bool = True) -> int:
        """Micro-units of an exact decimal text that must be there."""
        value = self.optional_amount(key, positive=positive)
        return self._missing(key, 1) if value is None else value

    def optional_amount(self, key: str, *, positive: bool = True) -> int | None:
        """Micro-units of an exact decimal text such as "12.50"; floats are refused since they are not exact."""
        value = self._take(key)
        if value is None:
            return None
        micro = self._micro(key, value)
        if micro is not None and micro < (1 if positive else 0):
            self.add(key, f"expected an amount {'above' if positive else 'of at least'} 0, found {shown(value)}")
        return 1 if micro is None else micro

    def texts(self, key: str, *, most: int) -> tuple[str, ...]:
        """A list of different texts; nothing where it is left out."""
        value = self._take(key)
        if value is None:
            return ()
        if not _is_list(value) or len(value) > most:
            self.add(key, f"expected a list of at most {most} texts, found {shown(value)}")
            return ()
        found: list[str] = []
        for index, item in enumerate(value):
            if not isinstance(item, str) or not item or len(item) > MAX_TEXT or _CONTROL.search(item):
                self.add(key, f"expected a text, found {shown(item)}", index)
            elif item in found:
                self.add(key, f"{shown(item)} is listed twice", index)
            else:
                found.append(item)
        return tuple(found)

    def instant(self, key: str) -> datetime | None:
        """A date and time with its offset from UTC."""
        value = self._take(key)
        if value is None:
            return None
        if not isinstance(value, datetime) or value.tzinfo is None:
            self.add(
                key, f"expected a date and time with its offset, such as 2030-01-31T00:00:00Z, found {shown(value)}"
            )
            return None
        if not _EARLIEST <= value <= _LATEST:
            self.add(key, f"expected an instant between 2000 and 2200, found {value.isoformat()}")
            return None
        return value.astimezone(UTC)

    def table(self, key: str) -> "Section | None":
        """A table within this one."""
        value = self._take(key)
        if value is None:
            return None
        if not _is_table(value):
            self.add(key, f"expected a table, found {shown(value)}")
            return None
        return self._section(value, join_path(self.path, key), f"{self._shape}.{key}".lstrip("."))

    def raw(self, key: str) -> object:
        """Whatever stands there, for a reader of its own; None where it is left out."""
        return self._take(key)

    def tables(self, key: str, *, most: int) -> "Iterator[Section]":
        """The tables of a list of tables."""
        value = self._take(key)
        if value is None:
            return
        if not _is_list(value) or len(value) > most:
            self.add(key, f"expected a list of at most {most} tables, found {_counted(value)}")
            return
        for index, item in enumerate(value):
            path = f"{join_path(self.path, key)}[{index}]"
            if _is_table(item):
                yield self._section(item, path, f"{self._shape}.{key}[]".lstrip("."))
            else:
                self.findings.add(path, f"expected a table, found {shown(item)}")

    def named(
        self, key: str, placeholder: str, *, most: int, form: re.Pattern[str] = NAME_FORM, words: str = NAME_WORDS
    ) -> "Iterator[tuple[str, Section]]":
        """The tables within a table, by name, such as every `plans.<code>`."""
        value = self._take(key)
        if value is None:
            return
        if not _is_table(value) or len(value) > most:
            self.add(key, f"expected at most {most} named tables, found {_counted(value)}")
            return
        for name, item in value.items():
            path = join_path(join_path(self.path, key), name)
            if not form.fullmatch(name):
                self.findings.add(path, f"the name is not of the form expected: {words}")
            elif _is_table(item):
                yield name, self._section(item, path, f"{self._shape}.{key}.<{placeholder}>".lstrip("."))
            else:
                self.findings.add(path, f"expected a table, found {shown(item)}")

    def percents(self, key: str, *, most: int) -> tuple[tuple[str, int], ...]:
        """A table of whole percents by name, sorted by it."""
        value = self._take(key)
        if value is None:
            return ()
        if not _is_table(value) or len(value) > most:
            self.add(key, f"expected a table of at most {most} percents, found {_counted(value)}")
            return ()
        found: list[tuple[str, int]] = []
        for name, item in value.items():
            if isinstance(item, bool) or not isinstance(item, int) or not 0 <= item <= 100:
                path = join_path(join_path(self.path, key), name)
                self.findings.add(path, f"expected a whole percent from 0 to 100, found {shown(item)}")
            else:
                found.append((name, item))
        return tuple(sorted(found))

    def pairs(self, key: str, *, most: int) -> tuple[tuple[str, str], ...]:
        """A table of texts by name, sorted by it."""
        value = self._take(key)
        if value is None:
            return ()
        if not _is_table(value) or len(value) > most:
            self.add(key, f"expected a table of at most {most} texts, found {_counted(value)}")
            return ()
        found: list[tuple[str, str]] = []
        for name, item in value.items():
            if not isinstance(item, str) or not item or len(item) > MAX_TEXT or _CONTROL.search(item):
                path = join_path(join_path(self.path, key), name)
                self.findings.add(path, f"expected a text, found {shown(item)}")
            else:
                found.append((name, item))
        return tuple(sorted(found))

    def finish(self) -> None:
        """Report the keys that nobody asked for."""
        known = sorted(self._asked)
        for key in self._values:
            if key not in self._asked:
                self.add(key, f"unknown key{meant(key, known)}")

    def _take(self, key: str) -> object:
        self._asked.add(key)
        self.findings.asked.setdefault(self._shape, set()).add(key)
        return self._values.get(key)

    def _section(self, values: Mapping[str, object], path: str, shape: str) -> "Section":
        return Section(values, path, shape, self.findings)

    def _missing(self, key: str, stand_in: T) -> T:
        if key not in self._values:
            self.add(key, "is missing")
        return stand_in

    def _micro(self, key: str, value: object) -> int | None:
        if isinstance(value, float):
            self.add(key, f'a float is not exact: write the amount as a text, such as "12.5", not {shown(value)}')
            return None
        if not isinstance(value, str):
            number = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**12
            example = f'"{value}"' if number else f'"{format_micro(12_500_000)}"'
            self.add(key, f"expected a decimal number in quotes, such as {example}, found {shown(value)}")
            return None
        try:
            return parse_micro(value)
        except AmountError as error:
            self.add(key, f"{error}, found {shown(value)}")
            return None


def _is_table(value: object) -> TypeGuard[Mapping[str, object]]:
    return isinstance(value, dict)  # tomllib's keys are texts


def _is_list(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)


def _counted(value: object) -> str:
    return f"{len(value)}" if _is_list(value) or _is_table(value) else shown(value)
