"""Anthropic's form of chats, /v1/messages: the model's own message, with the charge in `usage` (rule D2)."""

import orjson

from app.anthropic_errors import of_refusal
from app.asgi import Scope, header
from app.named_events import named_event
from app.openai_form import LAPSED, JsonForm, Rate, charged
from app.rest_door import Writer
from gateway.views import CallRequest, CallResult, StreamedEnd, StreamedEvent, StreamedFailure
from kit.ids import encode_id
from kit.json_values import is_list, is_object
from providers.base import JsonObject, Operation


def is_anthropic(scope: Scope) -> bool:
    """The request speaks Anthropic's form: by its path, or by the version that its SDKs send with every request."""
    path: str = scope["path"]
    return path.startswith("/v1/messages") or (
        path.startswith("/v1/models") and header(scope, b"anthropic-version") is not None
    )


class MessagesForm(JsonForm):
    """Serves Form."""

    def __init__(self, rate: Rate) -> None:
        """`rate` is asked at each answer."""
        self._rate = rate

    def read(self, model: str, body: JsonObject) -> tuple[CallRequest, Writer]:
        """See Form; the body is the call's, as it came."""
        return CallRequest(model, Operation.MESSAGES, body), MessagesWriter(self._rate)


class MessagesWriter:
    """Serves Writer for one request."""

    content_type = b"application/json"

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._begun = False
        self._delta: JsonObject = {"stop_reason": "end_turn", "stop_sequence": None}

    def answer(self, result: CallResult) -> bytes:
        """See Writer; a repeat whose output has lapsed says so instead of an output."""
        return orjson.dumps(self._message(result))

    def event(self, event: StreamedEvent) -> bytes:
        """See Writer: the event as it came."""
        self._begun = True
        parsed = event.parsed
        if parsed.get("type") == "message_delta" and is_object(parsed.get("delta")):
            self._delta = {**self._delta, **_object(parsed["delta"])}
        return named_event(parsed, event.data)

    def end(self, event: StreamedEnd) -> bytes:
        """See Writer. A repeat of a call that was answered before is told as the events of its whole message."""
        events: list[JsonObject] = []
        result = event.result
        last = event.last_chunk
        if not self._begun and last is None:
            message = self._message(result)
            events.extend(_events_of(message))
            self._delta = {name: message.get(name) for name in ("stop_reason", "stop_sequence")}
        usage = self._usage(None if last is None else last.get("usage"), result)
        events.append({"type": "message_delta", "delta": self._delta, **(last or {}), "usage": usage})
        events.append({"type": "message_stop"})
        return b"".join([named_event(each) for each in events])

    def failure(self, event: StreamedFailure) -> bytes:
        """See Writer."""
        body: JsonObject = dict(of_refusal(event.refusal)[1])
        if event.result is not None:
            body["usage"] = self._usage(None, event.result)
        return named_event(body)

    def _message(self, result: CallResult) -> JsonObject:
        if result.body is None:
            body: JsonObject = {
                "id": encode_id("call", result.call_id),
                "type": "message",
                "role": "assistant",
                "model": result.model,
                "content": [],
                "stop_reason": "end_turn",
                "stop_sequence": None,
                "message": LAPSED,
            }
        else:
            body = dict(result.body)
        body["usage"] = self._usage(body.get("usage"), result)
        return body

    def _usage(self, given: object, result: CallResult) -> JsonObject:
        counted = result.usage
        usage: JsonObject = {
            "input_tokens": counted.input_tokens - counted.cached_input_tokens - counted.cache_write_input_tokens,
            "cache_creation_input_tokens": counted.cache_write_input_tokens,
            "cache_read_input_tokens": counted.cached_input_tokens,
            "output_tokens": counted.output_tokens,
        }
        told = given if is_object(given) else usage
        return {**told, **charged(result, self._rate())}


def _events_of(message: JsonObject) -> list[JsonObject]:
    """The events of a whole message, up to its last block."""
    content = message.get("content")
    frame: JsonObject = {**message, "content": [], "stop_reason": None, "stop_sequence": None}
    events: list[JsonObject] = [{"type": "message_start", "message": frame}]
    for index, block in enumerate(content if is_list(content) else []):
        empty, deltas = _in_pieces(_object(block))
        events.append({"type": "content_block_start", "index": index, "content_block": empty})
        events.extend({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas)
        events.append({"type": "content_block_stop", "index": index})
    return events


def _in_pieces(block: JsonObject) -> tuple[JsonObject, list[JsonObject]]:
    match block.get("type"):
        case "text":
            return {**block, "text": ""}, [{"type": "text_delta", "text": block.get("text")}]
        case "thinking":
            return {**block, "thinking": "", "signature": ""}, [
                {"type": "thinking_delta", "thinking": block.get("thinking")},
                {"type": "signature_delta", "signature": block.get("signature")},
            ]
        case "tool_use" | "server_tool_use":
            given = orjson.dumps(block.get("input") or {}).decode()
            return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": given}]
        case _:
            return block, []


def _object(value: object) -> JsonObject:
    return value if is_object(value) else {}
