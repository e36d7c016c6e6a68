"""A chat request in OpenAI's form, put into Anthropic's Messages form.

What Messages has no word for (`seed`, `logprobs`, penalties …) is left out; what neither form knows is kept.
"""

from typing import Final

import orjson

from kit.json_values import is_list, is_object
from providers.base import JsonObject
from providers.errors import NotInThisForm

DEFAULT_OUTPUT_TOKENS: Final = 4_096
"""Messages needs a limit; this one where nobody set or reckoned with another."""

_TRANSLATED: Final = frozenset(
    {
        "messages", "model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "stop",
        "tools", "tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort", "user", "n",
    }
)  # fmt: skip
_WORDLESS: Final = frozenset(
    {
        "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "metadata", "modalities",
        "prediction", "presence_penalty", "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "seed",
        "service_tier", "store", "top_logprobs", "verbosity", "web_search_options",
    }
)  # fmt: skip
_OF_MESSAGES: Final = frozenset({"system", "mcp_servers", "container", "output_config", "stop_sequences", "speed"})
"""Words of Messages with a price, which a chat is not reckoned by: they are not let through."""
_EFFORTS: Final = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
_ANY_OBJECT: Final = "Answer with one JSON object and nothing else: no words around it, no code fence."


def messages_request(body: JsonObject, max_output_tokens: int | None) -> JsonObject:
    """The request without `model` and `stream`. Raises NotInThisForm for what Messages cannot do."""
    if body.get("n") not in (None, 1):
        raise _rejected("this model gives one choice a call: n must be 1")
    if body.get("functions"):
        raise _rejected("this model takes tools, not the older functions")
    system, messages = _conversation(body.get("messages"))
    request: JsonObject = {
        name: value for name, value in body.items() if name not in _TRANSLATED | _WORDLESS | _OF_MESSAGES
    }
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or max_output_tokens or DEFAULT_OUTPUT_TOKENS
    request["max_tokens"] = limit
    request["messages"] = messages
    _put_tools(request, body)
    _put_format(request, body, system)
    if system:
        request["system"] = system
    _put_settings(request, body)
    return request


