"""OpenAI's Responses form of chats, /v1/responses: the model's own response, with the charge in `usage` (rule D2)."""

from typing import Final
from uuid import UUID

import orjson

from app.named_events import named_event
from app.openai_errors import of_refusal
from app.openai_form import LAPSED, JsonForm, Rate, charged
from app.response_events import events_of_response
from app.rest_door import Writer
from gateway.views import CallRequest, CallResult, StreamedEnd, StreamedEvent, StreamedFailure
from kit.clock import now
from kit.ids import encode_id
from kit.json_values import is_object
from providers.base import JsonObject, Operation
from providers.openai_responses import LAST_EVENTS

_BEGINNINGS: Final = frozenset({"response.created", "response.in_progress", "response.queued"})


class ResponsesForm(JsonForm):
    """Serves Form."""

    def __init__(self, rate: Rate) -> None:
        """`rate` is asked at each answer."""
        self._rate = rate

    def read(self, model: str, body: JsonObject) -> tuple[CallRequest, Writer]:
        """See Form; the body is the call's, as it came."""
        return CallRequest(model, Operation.RESPONSES, body), ResponsesWriter(model, self._rate)


class ResponsesWriter:
    """Serves Writer for one request."""

    content_type = b"application/json"

    def __init__(self, model: str, rate: Rate) -> None:
        """`model` as the request names it."""
        self._model = model
        self._rate = rate
        self._response: JsonObject | None = None
        """As the stream began it."""
        self._items: list[object] = []
        """The stream's items that are whole."""
        self._number = -1
        """Of the last event."""
        self._last: JsonObject | None = None
        """The event that ends the response: it waits for the charge."""

    def answer(self, result: CallResult) -> bytes:
        """See Writer; a repeat whose output has lapsed has an empty output and says so."""
        return orjson.dumps(self._charged(self._whole(result), result))

    def event(self, event: StreamedEvent) -> bytes:
        """See Writer: the event as it came."""
        parsed = event.parsed
        kind, response = str(parsed.get("type")), parsed.get("response")
        number = parsed.get("sequence_number")
        self._number = number if isinstance(number, int) else self._number + 1
        if kind in LAST_EVENTS:
            self._last = parsed
            return b""
        if kind in _BEGINNINGS and is_object(response):
            self._response = response
        elif kind == "response.output_item.done":
            self._items.append(parsed.get("item"))
        return named_event(parsed, event.data)

    def end(self, event: StreamedEnd) -> bytes:
        """See Writer. A repeat of a call that was answered before is told as the events of its whole response."""
        result, last = event.result, event.last_chunk or self._last
        if last is not None:
            told = last.get("response")
            response = self._charged(told if is_object(told) else {}, result)
            return named_event({**last, "response": response})
        return self._told(events_of_response(self._charged(self._whole(result), result)))

    def failure(self, event: StreamedFailure) -> bytes:
        """See Writer."""
        events: list[JsonObject] = []
        begun = self._response
        if begun is None:
            begun = self._empty(event.call_id, "in_progress")
            events.append({"type": "response.created", "response": begun})
        error = of_refusal(event.refusal)[1]["error"]
        response: JsonObject = {
            **begun,
            "status": "failed",
            "error": {"code": error["code"], "message": error["message"]},
            "output": self._items,
        }
        if event.result is not None:
            response = self._charged(response, event.result)
        events.append({"type": "response.failed", "response": response})
        return self._told(events)

    def _told(self, events: list[JsonObject]) -> bytes:
        """Events of our own, numbered on from the last one."""
        first = self._number + 1
        self._number += len(events)
        return b"".join([named_event({**event, "sequence_number": first + at}) for at, event in enumerate(events)])

    def _whole(self, result: CallResult) -> JsonObject:
        if result.body is not None:
            return result.body
        lapsed = self._empty(result.call_id, "completed", int(result.created_at.timestamp()))
        return {**lapsed, "message": LAPSED}

    def _empty(self, call_id: UUID, status: str, created_at: int | None = None) -> JsonObject:
        return {
            "id": f"resp_{encode_id('call', call_id).removeprefix('call_')}",
            "object": "response",
            "created_at": int(now().timestamp()) if created_at is None else created_at,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "model": self._model,
            "output": [],
            "store": False,
            "usage": None,
        }

    def _charged(self, response: JsonObject, result: CallResult) -> JsonObject:
        given, usage = response.get("usage"), result.usage
        counted: JsonObject = {
            "input_tokens": usage.input_tokens,
            "input_tokens_details": {
                "cached_tokens": usage.cached_input_tokens,
                "cache_write_tokens": usage.cache_write_input_tokens,
            },
            "output_tokens": usage.output_tokens,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
            "total_tokens": usage.input_tokens + usage.output_tokens,
        }
        return {**response, "usage": {**(given if is_object(given) else counted), **charged(result, self._rate())}}
