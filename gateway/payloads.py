"""Model calls as GraphQL states them, put into OpenAI's form; and OpenAI's answers, put into GraphQL's."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from kit.errors import InvalidInput
from providers.base import JsonObject, Operation
from providers.chat_of_response import chat_of_response
from providers.message_answers import chat_of_message


@dataclass(frozen=True, slots=True)
class ContentPart:
    """A part of a message; `extra` holds what a provider knows beyond this."""

    type: str
    text: str | None = None
    image_url: str | None = None
    audio_url: str | None = None
    extra: object = None


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """A message of a chat; `role` as the contract writes it."""

    role: str
    content: str | None = None
    parts: tuple[ContentPart, ...] | None = None
    name: str | None = None
    tool_calls: object = None
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True)
class ChatPayload:
    """What a chat model is asked."""

    messages: tuple[ChatMessage, ...]
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] | None = None
    tools: object = None
    response_format: object = None


@dataclass(frozen=True, slots=True)
class EmbeddingPayload:
    """What an embedding model is asked."""

    texts: tuple[str, ...]
    dimensions: int | None = None


@dataclass(frozen=True, slots=True)
class ImagePayload:
    """What an image model is asked."""

    prompt: str
    count: int | None = None
    size: str | None = None


@dataclass(frozen=True, slots=True)
class SpeechPayload:
    """What a speaking model is asked; `voice` None takes the one that every vendor has."""

    text: str
    voice: str | None = None
    format: str | None = None


@dataclass(frozen=True, slots=True)
class VideoPayload:
    """What a video model is asked."""

    prompt: str
    seconds: int
    size: str | None = None


@dataclass(frozen=True, slots=True)
class CustomPayload:
    """A body in the form of the model's own provider."""

    body: object


@dataclass(frozen=True, slots=True)
class UnservedPayload:
    """Work that no provider adapter does yet: `kind` is the input's field."""

    kind: str


CallPayload = (
    ChatPayload | EmbeddingPayload | ImagePayload | VideoPayload | SpeechPayload | CustomPayload | UnservedPayload
)


@dataclass(frozen=True, slots=True)
class ChatOutputView:
    """What a chat model answered."""

    content: str | None
    finish_reason: str
    tool_calls: object


@dataclass(frozen=True, slots=True)
class EmbeddingOutputView:
    """One vector for each text."""

    embeddings: tuple[list[object], ...]


@dataclass(frozen=True, slots=True)
class AssetView:
    """A file that a model made. `expires_at`: until when it is kept; `url_expires_at`: until when its address works."""

    id: UUID
    content_type: str
    size_bytes: int | None
    url: str
    expires_at: datetime | None = None
    url_expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class AssetsOutputView:
    """The files that a model made."""

    assets: tuple[AssetView, ...]


OutputView = ChatOutputView | EmbeddingOutputView | AssetsOutputView

_BY_MODALITY: Final = {
    "TEXT": Operation.CHAT,
    "EMBEDDING": Operation.EMBEDDING,
    "IMAGE": Operation.IMAGE,
    "AUDIO": Operation.SPEECH,
    "VIDEO": Operation.VIDEO,
}
_PATHS: Final[dict[Operation, dict[str, str]]] = {
    Operation.CHAT: {
        "max_tokens": "maxOutputTokens",
        "max_completion_tokens": "maxOutputTokens",
        "messages": "messages",
    },
    Operation.EMBEDDING: {"input": "texts", "dimensions": "dimensions"},
    Operation.IMAGE: {"prompt": "prompt", "n": "count", "size": "size"},
    Operation.SPEECH: {"input": "text", "voice": "voice", "response_format": "format"},
    Operation.VIDEO: {"prompt": "prompt", "seconds": "seconds", "size": "size"},
}
_NAMES: Final = {
    Operation.CHAT: "chat",
    Operation.EMBEDDING: "embedding",
    Operation.IMAGE: "image",
    Operation.SPEECH: "audio",
    Operation.VIDEO: "video",
}
_USUAL_VOICE: Final = "alloy"


def openai_form(payload: CallPayload, modality: str | None) -> tuple[Operation, JsonObject]:
    """The operation and body that a payload asks for; `modality` is the model's, None where it is unknown.

    Raises InvalidInput, also for work that no adapter does yet.
    """
    match payload:
        case ChatPayload():
            return Operation.CHAT, _chat_body(payload)
        case EmbeddingPayload():
            body: JsonObject = {"input": list(payload.texts)}
            return Operation.EMBEDDING, _with_given(body, dimensions=payload.dimensions)
        case ImagePayload():
            return Operation.IMAGE, _with_given({"prompt": payload.prompt}, n=payload.count, size=payload.size)
        case SpeechPayload():
            spoken: JsonObject = {"input": payload.text, "voice": payload.voice or _USUAL_VOICE}
            return Operation.SPEECH, _with_given(spoken, response_format=payload.format)
        case VideoPayload():
            return Operation.VIDEO, _with_given({"prompt": payload.prompt}, seconds=payload.seconds, size=payload.size)
        case CustomPayload():
            return _BY_MODALITY.get(modality or "", Operation.CHAT), _custom_body(payload)
        case UnservedPayload():
            raise InvalidInput(
                f"{payload.kind} calls are not served by this gateway yet", field=["payload", payload.kind]
            )


