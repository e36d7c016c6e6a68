"""Streams of speech and of transcriptions in OpenAI's form: what their events say, and sound as it comes told as such events."""

import base64
import binascii
from typing import Final, Protocol

import orjson

from providers.base import (
    JsonObject,
    Operation,
    ProviderAnswer,
    ProviderRequest,
    ProviderStream,
    ReadyStream,
    StreamChunk,
    Usage,
)
from providers.errors import UpstreamGarbage
from providers.openai_audio import speech_usage, transcription_usage
from providers.openai_content import text_bytes
from providers.openai_errors import error_in, error_object, error_of_object
from providers.transport import HttpAnswer
from providers.wire import AnswerStream, EventStream, event_of

SOUND_DELTA: Final = "speech.audio.delta"
SOUND_DONE: Final = "speech.audio.done"
TEXT_DELTA: Final = "transcript.text.delta"
TEXT_DONE: Final = "transcript.text.done"
END: Final = StreamChunk(b"[DONE]", None, None, 0, done=True)

_MEDIA_TYPES: Final = {
    "mp3": "audio/mpeg",
    "opus": "audio/opus",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}


class ChunkReader(Protocol):
    """Knows what an event of a stream carries and reports."""

    def __call__(self, data: bytes, event: JsonObject) -> StreamChunk:
        """The event as a chunk. Raises UpstreamGarbage where it cannot be what it says."""
        ...


class SpeechReader:
    """Reads the events of a spoken text. Its characters are counted once its end shows that all of it was spoken."""

    def __init__(self, request: ProviderRequest) -> None:
        self._asked = request.body
        wanted = request.body.get("response_format")
        self._media_type = (
            _MEDIA_TYPES.get(wanted, "application/octet-stream") if isinstance(wanted, str) else "audio/mpeg"
        )

    def __call__(self, data: bytes, event: JsonObject) -> StreamChunk:
        """See ChunkReader. What is kept of a piece of sound says of what type it is."""
        kind = event.get("type")
        if kind == SOUND_DONE:
            return StreamChunk(data, event, speech_usage(self._asked, event), 0)
        if kind != SOUND_DELTA:
            return StreamChunk(data, event, None, 0)
        parsed = event if "content_type" in event else {**event, "content_type": self._media_type}
        return StreamChunk(data, parsed, None, len(sound_of(parsed)))


class TranscriptReader:
    """Reads the events of a transcription."""

    def __init__(self, request: ProviderRequest) -> None:
        assert request.upload is not None, "checked by who asks"
        self._upload = request.upload

    def __call__(self, data: bytes, event: JsonObject) -> StreamChunk:
        """See ChunkReader. The last event repeats the text, which the pieces have been counted for."""
        kind, piece = event.get("type"), event.get("delta")
        if kind == TEXT_DONE:
            if not isinstance(event.get("text"), str):
                raise UpstreamGarbage("the end of the provider's transcription has no text")
            return StreamChunk(data, event, transcription_usage(event, self._upload), 0)
        size = text_bytes(piece) if kind == TEXT_DELTA and isinstance(piece, str) else 0
        return StreamChunk(data, event, None, size)


def reader_for(request: ProviderRequest) -> ChunkReader:
    """Who reads the events of this request's stream."""
    return SpeechReader(request) if request.operation is Operation.SPEECH else TranscriptReader(request)


def sound_of(event: JsonObject) -> bytes:
    """The sound in a `speech.audio.delta`. Raises UpstreamGarbage where it is none."""
    sound = event.get("audio")
    try:
        return base64.b64decode(sound if isinstance(sound, str) else "?", validate=True)
    except (binascii.Error, ValueError) as error:
        raise UpstreamGarbage("a piece of the provider's sound is not base64") from error


def sound_event(sound: bytes, media_type: str) -> JsonObject:
    """A piece of sound as an event, so that it is kept like every other; `content_type` is ours."""
    return {"type": SOUND_DELTA, "audio": base64.b64encode(sound).decode(), "content_type": media_type}


class AudioEventStream(EventStream):
    """The events of a speech or a transcription, up to the one that ends it."""

    __slots__ = ("_api_key", "_finished", "_read")

    def __init__(self, answer: HttpAnswer, read: ChunkReader, api_key: str | None) -> None:
        super().__init__(answer)
        self._read = read
        self._api_key = api_key
        self._finished = False

    async def __anext__(self) -> StreamChunk:
        """The next event. Nothing is waited for after the last one, for not every provider sends a mark after it."""
        if self._finished and not self._ended:
            self._ended = True
            return END
        return await super().__anext__()

    def _cut_off(self) -> StreamChunk:
        raise UpstreamGarbage("the provider's stream ended in the middle")

    def _chunk_of(self, data: bytes) -> StreamChunk:
        if data == END.data:
            return self._cut_off()
        event = event_of(data)
        error_body = error_in(event)
        if error_body is not None:
            raise error_of_object(error_object(data, self._api_key) or error_body)
        chunk = self._read(data, event)
        self._produced = self._produced or chunk.content_bytes > 0
        self._finished = event.get("type") in (SOUND_DONE, TEXT_DONE)
        return chunk


class SoundStream(AnswerStream):
    """Sound that comes piece by piece with nothing around it, then an event that it is whole, then the end.

    The chunks' `data` is the sound itself, or the event that tells it, `as_events`.
    """

    __slots__ = ("_as_events", "_asked", "_media_type", "_told")

    def __init__(self, answer: HttpAnswer, media_type: str, asked: JsonObject, *, as_events: bool) -> None:
        """`answer` is closed or finished by the stream; `asked` is the request's body."""
        super().__init__(answer)
        self._media_type = media_type
        self._asked = asked
        self._as_events = as_events
        self._told = False

    async def _next(self) -> StreamChunk:
        if self._told:
            self._ended = True
            return END
        sound = await self._answer.next_part()
        if not sound and not self._produced:
            raise UpstreamGarbage("the provider's answer is no sound")
        return self._piece(sound) if sound else self._end()

    def _piece(self, sound: bytes) -> StreamChunk:
        self._produced = True
        event = sound_event(sound, self._media_type)
        return StreamChunk(orjson.dumps(event) if self._as_events else sound, event, None, len(sound))

    def _end(self) -> StreamChunk:
        self._told = True
        event: JsonObject = {"type": SOUND_DONE}
        return StreamChunk(orjson.dumps(event), event, speech_usage(self._asked, event), 0)


def whole_transcript(answer: ProviderAnswer) -> ProviderStream:
    """The stream of a transcription that its provider gave whole, as some do whatever is asked."""
    delta: JsonObject = {"type": TEXT_DELTA, "delta": answer.body["text"]}
    done: JsonObject = {"type": TEXT_DONE, **answer.body}
    usage = answer.usage or Usage(reported=False)
    chunks = [
        StreamChunk(orjson.dumps(delta), delta, None, answer.content_bytes),
        StreamChunk(orjson.dumps(done), done, usage, 0),
        END,
    ]
    return ReadyStream(answer.upstream_request_id, chunks)
