"""What the sandbox answers to one request, before any of it is sent."""

from dataclasses import dataclass
from typing import Final

from providers.base import JsonObject, Operation, Upload
from providers.sandbox_artifacts import embeddings, images
from providers.sandbox_audio import speech, speech_stream, transcription, transcription_stream
from providers.sandbox_behaviour import SandboxBehaviour
from providers.sandbox_model import SandboxChunk, SandboxRefusal, SandboxUsage, chat, chat_stream
from providers.sandbox_responses import response, response_stream

_NOTHING: Final = SandboxUsage(0, 0)


@dataclass(frozen=True, slots=True)
class SandboxReply:
    """A status with either an answer or the chunks of a stream (`chunks` is None for an answer).

    `sound` is the answer where it is a WAV file. `plain`: of the chunks the sound is sent, with no events around it.
    """

    status: int
    body: JsonObject
    chunks: list[SandboxChunk] | None
    usage: SandboxUsage
    sound: bytes | None = None
    plain: bool = False


def reply_to(
    operation: Operation,
    body: JsonObject,
    behaviour: SandboxBehaviour,
    created: int,
    *,
    streamed: bool,
    upload: Upload | None = None,
) -> SandboxReply:
    """The reply; a scripted status or a wrong request gives an error in OpenAI's form. Faults are the sender's part."""
    if behaviour.status != 200:
        error: JsonObject = {
            "message": f"the sandbox was told to fail with {behaviour.status}",
            "type": "sandbox_error",
            "param": None,
            "code": None,
        }
        return SandboxReply(behaviour.status, {"error": error}, None, _NOTHING)
    try:
        if operation is Operation.EMBEDDING:
            answer, usage = embeddings(body, behaviour)
        elif operation is Operation.IMAGE:
            answer, usage = images(body, behaviour, created)
        elif operation is Operation.SPEECH and streamed:
            chunks, usage = speech_stream(body, behaviour)
            return SandboxReply(200, {}, chunks, usage, plain=body.get("stream_format") != "sse")
        elif operation is Operation.SPEECH:
            sound, usage = speech(body)
            return SandboxReply(200, {}, None, usage, sound)
        elif operation is Operation.TRANSCRIPTION and streamed:
            chunks, usage = transcription_stream(body, upload, behaviour)
            return SandboxReply(200, {}, chunks, usage)
        elif operation is Operation.TRANSCRIPTION:
            answer, usage = transcription(body, upload, behaviour)
        elif operation is Operation.RESPONSES and streamed:
            chunks, usage = response_stream(body, behaviour, created)
            return SandboxReply(200, {}, chunks, usage)
        elif operation is Operation.RESPONSES:
            answer, usage = response(body, behaviour, created)
        elif streamed:
            chunks, usage = chat_stream(body, behaviour, created)
            return SandboxReply(200, {}, chunks, usage)
        else:
            answer, usage = chat(body, behaviour, created)
    except SandboxRefusal as refusal:
        return SandboxReply(refusal.status, {"error": refusal.error}, None, _NOTHING)
    return SandboxReply(200, answer, None, usage)
