"""The pretended model of the sandbox: the same input always gives the same answer and usage.

Tokens are counted simply, so that anybody can recompute a charge: text going in is one token per four bytes of
UTF-8, rounded up, at least one; an image or sound in a message is 85; text coming out is one token per word.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Final

import orjson

from providers.base import JsonObject
from providers.openai_content import text_bytes
from providers.sandbox_behaviour import SandboxBehaviour, UsageFault

MODELS: Final = (
    "sandbox-chat", "sandbox-chat-large", "sandbox-embedding", "sandbox-image", "sandbox-audio", "sandbox-transcription"
)  # fmt: skip
PART_TOKENS: Final = 85
"""Input tokens of a message part that is no text."""

MISSING_PREFIX: Final = "missing"
"""A model whose name begins so does not exist."""

_WORDS_TEXT: Final = (
    "amber birch cedar delta ember fjord grove haven indigo jade kelp lumen maple "
    "north ocean pearl quartz river stone tide umber vale willow xenon yarrow zephyr "
    "acorn brook cliff dune echo fern glade harbor inlet juniper knoll lagoon meadow "
    "nectar orchard pebble quill reed sage thistle upland violet wharf yonder zenith aspen "
    "basin coral drift estuary frost garnet heath iris jasper kindle lark lichen"
)
_WORDS: Final = tuple(_WORDS_TEXT.split())
_PIECE: Final = re.compile(r"\S+\s*")
_MAX_CHOICES: Final = 16


class SandboxRefusal(Exception):
    """The request is wrong; `status` and `error` are what OpenAI would answer."""

    def __init__(self, status: int, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.error: JsonObject = {"message": message, "type": "invalid_request_error", "param": param, "code": None}


@dataclass(frozen=True, slots=True)
class SandboxUsage:
    """The true usage, whatever is reported."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    images: int = 0
    characters: int = 0
    seconds: int = 0


@dataclass(frozen=True, slots=True)
class SandboxChunk:
    """One event of a stream and how many output tokens it carries."""

    event: JsonObject
    tokens: int


@dataclass(frozen=True, slots=True)
class _Choice:
    pieces: tuple[str, ...]
    finish_reason: str
    tool: str | None


def chat(body: JsonObject, behaviour: SandboxBehaviour, created: int) -> tuple[JsonObject, SandboxUsage]:
    """A chat completion. `created` is its Unix time. Raises SandboxRefusal."""
    seed, input_tokens, choices = _chat(body, behaviour)
    usage = _chat_usage(choices, input_tokens, behaviour)
    answer: JsonObject = {
        "id": f"chatcmpl-{seed.hex()[:24]}",
        "object": "chat.completion",
        "created": created,
        "model": body["model"],
        "choices": [
            {"index": i, "message": _message(choice), "logprobs": None, "finish_reason": choice.finish_reason}
            for i, choice in enumerate(choices)
        ],
    }
    if behaviour.usage is not UsageFault.NONE:
        answer["usage"] = reported_usage(usage, behaviour)
    return answer, usage


def chat_stream(body: JsonObject, behaviour: SandboxBehaviour, created: int) -> tuple[list[SandboxChunk], SandboxUsage]:
    """The same completion word by word; usage comes last where `stream_options.include_usage` asks for it."""
    seed, input_tokens, choices = _chat(body, behaviour)
    usage = _chat_usage(choices, input_tokens, behaviour)
    options = body.get("stream_options")
    with_usage = isinstance(options, dict) and options.get("include_usage") is True  # pyright: ignore[reportUnknownMemberType]
    head: JsonObject = {
        "id": f"chatcmpl-{seed.hex()[:24]}",
        "object": "chat.completion.chunk",
        "created": created,
        "model": body["model"],
    }
    if with_usage:
        head["usage"] = None
    chunks: list[SandboxChunk] = []

    def add(index: int, delta: JsonObject, finish_reason: str | None, tokens: int) -> None:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        chunks.append(SandboxChunk({**head, "choices": [choice]}, tokens))

    for index, choice in enumerate(choices):
        add(index, {"role": "assistant", "content": None if choice.tool else ""}, None, 0)
        if choice.tool is not None:
            call = {"index": 0, **_tool_call(choice)}
            add(index, {"tool_calls": [call]}, None, len(choice.pieces))
        else:
            for piece in choice.pieces:
                add(index, {"content": piece}, None, 1)
        add(index, {}, choice.finish_reason, 0)
    if with_usage and behaviour.usage is not UsageFault.NONE:
        chunks.append(SandboxChunk({**head, "choices": [], "usage": reported_usage(usage, behaviour)}, 0))
    return chunks, usage


def models(created: int) -> JsonObject:
    """The list of models."""
    return {
        "object": "list",
        "data": [{"id": name, "object": "model", "created": created, "owned_by": "sandbox"} for name in MODELS],
    }


def _chat(body: JsonObject, behaviour: SandboxBehaviour) -> tuple[bytes, int, list[_Choice]]:
    check_model(body)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise SandboxRefusal(400, "messages must be a list that is not empty", "messages")
    input_bytes = other_parts = 0
    for message in messages:  # pyright: ignore[reportUnknownVariableType] -- judged in _content_size
        message_bytes, parts = _content_size(message)  # pyright: ignore[reportUnknownArgumentType]
        input_bytes += message_bytes
        other_parts += parts
    tools = body.get("tools")
    if tools:
        input_bytes += len(orjson.dumps(tools))
    limit = whole_number(body, "max_completion_tokens", 1, None) or whole_number(body, "max_tokens", 1, None)
    count = whole_number(body, "n", 1, _MAX_CHOICES) or 1
    seed = seed_of(body["messages"])
    tool = _tool_name(body, behaviour)
    choices = [_choice(seed, index, limit, body.get("stop"), tool=tool, behaviour=behaviour) for index in range(count)]
    return seed, tokens_of(input_bytes) + other_parts * PART_TOKENS, choices


