"""OpenAI's form of speech and transcription: sound or text as the provider gave it, the charge in headers and, where the
answer is JSON, in `usage` (rule D2).
"""

import base64
from hashlib import sha256
from typing import Final

import orjson

from app.openai_form import Rate, answer_body, charged, parse_object
from app.rest_door import MAX_BODY_BYTES, Writer
from gateway.views import CallRequest, CallResult, StreamedEnd, StreamedEvent, StreamedFailure
from kit.errors import BadRequest
from kit.json_values import is_object
from providers.base import JsonObject, Operation, Upload
from providers.multipart import FILE_FIELD, FormError, read_form

MAX_RECORDING_BYTES: Final = 26 * 1024 * 1024
"""The largest form with a recording: OpenAI takes files of 25 MB."""


class SpeechForm:
    """Serves Form: JSON in, sound out."""

    max_body_bytes = MAX_BODY_BYTES

    def __init__(self, rate: Rate) -> None:
        """`rate` is asked at each answer."""
        self._rate = rate

    def parsed(self, raw: bytes, content_type: str) -> JsonObject:
        """See Form."""
        del content_type
        return parse_object(raw)

    def read(self, model: str, body: JsonObject) -> tuple[CallRequest, Writer]:
        """See Form."""
        asked = {name: value for name, value in body.items() if name != "stream"}
        request = CallRequest(model, Operation.SPEECH, asked)
        return request, AudioWriter(self._rate)


class TranscriptionForm:
    """Serves Form: a recording with fields in, text out."""

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
        return {**fields, FILE_FIELD: upload}

    def read(self, model: str, body: JsonObject) -> tuple[CallRequest, Writer]:
        """See Form; a repeat is known by the file's digest."""
        upload = body.get(FILE_FIELD)
        recording = upload if isinstance(upload, Upload) else None
        asked = {name: value for name, value in body.items() if name != FILE_FIELD}
        if asked.get("stream") in ("false", "False"):
            del asked["stream"]
        if recording is not None:
            asked[FILE_FIELD] = {"filename": recording.filename, "sha256": sha256(recording.content).hexdigest()}
        request = CallRequest(model, Operation.TRANSCRIPTION, asked, upload=recording)
        return request, AudioWriter(self._rate)


class AudioWriter:
    """Serves Writer for one request; nothing of it is streamed."""

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
        given = body.get("usage")
        usage = given if is_object(given) else {"type": "duration", "seconds": result.usage.seconds}
        return orjson.dumps({**body, "usage": {**usage, **charged(result, self._rate())}})

    def event(self, event: StreamedEvent) -> bytes:
        """Never asked."""
        raise AssertionError(f"audio is not streamed: {event.call_id}")

    def end(self, event: StreamedEnd) -> bytes:
        """Never asked."""
        raise AssertionError(f"audio is not streamed: {event.result.call_id}")

    def failure(self, event: StreamedFailure) -> bytes:
        """Never asked."""
        raise AssertionError(f"audio is not streamed: {event.call_id}")
