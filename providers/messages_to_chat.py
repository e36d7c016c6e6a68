"""A request in Anthropic's Messages form, put into OpenAI's chat form.

Thinking blocks of earlier turns and what chat has no word for (`top_k`, `thinking` …) are left out; what neither form
knows is kept.
"""

import re
from typing import Final

import orjson

from kit.json_values import is_list, is_object
from providers.base import JsonObject
from providers.errors import NotInThisForm

_TRANSLATED: Final = frozenset(
    {
        "messages", "model", "system", "max_tokens", "stop_sequences", "tools", "tool_choice", "output_config",
        "metadata",
    }
)  # fmt: skip
_WORDLESS: Final = frozenset(
    {
        "top_k", "thinking", "service_tier", "container", "context_management", "mcp_servers", "cache_control",
        "diagnostics", "inference_geo", "speed", "betas",
    }
)  # fmt: skip
_OF_CHAT: Final = frozenset(
    {
        "n", "max_completion_tokens", "stop", "functions", "function_call", "parallel_tool_calls", "response_format",
        "reasoning_effort", "modalities", "audio", "prediction", "web_search_options", "stream_options", "service_tier",
    }
)  # fmt: skip
"""Words of chat with a price, which a message is not reckoned by: they are not let through."""
_WITHOUT_MAX_TOKENS: Final = re.compile(r"(o[1-9]|gpt-([5-9]|\d\d))")
"""OpenAI's own models that take `max_completion_tokens` only; other vendors know only `max_tokens`."""


def chat_request(body: JsonObject, upstream_model: str) -> JsonObject:
    """The request without `model`. Raises NotInThisForm for what chat cannot do."""
    request: JsonObject = {
        name: value for name, value in body.items() if name not in _TRANSLATED | _WORDLESS | _OF_CHAT
    }
    request["messages"] = _conversation(body)
    if body.get("max_tokens") is not None:
        request[limit_name(upstream_model)] = body["max_tokens"]
    if body.get("stop_sequences"):
        request["stop"] = body["stop_sequences"]
    _put_tools(request, body)
    _put_output_config(request, body.get("output_config"))
    metadata = body.get("metadata")
    if is_object(metadata):
        if isinstance(metadata.get("user_id"), str):
            request["user"] = metadata["user_id"]
        rest = {name: value for name, value in metadata.items() if name != "user_id"}
        if rest:
            request["metadata"] = rest
    return request


def limit_name(model: str) -> str:
    """What this model calls the limit of its output; `model` may have the name of its maker before a slash."""
    return "max_completion_tokens" if _WITHOUT_MAX_TOKENS.match(model.rpartition("/")[2]) else "max_tokens"


def _put_output_config(request: JsonObject, config: object) -> None:
    if not is_object(config):
        return
    if isinstance(config.get("effort"), str):
        request["reasoning_effort"] = config["effort"]
    form = config.get("format")
    if is_object(form) and form.get("type") == "json_schema":
        described = {"name": "answer", "strict": True, "schema": form.get("schema")}
        request["response_format"] = {"type": "json_schema", "json_schema": described}


def _put_tools(request: JsonObject, body: JsonObject) -> None:
    tools = body.get("tools")
    if not is_list(tools) or not tools:
        return
    request["tools"] = [_tool(tool) for tool in tools]
    choice = body.get("tool_choice")
    if not is_object(choice):
        return
    match choice.get("type"):
        case "any":
            request["tool_choice"] = "required"
        case "tool":
            request["tool_choice"] = {"type": "function", "function": {"name": choice.get("name")}}
        case "none":
            request["tool_choice"] = "none"
        case _:
            request["tool_choice"] = "auto"
    if choice.get("disable_parallel_tool_use") is True:
        request["parallel_tool_calls"] = False


def _tool(tool: object) -> JsonObject:
    if not is_object(tool):
        raise _rejected("a tool must be an object")
    if "input_schema" not in tool:
        raise _rejected(f"the tool {str(tool.get('type'))[:60]!r} is not served for this model")
    function: JsonObject = {"name": tool.get("name"), "parameters": tool["input_schema"]}
    for name in ("description", "strict"):
        if tool.get(name) is not None:
            function[name] = tool[name]
    return {"type": "function", "function": function}


