"""The speech and the hearing of the sandbox: the same input always gives the same."""

import hashlib
import re
import struct
from math import ceil
from typing import Final

from providers.base import JsonObject, Upload
from providers.openai_audio import USUAL_BYTES_PER_SECOND, wav_seconds
from providers.openai_audio_stream import SOUND_DONE, TEXT_DELTA, TEXT_DONE, sound_event
from providers.sandbox_behaviour import SandboxBehaviour, UsageFault
from providers.sandbox_model import (
    SandboxChunk,
    SandboxRefusal,
    SandboxUsage,
    check_model,
    seed_of,
    tokens_of,
    words_of,
)

_MAX_INPUT: Final = 4_096
_SAMPLES_PER_SECOND: Final = 8_000
_SAMPLES_PER_CHARACTER: Final = 80
_PIECE_BYTES: Final = 400
_WORD: Final = re.compile(r"\s*\S+")


def speech(body: JsonObject) -> tuple[bytes, SandboxUsage]:
    """A WAV file, a hundredth of a second for each character, whatever format is asked for."""
    check_model(body)
    text = body.get("input")
    if not isinstance(text, str) or not 0 < len(text) <= _MAX_INPUT:
        raise SandboxRefusal(400, f"input must be a text of 1 to {_MAX_INPUT} characters", "input")
    count = len(text) * _SAMPLES_PER_CHARACTER
    samples = hashlib.shake_256(seed_of([body["model"], text, body.get("voice")])).digest(count)
    form = struct.pack("<HHIIHH", 1, 1, _SAMPLES_PER_SECOND, _SAMPLES_PER_SECOND, 1, 8)
    inside = b"WAVE" + b"fmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", count) + samples
    return b"RIFF" + struct.pack("<I", len(inside)) + inside, SandboxUsage(0, 0, characters=len(text))


def speech_stream(body: JsonObject, behaviour: SandboxBehaviour) -> tuple[list[SandboxChunk], SandboxUsage]:
    """The same file in pieces of a twentieth of a second, as events; where events are wanted the last one has a usage in tokens."""
    sound, usage = speech(body)
    pieces = [sound[at : at + _PIECE_BYTES] for at in range(0, len(sound), _PIECE_BYTES)]
    chunks = [SandboxChunk(sound_event(piece, "audio/wav"), 0) for piece in pieces]
    done: JsonObject = {"type": SOUND_DONE}
    if body.get("stream_format") == "sse" and behaviour.usage is not UsageFault.NONE:
        of_input, of_output = tokens_of(usage.characters), len(pieces)
        reported: object = {UsageFault.NEGATIVE: -5, UsageFault.HUGE: 10**15, UsageFault.TEXT: "many"}.get(
            behaviour.usage, of_output
        )
        done["usage"] = {
            "input_tokens": of_input,
            "output_tokens": reported,
            "total_tokens": of_input + of_output,
        }
    return [*chunks, SandboxChunk(done, 0)], usage


def transcription(
    body: JsonObject, upload: Upload | None, behaviour: SandboxBehaviour
) -> tuple[JsonObject, SandboxUsage]:
    """Words that hang on the recording's bytes; how long it plays as whole seconds of a WAV file, else guessed."""
    check_model(body)
    if upload is None or not upload.content:
        raise SandboxRefusal(400, "a file is needed", "file")
    wav = wav_seconds(upload.content)
    seconds = ceil(len(upload.content) / USUAL_BYTES_PER_SECOND) if wav is None else ceil(wav)
    text = words_of(hashlib.sha256(upload.content).digest(), 12)
    answer: JsonObject = {"text": text}
    reported = {UsageFault.NEGATIVE: -5, UsageFault.HUGE: 10**15, UsageFault.TEXT: "many"}.get(behaviour.usage, seconds)
    if body.get("response_format") == "verbose_json":
        segment = {"id": 0, "start": 0.0, "end": float(seconds), "text": f" {text}"}
        answer |= {"task": "transcribe", "language": "english", "segments": [segment]}
        if behaviour.usage is not UsageFault.NONE:
            answer["duration"] = reported
    elif behaviour.usage is not UsageFault.NONE:
        answer["usage"] = {"type": "duration", "seconds": reported}
    return answer, SandboxUsage(0, 0, seconds=seconds)


def transcription_stream(
    body: JsonObject, upload: Upload | None, behaviour: SandboxBehaviour
) -> tuple[list[SandboxChunk], SandboxUsage]:
    """The same text word by word, then whole with its usage, as events."""
    answer, usage = transcription(body, upload, behaviour)
    pieces: list[str] = _WORD.findall(str(answer["text"]))
    chunks = [SandboxChunk({"type": TEXT_DELTA, "delta": piece}, 1) for piece in pieces]
    return [*chunks, SandboxChunk({"type": TEXT_DONE, **answer}, 0)], usage
