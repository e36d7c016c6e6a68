"""A chat request in OpenAI's form, put into its Responses form.

What Responses has no word for and an answer is no other for (`seed`, `logprobs`, penalties, names of speakers …) is left
out, reasoning of earlier turns too; what neither form knows is kept.
"""

from typing import Final

from kit.json_values import is_list, is_object
from providers.base import JsonObject
from providers.errors import NotInThisForm

_TRANSLATED: Final = frozenset(
    {
        "messages", "model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "tools", "tool_choice",
        "response_format", "reasoning_effort", "verbosity", "n", "stop", "functions", "function_call", "modalities", "audio",
        "prompt_cache_options",
    }
)  # fmt: skip
_WORDLESS: Final = frozenset(
    {
        "frequency_penalty", "logit_bias", "logprobs", "prediction", "presence_penalty", "seed", "store", "top_logprobs",
        "web_search_options",
    }
)  # fmt: skip
_OF_RESPONSES: Final = frozenset(
    {
        "input", "instructions", "max_output_tokens", "reasoning", "text", "include", "truncation", "max_tool_calls",
        "previous_response_id", "conversation", "prompt", "background", "background_options", "context_management",
        "access_programs", "image",
    }
)  # fmt: skip
"""Words of Responses alone, which a chat is not reckoned by: they are not let through."""
_NO_PARAMETERS: Final[JsonObject] = {"type": "object", "properties": {}}


def response_of_request(body: JsonObject) -> JsonObject:
    """The request without `model` and `stream`. Raises NotInThisForm for what Responses cannot do."""
    _check(body)
    request: JsonObject = {
        name: value for name, value in body.items() if name not in _TRANSLATED | _WORDLESS | _OF_RESPONSES
    }
    request["input"] = _items(body.get("messages"))
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    if limit is not None:
        request["max_output_tokens"] = limit
    if body.get("reasoning_effort") is not None:
        request["reasoning"] = {"effort": body["reasoning_effort"]}
    cached = body.get("prompt_cache_options")
    if is_object(cached):
        request["prompt_cache_options"] = _picked(cached, "mode", "ttl")
    _put_text(request, body)
    _put_tools(request, body)
    return request


def _check(body: JsonObject) -> None:
    if body.get("n") not in (None, 1):
        raise NotInThisForm("this model gives one choice a call: n must be 1")
    if body.get("functions"):
        raise NotInThisForm("this model takes tools, not the older functions")
    if body.get("stop"):
        raise NotInThisForm("this model knows no stop sequences: leave out stop")
    modalities = body.get("modalities")
    if body.get("audio") or (is_list(modalities) and "audio" in modalities):
        raise NotInThisForm("this model gives no audio: leave out audio, and of modalities all but text")


def _put_text(request: JsonObject, body: JsonObject) -> None:
    text: JsonObject = {}
    wanted = body.get("response_format")
    if is_object(wanted):
        described = wanted.get("json_schema")
        text["format"] = {**described, "type": "json_schema"} if is_object(described) else wanted
    if body.get("verbosity") is not None:
        text["verbosity"] = body["verbosity"]
    if text:
        request["text"] = text


def _put_tools(request: JsonObject, body: JsonObject) -> None:
    tools = body.get("tools")
    if not is_list(tools) or not tools:
        return
    request["tools"] = [_tool(tool) for tool in tools]
    choice = body.get("tool_choice")
    if choice is not None:
        request["tool_choice"] = _tool_choice(choice)


def _tool(tool: object) -> JsonObject:
    if not is_object(tool):
        raise NotInThisForm("a tool must be an object")
    function, custom = tool.get("function"), tool.get("custom")
    if is_object(function):
        # Both are needed here: left out, strict would be true.
        settled = {
            "parameters": function.get("parameters") or _NO_PARAMETERS,
            "strict": function.get("strict") or False,
        }
        return {"type": "function", **_picked(function, "name", "description"), **settled}
    if is_object(custom):
        made: JsonObject = {"type": "custom", **_picked(custom, "name", "description", "format")}
        form = custom.get("format")
        grammar = form.get("grammar") if is_object(form) else None
        return {**made, "format": {**grammar, "type": "grammar"}} if is_object(grammar) else made
    raise _not_taken("tools", tool)


def _picked(given: JsonObject, *names: str) -> JsonObject:
    return {name: given[name] for name in names if given.get(name) is not None}


