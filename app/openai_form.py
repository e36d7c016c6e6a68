"""What Tollgate adds to OpenAI's answers: the charge in `usage`, and the last chunk of a stream."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine
from decimal import Decimal

import orjson

from app.asgi import ClientGone, Headers, Receive
from app.openai_errors import of_refusal
from gateway.streaming import CallStream
from gateway.views import CallResult, StreamedEnd, StreamedFailure
from kit.errors import BadRequest
from kit.ids import encode_id
from kit.json_values import is_list, is_object
from kit.money import format_micro, usd_text
from providers.base import JsonObject, Operation


def parse_object(body: bytes) -> JsonObject:
    """The JSON object in a request's body; BadRequest for anything else."""
    try:
        parsed: object = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
    if not is_object(parsed):
        raise BadRequest("the body must be a JSON object")
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
    extended["credits"] = format_micro(result.charged_micro)
    extended["usd"] = usd_text(result.charged_micro, credits_per_usd)
    extended["estimated"] = usage.estimated
    if result.cached:
        extended["cached"] = True
    return extended


def answer_body(result: CallResult, credits_per_usd: Decimal) -> bytes:
    """The provider's answer with the charge in it; a repeat whose output has lapsed says so instead of an output."""
    if result.body is None:
        body: JsonObject = {
            "id": encode_id("call", result.call_id),
            "object": "tollgate.repeat",
            "model": result.model,
            "message": "this call was answered before; its output is kept for 10 minutes only",
        }
    else:
        body = dict(result.body)
    body["usage"] = extended_usage(body.get("usage"), result, credits_per_usd)
    return orjson.dumps(body)


def call_headers(result: CallResult) -> Headers:
    """The call's id, and whether this answer was given before: to this call, or to an equal one."""
    headers: Headers = [(b"x-tollgate-call-id", encode_id("call", result.call_id).encode("ascii"))]
    if result.repeated:
        headers.append((b"idempotent-replayed", b"true"))
    if result.cached is not None:
        headers.append((b"x-tollgate-cache", b"hit" if result.cached else b"miss"))
    return headers


def last_chunks(event: StreamedEnd, credits_per_usd: Decimal) -> list[JsonObject]:
    """The last chunks of a stream: the provider's own usage chunk, or one in its form, with the charge.

    A repeat of a call that was answered whole is streamed as one chunk.
    """
    result = event.result
    chunk: JsonObject = dict(event.last_chunk) if event.last_chunk is not None else _chunk_of(result)
    chunk["usage"] = extended_usage(chunk.get("usage"), result, credits_per_usd)
    if result.body is None:
        return [chunk]
    return [_as_delta(result.body, result), chunk]


def _chunk_of(result: CallResult) -> JsonObject:
    return {
        "id": encode_id("call", result.call_id),
        "object": "chat.completion.chunk",
        "created": int(result.created_at.timestamp()),
        "model": result.model,
        "choices": [],
    }


def _as_delta(body: JsonObject, result: CallResult) -> JsonObject:
    chunk = _chunk_of(result)
    choices = body.get("choices")
    if result.operation is Operation.CHAT and is_list(choices):
        chunk["choices"] = [
            {"index": each.get("index", 0), "delta": each.get("message"), "finish_reason": each.get("finish_reason")}
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


@contextlib.asynccontextmanager
async def watched(receive: Receive, opening: Coroutine[None, None, CallStream]) -> AsyncGenerator[CallStream]:
    """The stream, once it has begun. A client that disconnects ends the provider's call, before its first output too.

    So does leaving the block by an exception. Raises ClientGone where the client left before the stream had begun.
    """
    begun = asyncio.create_task(opening)

    async def until_gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        if begun.done() and not begun.cancelled() and begun.exception() is None:
            begun.result().leave()
        else:
            begun.cancel()

    watcher = asyncio.create_task(until_gone())
    try:
        try:
            stream = await begun
        except asyncio.CancelledError:
            if watcher.done():
                raise ClientGone from None
            raise
        try:
            yield stream
        except BaseException:
            stream.leave()
            raise
    finally:
        watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watcher