def _choice(
    seed: bytes, index: int, limit: int | None, stop: object, *, tool: str | None, behaviour: SandboxBehaviour
) -> _Choice:
    length = behaviour.output_tokens
    if length is None:
        length = 8 + seed[index] % 25
    finish_reason = "tool_calls" if tool else "stop"
    if limit is not None and length > limit:
        length, finish_reason = limit, "length"
    if behaviour.content_filter:
        length, finish_reason = length // 2, "content_filter"
    text = words_of(seed + bytes([index]), length)
    for mark in [stop] if isinstance(stop, str) else stop if isinstance(stop, list) else []:  # pyright: ignore[reportUnknownVariableType]
        if isinstance(mark, str) and mark and mark in text:
            text, finish_reason = text[: text.index(mark)], "stop"
    return _Choice(tuple(_PIECE.findall(text)), finish_reason, tool)


def _message(choice: _Choice) -> JsonObject:
    if choice.tool is not None:
        return {"role": "assistant", "content": None, "refusal": None, "tool_calls": [_tool_call(choice)]}
    return {"role": "assistant", "content": "".join(choice.pieces), "refusal": None}


def _tool_call(choice: _Choice) -> JsonObject:
    arguments = orjson.dumps({"text": "".join(choice.pieces)}).decode()
    return {"id": "call_sandbox", "type": "function", "function": {"name": choice.tool, "arguments": arguments}}


def _tool_name(body: JsonObject, behaviour: SandboxBehaviour) -> str | None:
    """The first tool's name, where a tool must be called."""
    if not (behaviour.tool_call or body.get("tool_choice") == "required"):
        return None
    tools = body.get("tools")
    tool: object = tools[0] if isinstance(tools, list) and tools else None  # pyright: ignore[reportUnknownVariableType]
    function: object = tool.get("function") if isinstance(tool, dict) else None  # pyright: ignore[reportUnknownVariableType,reportUnknownMemberType]
    name: object = function.get("name") if isinstance(function, dict) else None  # pyright: ignore[reportUnknownVariableType,reportUnknownMemberType]
    return name if isinstance(name, str) else "sandbox_tool"


def _chat_usage(choices: list[_Choice], input_tokens: int, behaviour: SandboxBehaviour) -> SandboxUsage:
    return SandboxUsage(
        input_tokens=input_tokens,
        output_tokens=sum(len(choice.pieces) for choice in choices) + behaviour.reasoning_tokens,
        cached_tokens=min(behaviour.cached_tokens, input_tokens),
        reasoning_tokens=behaviour.reasoning_tokens,
    )


def reported_usage(usage: SandboxUsage, behaviour: SandboxBehaviour) -> JsonObject:
    """The usage object in chat's form, bent as the behaviour wants it."""
    prompt: object = usage.input_tokens
    completion: object = usage.output_tokens
    cached, reasoning = usage.cached_tokens, usage.reasoning_tokens
    match behaviour.usage:
        case UsageFault.NEGATIVE:
            completion = -1
            prompt = -usage.input_tokens
        case UsageFault.HUGE:
            prompt = completion = 10**15
        case UsageFault.TEXT:
            prompt, completion = "many", "more"
        case UsageFault.INCONSISTENT:
            cached, reasoning = usage.input_tokens + 1000, usage.output_tokens + 1000
        case UsageFault.TRUE | UsageFault.NONE:
            pass
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": 0},
    }


def check_model(body: JsonObject) -> None:
    """Raises SandboxRefusal unless the model is named and exists."""
    name = body.get("model")
    if not isinstance(name, str) or not name:
        raise SandboxRefusal(400, "you must provide a model parameter", "model")
    if name.startswith(MISSING_PREFIX):
        raise SandboxRefusal(404, f"the model {name!r} does not exist", "model")


def whole_number(body: JsonObject, name: str, low: int, high: int | None) -> int | None:
    """A whole number of the body within bounds, None where absent. Raises SandboxRefusal for anything else."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < low or (high is not None and value > high):
        bound = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise SandboxRefusal(400, f"{name} must be a whole number {bound}", name)
    return value


def _content_size(message: object) -> tuple[int, int]:
    """The bytes of a message's text, and how many parts it has that are no text."""
    content: object = message.get("content") if isinstance(message, dict) else False  # pyright: ignore[reportUnknownMemberType,reportUnknownVariableType]
    if isinstance(content, str):
        return text_bytes(content), 0
    if content is None:
        return 0, 0
    if not isinstance(content, list):
        raise SandboxRefusal(400, "each message must have content: a text or a list of parts", "messages")
    size = others = 0
    for part in content:  # pyright: ignore[reportUnknownVariableType] -- judged below
        text: object = part.get("text") if isinstance(part, dict) else None  # pyright: ignore[reportUnknownMemberType,reportUnknownVariableType]
        if isinstance(text, str):
            size += text_bytes(text)
        else:
            others += 1
    return size, others


def tokens_of(size_bytes: int) -> int:
    """Input tokens of so many bytes."""
    return max(1, -(-size_bytes // 4))


def words_of(seed: bytes, count: int) -> str:
    """So many words."""
    letters = hashlib.shake_256(seed).digest(count)
    return " ".join([_WORDS[letter % len(_WORDS)] for letter in letters])


def seed_of(value: object) -> bytes:
    """32 bytes that any JSON value is turned into, the same each time."""
    return hashlib.blake2b(orjson.dumps(value, option=orjson.OPT_SORT_KEYS), digest_size=32).digest()
