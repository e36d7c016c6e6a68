"""Reads of a request for speech or for a transcription what its price depends on, and refuses what cannot be right."""

from typing import Final

from billing.views import ModelView
from gateway.rules.requests import RequestShape, weigh
from kit.errors import InvalidInput
from models.enums import Meter
from providers.base import JsonObject, Operation, Upload
from providers.openai_audio import MAX_SECONDS, wav_seconds

MAX_SPOKEN_CHARACTERS: Final = 100_000
LEAST_BYTES_PER_SECOND: Final = 500
"""Of sound that somebody can understand (4 kbit/s): bounds how long a compressed recording plays."""
FORMATS: Final = ("json", "verbose_json", "text", "srt", "vtt")

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
    if body.get("stream_format") not in (None, "audio"):
        raise InvalidInput("speech is answered whole: stream_format must be audio", field=["stream_format"])
    return RequestShape(weigh(text, 0)[0], 1, 1, 0, 0, 0, stream=False, characters=len(text))


def transcription_shape(body: JsonObject, upload: Upload | None) -> RequestShape:
    """The shape of a recording to be written down; InvalidInput names the field that is wrong."""
    if upload is None or not upload.content:
        raise InvalidInput("file must be a recording, as multipart/form-data", field=["file"])
    if body.get("stream") not in (None, False, "false"):
        raise InvalidInput("a transcription is answered whole: stream must be false", field=["stream"])
    if body.get("response_format") not in (None, *FORMATS):
        raise InvalidInput(f"response_format must be one of {', '.join(FORMATS)}", field=["response_format"])
    played = wav_seconds(upload.content)
    seconds = len(upload.content) // LEAST_BYTES_PER_SECOND if played is None else int(played)
    prompt = body.get("prompt")
    size = weigh(prompt, 0)[0] if isinstance(prompt, str) else 0
    return RequestShape(size, 1, 1, 0, 0, 0, stream=False, seconds=min(seconds + 1, MAX_SECONDS))