def _put_settings(request: JsonObject, body: JsonObject) -> None:
    temperature = body.get("temperature")
    if isinstance(temperature, int | float):
        request["temperature"] = min(temperature, 1)  # OpenAI's goes to 2, Anthropic's to 1
    stop = body.get("stop")
    if stop:
        request["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    user = body.get("user")
    if isinstance(user, str):
        request["metadata"] = {"user_id": user}
    effort = body.get("reasoning_effort")
    if isinstance(effort, str) and effort in _EFFORTS:
        request["output_config"] = {**_config(request), "effort": _EFFORTS[effort]}


def _put_format(request: JsonObject, body: JsonObject, system: list[JsonObject]) -> None:
    wanted = body.get("response_format")
    if not is_object(wanted):
        return
    described = wanted.get("json_schema")
    if wanted.get("type") == "json_schema" and is_object(described):
        schema = described.get("schema")
        request["output_config"] = {**_config(request), "format": {"type": "json_schema", "schema": schema}}
    elif wanted.get("type") == "json_object":
        system.append({"type": "text", "text": _ANY_OBJECT})


def _config(request: JsonObject) -> JsonObject:
    given = request.get("output_config")
    return given if is_object(given) else {}


def _put_tools(request: JsonObject, body: JsonObject) -> None:
    tools = body.get("tools")
    if not is_list(tools) or not tools:
        return
    request["tools"] = [_tool(tool) for tool in tools]
    choice = _tool_choice(body.get("tool_choice"))
    if body.get("parallel_tool_calls") is False:
        choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    if choice is not None:
        request["tool_choice"] = choice


def _tool(tool: object) -> JsonObject:
    if not is_object(tool):
        raise _rejected("a tool must be an object")
    function = tool.get("function")
    if not is_object(function):
        raise _rejected(f"this model takes no tools of the type {str(tool.get('type'))[:60]!r} in a chat")
    made: JsonObject = {
        "name": function.get("name"),
        "input_schema": function.get("parameters") or {"type": "object", "properties": {}},
    }
    for name in ("description", "strict"):
        if function.get(name) is not None:
            made[name] = function[name]
    return {**{name: value for name, value in tool.items() if name not in {"type", "function"}}, **made}


def _tool_choice(choice: object) -> JsonObject | None:
    match choice:
        case "required":
            return {"type": "any"}
        case "auto" | "none":
            return {"type": choice}
        case _:
            function = choice.get("function") if is_object(choice) else None
            return {"type": "tool", "name": function.get("name")} if is_object(function) else None


def _conversation(messages: object) -> tuple[list[JsonObject], list[JsonObject]]:
    """The system's blocks and the turns, which alternate: a turn's blocks may come from several messages."""
    system: list[JsonObject] = []
    turns: list[JsonObject] = []
    for message in messages if is_list(messages) else []:
        if not is_object(message):
            raise _rejected("a message must be an object")
        role = message.get("role")
        if role in ("system", "developer"):
            system.extend(_blocks(message.get("content")))
        elif role == "assistant":
            _add(turns, "assistant", _assistant_blocks(message))
        elif role == "tool":
            _add(turns, "user", [_tool_result(message)])
        elif role == "user":
            _add(turns, "user", _blocks(message.get("content")))
        else:
            raise _rejected(f"this model knows no messages of the role {str(role)[:40]!r}")
    return system, turns


def _add(turns: list[JsonObject], role: str, blocks: list[JsonObject]) -> None:
    if not blocks:
        return
    last = turns[-1] if turns else None
    content = last["content"] if last is not None and last["role"] == role else None
    if is_list(content):
        content.extend(blocks)
    else:
        turns.append({"role": role, "content": blocks})


def _assistant_blocks(message: JsonObject) -> list[JsonObject]:
    blocks = _blocks(message.get("content"))
    if not blocks and message.get("refusal"):
        blocks = _blocks(message["refusal"])
    calls = message.get("tool_calls")
    for call in calls if is_list(calls) else []:
        function = call.get("function") if is_object(call) else None
        if not is_object(call) or not is_object(function):
            raise _rejected("a tool call must name its function")
        blocks.append(
            {
                "type": "tool_use",
                "id": call.get("id"),
                "name": function.get("name"),
                "input": _arguments(function.get("arguments")),
            }
        )
    return blocks


def _arguments(text: object) -> JsonObject:
    try:
        parsed: object = orjson.loads(text) if isinstance(text, str) and text.strip() else {}
    except orjson.JSONDecodeError as error:
        raise _rejected("the arguments of a tool call must be a JSON object, as a text") from error
    if not is_object(parsed):
        raise _rejected("the arguments of a tool call must be a JSON object, as a text")
    return parsed


def _tool_result(message: JsonObject) -> JsonObject:
    content = message.get("content")
    result: JsonObject = {"type": "tool_result", "tool_use_id": message.get("tool_call_id")}
    if content:
        result["content"] = content if isinstance(content, str) else _blocks(content)
    return result


def _blocks(content: object) -> list[JsonObject]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []  # Messages refuses an empty text
    return [_block(part) for part in content if part != {"type": "text", "text": ""}] if is_list(content) else []


def _block(part: object) -> JsonObject:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if not is_object(part):
        raise _rejected("a part of a message must be an object")
    match part.get("type"):
        case "image_url":
            return _image(part)
        case "file":
            return _document(part)
        case "refusal":
            return {"type": "text", "text": part.get("refusal")}
        case "text":
            return part
        case _:
            raise _rejected(f"this model takes no parts of the type {str(part.get('type'))[:60]!r} in a chat")


def _image(part: JsonObject) -> JsonObject:
    image = part.get("image_url")
    url = image.get("url") if is_object(image) else image
    if not isinstance(url, str):
        raise _rejected("an image_url part needs a url")
    kept = {name: value for name, value in part.items() if name not in {"type", "image_url"}}
    return {**kept, "type": "image", "source": _source(url)}


def _document(part: JsonObject) -> JsonObject:
    file = part.get("file")
    if not is_object(file):
        raise _rejected("a file part needs a file")
    content, file_id, title = file.get("file_data"), file.get("file_id"), file.get("filename")
    block: JsonObject = {"type": "document"}
    if isinstance(content, str):
        block["source"] = _source(content if content.startswith("data:") else f"data:application/pdf;base64,{content}")
    else:
        block["source"] = {"type": "file", "file_id": file_id}
    if title is not None:
        block["title"] = title
    return block


def _source(url: str) -> JsonObject:
    if not url.startswith("data:"):
        return {"type": "url", "url": url}
    head, _, content = url.partition(",")
    media_type, _, encoding = head.removeprefix("data:").rpartition(";")
    if encoding != "base64":
        raise _rejected("a data: address must be in base64")
    return {"type": "base64", "media_type": media_type.partition(";")[0], "data": content}


def _rejected(message: str) -> NotInThisForm:
    return NotInThisForm(message)