def _tool_choice(choice: object) -> object:
    """What is chosen is named within an object of its kind in a chat, and beside the kind here."""
    if not is_object(choice):
        return choice
    kind = choice.get("type")
    inner = choice.get(kind) if isinstance(kind, str) else None
    if not is_object(inner):
        return choice
    allowed = inner.get("tools")
    named = {"tools": [_tool_choice(tool) for tool in allowed]} if is_list(allowed) else {}
    return {**inner, **named, "type": kind}


def _items(messages: object) -> list[JsonObject]:
    items: list[JsonObject] = []
    custom: set[object] = set()
    for message in messages if is_list(messages) else []:
        if not is_object(message):
            raise NotInThisForm("a message must be an object")
        match message.get("role"):
            case "system" | "developer" | "user" as role:
                items.append({"role": role, "content": _parts(message.get("content"))})
            case "assistant":
                items.extend(_said(message, custom))
            case "tool":
                items.append(_result(message, custom))
            case role:
                raise NotInThisForm(f"this model knows no messages of the role {str(role)[:40]!r}")
    return items


def _said(message: JsonObject, custom: set[object]) -> list[JsonObject]:
    """The assistant's message with the calls of tools in it; ids of calls of custom tools are added to `custom`."""
    content = message.get("content")
    if is_list(content):
        content = [_said_part(part) for part in content]
    elif not content and message.get("refusal"):
        content = [{"type": "refusal", "refusal": message["refusal"]}]
    items: list[JsonObject] = [{"role": "assistant", "content": content}] if content else []
    calls = message.get("tool_calls")
    items.extend(_call(call, custom) for call in (calls if is_list(calls) else []))
    return items


def _call(call: object, custom: set[object]) -> JsonObject:
    function, other = (call.get("function"), call.get("custom")) if is_object(call) else (None, None)
    if is_object(call) and is_object(function):
        told = {"name": function.get("name"), "arguments": function.get("arguments") or "{}"}
        return {"type": "function_call", "call_id": call.get("id"), **told}
    if is_object(call) and is_object(other):
        if isinstance(call.get("id"), str):
            custom.add(call["id"])
        told = {"name": other.get("name"), "input": other.get("input") or ""}
        return {"type": "custom_tool_call", "call_id": call.get("id"), **told}
    raise NotInThisForm("a tool call must name its function")


def _result(message: JsonObject, custom: set[object]) -> JsonObject:
    call_id = message.get("tool_call_id")
    output = _parts(message.get("content"))
    if is_list(output) and len(output) == 1 and is_object(output[0]) and output[0].get("type") == "input_text":
        output = output[0].get("text")
    kind = "custom_tool_call_output" if isinstance(call_id, str) and call_id in custom else "function_call_output"
    return {"type": kind, "call_id": call_id, "output": "" if output is None else output}


def _parts(content: object) -> object:
    return [_part(part) for part in content] if is_list(content) else content


def _part(part: object) -> JsonObject:
    if isinstance(part, str):
        return {"type": "input_text", "text": part}
    if not is_object(part):
        raise NotInThisForm("a part of a message must be an object")
    kept = _picked(part, "prompt_cache_breakpoint")
    match part.get("type"):
        case "text":
            return {"type": "input_text", "text": part.get("text"), **kept}
        case "refusal":
            return {"type": "input_text", "text": part.get("refusal")}
        case "image_url":
            image = part.get("image_url")
            url, detail = (image.get("url"), image.get("detail")) if is_object(image) else (image, None)
            return {"type": "input_image", "image_url": url, "detail": detail or "auto", **kept}
        case "file":
            file = part.get("file")
            told = _picked(file, "file_data", "file_id", "filename") if is_object(file) else {}
            return {"type": "input_file", **told, **kept}
        case _:
            raise _not_taken("parts", part)


def _said_part(part: object) -> JsonObject:
    kind = part.get("type") if is_object(part) else None
    if is_object(part) and kind == "refusal":
        return {"type": "refusal", "refusal": part.get("refusal")}
    if is_object(part) and kind == "text":
        return {"type": "output_text", "text": part.get("text")}
    raise NotInThisForm("a part of the assistant's message must be a text")


def _not_taken(what: str, given: JsonObject) -> NotInThisForm:
    return NotInThisForm(f"this model takes no {what} of the type {str(given.get('type'))[:60]!r} in a chat")
