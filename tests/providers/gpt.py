"""Responses as OpenAI's API gives them: whole, and as the events of a stream."""

import orjson

from tests.providers.upstreams import STREAM_HEAD, answer, chunk

USAGE = {
    "input_tokens": 1_200,
    "input_tokens_details": {"cached_tokens": 1_024, "cache_write_tokens": 0},
    "output_tokens": 400,
    "output_tokens_details": {"reasoning_tokens": 320, "unheard_of_tokens": 1},
    "total_tokens": 1_600,
}
TEXT = '{"city":"Zürich"}'
THOUGHT = {
    "id": "rs_1",
    "type": "reasoning",
    "summary": [{"type": "summary_text", "text": "Let me look."}],
    "encrypted_content": "gAAA" * 30,
}
CITED = {"type": "url_citation", "url": "https://x.example", "title": "x", "start_index": 0, "end_index": 1}
SAID = {
    "id": "msg_1",
    "type": "message",
    "status": "completed",
    "role": "assistant",
    "content": [{"type": "output_text", "text": TEXT, "annotations": [CITED], "logprobs": []}],
    "phase": "final_answer",
}
CALLED = {
    "id": "fc_1",
    "type": "function_call",
    "status": "completed",
    "call_id": "call_1",
    "name": "weather",
    "arguments": '{"city": "Zürich"}',
}
CUSTOM = {
    "id": "ctc_1",
    "type": "custom_tool_call",
    "status": "completed",
    "call_id": "call_2",
    "name": "odd",
    "input": "print(1)",
}
ITEMS = (THOUGHT, SAID, CALLED, CUSTOM)


def response(items=ITEMS, usage=USAGE, status="completed", **more) -> dict:
    return {
        "id": "resp_up",
        "object": "response",
        "created_at": 1,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": None,
        "model": "o4-mini-2025",
        "output": list(items),
        "parallel_tool_calls": True,
        "reasoning": {"effort": "high", "summary": "auto"},
        "store": False,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "unheard_of": {"a": [1, None]},
        "usage": usage,
        **more,
    }


def events(items=ITEMS, usage=USAGE, status="completed", **more) -> list[dict]:
    """The events of that response: texts in pieces, with the padding that OpenAI puts beside them."""
    begun = response((), None, "in_progress")
    told: list[dict] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    for index, item in enumerate(items):
        at = {"item_id": item["id"], "output_index": index}
        empty, middle = item, []
        match item["type"]:
            case "reasoning":
                part = item["summary"][0]
                spot = {**at, "summary_index": 0}
                empty = {**item, "summary": []}
                middle = [
                    {"type": "response.reasoning_summary_part.added", **spot, "part": {**part, "text": ""}},
                    *_deltas("reasoning_summary_text", spot, part["text"]),
                    {"type": "response.reasoning_summary_text.done", **spot, "text": part["text"]},
                    {"type": "response.reasoning_summary_part.done", **spot, "part": part},
                ]
            case "message":
                part = item["content"][0]
                spot = {**at, "content_index": 0}
                empty = {**item, "content": [], "status": "in_progress"}
                middle = [
                    {"type": "response.content_part.added", **spot, "part": {**part, "text": "", "annotations": []}},
                    *_deltas("output_text", spot, part["text"], logprobs=[]),
                    {"type": "response.output_text.done", **spot, "text": part["text"], "logprobs": []},
                    {"type": "response.content_part.done", **spot, "part": part},
                ]
            case kind:
                name, event = ("arguments", "function_call_arguments") if kind == "function_call" else ("input", "custom_tool_call_input")  # fmt: skip
                empty = {**item, name: "", "status": "in_progress"}
                middle = [*_deltas(event, at, item[name]), {"type": f"response.{event}.done", **at, name: item[name]}]
        told.append({"type": "response.output_item.added", "output_index": index, "item": empty})
        told.extend(middle)
        told.append({"type": "response.output_item.done", "output_index": index, "item": item})
    told.append({"type": f"response.{status}", "response": response(items, usage, status, **more)})
    return [{**event, "sequence_number": number} for number, event in enumerate(told)]


def _deltas(kind: str, at: dict, text: str, **more) -> list[dict]:
    middle = len(text) // 2
    pieces = [piece for piece in (text[:middle], text[middle:]) if piece]
    return [
        {"type": f"response.{kind}.delta", **at, "delta": piece, "obfuscation": "x" * 3, **more} for piece in pieces
    ]


def event_text(event: dict) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), orjson.dumps(event))


def streamed(told: list[dict], then: bytes = b"0\r\n\r\n") -> bytes:
    return STREAM_HEAD + b"".join(chunk(event_text(event)) for event in told) + then


def whole(**more) -> bytes:
    return answer(orjson.dumps(response(**more)))
