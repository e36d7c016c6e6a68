"""OpenAI's form of speech and transcription: sound or text as the provider gave it, the charge in headers and, where the
answer is JSON or a stream of events, in `usage` (rule D2).
"""

import base64
from hashlib import sha256
from typing import Final, Protocol

import orjson

from app.openai_form import Rate, answer_body, charged, failure_chunk, parse_object
from app.rest_door import MAX_BODY_BYTES, Writer
from gateway.rules.audio import EVENTS
from gateway.views import CallRequest, CallResult, StreamedEnd, StreamedEvent, StreamedFailure
from kit.errors import BadRequest
from kit.json_values import is_object
from providers.base import JsonObject, Operation, Upload
from providers.multipart import FILE_FIELD, FormError, read_form
from providers.openai_audio_stream import SOUND_DONE, TEXT_DELTA, TEXT_DONE, sound_event, sound_of

MAX_RECORDING_BYTES: Final = 26 * 1024 * 1024
"""The largest form with a recording: OpenAI takes files of 25 MB."""
_EVENT: Final = b"data: "
_END: Final = b"\n\n"
_DONE: Final = b"data: [DONE]\n\n"
_BOOLEANS: Final = {"true": True, "True": True, "false": False, "False": False}


class SpeechForm:
    """Serves Form: JSON in, sound or events with it out."""

    max_body_bytes = MAX_BODY_BYTES

    def __init__(self, rate: Rate) -> None:
        """`rate` is asked at each answer."""
        self._rate = rate

    def parsed(self, raw: bytes, content_type: str) -> JsonObject:
        """See Form; `stream` says whether events are wanted, as in every form."""
        del content_type
        body = {name: value for name, value in parse_object(raw).items() if name != "stream"}
        return {**body, "stream": True} if body.get("stream_format") == EVENTS else body

    def read(self, model: str, body: JsonObject) -> tuple[CallRequest, Writer]:
        """See Form."""
        if body.get("stream") is True:
            return CallRequest(model, Operation.SPEECH, body), EventWriter(SpokenEvents(self._rate))
        return CallRequest(model, Operation.SPEECH, body, flows=True), AudioWriter(self._rate)


class TranscriptionForm:
    """Serves Form: a recording with fields in, text or events with it out."""

    max_body_bytes = MAX_RECORDING_BYTES

    def __init__(self, rate: Rate) -> None:
        """`rate` is asked at each answer."""
        self._rate = rate

    def parsed(self, raw: bytes, content_type: str) -> JsonObject:
        """See Form; the file stands among the fields until `read`."""
        try:
            fields, upload = read_form(raw, content_type)
        except FormError as error:
            raise BadRequest(str(error)) from error
        stream = fields.pop("stream", "false")
        stream = _BOOLEANS.get(stream, stream) if isinstance(stream, str) else stream
        return {**fields, **({"stream": stream} if stream is not False else {}), FILE_FIELD: upload}

    def read(self, model: str, body: JsonObject) -> tuple[CallRequest, Writer]:
        """See Form; a repeat is known by the file's digest."""
        upload = body.get(FILE_FIELD)
        recording = upload if isinstance(upload, Upload) else None
        asked = {name: value for name, value in body.items() if name != FILE_FIELD}
        if recording is not None:
            asked[FILE_FIELD] = {"filename": recording.filename, "sha256": sha256(recording.content).hexdigest()}
        request = CallRequest(model, Operation.TRANSCRIPTION, asked, upload=recording)
        if asked.get("stream") is True:
            return request, EventWriter(WrittenEvents(self._rate))
        return request, AudioWriter(self._rate)


