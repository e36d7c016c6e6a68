"""The usage an answer in OpenAI's form reports, taken only where it can be believed."""

from typing import Final

from providers.base import JsonObject, Operation, Usage
from providers.input_parts import parts_within

MAX_TOKENS: Final = 1_000_000_000
"""No single call uses more; a larger number is a provider's mistake."""

_MAX_DIGITS: Final = 10
_OF_INPUT: Final = ("prompt_tokens_details", "input_tokens_details")
_WRITES: Final = (
    ("cache_write_tokens", "cache_write_tokens_details", ("ttl_30m_tokens", "ttl_12h_tokens")),
    (
        "cache_creation_tokens",
        "cache_creation_token_details",
        ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"),
    ),
)
"""What was written to a cache, its details, and there the shorter and the longer life: of OpenAI and OpenRouter, of LiteLLM."""


def usage_of_openai(payload: object) -> Usage | None:
    """The usage in a `usage` object of chat, embeddings, images or responses; None where it cannot be believed.

    Input and output must be whole numbers from 0 to MAX_TOKENS (numbers in texts and floats without a fraction are
    taken); one that is negative, huge, boolean or something else spoils the whole. Details are bounded by what they
    are details of, and dropped where malformed; of input said to be both cached and written to a cache what was cached is
    believed first. Where the total shows that reasoning tokens are not part of the
    output, they are added to it.
    """
    if not isinstance(payload, dict):
        return None
    usage: dict[object, object] = payload  # pyright: ignore[reportUnknownVariableType] -- isinstance knows no keys
    named_input = _first(usage, "prompt_tokens", "input_tokens")
    named_output = _first(usage, "completion_tokens", "output_tokens")
    total_tokens = believable_count(usage.get("total_tokens"))
    output_tokens = 0 if named_output is None else believable_count(named_output)
    if output_tokens is None:
        return None
    if named_input is None:
        if total_tokens is None or total_tokens < output_tokens:
            return None
        input_tokens: int | None = total_tokens - output_tokens
    else:
        input_tokens = believable_count(named_input)
    if input_tokens is None:
        return None
    cached = _detail(usage, _OF_INPUT, "cached_tokens")
    written, written_long = cache_writes(_first(usage, *_OF_INPUT))
    cached, written, written_long = parts_within(input_tokens, cached, written, written_long)
    reasoning = _detail(usage, ("completion_tokens_details", "output_tokens_details"), "reasoning_tokens")
    if reasoning and total_tokens == input_tokens + output_tokens + reasoning:
        output_tokens += reasoning
    return Usage(
        input_tokens=input_tokens,
        cached_input_tokens=cached,
        output_tokens=output_tokens,
        reasoning_tokens=min(reasoning, output_tokens),
        cache_write_input_tokens=written,
        long_cache_write_input_tokens=written_long,
    )


def usage_of_answer(operation: Operation, body: JsonObject) -> Usage | None:
    """The usage of a whole answer. Images are counted in the answer itself, with or without reported tokens."""
    usage = usage_of_openai(body.get("usage"))
    if operation is not Operation.IMAGE:
        return usage
    data = body.get("data")
    images = len(data) if isinstance(data, list) else 0  # pyright: ignore[reportUnknownArgumentType] -- only counted
    if usage is None:
        return Usage(images=images)
    return Usage(
        input_tokens=usage.input_tokens,
        cached_input_tokens=usage.cached_input_tokens,
        output_tokens=usage.output_tokens,
        images=images,
    )


def long_writes(details: object, lives: tuple[str, str], written: int) -> int:
    """Of the tokens written to a cache those for the longer life: so many as they leave beside the shorter one's."""
    if not isinstance(details, dict):
        return 0
    told: dict[object, object] = details  # pyright: ignore[reportUnknownVariableType] -- isinstance knows no keys
    short, long = (believable_count(told.get(name)) or 0 for name in lives)
    return min(long, max(0, written - short))


def cache_writes(details: object) -> tuple[int, int]:
    """What the details of an input say was written to a cache, and of that for the longer life."""
    if not isinstance(details, dict):
        return 0, 0
    told: dict[object, object] = details  # pyright: ignore[reportUnknownVariableType] -- isinstance knows no keys
    for name, of_lives, lives in _WRITES:
        written = believable_count(told.get(name))
        if written:
            return written, long_writes(told.get(of_lives), lives, written)
    return 0, 0


def _first(usage: dict[object, object], *names: str) -> object:
    for name in names:
        value = usage.get(name)
        if value is not None:
            return value
    return None


def _detail(usage: dict[object, object], groups: tuple[str, ...], name: str) -> int:
    details = _first(usage, *groups)
    if not isinstance(details, dict):
        return 0
    return believable_count(details.get(name)) or 0  # pyright: ignore[reportUnknownArgumentType,reportUnknownMemberType] -- judged by believable_count


def believable_count(value: object) -> int | None:
    """A believable number of tokens, or None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        if not (value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS):
            return None
        value = int(value)
    if isinstance(value, float):
        if not value.is_integer():
            return None
        value = int(value)
    if not isinstance(value, int) or not 0 <= value <= MAX_TOKENS:
        return None
    return value
