"""The events of a streamed speech or transcription, merged into fewer events, or put together as the whole answer."""

from dataclasses import dataclass, field

from kit.json_values import JsonObject
from providers.openai_audio import speech_shown
from providers.openai_audio_stream import SOUND_DELTA, SOUND_DONE, TEXT_DELTA, TEXT_DONE, sound_event, sound_of


@dataclass(slots=True)
class SoundSoFar:
    """Takes up the events of a speech in order."""

    _pieces: list[bytes] = field(default_factory=list[bytes])
    _media_type: str = ""
    _done: JsonObject | None = None

    @property
    def is_empty(self) -> bool:
        """Nothing was taken up."""
        return not self._pieces and self._done is None

    def add(self, event: JsonObject) -> None:
        """Take up one event; one that is neither sound nor the end says nothing that could be told later."""
        if event.get("type") == SOUND_DELTA:
            self._pieces.append(sound_of(event))
            self._media_type = str(event.get("content_type", self._media_type))
        elif event.get("type") == SOUND_DONE:
            self._done = event

    def copy(self) -> "SoundSoFar":
        """The same, to go its own way."""
        return SoundSoFar([*self._pieces], self._media_type, self._done)

    def chunks(self) -> list[JsonObject]:
        """Events that say the same: all sound is in one."""
        sound = [sound_event(b"".join(self._pieces), self._media_type)] if self._pieces else []
        return sound if self._done is None else [*sound, self._done]

    def body(self) -> JsonObject:
        """The answer as it would have been without streaming, with the usage that the end reports."""
        whole = speech_shown(b"".join(self._pieces), self._media_type)
        usage = None if self._done is None else self._done.get("usage")
        return whole if usage is None else {**whole, "usage": usage}


@dataclass(slots=True)
class TranscriptSoFar:
    """Takes up the events of a transcription in order."""

    _pieces: list[str] = field(default_factory=list[str])
    _others: list[JsonObject] = field(default_factory=list[JsonObject])
    _done: JsonObject | None = None

    @property
    def is_empty(self) -> bool:
        """Nothing was taken up."""
        return not self._pieces and not self._others and self._done is None

    def add(self, event: JsonObject) -> None:
        """Take up one event; of a piece of text only the text counts."""
        piece = event.get("delta")
        if event.get("type") == TEXT_DONE:
            self._done = event
        elif event.get("type") == TEXT_DELTA and isinstance(piece, str):
            self._pieces.append(piece)
        else:
            self._others.append(event)

    def copy(self) -> "TranscriptSoFar":
        """The same, to go its own way."""
        return TranscriptSoFar([*self._pieces], [*self._others], self._done)

    def chunks(self) -> list[JsonObject]:
        """Events that say the same: all text is in one, with what else was told after it."""
        text: list[JsonObject] = [{"type": TEXT_DELTA, "delta": "".join(self._pieces)}] if self._pieces else []
        done = [] if self._done is None else [self._done]
        return [*text, *self._others, *done]

    def body(self) -> JsonObject:
        """The answer as it would have been without streaming."""
        if self._done is None:
            return {"text": "".join(self._pieces)}
        return {name: value for name, value in self._done.items() if name != "type"}
