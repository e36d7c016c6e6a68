"""The output of a chat as items of OpenAI's Responses API, built chunk by chunk, with the events that tell of it."""

from dataclasses import dataclass, field
from typing import Literal

from kit.json_values import is_list, is_object
from providers.base import JsonObject
from providers.message_answers import reasoning_of

Kind = Literal["reasoning_text", "output_text", "refusal"]


@dataclass(slots=True)
class _Open:
    """The item that grows: a text of some kind, or a function call with its number in the chat."""

    kind: Kind | Literal["function_call"]
    number: int
    item: JsonObject
    pieces: list[str] = field(default_factory=list[str])


class ResponseOutput:
    """Takes up the chunks of a chat's first choice in order."""

    def __init__(self, name: str) -> None:
        """`name` makes the ids of items unique."""
        self._name = name
        self._open: _Open | None = None
        self.items: list[JsonObject] = []
        """The items that are whole."""
        self.finish_reason: str | None = None

    def add(self, chunk: JsonObject) -> list[JsonObject]:
        """The events that the chunk becomes, without their sequence numbers."""
        events: list[JsonObject] = []
        choices = chunk.get("choices")
        for choice in choices if is_list(choices) else []:
            if is_object(choice) and choice.get("index", 0) == 0:
                delta = choice.get("delta")
                if is_object(delta):
                    self._add_delta(delta, events)
                if choice.get("finish_reason") is not None:
                    self.finish_reason = str(choice["finish_reason"])
        return events

    def finish(self, status: str) -> list[JsonObject]:
        """Close what is open; `status` of its item: completed or incomplete."""
        events: list[JsonObject] = []
        self._close(events, status)
        return events

    def _add_delta(self, delta: JsonObject, events: list[JsonObject]) -> None:
        self._text("reasoning_text", reasoning_of(delta), events)
        self._text("output_text", delta.get("content"), events)
        self._text("refusal", delta.get("refusal"), events)
        calls = delta.get("tool_calls")
        for call in calls if is_list(calls) else []:
            if is_object(call):
                self._call(call, events)

    def _text(self, kind: Kind, text: object, events: list[JsonObject]) -> None:
        if not isinstance(text, str) or not text:
            return
        opened = self._open
        if opened is None or opened.kind != kind:
            self._close(events, "completed")
            item: JsonObject = {"type": "message", "id": self._id("msg"), "status": "in_progress", "role": "assistant"}
            if kind == "reasoning_text":
                item = {"type": "reasoning", "id": self._id("rs"), "summary": []}
            opened = self._begin(_Open(kind, 0, {**item, "content": []}), events)
            events.append({"type": "response.content_part.added", **self._at(opened), "part": _part(kind, "")})
        opened.pieces.append(text)
        event: JsonObject = {"type": f"response.{kind}.delta", **self._at(opened), "delta": text}
        if kind == "output_text":
            event["logprobs"] = []
        events.append(event)

    def _call(self, call: JsonObject, events: list[JsonObject]) -> None:
        at, function = call.get("index"), call.get("function")
        number = at if isinstance(at, int) else 0
        told = function if is_object(function) else {}
        opened = self._open
        if opened is None or opened.kind != "function_call" or opened.number != number:
            self._close(events, "completed")
            item: JsonObject = {
                "type": "function_call",
                "id": self._id("fc"),
                "call_id": call.get("id"),
                "name": told.get("name"),
                "arguments": "",
                "status": "in_progress",
            }
            opened = self._begin(_Open("function_call", number, item), events)
        text = told.get("arguments")
        if isinstance(text, str) and text:
            opened.pieces.append(text)
            place = {name: value for name, value in self._at(opened).items() if name != "content_index"}
            events.append({"type": "response.function_call_arguments.delta", **place, "delta": text})

    def _begin(self, opened: _Open, events: list[JsonObject]) -> _Open:
        self._open = opened
        events.append(
            {"type": "response.output_item.added", "output_index": len(self.items), "item": dict(opened.item)}
        )
        return opened

    def _close(self, events: list[JsonObject], status: str) -> None:
        opened = self._open
        if opened is None:
            return
        self._open = None
        text = "".join(opened.pieces)
        place = self._at(opened)
        if opened.kind == "function_call":
            del place["content_index"]
            item = {**opened.item, "arguments": text, "status": status}
            done = {"type": "response.function_call_arguments.done", **place, "arguments": text}
            events.append({**done, "name": item["name"]})
        else:
            part = _part(opened.kind, text)
            item = {**opened.item, "status": status, "content": [part]}
            told = "refusal" if opened.kind == "refusal" else "text"
            done = {"type": f"response.{opened.kind}.done", **place, told: text}
            events.append({**done, "logprobs": []} if opened.kind == "output_text" else done)
            events.append({"type": "response.content_part.done", **place, "part": part})
        events.append({"type": "response.output_item.done", "output_index": len(self.items), "item": item})
        self.items.append(item)

    def _at(self, opened: _Open) -> JsonObject:
        return {"item_id": opened.item["id"], "output_index": len(self.items), "content_index": 0}

    def _id(self, prefix: str) -> str:
        return f"{prefix}_{self._name}_{len(self.items)}"


def _part(kind: Kind, text: str) -> JsonObject:
    match kind:
        case "output_text":
            return {"type": kind, "text": text, "annotations": [], "logprobs": []}
        case "refusal":
            return {"type": kind, "refusal": text}
        case "reasoning_text":
            return {"type": kind, "text": text}
