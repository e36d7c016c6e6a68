"""A chain's stream shows its usage where its last step's does, and there alone."""

import orjson

from gateway.chain_stream import LastStream
from metering.operations import UsageFacts
from providers.base import ReadyStream, StreamChunk, Usage


def chunk(reported: Usage, content_bytes: int, **parsed: object) -> StreamChunk:
    body = {"model": "up", "choices": [], **parsed}
    return StreamChunk(orjson.dumps(body), body, reported, content_bytes)


def test_an_input_that_is_told_ahead_with_the_first_output_is_metered_and_not_shown() -> None:
    def total(last: Usage) -> UsageFacts:
        return UsageFacts(input_tokens=last.input_tokens + 7, output_tokens=last.output_tokens + 5)

    stream = LastStream(ReadyStream(None, []), "pipe", total)
    ahead = stream.told(chunk(Usage(90), 4))
    assert (ahead.usage, ahead.content_bytes, ahead.parsed) == (Usage(90), 4, {"model": "pipe", "choices": []})
    last = stream.told(chunk(Usage(90, output_tokens=30), 0, usage={"prompt_tokens": 90}))
    assert last.parsed["usage"] == {"prompt_tokens": 97, "completion_tokens": 35, "total_tokens": 132}
