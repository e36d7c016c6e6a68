"""A chat told in OpenAI's Responses form: its whole answer, and its chunks as events."""

from dataclasses import replace
from typing import Final

import orjson

from kit.clock import now
from kit.json_values import is_list, is_object
from providers.base import JsonObject, StreamChunk, Usage
from providers.openai_content import delta_of_message
from providers.openai_usage import cache_writes
from providers.response_items import ResponseOutput

_ECHOED: Final[JsonObject] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "reasoning": {"effort": None, "summary": None},
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}
"""Settings that the response repeats, with what holds where the request is silent."""
_INCOMPLETE: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}


def response_of_chat(body: JsonObject, chat: JsonObject) -> JsonObject:
    """The first choice of a chat completion as the response to the request `body`."""
    output = ResponseOutput(_name_of(chat))
    choices = chat.get("choices")
    for choice in choices if is_list(choices) else []:
        if is_object(choice):
            delta = delta_of_message(choice.get("message"))
            output.add({"choices": [{**choice, "delta": delta}]})
    output.finish(_status(output))
    return {**_frame(body, chat), **_ended(output), "usage": response_usage(chat.get("usage"))}


class ResponseOfChat:
    """Turns the chunks of one chat into the events of a response, each as it comes; only the first choice is told."""

    def __init__(self, body: JsonObject) -> None:
        """`body` is the request, whose settings the response repeats."""
        self._body = body
        self._frame: JsonObject = {}
        self._output: ResponseOutput | None = None
        self._number = 0
        self._usage: object = None
        self._believed: Usage | None = None
        """The last usage; None once output came after it, which it does not know of."""
        self._over = False
        self._untold_bytes = 0
        """Of output that became no event yet: it counts all the same."""

    def translate(self, chunk: StreamChunk) -> list[StreamChunk]:
        """The events that one chunk becomes; the response ends with the usage behind its output, or with the chat."""
        if self._over:
            return []
        parsed = chunk.parsed
        if parsed is None:
            return self._told([], last=True)
        events: list[JsonObject] = []
        output = self._begin(parsed, events)
        if parsed.get("usage") is not None:
            self._usage, self._believed = parsed["usage"], chunk.usage
        elif chunk.content_bytes:
            self._believed = None
        events.extend(output.add(parsed))
        self._untold_bytes += chunk.content_bytes
        at_end = output.finish_reason is not None and not parsed.get("choices") and parsed.get("usage") is not None
        if chunk.usage is not None and not events and not at_end:
            events.append({"type": "response.in_progress", "response": self._frame})  # which carries the usage
        return self._told(events, last=at_end, usage=None if at_end else chunk.usage)

    def _begin(self, chunk: JsonObject, events: list[JsonObject]) -> ResponseOutput:
        if self._output is None:
            self._output = ResponseOutput(_name_of(chunk))
            self._frame = _frame(self._body, chunk)
            events.append({"type": "response.created", "response": self._frame})
            events.append({"type": "response.in_progress", "response": self._frame})
        return self._output

    def _told(self, events: list[JsonObject], *, last: bool, usage: Usage | None = None) -> list[StreamChunk]:
        if last:
            self._over = True
            output = self._begin({}, events)
            events.extend(output.finish(_status(output)))
            response = {**self._frame, **_ended(output), "usage": response_usage(self._usage)}
            events.append({"type": f"response.{_status(output)}", "response": response})
        chunks: list[StreamChunk] = []
        for event in events:
            numbered = {**event, "sequence_number": self._number}
            self._number += 1
            chunks.append(StreamChunk(orjson.dumps(numbered), numbered, None, 0))
        if chunks:
            chunks[0] = replace(chunks[0], content_bytes=self._untold_bytes, usage=usage)
            self._untold_bytes = 0
        if last:
            chunks[-1] = replace(chunks[-1], usage=self._believed, done=True)
        return chunks


def response_usage(usage: object) -> JsonObject | None:
    """A chat's usage under this form's names, with the numbers as they came."""
    if not is_object(usage):
        return None
    of_input, of_output = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    cached = of_input.get("cached_tokens") if is_object(of_input) else None
    reasoning = of_output.get("reasoning_tokens") if is_object(of_output) else None
    return {
        "input_tokens": usage.get("prompt_tokens"),
        "input_tokens_details": {"cached_tokens": cached or 0, "cache_write_tokens": cache_writes(of_input)[0]},
        "output_tokens": usage.get("completion_tokens"),
        "output_tokens_details": {"reasoning_tokens": reasoning or 0},
        "total_tokens": usage.get("total_tokens"),
    }


def _frame(body: JsonObject, chat: JsonObject) -> JsonObject:
    """A response that is in progress, named by a chat or by a chunk of one."""
    settings = {name: usual if body.get(name) is None else body[name] for name, usual in _ECHOED.items()}
    text = settings["text"]
    if is_object(text) and "format" not in text:
        settings["text"] = {**text, "format": {"type": "text"}}
    created = chat.get("created")
    return {
        "id": f"resp_{_name_of(chat)}",
        "object": "response",
        "created_at": created if isinstance(created, int) else int(now().timestamp()),
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "model": chat.get("model") or body.get("model"),
        "output": [],
        "previous_response_id": None,
        "store": False,
        **settings,
        "usage": None,
    }


def _ended(output: ResponseOutput) -> JsonObject:
    status = _status(output)
    reason = _INCOMPLETE.get(output.finish_reason or "")
    return {
        "status": status,
        "incomplete_details": {"reason": reason} if status == "incomplete" else None,
        "output": list(output.items),
    }


def _status(output: ResponseOutput) -> str:
    return "incomplete" if output.finish_reason in _INCOMPLETE else "completed"


def _name_of(chat: JsonObject) -> str:
    name = chat.get("id")
    return name.removeprefix("chatcmpl-") if isinstance(name, str) and name else "0"
