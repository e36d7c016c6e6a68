"""Speech and transcription in OpenAI's form: what is asked of the provider, what it used, how the answer is shown."""

import base64
from fractions import Fraction
from math import ceil
from struct import unpack
from typing import Final, NamedTuple

from kit.json_values import is_list, is_object
from providers.base import JsonObject, Upload, Usage
from providers.errors import UpstreamGarbage
from providers.openai_content import text_bytes
from providers.openai_usage import usage_of_openai

MAX_SECONDS: Final = 7 * 86_400
"""No recording is longer; a larger number is a provider's mistake."""
USUAL_BYTES_PER_SECOND: Final = 8_000
"""Of compressed sound (64 kbit/s): the ground for seconds that nobody reported."""
USUAL_BYTES_PER_TOKEN: Final = 4
HEARD_TOKENS_PER_SECOND: Final = 10
"""Likewise for tokens: of the written text, and of a second of a recording."""

_PLAIN_SAMPLES: Final = (1, 3, 6, 7, 0xFFFE)
"""The codes of WAV's forms whose seconds are so many bytes: PCM, floating point, A-law and µ-law, extensible."""
_MOST_SAMPLES: Final = 384_000
_JSON: Final = ("json", "verbose_json", "diarized_json")
_AS_TEXT: Final = {"text": "text/plain", "srt": "application/x-subrip", "vtt": "text/vtt"}


def speech_shown(sound: bytes, media_type: str) -> JsonObject:
    """A spoken text as JSON, so that it travels and is kept like every answer."""
    return {"object": "audio.speech", "content_type": media_type, "b64_audio": base64.b64encode(sound).decode()}


def speech_usage(body: JsonObject, answer: JsonObject) -> Usage:
    """What a spoken text is counted by: its characters, which the answer shows to have been spoken; and tokens, where told."""
    text = body.get("input")
    tokens = usage_of_openai(answer.get("usage"))
    return Usage(
        input_tokens=tokens.input_tokens if tokens else 0,
        output_tokens=tokens.output_tokens if tokens else 0,
        characters=len(text) if isinstance(text, str) else 0,
    )


def transcription_asked(body: JsonObject) -> JsonObject:
    """The fields for the provider. Formats that report no usage are asked for as JSON and made from it."""
    fields = {name: value for name, value in body.items() if name not in ("file", "model", "stream")}
    wanted = fields.get("response_format")
    if wanted == "text":
        fields["response_format"] = "json"
    elif wanted in ("srt", "vtt"):
        fields["response_format"] = "verbose_json"
        fields["timestamp_granularities"] = ["segment"]
    return fields


def transcription_shown(body: JsonObject, answer: JsonObject) -> JsonObject:
    """The provider's answer, or what it is as a text in the format that was asked for."""
    if not isinstance(answer.get("text"), str):
        raise UpstreamGarbage("the provider's answer has no text")
    wanted = body.get("response_format")
    if not isinstance(wanted, str) or wanted in _JSON or wanted not in _AS_TEXT:
        return answer
    text = f"{answer['text']}\n" if wanted == "text" else _captions(answer, vtt=wanted == "vtt")
    return {"object": "audio.text", "content_type": f"{_AS_TEXT[wanted]}; charset=utf-8", "text": text}


def transcription_usage(answer: JsonObject, upload: Upload) -> Usage:
    """Seconds as the provider reports them, or tokens, or both. Of what reports neither all is estimated here.

    Seconds are whole, rounded up; a recording that says itself how long it plays is believed.
    """
    told = answer.get("usage")
    tokens = usage_of_openai(told) if is_object(told) and told.get("type") == "tokens" else None
    seconds = None
    if is_object(told) and told.get("type") == "duration":
        seconds = _seconds(told.get("seconds"))
    if seconds is None:
        seconds = _seconds(answer.get("duration"))
    known = seconds is not None or tokens is not None
    if seconds is None:
        seconds = likely_seconds(upload.content)
    if not known:
        of_text = -(-text_bytes(str(answer.get("text", ""))) // USUAL_BYTES_PER_TOKEN)
        tokens = Usage(input_tokens=seconds * HEARD_TOKENS_PER_SECOND, output_tokens=of_text)
    return Usage(
        input_tokens=tokens.input_tokens if tokens else 0,
        output_tokens=tokens.output_tokens if tokens else 0,
        seconds=seconds,
        reported=known,
    )


def likely_seconds(content: bytes) -> int:
    """How long a recording probably plays, rounded up."""
    played = wav_seconds(content)
    return min(ceil(Fraction(len(content), USUAL_BYTES_PER_SECOND) if played is None else played), MAX_SECONDS)


def wav_seconds(content: bytes) -> Fraction | None:
    """How long a WAV file plays by its own header; None for anything else, and for sound that is not plain samples."""
    found = _samples(content)
    return None if found is None else Fraction(found.size, found.bytes_per_second)


def longest_wav_seconds(content: bytes) -> Fraction | None:
    """How long it plays where all that follows its header is sound, whatever the header says of its size."""
    found = _samples(content)
    return None if found is None else Fraction(found.most, found.bytes_per_second)


class _Samples(NamedTuple):
    """The sound in a WAV file. `most`: the bytes to the file's end."""

    bytes_per_second: int
    size: int
    most: int


def _samples(content: bytes) -> _Samples | None:
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        return None
    position, bytes_per_second = 12, 0
    while position + 8 <= len(content):
        kind = content[position : position + 4]
        size = int.from_bytes(content[position + 4 : position + 8], "little")
        if kind == b"fmt " and size >= 16:
            bytes_per_second = _bytes_per_second(content[position + 8 : position + 24])
        if kind == b"data":
            most = len(content) - position - 8
            # A recorder that writes to a pipe does not know the size: 0, or the largest there is.
            return _Samples(bytes_per_second, min(size or most, most), most) if bytes_per_second else None
        position += 8 + size + size % 2
    return None


def _bytes_per_second(form: bytes) -> int:
    """From what the samples are, not from the field that says it and that no decoder reads; 0 for what is none of them."""
    if len(form) < 16:
        return 0
    code, channels, rate, _, _, bits = unpack("<HHIIHH", form)
    if (
        code not in _PLAIN_SAMPLES
        or not 1 <= channels <= 8
        or not 1 <= rate <= _MOST_SAMPLES
        or bits not in (8, 16, 24, 32, 64)
    ):
        return 0
    return rate * channels * bits // 8


def _seconds(value: object) -> int | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_SECONDS:
        return None
    return ceil(value)


def _captions(answer: JsonObject, *, vtt: bool) -> str:
    segments = answer.get("segments")
    lines = ["WEBVTT", ""] if vtt else []
    for number, segment in enumerate(segments if is_list(segments) else [], 1):
        if not is_object(segment):
            continue
        if not vtt:
            lines.append(str(number))
        lines.append(f"{_clock(segment.get('start'), vtt=vtt)} --> {_clock(segment.get('end'), vtt=vtt)}")
        lines += [str(segment.get("text") or "").strip(), ""]
    return "\n".join(lines) + "\n"


def _clock(value: object, *, vtt: bool) -> str:
    good = isinstance(value, int | float) and 0 <= value <= MAX_SECONDS
    milliseconds = round(value * 1000) if good and isinstance(value, int | float) else 0
    minutes, rest = divmod(milliseconds, 60_000)
    mark = "." if vtt else ","
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{mark}{rest % 1000:03}"