class AudioWriter:
    """Serves Writer for one request whose answer is JSON, a text or sound, which may come piece by piece."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self.content_type = b"application/json"

    def answer(self, result: CallResult) -> bytes:
        """See Writer; sets the content type."""
        body = result.body
        if body is None:
            return answer_body(result, self._rate())
        kind, sound, text = body.get("content_type"), body.get("b64_audio"), body.get("text")
        if isinstance(kind, str) and isinstance(sound, str):
            self.content_type = kind.encode("latin-1", "replace")
            return base64.b64decode(sound)
        if isinstance(kind, str) and isinstance(text, str):
            self.content_type = kind.encode("latin-1", "replace")
            return text.encode()
        return orjson.dumps({**body, "usage": heard_usage(body.get("usage"), result, self._rate)})

    def event(self, event: StreamedEvent) -> bytes:
        """A piece of sound; sets the content type."""
        kind = event.parsed.get("content_type")
        if not isinstance(kind, str):
            return b""
        self.content_type = kind.encode("latin-1", "replace")
        return sound_of(event.parsed) if event.data is None else event.data

    def end(self, event: StreamedEnd) -> bytes:
        """Sound has no words for its end; its charge was told before it."""
        del event
        return b""

    def failure(self, event: StreamedFailure) -> bytes:
        """Never asked: such a connection is broken off."""
        raise AssertionError(f"sound has no words for a failure: {event.call_id}")


class Events(Protocol):
    """The words of one operation's stream."""

    rate: Rate
    mark: bytes
    """What is sent after the last event."""

    def whole(self, body: JsonObject) -> JsonObject:
        """A whole answer as one event."""
        ...

    def done(self, given: JsonObject | None, result: CallResult) -> JsonObject:
        """The last event; `given` is the provider's, or a whole answer's own words."""
        ...


class SpokenEvents:
    """Serves Events for speech."""

    mark = b""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate

    def whole(self, body: JsonObject) -> JsonObject:
        """See Events."""
        return sound_event(base64.b64decode(str(body.get("b64_audio"))), str(body.get("content_type")))

    def done(self, given: JsonObject | None, result: CallResult) -> JsonObject:
        """See Events."""
        usage = None if given is None else given.get("usage")
        told = usage if is_object(usage) else _tokens(result)
        told = {**told, "characters": result.usage.characters, **charged(result, self.rate())}
        return {"type": SOUND_DONE, "usage": told}


class WrittenEvents:
    """Serves Events for transcriptions."""

    mark = _DONE

    def __init__(self, rate: Rate) -> None:
        self.rate = rate

    def whole(self, body: JsonObject) -> JsonObject:
        """See Events."""
        return {"type": TEXT_DELTA, "delta": body.get("text")}

    def done(self, given: JsonObject | None, result: CallResult) -> JsonObject:
        """See Events."""
        given = given or {}
        return {"text": "", **given, "type": TEXT_DONE, "usage": heard_usage(given.get("usage"), result, self.rate)}


class EventWriter:
    """Serves Writer for one request that is answered with events."""

    content_type = b"application/json"

    def __init__(self, events: Events) -> None:
        self._events = events

    def answer(self, result: CallResult) -> bytes:
        """Never asked."""
        raise AssertionError(f"asked for as a stream: {result.call_id}")

    def event(self, event: StreamedEvent) -> bytes:
        """See Writer: the provider's event as it came."""
        return _EVENT + (event.data if event.data is not None else orjson.dumps(event.parsed)) + _END

    def end(self, event: StreamedEnd) -> bytes:
        """See Writer; a repeat of an answered call has its output in one event."""
        body = event.result.body
        told = [] if body is None else [self._events.whole(body)]
        told.append(self._events.done(event.last_chunk if body is None else body, event.result))
        return b"".join([*[_EVENT + orjson.dumps(each) + _END for each in told], self._events.mark])

    def failure(self, event: StreamedFailure) -> bytes:
        """See Writer."""
        return _EVENT + orjson.dumps(failure_chunk(event, self._events.rate())) + _END


def heard_usage(given: object, result: CallResult, rate: Rate) -> JsonObject:
    """OpenAI's usage of a transcription with the charge; where the provider gave none, the seconds that are charged."""
    usage = given if is_object(given) else {"type": "duration", "seconds": result.usage.seconds}
    return {**usage, **charged(result, rate())}


def _tokens(result: CallResult) -> JsonObject:
    usage = result.usage
    total = usage.input_tokens + usage.output_tokens
    return {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens, "total_tokens": total}
