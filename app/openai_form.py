"""OpenAI's form of chats, embeddings and images: the provider's own answer, with the charge in `usage` (rule D2)."""

from collections.abc import Callable
from decimal import Decimal
from typing import Final

import orjson

from app.openai_errors import of_refusal
from app.rest_door import MAX_BODY_BYTES, Writer, charge_texts
from gateway.views import CallRequest, CallResult, StreamedEnd, StreamedEvent, StreamedFailure
from kit.errors import BadRequest, InvalidInput
from kit.ids import encode_id
from kit.json_values import MAX_LEVELS, is_deeper, is_list, is_object
from providers.base import JsonObject, Operation
from providers.openai_content import delta_of_message

Rate = Callable[[], Decimal]
"""The catalog's credits for a dollar, now."""

LAPSED: Final = "this call was answered before; its output is kept for 10 minutes only"
"""What a repeat says in place of an output that is not kept any more."""
_EVENT: Final = b"data: "
_END: Final = b"\n\n"
_TOO_DEEP: Final = f"the body must not be nested deeper than {MAX_LEVELS} levels"


class JsonForm:
    """The part of Form that all have whose request is one JSON object."""

    max_body_bytes = MAX_BODY_BYTES

    def parsed(self, raw: bytes, content_type: str) -> JsonObject:
        """See Form."""
        del content_type
        return parse_object(raw)


class OpenAIForm(JsonForm):
    """The form of one operation's path."""

    def __init__(self, operation: Operation, rate: Rate) -> None:
        """`rate` is asked at each answer."""
        self._operation = operation
        self._writer = OpenAIWriter(rate)

    def read(self, model: str, body: JsonObject) -> tuple[CallRequest, Writer]:
        """See Form; the body is the call's, as it came. Only chats are streamed: InvalidInput."""
        if body.get("stream") and self._operation is not Operation.CHAT:
            raise InvalidInput("the answer is given whole on this path: stream must be false", field=["stream"])
        return CallRequest(model, self._operation, body), self._writer


class OpenAIWriter:
    """Serves Writer; one for all requests."""

    content_type = b"application/json"

    def __init__(self, rate: Rate) -> None:
        self._rate = rate

    def answer(self, result: CallResult) -> bytes:
        """See Writer."""
        return answer_body(result, self._rate())

    def event(self, event: StreamedEvent) -> bytes:
        """See Writer: the provider's chunk as it came."""
        return _EVENT + (event.data if event.data is not None else orjson.dumps(event.parsed)) + _END

    def end(self, event: StreamedEnd) -> bytes:
        """See Writer."""
        texts = [_EVENT + orjson.dumps(chunk) + _END for chunk in last_chunks(event, self._rate())]
        return b"".join([*texts, b"data: [DONE]\n\n"])

    def failure(self, event: StreamedFailure) -> bytes:
        """See Writer."""
        return _EVENT + orjson.dumps(failure_chunk(event, self._rate())) + _END


def parse_object(body: bytes) -> JsonObject:
    """The JSON object in a request's body; BadRequest for anything else."""
    try:
        parsed: object = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if error.msg.startswith("depth limit"):  # of reading, at 1024 levels
            raise BadRequest(_TOO_DEEP) from error
        raise BadRequest(f"the body is not JSON: {error}") from error
    if not is_object(parsed):
        raise BadRequest("the body must be a JSON object")
    if is_deeper(parsed, body, MAX_LEVELS):
        raise BadRequest(_TOO_DEEP)
    return parsed


def extended_usage(given: object, result: CallResult, credits_per_usd: Decimal) -> JsonObject:
    """OpenAI's usage object with `credits`, `usd` and `estimated` (rule D2); counted here where the provider gave none."""
    usage = result.usage
    extended: JsonObject = (
        dict(given)
        if is_object(given)
        else {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.input_tokens + usage.output_tokens,
        }
    )
    return {**extended, **charged(result, credits_per_usd)}


def charged(result: CallResult, credits_per_usd: Decimal) -> JsonObject:
    """What is added to every vendor's usage object."""
    credits_text, usd = charge_texts(result.charged_micro, credits_per_usd)
    told: JsonObject = {"credits": credits_text, "usd": usd, "estimated": result.usage.estimated}
    return {**told, "cached": True} if result.cached else told


def answer_body(result: CallResult, credits_per_usd: Decimal) -> bytes:
    """The provider's answer with the charge in it; a repeat whose output has lapsed says so instead of an output."""
    if result.body is None:
        body: JsonObject = {
            "id": encode_id("call", result.call_id),
            "object": "tollgate.repeat",
            "model": result.model,
            "message": LAPSED,
        }
    else:
        body = dict(result.body)
    body["usage"] = extended_usage(body.get("usage"), result, credits_per_usd)
    return orjson.dumps(body)


def last_chunks(event: StreamedEnd, credits_per_usd: Decimal) -> list[JsonObject]:
    """The last chunks of a stream: the provider's own usage chunk, or one in its form, with the charge.

    A repeat of a call that was answered whole is streamed as one chunk.
    """
    result = event.result
    chunk: JsonObject = dict(event.last_chunk) if event.last_chunk is not None else _chunk_of(result)
    chunk["usage"] = extended_usage(chunk.get("usage"), result, credits_per_usd)
    if result.body is None:
        return [chunk]
    return [whole_as_chunk(result.body, result), chunk]


def _chunk_of(result: CallResult) -> JsonObject:
    return {
        "id": encode_id("call", result.call_id),
        "object": "chat.completion.chunk",
        "created": int(result.created_at.timestamp()),
        "model": result.model,
        "choices": [],
    }


def whole_as_chunk(body: JsonObject, result: CallResult) -> JsonObject:
    """A whole answer as one chunk that says the same."""
    chunk = _chunk_of(result)
    choices = body.get("choices")
    if result.operation is Operation.CHAT and is_list(choices):
        chunk["choices"] = [
            {
                "index": each.get("index", 0),
                "delta": delta_of_message(each.get("message")),
                "finish_reason": each.get("finish_reason"),
            }
            for each in choices
            if is_object(each)
        ]
    return chunk


def failure_chunk(event: StreamedFailure, credits_per_usd: Decimal) -> JsonObject:
    """The event that ends a stream which broke, with what was charged for the output before."""
    body: JsonObject = dict(of_refusal(event.refusal)[1])
    if event.result is not None:
        body["usage"] = extended_usage(None, event.result, credits_per_usd)
    return body
