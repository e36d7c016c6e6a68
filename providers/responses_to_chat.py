"""A request in OpenAI's Responses form, put into its chat form.

Reasoning of earlier turns and what chat has no word for (`include`, `truncation` …) are left out; what neither form knows
is kept. What refers to state at the provider was refused before: gateway/rules/responses.py.
"""

from typing import Final

from kit.json_values import is_list, is_object
from providers.base import JsonObject
from providers.errors import NotInThisForm
from providers.messages_to_chat import limit_name

_TRANSLATED: Final = frozenset(
    {
        "model", "input", "instructions", "max_output_tokens", "reasoning", "text", "tools", "tool_choice", "metadata",
        "top_logprobs", "previous_response_id", "conversation", "prompt", "background", "background_options",
    }
)  # fmt: skip
_WORDLESS: Final = frozenset(
    {
        "store", "include", "truncation", "stream_options", "max_tool_calls", "prompt_cache_options",
        "context_management", "n", "max_tokens", "max_completion_tokens", "messages", "functions", "response_format", "modalities", "audio",
    }
)  # fmt: skip
"""Without a word in chat, or a word of chat's own that this form does not have: not let through."""
_SANDBOX: Final = "sandbox_"
"""Metadata stay here, but for those that tell the sandbox how to behave: chat takes metadata for stored answers only."""


def chat_of_request(body: JsonObject, upstream_model: str) -> JsonObject:
    """The request without `model`. Raises NotInThisForm for what chat cannot do."""
    chat: JsonObject = {name: value for name, value in body.items() if name not in _TRANSLATED | _WORDLESS}
    chat["messages"] = _messages(body)
    if body.get("max_output_tokens") is not None:
        chat[limit_name(upstream_model)] = body["max_output_tokens"]
    reasoning = body.get("reasoning")
    if is_object(reasoning) and reasoning.get("effort") is not None:
        chat["reasoning_effort"] = reasoning["effort"]
    if body.get("top_logprobs"):
        chat |= {"logprobs": True, "top_logprobs": body["top_logprobs"]}
    _put_text(chat, body.get("text"))
    _put_tools(chat, body)
    metadata = body.get("metadata")
    told = {k: v for k, v in metadata.items() if k.startswith(_SANDBOX)} if is_object(metadata) else {}
    return {**chat, "metadata": told} if told else chat


def _put_text(chat: JsonObject, text: object) -> None:
    if not is_object(text):
        return
    if text.get("verbosity") is not None:
        chat["verbosity"] = text["verbosity"]
    form = text.get("format")
    if not is_object(form):
        return
    if form.get("type") == "json_schema":
        schema = {name: value for name, value in form.items() if name != "type"}
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif form.get("type") == "json_object":
        chat["response_format"] = {"type": "json_object"}


def _put_tools(chat: JsonObject, body: JsonObject) -> None:
    tools = body.get("tools")
    if not is_list(tools) or not tools:
        chat.pop("parallel_tool_calls", None)
        return
    chat["tools"] = [_tool(tool) for tool in tools]
    choice = body.get("tool_choice")
    if is_object(choice) and choice.get("type") == "function":
        chat["tool_choice"] = {"type": "function", "function": {"name": choice.get("name")}}
    elif isinstance(choice, str):
        chat["tool_choice"] = choice
    elif choice is not None:
        raise NotInThisForm("tool_choice must be auto, none, required or one function for this model")


def _tool(tool: object) -> JsonObject:
    kind = tool.get("type") if is_object(tool) else None
    if not is_object(tool) or kind != "function":
        raise _not_served("tools", kind)
    kept = ("name", "description", "parameters", "strict")
    return {"type": "function", "function": {name: tool[name] for name in kept if tool.get(name) is not None}}


def _messages(body: JsonObject) -> list[JsonObject]:
    messages: list[JsonObject] = []
    instructions = body.get("instructions")
    if isinstance(instructions, str) and instructions:
        messages.append({"role": "system", "content": instructions})
    given = body.get("input")
    if isinstance(given, str):
        return [*messages, {"role": "user", "content": given}]
    for item in given if is_list(given) else []:
        if not is_object(item):
            raise NotInThisForm("an item of the input must be an object")
        _put_item(messages, item)
    return messages


def _put_item(messages: list[JsonObject], item: JsonObject) -> None:
    match item.get("type") or "message":
        case "message":
            messages.append({"role": item.get("role"), "content": _content(item.get("content"))})
        case "function_call":
            _put_call(messages, item)
        case "function_call_output":
            messages.append(
                {"role": "tool", "tool_call_id": item.get("call_id"), "content": _content(item.get("output"))}
            )
        case "reasoning":
            pass
        case other:
            raise _not_served("items", other)


def _put_call(messages: list[JsonObject], item: JsonObject) -> None:
    """Calls belong to the assistant's message before them."""
    function = {"name": item.get("name"), "arguments": item.get("arguments")}
    call = {"id": item.get("call_id"), "type": "function", "function": function}
    last: JsonObject | None = messages[-1] if messages else None
    if last is None or last.get("role") != "assistant":
        last = {"role": "assistant", "content": None}
        messages.append(last)
    calls = last.get("tool_calls")
    last["tool_calls"] = [*(calls if is_list(calls) else []), call]


def _content(content: object) -> object:
    if not is_list(content):
        return content
    parts = [_part(part) for part in content]
    if len(parts) == 1 and parts[0]["type"] == "text":
        return parts[0]["text"]
    return parts


def _part(part: object) -> JsonObject:
    kind = part.get("type") if is_object(part) else None
    if is_object(part):
        match kind:
            case "input_text" | "output_text" | "text":
                return {"type": "text", "text": part.get("text")}
            case "refusal":
                return {"type": "text", "text": part.get("refusal")}
            case "input_image" if part.get("image_url") is not None:
                detail = {"detail": part["detail"]} if part.get("detail") is not None else {}
                return {"type": "image_url", "image_url": {"url": part["image_url"], **detail}}
            case "input_file" if part.get("file_data") is not None:
                names = ("file_data", "filename")
                return {"type": "file", "file": {name: part[name] for name in names if part.get(name) is not None}}
            case "input_audio":
                return {"type": "input_audio", "input_audio": part.get("input_audio")}
            case _:
                pass
    raise _not_served("parts", kind)


def _not_served(what: str, kind: object) -> NotInThisForm:
    return NotInThisForm(f"{what} of the type {str(kind)[:60]!r} are not served for this model")
