"""A server that speaks Anthropic's Messages form, as scripted by the last message of what it is sent."""

import orjson

from tests.providers.upstreams import KEY, STREAM_HEAD, Upstream, answer, chunk

USAGE = {
    "input_tokens": 2,
    "cache_creation_input_tokens": 3,
    "cache_read_input_tokens": 10,
    "output_tokens": 45,
    "service_tier": "standard",
}
WRITING = {
    **USAGE,
    "cache_creation_input_tokens": 60,
    "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 40},
}
THINKING = {"type": "thinking", "thinking": "Let me look.", "signature": "c2ln"}
TEXT = {"type": "text", "text": "It is sunny in Zürich.", "citations": None}
TOOL = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Zürich", "days": 2}}


def message(content=(TEXT,), stop_reason="end_turn", usage=USAGE, **more) -> dict:
    return {
        "id": "msg_up",
        "type": "message",
        "role": "assistant",
        "model": "claude-upstream",
        "content": list(content),
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": usage,
        "container": None,
        **more,
    }


def events(content=(TEXT,), stop_reason="end_turn", usage=USAGE) -> list[dict]:
    """The events of a message, its blocks in pieces, with pings where Anthropic sends some."""
    start = {**message((), None, {**usage, "output_tokens": 1})}
    told: list[dict] = [{"type": "message_start", "message": start}, {"type": "ping"}]
    for index, block in enumerate(content):
        match block["type"]:
            case "text":
                empty, deltas = (
                    {**block, "text": ""},
                    [{"type": "text_delta", "text": each} for each in halves(block["text"])],
                )
            case "thinking":
                empty = {"type": "thinking", "thinking": "", "signature": ""}
                deltas = [{"type": "thinking_delta", "thinking": each} for each in halves(block["thinking"])]
                deltas.append({"type": "signature_delta", "signature": block["signature"]})
            case _:
                empty = {**block, "input": {}}
                pieces = ["", *halves(orjson.dumps(block["input"]).decode())]
                deltas = [{"type": "input_json_delta", "partial_json": each} for each in pieces]
        told.append({"type": "content_block_start", "index": index, "content_block": empty})
        told.extend({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas)
        told.append({"type": "content_block_stop", "index": index})
    told.append(
        {
            "type": "message_delta",
            "delta": {"stop_reason": stop_reason, "stop_sequence": None},
            "usage": {"output_tokens": usage["output_tokens"]},
        }
    )
    return [*told, {"type": "ping"}, {"type": "message_stop"}]


def halves(text: str) -> list[str]:
    middle = len(text) // 2
    return [text[:middle], text[middle:]]


def sse(event: dict) -> bytes:
    return f"event: {event['type']}\n".encode() + b"data: " + orjson.dumps(event) + b"\n\n"


def stream(told: list[dict], end: bytes = b"0\r\n\r\n") -> bytes:
    return STREAM_HEAD + b"".join(chunk(sse(event)) for event in told) + end


def failure(kind: str, text: str = "no") -> dict:
    return {"type": "error", "error": {"type": kind, "message": text}, "request_id": "req_up"}


def refused(status: str, kind: str, headers: str = "") -> bytes:
    return answer(orjson.dumps(failure(kind, f"no, {KEY}")), status, f"Content-Type: application/json\r\n{headers}")


class Claude:
    """Answers by the words of the last message: `think`, `tool`, `long`, `lying`, `writing` to its cache, `overloaded`, `limited`, `wrong`, `break`."""

    def __init__(self) -> None:
        self.upstream: Upstream | None = None

    async def __call__(self, reader, writer) -> None:
        heard = self.upstream.requests[-1]
        writer.write(self.answer_to(heard.json))
        await writer.drain()
        if "break" in str(heard.json["messages"][-1]):
            writer.close()

    def answer_to(self, body: dict) -> bytes:
        words = str(body["messages"][-1])
        for word, reply in (
            ("overloaded", refused("529 X", "overloaded_error")),
            ("limited", refused("429 X", "rate_limit_error", "Retry-After: 7\r\n")),
            ("wrong", refused("400 X", "invalid_request_error")),
        ):
            if word in words:
                return reply
        content, stop_reason, usage = [TEXT], "end_turn", USAGE
        if "think" in words:
            content = [THINKING, TEXT]
        if "tool" in words and "tool_result" not in words:
            content, stop_reason = [TEXT, TOOL], "tool_use"
        if "long" in words:
            stop_reason = "max_tokens"
        if "lying" in words:
            usage = {**USAGE, "output_tokens": -3}
        if "writing" in words:
            usage = WRITING
        if not body.get("stream"):
            return answer(orjson.dumps(message(content, stop_reason, usage)))
        told = events(content, stop_reason, usage)
        if "break" in words:
            return stream(told[:5], end=b"")
        return stream(told)