def input_path(payload: CallPayload, operation: Operation, field: Sequence[str]) -> tuple[str, ...]:
    """Where in the GraphQL input the field of the body stands; other fields are the input's own."""
    if not field:
        return ()
    if isinstance(payload, CustomPayload):
        return ("payload", "custom", *field) if field[0] in _PATHS[operation] else tuple(field)
    name = _PATHS[operation].get(field[0])
    return tuple(field) if name is None else ("payload", _NAMES[operation], name, *field[1:])


def _with_given(body: JsonObject, **optional: object) -> JsonObject:
    body.update({name: value for name, value in optional.items() if value is not None})
    return body


def _chat_body(payload: ChatPayload) -> JsonObject:
    _check_kind(payload.tools, list, "tools must be a list", ["payload", "chat", "tools"])
    _check_kind(
        payload.response_format, dict, "responseFormat must be an object", ["payload", "chat", "responseFormat"]
    )
    body: JsonObject = {"messages": [_message(index, message) for index, message in enumerate(payload.messages)]}
    return _with_given(
        body,
        max_tokens=payload.max_output_tokens,
        temperature=payload.temperature,
        top_p=payload.top_p,
        stop=None if payload.stop is None else list(payload.stop),
        tools=payload.tools,
        response_format=payload.response_format,
    )


def _message(index: int, message: ChatMessage) -> JsonObject:
    path = ("payload", "chat", "messages", str(index))
    if message.content is not None and message.parts is not None:
        raise InvalidInput("give either content or parts", field=[*path, "parts"])
    _check_kind(message.tool_calls, list, "toolCalls must be a list", [*path, "toolCalls"])
    if message.content is None and message.parts is None and message.tool_calls is None:
        raise InvalidInput("a message needs content or parts", field=[*path, "content"])
    parts = message.parts
    content = (
        message.content if parts is None else [_part(part, [*path, "parts", str(at)]) for at, part in enumerate(parts)]
    )
    return _with_given(
        {"role": message.role.lower(), "content": content},
        name=message.name,
        tool_calls=message.tool_calls,
        tool_call_id=message.tool_call_id,
    )


def _part(part: ContentPart, path: Sequence[str]) -> JsonObject:
    _check_kind(part.extra, dict, "extra must be an object", [*path, "extra"])
    return _with_given(
        {**_object(part.extra), "type": part.type},
        text=part.text,
        image_url=None if part.image_url is None else {"url": part.image_url},
        audio_url=None if part.audio_url is None else {"url": part.audio_url},
    )


def _check_kind(value: object, kind: type, message: str, field: Sequence[str]) -> None:
    if value is not None and not isinstance(value, kind):
        raise InvalidInput(message, field=field)


def _custom_body(payload: CustomPayload) -> JsonObject:
    if not isinstance(payload.body, dict):
        raise InvalidInput("custom must be an object", field=["payload", "custom"])
    body: JsonObject = dict(payload.body)  # pyright: ignore[reportUnknownArgumentType] -- parsed JSON: its keys are texts
    for name in ("stream", "stream_options", "model"):
        body.pop(name, None)
    return body


def output_of(call_id: UUID, body: JsonObject) -> OutputView:
    """What a provider's answer holds, told by its shape; what is not there is empty."""
    if body.get("type") == "message":
        body = chat_of_message(body, 0)
    elif body.get("object") == "response":
        body = chat_of_response(body)
    if isinstance(body.get("choices"), list):
        return _chat_output(_objects(body.get("choices")))
    sound, kind = body.get("b64_audio"), body.get("content_type")
    if isinstance(sound, str) and isinstance(kind, str):
        return AssetsOutputView((_inline(UUID(int=call_id.int ^ 1), kind, sound),))
    if isinstance(body.get("text"), str):
        return ChatOutputView(str(body["text"]), "stop", None)
    items = _objects(body.get("data"))
    if any("embedding" in item for item in items):
        return EmbeddingOutputView(tuple(_vector(item.get("embedding")) for item in items))
    return AssetsOutputView(tuple(_asset(call_id, index, item) for index, item in enumerate(items)))


def _chat_output(choices: Sequence[JsonObject]) -> ChatOutputView:
    first = choices[0] if choices else {}
    message = _object(first.get("message"))
    content, reason = message.get("content"), first.get("finish_reason")
    return ChatOutputView(
        content=content if isinstance(content, str) else None,
        finish_reason=reason if isinstance(reason, str) else "unknown",
        tool_calls=message.get("tool_calls"),
    )


def _vector(value: object) -> list[object]:
    return list(value) if isinstance(value, list) else []  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType] -- parsed JSON


def _asset(call_id: UUID, index: int, item: JsonObject) -> AssetView:
    url, inline = item.get("url"), item.get("b64_json")
    asset_id = UUID(int=call_id.int ^ (index + 1))
    if isinstance(url, str):
        return AssetView(asset_id, "image/png", None, url)
    return _inline(asset_id, "image/png", inline if isinstance(inline, str) else "")


def _inline(asset_id: UUID, content_type: str, text: str) -> AssetView:
    size = len(text) * 3 // 4 - text[-2:].count("=")
    return AssetView(asset_id, content_type, size, f"data:{content_type};base64,{text}")


def _objects(value: object) -> list[JsonObject]:
    if not isinstance(value, list):
        return []
    return [item for item in value if isinstance(item, dict)]  # pyright: ignore[reportUnknownVariableType] -- parsed JSON


def _object(value: object) -> JsonObject:
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType] -- parsed JSON
