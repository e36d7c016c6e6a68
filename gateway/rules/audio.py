"""Reads of a request for speech or for a transcription what its price depends on, and refuses what cannot be right."""

from typing import Final

from billing.views import ModelView
from gateway.rules.requests import RequestShape, weigh
from kit.errors import InvalidInput
from models.enums import Meter
from providers.base import JsonObject, Operation, Upload
from providers.openai_audio import MAX_SECONDS, likely_seconds, longest_wav_seconds

MAX_SPOKEN_CHARACTERS: Final = 100_000
LEAST_BYTES_PER_SECOND: Final = 500
"""Of sound that somebody can understand (4 kbit/s): bounds how long a compressed recording plays."""
FORMATS: Final = ("json", "verbose_json", "text", "srt", "vtt")
STREAMED_FORMATS: Final = ("json",)
EVENTS: Final = "sse"
"""The `stream_format` of speech that is told in events; any other is sound as it comes."""
STREAM_FORMATS: Final = (None, "audio", EVENTS)

_MEASURED: Final = {
    Operation.SPEECH: frozenset({Meter.CHARACTERS, Meter.REQUESTS}),
    Operation.TRANSCRIPTION: frozenset(
        {Meter.SECONDS, Meter.REQUESTS, Meter.INPUT_TOKENS, Meter.CACHED_INPUT_TOKENS, Meter.OUTPUT_TOKENS}
    ),
}


def check_priced(operation: Operation, model: ModelView) -> None:
    """InvalidInput for a model with a price that this operation does not turn: it would be called for nothing."""
    measured = _MEASURED.get(operation)
    if measured is None:
        return
    strange = [price.meter for price in model.prices if Meter(price.meter) not in measured]
    if strange:
        raise InvalidInput(
            f"{model.slug} is priced by {strange[0]}, which this operation does not count", field=["model"]
        )


def speech_shape(body: JsonObject) -> RequestShape:
    """The shape of a text to be spoken; InvalidInput names the field that is wrong."""
    text = body.get("input")
    if not isinstance(text, str) or not 0 < len(text) <= MAX_SPOKEN_CHARACTERS:
        raise InvalidInput(f"input must be a text of 1 to {MAX_SPOKEN_CHARACTERS} characters", field=["input"])
    form = body.get("stream_format")
    if form not in STREAM_FORMATS:
        raise InvalidInput("stream_format must be audio or sse", field=["stream_format"])
    return RequestShape(weigh(text, 0)[0], 1, 1, 0, 0, 0, stream=form == EVENTS, characters=len(text))


def transcription_shape(body: JsonObject, upload: Upload | None) -> RequestShape:
    """The shape of a recording to be written down; InvalidInput names the field that is wrong."""
    if upload is None or not upload.content:
        raise InvalidInput("file must be a recording, as multipart/form-data", field=["file"])
    stream = body.get("stream", False)
    if not (stream is None or isinstance(stream, bool)):
        raise InvalidInput("stream must be true or false", field=["stream"])
    formats = STREAMED_FORMATS if stream else FORMATS
    if body.get("response_format") not in (None, *formats):
        what = "response_format of a stream" if stream else "response_format"
        raise InvalidInput(f"{what} must be one of {', '.join(formats)}", field=["response_format"])
    played = longest_wav_seconds(upload.content)
    seconds = len(upload.content) // LEAST_BYTES_PER_SECOND if played is None else int(played)
    prompt = body.get("prompt")
    size = weigh(prompt, 0)[0] if isinstance(prompt, str) else 0
    return RequestShape(
        *(size, 1, 1, 0, 0, 0),
        stream=bool(stream),
        seconds=min(seconds + 1, MAX_SECONDS),
        likely_seconds=likely_seconds(upload.content),
    )
