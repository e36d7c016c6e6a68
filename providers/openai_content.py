"""How many bytes of text a model generated in an answer or stream event of OpenAI's form."""

from typing import Final, Literal

from kit.json_values import is_list, is_object
from providers.base import JsonObject

_TEXT_FIELDS: Final = ("content", "refusal", "reasoning_content", "reasoning")


def generated_bytes(body: JsonObject, part: Literal["message", "delta"]) -> int:
    """The UTF-8 length of all choices' text, refusals, reasoning and tool calls; shapes it does not know count 0."""
    choices = body.get("choices")
    if not isinstance(choices, list):
        return 0
    size = 0
    for choice in choices:  # pyright: ignore[reportUnknownVariableType] -- judged below
        if not isinstance(choice, dict):
            continue
        message: object = choice.get(part)  # pyright: ignore[reportUnknownMemberType,reportUnknownVariableType]
        if isinstance(message, dict):
            size += _message_bytes(message)  # pyright: ignore[reportUnknownArgumentType]
    return size


def _message_bytes(message: dict[str, object]) -> int:
    size = 0
    for field in _TEXT_FIELDS:
        text = message.get(field)
        if isinstance(text, str):
            size += text_bytes(text)
    calls = message.get("tool_calls")
    if isinstance(calls, list):
        for call in calls:  # pyright: ignore[reportUnknownVariableType] -- judged in _function_bytes
            size += _function_bytes(call)  # pyright: ignore[reportUnknownArgumentType]
    return size


def _function_bytes(call: object) -> int:
    if not isinstance(call, dict):
        return 0
    function: object = call.get("function")  # pyright: ignore[reportUnknownMemberType,reportUnknownVariableType]
    if not isinstance(function, dict):
        return 0
    fields: dict[object, object] = function  # pyright: ignore[reportUnknownVariableType]
    return sum(text_bytes(text) for text in (fields.get("name"), fields.get("arguments")) if isinstance(text, str))


def text_bytes(text: str) -> int:
    """The UTF-8 length of a text, lone surrogates included."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def delta_of_message(message: object) -> object:
    """A whole message as the delta of one chunk: there the calls of tools have numbers."""
    calls = message.get("tool_calls") if is_object(message) else None
    if not is_object(message) or not is_list(calls):
        return message
    return {**message, "tool_calls": [{"index": index, **call} for index, call in enumerate(calls) if is_object(call)]}
