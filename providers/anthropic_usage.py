"""The usage an answer in Anthropic's form reports, taken only where it can be believed."""

from typing import Final

from kit.json_values import is_object
from providers.base import JsonObject, Usage
from providers.openai_usage import believable_count, long_writes

_COUNTS: Final = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
LIVES: Final = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
"""The names of what was written for the shorter life, and for the longer."""


def usage_of_anthropic(payload: object) -> Usage | None:
    """The usage in a message's `usage` object; None where it cannot be believed.

    Anthropic counts fresh input, input written to its cache and input read from it apart: our input is their sum, of
    which the part that was read is cached. A count that is negative, huge or no whole number spoils the whole, and so
    does one that is missing, unless it is about the cache. Thinking is a part of the output, bounded by it.
    What is told of the lives of a cache says nothing of how much was written, only how much of it for an hour: so much as
    the total leaves beside the five minutes.
    """
    if not is_object(payload) or payload.get("input_tokens") is None or payload.get("output_tokens") is None:
        return None
    counts: list[int] = []
    for name in _COUNTS:
        count = believable_count(payload[name]) if payload.get(name) is not None else 0
        if count is None:
            return None
        counts.append(count)
    fresh, written, read, output_tokens = counts
    details = payload.get("output_tokens_details")
    thinking = believable_count(details.get("thinking_tokens")) if is_object(details) else 0
    return Usage(
        input_tokens=fresh + written + read,
        cached_input_tokens=read,
        output_tokens=output_tokens,
        reasoning_tokens=min(thinking or 0, output_tokens),
        cache_write_input_tokens=written,
        long_cache_write_input_tokens=long_writes(payload.get("cache_creation"), LIVES, written),
    )


def merged_usage(start: JsonObject, later: object) -> JsonObject:
    """What a stream has reported so far: its counts are cumulative, a later one replaces an earlier."""
    if not is_object(later):
        return start
    return {**start, **{name: value for name, value in later.items() if value is not None}}
