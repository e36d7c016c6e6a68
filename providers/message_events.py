"""Streams between the two forms of a chat: Anthropic's events, and OpenAI's chunks."""

from dataclasses import replace
from typing import Final

import orjson

from kit.json_values import is_list, is_object
from providers.base import JsonObject, StreamChunk, Usage
from providers.message_answers import (
    FINISH_REASONS,
    STOP_REASONS,
    chat_usage,
    empty_message,
    message_usage,
    reasoning_of,
)
from providers.openai_content import generated_bytes

STREAM_END: Final = StreamChunk(b"[DONE]", None, None, 0, done=True)


class ChunksOfMessage:
    """Turns the events of one message into chunks of a chat, each as it comes."""

    def __init__(self, created: int) -> None:
        """`created` is the chat's Unix time."""
        self._head: JsonObject = {"id": "", "object": "chat.completion.chunk", "created": created, "model": ""}
        self._tools: dict[int, int] = {}
        """The number of a tool call by the index of its block."""
        self._input: Usage | None = None
        """The input that was told with the first output, until a chunk with output carries it on."""

    def translate(self, chunk: StreamChunk) -> list[StreamChunk]:
        """The chunks that one event becomes."""
        told = self._told(chunk)
        if chunk.content_bytes and chunk.usage is not None:
            self._input = chunk.usage
        if self._input is not None and told and told[0].content_bytes:
            told[0] = replace(told[0], usage=self._input)
            self._input = None
        return told

    def _told(self, chunk: StreamChunk) -> list[StreamChunk]:
        event = chunk.parsed
        if event is None:
            return [STREAM_END]
        match event.get("type"):
            case "message_start":
                message = event.get("message")
                if is_object(message):
                    self._head = {**self._head, "id": message.get("id"), "model": message.get("model")}
                return [self._delta({"role": "assistant", "content": ""})]
            case "content_block_start":
                return self._started(event)
            case "content_block_delta":
                return self._added(event)
            case "message_delta":
                return self._ended(event, chunk.usage)
            case _:
                return []

    def _started(self, event: JsonObject) -> list[StreamChunk]:
        block = event.get("content_block")
        if not is_object(block):
            return []
        text = block.get("text")
        if block.get("type") == "text" and isinstance(text, str) and text:
            return [self._delta({"content": text})]
        if block.get("type") != "tool_use":
            return []
        number = self._tools.setdefault(_index_of(event), len(self._tools))
        given = block.get("input")
        arguments = orjson.dumps(given).decode() if given else ""
        function = {"name": block.get("name"), "arguments": arguments}
        return [
            self._delta(
                {"tool_calls": [{"index": number, "id": block.get("id"), "type": "function", "function": function}]}
            )
        ]

    def _added(self, event: JsonObject) -> list[StreamChunk]:
        delta = event.get("delta")
        if not is_object(delta):
            return []
        match delta.get("type"):
            case "text_delta":
                return [self._delta({"content": delta.get("text")})]
            case "thinking_delta":
                return [self._delta({"reasoning_content": delta.get("thinking")})]
            case "input_json_delta" if _index_of(event) in self._tools:
                function = {"arguments": delta.get("partial_json")}
                return [self._delta({"tool_calls": [{"index": self._tools[_index_of(event)], "function": function}]})]
            case _:
                return []

    def _ended(self, event: JsonObject, usage: Usage | None) -> list[StreamChunk]:
        delta = event.get("delta")
        reason = delta.get("stop_reason") if is_object(delta) else None
        chunks: list[StreamChunk] = []
        if reason is not None:
            chunks.append(self._delta({}, FINISH_REASONS.get(str(reason), "stop")))
        told = chat_usage(event.get("usage"))
        if told is not None:
            chunks.append(_chunk({**self._head, "choices": [], "usage": told}, usage))
        return chunks

    def _delta(self, delta: JsonObject, finish_reason: str | None = None) -> StreamChunk:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return _chunk({**self._head, "choices": [choice]}, None)


def _index_of(event: JsonObject) -> int:
    index = event.get("index")
    return index if isinstance(index, int) else 0


def _chunk(parsed: JsonObject, usage: Usage | None) -> StreamChunk:
    return StreamChunk(orjson.dumps(parsed), parsed, usage, generated_bytes(parsed, "delta"))


