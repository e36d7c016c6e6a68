"""A request of OpenAI's Responses API, put into the chat form that every chat model is called in.

Nothing is kept between requests (rule D12): what refers to an earlier response is refused, with the field that does.
"""

from typing import Final

from kit.errors import InvalidInput
from kit.json_values import is_list, is_object
from providers.base import JsonObject
from providers.messages_to_chat import limit_name

_TRANSLATED: Final = frozenset(
    {
        "model", "input", "instructions", "max_output_tokens", "reasoning", "text", "tools", "tool_choice", "metadata",
        "top_logprobs",
    }
)  # fmt: skip
_WORDLESS: Final = frozenset(
    {
        "store", "include", "truncation", "stream_options", "max_tool_calls", "prompt_cache_options", "n",
        "max_tokens", "max_completion_tokens", "messages", "functions", "response_format", "modalities", "audio",
    }
)  # fmt: skip
"""Without a word in chat, or a word of chat's own that this form does not have: not let through."""
_OF_STATE: Final = ("previous_response_id", "conversation", "prompt", "background")
_SANDBOX: Final = "sandbox_"
"""Metadata stay here, but for those that tell the sandbox how to behave: chat takes metadata for stored answers only."""


def chat_body(body: JsonObject, model: str) -> JsonObject:
    """The chat request without `model`. InvalidInput names the field of this form."""
    for name in _OF_STATE:
        if body.get(name):
            raise InvalidInput(f"{name} is not served here: nothing is kept between requests", field=[name])
    chat: JsonObject = {name: value for name, value in body.items() if name not in _TRANSLATED | _WORDLESS}
    for name in _OF_STATE:
        chat.pop(name, None)
    chat["messages"] = _messages(body)
    if body.get("max_output_tokens") is not None:
        chat[limit_name(model)] = body["max_output_tokens"]
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
    chat["tools"] = [_tool(index, tool) for index, tool in enumerate(tools)]
    choice = body.get("tool_choice")
    if is_object(choice) and choice.get("type") == "function":
        chat["tool_choice"] = {"type": "function", "function": {"name": choice.get("name")}}
    elif isinstance(choice, str):
        chat["tool_choice"] = choice
    elif choice is not None:
        raise InvalidInput("tool_choice must be auto, none, required or one function", field=["tool_choice"])


def _tool(index: int, tool: object) -> JsonObject:
    kind = tool.get("type") if is_object(tool) else None
    if not is_object(tool) or kind != "function":
        raise InvalidInput(f"tools of the type {str(kind)[:60]!r} are not served here", field=["tools", str(index)])
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
    if not is_list(given) or not given:
        raise InvalidInput("input must be a text or a list of at least one item", field=["input"])
    for index, item in enumerate(given):
        if not is_object(item):
            raise InvalidInput("an item of the input must be an object", field=["input", str(index)])
        _put_item(messages, item, index)
    return messages


def _put_item(messages: list[JsonObject], item: JsonObject, index: int) -> None:
    match item.get("type", "message"):
        case "message":
            role = item.get("role")
            messages.append({"role": role, "content": _content(item.get("content"), index)})
        case "function_call":
            _put_call(messages, item)
        case "function_call_output":
            output = item.get("output")
            text = output if isinstance(output, str) else _content(output, index)
            messages.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": text})
        case "reasoning":
            pass
        case other:
            raise InvalidInput(
                f"items of the type {str(other)[:60]!r} are not served here", field=["input", str(index), "type"]
            )


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


def _content(content: object, index: int) -> object:
    if isinstance(content, str):
        return content
    if not is_list(content):
        raise InvalidInput("content must be a text or a list of parts", field=["input", str(index), "content"])
    parts = [_part(part, index) for part in content]
    if all(part["type"] == "text" for part in parts) and len(parts) == 1:
        return parts[0]["text"]
    return parts


def _part(part: object, index: int) -> JsonObject:
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
            case "input_file" if part.get("file_url") is None:
                names = ("file_data", "filename", "file_id")
                return {"type": "file", "file": {name: part[name] for name in names if part.get(name) is not None}}
            case "input_audio":
                return {"type": "input_audio", "input_audio": part.get("input_audio")}
            case _:
                pass
    raise InvalidInput(f"parts of the type {str(kind)[:60]!r} are not served here", field=["input", str(index)])
