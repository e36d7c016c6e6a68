"""Whole answers between the two forms of a chat: Anthropic's message, and OpenAI's chat completion."""

from typing import Final

import orjson

from kit.json_values import is_list, is_object
from providers.base import JsonObject
from providers.input_parts import parts_within
from providers.openai_usage import cache_writes

FINISH_REASONS: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""OpenAI's words for Anthropic's stop reasons."""

STOP_REASONS: Final = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
"""The other way."""


def chat_of_message(message: JsonObject, created: int) -> JsonObject:
    """The message as a chat completion; `created` is its Unix time."""
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[JsonObject] = []
    content = message.get("content")
    for block in content if is_list(content) else []:
        if not is_object(block):
            continue
        if block.get("type") == "text":
            texts.append(str(block.get("text") or ""))
        elif block.get("type") == "thinking":
            thoughts.append(str(block.get("thinking") or ""))
        elif block.get("type") == "tool_use":
            arguments = orjson.dumps(block.get("input") or {}).decode()
            function = {"name": block.get("name"), "arguments": arguments}
            calls.append({"id": block.get("id"), "type": "function", "function": function})
    told: JsonObject = {"role": "assistant", "content": "".join(texts) if texts or not calls else None}
    if thoughts:
        told["reasoning_content"] = "".join(thoughts)
    if calls:
        told["tool_calls"] = calls
    choice = {
        "index": 0,
        "message": told,
        "logprobs": None,
        "finish_reason": FINISH_REASONS.get(str(message.get("stop_reason")), "stop"),
    }
    chat: JsonObject = {
        "id": message.get("id"),
        "object": "chat.completion",
        "created": created,
        "model": message.get("model"),
        "choices": [choice],
    }
    usage = chat_usage(message.get("usage"))
    if usage is not None:
        chat["usage"] = usage
    return chat


def message_of_chat(chat: JsonObject, *, with_thinking: bool) -> JsonObject:
    """The first choice of a chat completion as a message; its reasoning only where the caller wants to see any."""
    choices = chat.get("choices")
    first = choices[0] if is_list(choices) and choices else None
    choice: JsonObject = first if is_object(first) else {}
    told = choice.get("message")
    told = told if is_object(told) else {}
    blocks: list[JsonObject] = []
    thought = reasoning_of(told)
    if thought and with_thinking:
        blocks.append({"type": "thinking", "thinking": thought, "signature": ""})
    for name in ("content", "refusal"):
        text = told.get(name)
        if isinstance(text, str) and text:
            blocks.append({"type": "text", "text": text, "citations": None})
    calls = told.get("tool_calls")
    for call in calls if is_list(calls) else []:
        function = call.get("function") if is_object(call) else None
        if is_object(call) and is_object(function):
            blocks.append(
                {
                    "type": "tool_use",
                    "id": call.get("id"),
                    "name": function.get("name"),
                    "input": input_of(function.get("arguments")),
                }
            )
    message = empty_message(chat)
    message["content"] = blocks
    message["stop_reason"] = STOP_REASONS.get(str(choice.get("finish_reason")), "end_turn")
    message["usage"] = message_usage(chat.get("usage"))
    return message


def empty_message(chat: JsonObject) -> JsonObject:
    """The frame of a message, named by a chat completion or by a chunk of one."""
    return {
        "id": f"msg_{chat.get('id') or ''}",
        "type": "message",
        "role": "assistant",
        "model": chat.get("model"),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def reasoning_of(told: JsonObject) -> str:
    """The reasoning in an OpenAI message or delta, under the names that vendors give it."""
    for name in ("reasoning_content", "reasoning"):
        text = told.get(name)
        if isinstance(text, str) and text:
            return text
    return ""


def input_of(arguments: object) -> JsonObject:
    """A tool call's arguments as an object; a model's broken JSON stays readable under `arguments`."""
    if not isinstance(arguments, str) or not arguments.strip():
        return {}
    try:
        parsed: object = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return {"arguments": arguments}
    return parsed if is_object(parsed) else {"arguments": parsed}


def chat_usage(usage: object) -> JsonObject | None:
    """Anthropic's usage in OpenAI's form, whose input includes what was read from and written to the cache."""
    if not is_object(usage):
        return None
    fresh, output = usage.get("input_tokens"), usage.get("output_tokens")
    if not isinstance(fresh, int) or not isinstance(output, int):
        return None
    written, read = _number(usage.get("cache_creation_input_tokens")), _number(usage.get("cache_read_input_tokens"))
    details = usage.get("output_tokens_details")
    thinking = details.get("thinking_tokens") if is_object(details) else 0
    total = fresh + written + read
    return {
        "prompt_tokens": total,
        "completion_tokens": output,
        "total_tokens": total + output,
        "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
        "completion_tokens_details": {"reasoning_tokens": _number(thinking)},
    }


def message_usage(usage: object) -> JsonObject:
    """OpenAI's usage in Anthropic's form, whose input excludes what was read from the cache and written to it."""
    given = usage if is_object(usage) else {}
    details = given.get("prompt_tokens_details")
    prompt = max(0, _number(given.get("prompt_tokens")))
    cached = max(0, _number(details.get("cached_tokens"))) if is_object(details) else 0
    cached, written, _ = parts_within(prompt, cached, *cache_writes(details))
    told = given.get("completion_tokens_details")
    thinking = _number(told.get("reasoning_tokens")) if is_object(told) else 0
    made: JsonObject = {
        "input_tokens": prompt - cached - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": cached,
        "output_tokens": _number(given.get("completion_tokens")),
    }
    if thinking:
        made["output_tokens_details"] = {"thinking_tokens": thinking}
    return made


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
