"""An incremental reader of event streams (text/event-stream)."""

from typing import Final

MAX_EVENT_BYTES: Final = 16 * 1024 * 1024
"""The longest single event taken."""


class EventTooLongError(ValueError):
    """An event exceeds MAX_EVENT_BYTES."""


class EventReader:
    """Turns pieces of a stream, cut anywhere, into the `data` of its events; comments and other fields are skipped."""

    __slots__ = ("_begun", "_held_cr", "_pending")

    def __init__(self) -> None:
        self._pending = b""
        self._held_cr = False
        self._begun = False

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of the events that this piece completes. Raises EventTooLongError."""
        if self._held_cr or b"\r" in piece:
            piece = self._one_newline(piece)
        text = self._pending + piece if self._pending else piece
        if not self._begun and text:
            text = text.removeprefix(b"\xef\xbb\xbf")
            self._begun = True
        blocks = text.split(b"\n\n")
        self._pending = blocks.pop()
        if len(self._pending) > MAX_EVENT_BYTES:
            raise EventTooLongError(f"an event of more than {MAX_EVENT_BYTES} bytes")
        events: list[bytes] = []
        for block in blocks:
            data = _data_of(block)
            if data is not None:
                events.append(data)
        return events

    def finish(self) -> bytes | None:
        """The data of a last event that the stream's end cut off from its blank line; None where there is none."""
        block, self._pending = self._pending, b""
        return _data_of(block)

    def _one_newline(self, piece: bytes) -> bytes:
        """CRLF and CR become LF; a CR at the very end waits for what follows it."""
        if self._held_cr:
            piece = b"\r" + piece
        self._held_cr = piece.endswith(b"\r")
        if self._held_cr:
            piece = piece[:-1]
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _data_of(block: bytes) -> bytes | None:
    if block.startswith(b"data: ") and b"\n" not in block:
        return block[6:]
    lines = [line[5:].removeprefix(b" ") for line in block.split(b"\n") if line.startswith(b"data:")]
    if not lines:
        return None
    return b"\n".join(lines)
