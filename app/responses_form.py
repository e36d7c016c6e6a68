"""OpenAI's Responses form of chats, /v1/responses: a chat call, its output told as a response (rule D2)."""

from datetime import datetime
from typing import Final
from uuid import UUID

import orjson

from app.openai_errors import of_refusal
from app.openai_form import Rate, charged, parse_object, whole_as_chunk
from app.responses_output import ResponseOutput
from app.responses_request import chat_body
from app.rest_door import MAX_BODY_BYTES, Writer
from gateway.views import CallRequest, CallResult, StreamedEnd, StreamedEvent, StreamedFailure
from kit.clock import now
from kit.errors import InvalidInput, Refusal
from kit.ids import encode_id
from kit.json_values import is_object
from providers.base import JsonObject, Operation

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


_FIELDS: Final = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text",
}
"""This form's words for the fields of a chat."""


def placed(refusal: Refusal) -> Refusal:
    """The refusal of a chat with its field in this form."""
    if not isinstance(refusal, InvalidInput) or not refusal.field or refusal.field[0] not in _FIELDS:
        return refusal
    field = (_FIELDS[refusal.field[0]], *refusal.field[1:])
    return InvalidInput(refusal.message.replace(refusal.field[0], field[0]), field=field)


class ResponsesForm:
    """Serves Form."""

    max_body_bytes = MAX_BODY_BYTES

    def __init__(self, rate: Rate) -> None:
        """`rate` is asked at each answer."""
        self._rate = rate

    def parsed(self, raw: bytes, content_type: str) -> JsonObject:
        """See Form."""
        del content_type
        return parse_object(raw)

    def read(self, model: str, body: JsonObject) -> tuple[CallRequest, Writer]:
        """See Form."""
        request = CallRequest(model, Operation.CHAT, chat_body(body, model))
        return request, ResponsesWriter(model, body, self._rate)


class ResponsesWriter:
    """Serves Writer for one request."""

    content_type = b"application/json"

    def __init__(self, model: str, body: JsonObject, rate: Rate) -> None:
        """`body` is the request, whose settings the response repeats."""
        self._rate = rate
        self._body = body
        self._model = model
        self._created_at = int(now().timestamp())
        self._output: ResponseOutput | None = None
        self._number = 0

    def answer(self, result: CallResult) -> bytes:
        """See Writer; a repeat whose output has lapsed has an empty output and says so."""
        output = ResponseOutput(_name(result.call_id))
        if result.body is not None:
            output.add(whole_as_chunk(result.body, result))
        output.finish(_status(output))
        response = self._response(result.call_id, _status(output), output, result, result.created_at)
        if result.body is None:
            response["message"] = "this call was answered before; its output is kept for 10 minutes only"
        return orjson.dumps(response)

    def event(self, event: StreamedEvent) -> bytes:
        """See Writer."""
        events: list[JsonObject] = []
        output = self._begin(event.call_id, events)
        events.extend(output.add(event.parsed))
        return self._told(events)

    def end(self, event: StreamedEnd) -> bytes:
        """See Writer."""
        events: list[JsonObject] = []
        result = event.result
        output = self._begin(result.call_id, events)
        if result.body is not None:
            events.extend(output.add(whole_as_chunk(result.body, result)))
        elif event.last_chunk is not None:
            events.extend(output.add(event.last_chunk))
        status = _status(output)
        events.extend(output.finish(status))
        events.append(
            {"type": f"response.{status}", "response": self._response(result.call_id, status, output, result)}
        )
        return self._told(events)

    def failure(self, event: StreamedFailure) -> bytes:
        """See Writer."""
        events: list[JsonObject] = []
        output = self._begin(event.call_id, events)
        events.extend(output.finish("incomplete"))
        response = self._response(event.call_id, "failed", output, event.result)
        error = of_refusal(event.refusal)[1]["error"]
        response["error"] = {"code": error["code"], "message": error["message"]}
        events.append({"type": "response.failed", "response": response})
        return self._told(events)

    def _begin(self, call_id: UUID, events: list[JsonObject]) -> ResponseOutput:
        if self._output is None:
            self._output = ResponseOutput(_name(call_id))
            response = self._response(call_id, "in_progress", self._output, None)
            events.append({"type": "response.created", "response": response})
            events.append({"type": "response.in_progress", "response": response})
        return self._output

    def _told(self, events: list[JsonObject]) -> bytes:
        texts: list[bytes] = []
        for event in events:
            numbered = {**event, "sequence_number": self._number}
            self._number += 1
            texts.append(b"event: %b\ndata: %b\n\n" % (str(event["type"]).encode("ascii"), orjson.dumps(numbered)))
        return b"".join(texts)

    def _response(
        self,
        call_id: UUID,
        status: str,
        output: ResponseOutput,
        result: CallResult | None,
        created_at: datetime | None = None,
    ) -> JsonObject:
        settings = {
            name: usual if self._body.get(name) is None else self._body[name] for name, usual in _ECHOED.items()
        }
        text = settings["text"]
        if is_object(text) and "format" not in text:
            settings["text"] = {**text, "format": {"type": "text"}}
        reason = _INCOMPLETE.get(output.finish_reason or "")
        return {
            "id": f"resp_{_name(call_id)}",
            "object": "response",
            "created_at": self._created_at if created_at is None else int(created_at.timestamp()),
            "status": status,
            "error": None,
            "incomplete_details": {"reason": reason} if status == "incomplete" else None,
            "model": self._model,
            "output": list(output.items),
            "previous_response_id": None,
            "store": False,
            **settings,
            "usage": None if result is None else self._usage(result),
        }

    def _usage(self, result: CallResult) -> JsonObject:
        usage = result.usage
        return {
            "input_tokens": usage.input_tokens,
            "input_tokens_details": {"cached_tokens": usage.cached_input_tokens, "cache_write_tokens": 0},
            "output_tokens": usage.output_tokens,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
            "total_tokens": usage.input_tokens + usage.output_tokens,
            **charged(result, self._rate()),
        }


def _status(output: ResponseOutput) -> str:
    return "incomplete" if output.finish_reason in _INCOMPLETE else "completed"


def _name(call_id: UUID) -> str:
    return encode_id("call", call_id).removeprefix("call_")