def _conversation(body: JsonObject) -> list[JsonObject]:
    messages: list[JsonObject] = []
    system = _text_of(body.get("system"))
    if system:
        messages.append({"role": "system", "content": system})
    turns = body.get("messages")
    for turn in turns if is_list(turns) else []:
        if not is_object(turn):
            raise _rejected("a message must be an object")
        if turn.get("role") == "assistant":
            messages.append(_assistant(turn.get("content")))
        elif turn.get("role") in ("user", "system"):
            messages.extend(_user(str(turn["role"]), turn.get("content")))
        else:
            raise _rejected("the role of a message must be user or assistant")
    return messages


def _assistant(content: object) -> JsonObject:
    calls: list[JsonObject] = []
    for block in content if is_list(content) else []:
        if is_object(block) and block.get("type") == "tool_use":
            function = {"name": block.get("name"), "arguments": _text_of_json(block.get("input") or {})}
            calls.append({"id": block.get("id"), "type": "function", "function": function})
    message: JsonObject = {"role": "assistant", "content": _text_of(content) or None}
    if calls:
        message["tool_calls"] = calls
    elif message["content"] is None:
        message["content"] = ""
    return message


def _user(role: str, content: object) -> list[JsonObject]:
    """The results of tools first, since they must follow the message that called them; then the rest."""
    if not is_list(content):
        return [{"role": role, "content": content}]
    results: list[JsonObject] = []
    parts: list[JsonObject] = []
    for block in content:
        if not is_object(block):
            raise _rejected("a block of a message must be an object")
        if block.get("type") == "tool_result":
            inner = block.get("content")
            text = inner if isinstance(inner, str) else _text_of(inner)
            results.append({"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": text})
            parts.extend(
                _part(each)
                for each in (inner if is_list(inner) else [])
                if is_object(each) and each.get("type") != "text"
            )
        elif block.get("type") not in ("thinking", "redacted_thinking"):
            parts.append(_part(block))
    if not parts:
        return results
    texts = [part["text"] for part in parts if part.get("type") == "text"]
    plain = texts[0] if len(parts) == len(texts) == 1 else parts
    return [*results, {"role": role, "content": plain}]


def _part(block: JsonObject) -> JsonObject:
    source = block.get("source")
    match block.get("type"):
        case "text":
            return {"type": "text", "text": block.get("text")}
        case "image" if is_object(source):
            return {"type": "image_url", "image_url": {"url": _address(source)}}
        case "document" if is_object(source):
            return _document(block, source)
        case _:
            raise _rejected(f"blocks of the type {str(block.get('type'))[:60]!r} are not served for this model")


def _document(block: JsonObject, source: JsonObject) -> JsonObject:
    if source.get("type") == "text":
        return {"type": "text", "text": source.get("data")}
    if source.get("type") == "content":
        return {"type": "text", "text": _text_of(source.get("content"))}
    if source.get("type") == "file":
        return {"type": "file", "file": {"file_id": source.get("file_id")}}
    title = block.get("title")
    return {"type": "file", "file": {"filename": title or "document.pdf", "file_data": _address(source)}}


def _address(source: JsonObject) -> object:
    if source.get("type") == "base64":
        return f"data:{source.get('media_type')};base64,{source.get('data')}"
    if source.get("type") == "url":
        return source.get("url")
    raise _rejected("a file of Anthropic's cannot be read by this model")


def _text_of(content: object) -> str:
    if isinstance(content, str):
        return content
    blocks = content if is_list(content) else []
    texts = [block.get("text") for block in blocks if is_object(block) and block.get("type") == "text"]
    return "\n\n".join([text for text in texts if isinstance(text, str) and text])


def _text_of_json(value: object) -> str:
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError as error:
        raise _rejected(f"the request cannot be written as JSON: {error}") from error


def _rejected(message: str) -> NotInThisForm:
    return NotInThisForm(message)