class EventsOfChat:
    """Turns the chunks of one chat into the events of a message, each as it comes; only the first choice is told."""

    def __init__(self, *, with_thinking: bool) -> None:
        """`with_thinking`: the caller wants to see reasoning."""
        self._with_thinking = with_thinking
        self._begun = False
        self._block: tuple[str, int] | None = None
        """What is open: its type and, of a tool call, its number."""
        self._blocks = 0
        self._stop_reason: str | None = None
        self._usage: object = None
        self._believed: Usage | None = None
        """The last usage; None once output came after it, which it does not know of."""
        self._over = False
        self._untold_bytes = 0
        """Of output that became no event, such as reasoning nobody wants to see: it counts all the same."""

    def translate(self, chunk: StreamChunk) -> list[StreamChunk]:
        """The events that one chunk becomes; the last of all is a `message_delta` with the stop reason and usage.

        It comes with the usage behind all output, or with the chat's end. A usage before that goes on with what its chunk
        becomes: should the chat break off, it counts.
        """
        if chunk.parsed is None:
            return [*self._stopped(), STREAM_END]
        if self._over:
            return []
        events: list[JsonObject] = []
        if not self._begun:
            self._begun = True
            message = {**empty_message(chunk.parsed), "usage": message_usage(None)}
            events.append({"type": "message_start", "message": message})
        if chunk.parsed.get("usage") is not None:
            self._usage, self._believed = chunk.parsed["usage"], chunk.usage
        elif chunk.content_bytes:
            self._believed = None
        choices = chunk.parsed.get("choices")
        if chunk.usage is not None and self._stop_reason is not None and not choices:
            return self._stopped()
        for choice in choices if is_list(choices) else []:
            if is_object(choice) and choice.get("index", 0) == 0:
                self._choice(choice, events)
        self._untold_bytes += chunk.content_bytes
        if chunk.usage is not None and not events:
            events.append({"type": "ping"})
        told = [StreamChunk(orjson.dumps(event), event, None, 0) for event in events]
        if told:
            told[0] = replace(told[0], content_bytes=self._untold_bytes, usage=chunk.usage)
            self._untold_bytes = 0
        return told

    def _choice(self, choice: JsonObject, events: list[JsonObject]) -> None:
        delta = choice.get("delta")
        if is_object(delta):
            thought = reasoning_of(delta)
            if thought and self._with_thinking:
                self._open("thinking", 0, {"type": "thinking", "thinking": "", "signature": ""}, events)
                self._add({"type": "thinking_delta", "thinking": thought}, events)
            for name in ("content", "refusal"):
                text = delta.get(name)
                if isinstance(text, str) and text:
                    self._open("text", 0, {"type": "text", "text": "", "citations": None}, events)
                    self._add({"type": "text_delta", "text": text}, events)
            calls = delta.get("tool_calls")
            for call in calls if is_list(calls) else []:
                if is_object(call):
                    self._tool(call, events)
        if choice.get("finish_reason") is not None:
            self._stop_reason = STOP_REASONS.get(str(choice["finish_reason"]), "end_turn")

    def _tool(self, call: JsonObject, events: list[JsonObject]) -> None:
        function = call.get("function")
        told = function if is_object(function) else {}
        at = call.get("index")
        number = at if isinstance(at, int) else 0
        block: JsonObject = {"type": "tool_use", "id": call.get("id"), "name": told.get("name"), "input": {}}
        self._open("tool_use", number, block, events)
        arguments = told.get("arguments")
        if isinstance(arguments, str) and arguments:
            self._add({"type": "input_json_delta", "partial_json": arguments}, events)

    def _open(self, kind: str, number: int, block: JsonObject, events: list[JsonObject]) -> None:
        if self._block == (kind, number):
            return
        self._close(events)
        self._block = (kind, number)
        events.append({"type": "content_block_start", "index": self._blocks, "content_block": block})

    def _add(self, delta: JsonObject, events: list[JsonObject]) -> None:
        events.append({"type": "content_block_delta", "index": self._blocks, "delta": delta})

    def _close(self, events: list[JsonObject]) -> None:
        if self._block is None:
            return
        self._block = None
        events.append({"type": "content_block_stop", "index": self._blocks})
        self._blocks += 1

    def _stopped(self) -> list[StreamChunk]:
        if not self._begun or self._over:
            return []
        self._over = True
        events: list[JsonObject] = []
        self._close(events)
        last: JsonObject = {
            "type": "message_delta",
            "delta": {"stop_reason": self._stop_reason or "end_turn", "stop_sequence": None},
            "usage": message_usage(self._usage),
        }
        if self._untold_bytes and not events:
            events.append({"type": "ping"})  # the last event waits for the charge: it carries no output
        told = [StreamChunk(orjson.dumps(event), event, None, 0) for event in events]
        if told:
            told[0] = replace(told[0], content_bytes=self._untold_bytes)
        return [*told, StreamChunk(orjson.dumps(last), last, self._believed, 0)]
