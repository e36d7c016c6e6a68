"""The named events of a streamed answer, merged into fewer events: pieces of text that followed each other are one."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Self

from providers.base import JsonObject


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of text in an event; it continues the piece before it where both have one `place`."""

    place: tuple[object, ...]
    text: str


@dataclass(slots=True)
class _Told:
    """An event; of a piece of text also its `place` and `pieces`: its own, and those that followed it directly."""

    event: JsonObject
    place: tuple[object, ...] | None = None
    pieces: list[str] = field(default_factory=list[str])


class EventsSoFar(ABC):
    """Takes up events in order."""

    __slots__ = ("_told",)

    def __init__(self, told: "list[_Told] | None" = None) -> None:
        """Empty; `told` is for copies."""
        self._told: list[_Told] = [] if told is None else told

    @property
    def is_empty(self) -> bool:
        """Nothing was taken up."""
        return not self._told

    def add(self, event: JsonObject) -> None:
        """Take up one event."""
        if self._says_nothing(event):
            return
        piece = self._piece_of(event)
        last = self._told[-1] if self._told else None
        if piece is None:
            self._told.append(_Told(event))
        elif last is not None and last.place == piece.place:
            last.pieces.append(piece.text)
        else:
            self._told.append(_Told(event, piece.place, [piece.text]))

    def copy(self) -> Self:
        """The same, to go its own way."""
        return type(self)([_Told(told.event, told.place, [*told.pieces]) for told in self._told])

    def chunks(self) -> list[JsonObject]:
        """Events that say the same."""
        return [
            told.event if told.place is None else self._with_text(told.event, "".join(told.pieces))
            for told in self._told
        ]

    @abstractmethod
    def body(self) -> JsonObject:
        """The answer as it would have been without streaming."""

    @abstractmethod
    def _says_nothing(self, event: JsonObject) -> bool:
        """Whether nothing in the event could be told later."""

    @abstractmethod
    def _piece_of(self, event: JsonObject) -> Piece | None:
        """The event's piece of text; None for any other event."""

    @abstractmethod
    def _with_text(self, event: JsonObject, text: str) -> JsonObject:
        """The event with another piece of text."""
