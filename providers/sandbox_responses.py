"""The sandbox's Responses API: the answer that its pretended model gives in a chat, told in that form."""

from providers.base import JsonObject, StreamChunk
from providers.errors import NotInThisForm
from providers.response_of_chat import ResponseOfChat, response_of_chat
from providers.responses_to_chat import chat_of_request
from providers.sandbox_behaviour import SandboxBehaviour
from providers.sandbox_model import SandboxChunk, SandboxRefusal, SandboxUsage, chat, chat_stream, check_model


def response(body: JsonObject, behaviour: SandboxBehaviour, created: int) -> tuple[JsonObject, SandboxUsage]:
    """A whole response. `created` is its Unix time. Raises SandboxRefusal."""
    answer, usage = chat(_as_chat(body), behaviour, created)
    return response_of_chat(body, answer), usage


def response_stream(
    body: JsonObject, behaviour: SandboxBehaviour, created: int
) -> tuple[list[SandboxChunk], SandboxUsage]:
    """The same response as events; each word's tokens are with the first event that tells of it."""
    chunks, usage = chat_stream({**_as_chat(body), "stream_options": {"include_usage": True}}, behaviour, created)
    translation = ResponseOfChat(body)
    events: list[SandboxChunk] = []
    for chunk in chunks:
        tokens = chunk.tokens
        for event in translation.translate(StreamChunk(b"", chunk.event, None, 0)):
            events.append(SandboxChunk(event.parsed or {}, tokens))
            tokens = 0
    events.extend(
        SandboxChunk(event.parsed or {}, 0) for event in translation.translate(StreamChunk(b"", None, None, 0))
    )
    return events, usage


def _as_chat(body: JsonObject) -> JsonObject:
    check_model(body)
    try:
        asked = chat_of_request(body, "")
    except NotInThisForm as error:
        raise SandboxRefusal(400, error.message, "input") from error
    return {**asked, "model": body["model"]}
