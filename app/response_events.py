"""A whole response of OpenAI's Responses form, told as the events of its stream."""

from kit.json_values import is_list, is_object
from providers.base import JsonObject

_PARTS = {"output_text": "text", "refusal": "refusal", "reasoning_text": "text"}
"""Where a part of this type has its text."""
_ARGUMENTS = {"function_call": "arguments", "custom_tool_call": "input"}
"""Where an item of this type has what a tool is called with."""


def events_of_response(response: JsonObject) -> list[JsonObject]:
    """The events, without their sequence numbers: each text in one piece."""
    begun: JsonObject = {**response, "status": "in_progress", "output": [], "incomplete_details": None, "usage": None}
    events: list[JsonObject] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    items = response.get("output")
    for index, item in enumerate(items if is_list(items) else []):
        if is_object(item):
            events.extend(_events_of_item(item, index))
    status = "incomplete" if response.get("status") == "incomplete" else "completed"
    return [*events, {"type": f"response.{status}", "response": response}]


def _events_of_item(item: JsonObject, index: int) -> list[JsonObject]:
    at: JsonObject = {"item_id": item.get("id"), "output_index": index}
    kind, middle = str(item.get("type")), list[JsonObject]()
    empty = item
    if kind in _ARGUMENTS:
        name = _ARGUMENTS[kind]
        empty = {**item, name: "", "status": "in_progress"}
        told = "response.function_call_arguments" if name == "arguments" else "response.custom_tool_call_input"
        middle.append({"type": f"{told}.delta", **at, "delta": item.get(name)})
        middle.append({"type": f"{told}.done", **at, "name": item.get("name"), name: item.get(name)})
    elif kind in ("message", "reasoning"):
        parts, thoughts = item.get("content"), item.get("summary")
        grown: list[object] = []
        empty = {
            name: grown if name in ("content", "summary") and is_list(value) else value for name, value in item.items()
        }
        for number, thought in enumerate(thoughts if is_list(thoughts) else []):
            middle.extend(_events_of_thought(thought, {**at, "summary_index": number}))
        for number, part in enumerate(parts if is_list(parts) else []):
            middle.extend(_events_of_part(part, {**at, "content_index": number}))
    return [
        {"type": "response.output_item.added", "output_index": index, "item": empty},
        *middle,
        {"type": "response.output_item.done", "output_index": index, "item": item},
    ]


def _events_of_part(part: object, at: JsonObject) -> list[JsonObject]:
    kind = str(part.get("type")) if is_object(part) else ""
    if not is_object(part) or kind not in _PARTS:
        return [_added("content_part", part, at), _done("content_part", part, at)]
    name = _PARTS[kind]
    more: JsonObject = {"logprobs": part.get("logprobs") or []} if kind == "output_text" else {}
    return [
        _added("content_part", {**part, name: ""}, at),
        {"type": f"response.{kind}.delta", **at, "delta": part.get(name), **more},
        {"type": f"response.{kind}.done", **at, name: part.get(name), **more},
        _done("content_part", part, at),
    ]


def _events_of_thought(thought: object, at: JsonObject) -> list[JsonObject]:
    text = thought.get("text") if is_object(thought) else None
    empty = {**thought, "text": ""} if is_object(thought) else thought
    return [
        _added("reasoning_summary_part", empty, at),
        {"type": "response.reasoning_summary_text.delta", **at, "delta": text},
        {"type": "response.reasoning_summary_text.done", **at, "text": text},
        _done("reasoning_summary_part", thought, at),
    ]


def _added(name: str, part: object, at: JsonObject) -> JsonObject:
    return {"type": f"response.{name}.added", **at, "part": part}


def _done(name: str, part: object, at: JsonObject) -> JsonObject:
    return {"type": f"response.{name}.done", **at, "part": part}
