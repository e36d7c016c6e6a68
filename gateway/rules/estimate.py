"""The most that a call can cost, from its request, the model's limits and its prices, without a tokenizer.

A byte-level tokenizer makes at most one token of a byte, so bytes bound tokens; a catalog may state a larger number of
bytes per token for a model (`limits.bytes_per_token`) where its operator has measured one.
"""

from dataclasses import replace
from typing import Final

from billing.views import ModelView
from gateway.rules.requests import MESSAGE_OVERHEAD_TOKENS, RequestShape
from kit.errors import InvalidInput
from metering.operations import UsageFacts
from metering.rules.rating import Rates
from providers.base import Operation

DEFAULT_OUTPUT_TOKENS: Final = 4_096
"""Output tokens assumed for a model whose catalog entry states no limit."""
DEFAULT_MEDIA_PART_TOKENS: Final = 20_000
"""Input tokens assumed for one image or audio part where the model states no `limits.image_input_tokens`."""


def bound_usage(operation: Operation, shape: RequestShape, model: ModelView) -> UsageFacts:
    """The largest usage that the request can lead to. InvalidInput when it asks for more output than the model gives."""
    if operation is Operation.IMAGE:
        return _facts(input_tokens=_input_bound(shape, model), images=shape.images)
    if operation is Operation.VIDEO:
        longest = model.limits.max_seconds
        if longest is not None and shape.seconds > longest:
            raise InvalidInput(f"{model.slug} makes at most {longest} seconds, not {shape.seconds}", field=["seconds"])
        return _facts(input_tokens=_input_bound(shape, model), seconds=shape.seconds)
    if operation is Operation.EMBEDDING:
        return _facts(input_tokens=_input_bound(shape, model))
    most = model.max_output_tokens
    if shape.output_tokens is not None and most is not None and shape.output_tokens > most:
        raise InvalidInput(
            f"{model.slug} gives at most {most} output tokens, not {shape.output_tokens}", field=["max_tokens"]
        )
    each = shape.output_tokens if shape.output_tokens is not None else (most or DEFAULT_OUTPUT_TOKENS)
    return _facts(input_tokens=_input_bound(shape, model), output_tokens=each * shape.choices)


def fitted_output(bound: UsageFacts, rates: Rates, discount_percent: int, choices: int, limit_micro: int) -> int | None:
    """The most output tokens a choice whose bound costs `limit_micro` at most; None where not even one fits."""

    def costs(each: int) -> int:
        return rates.highest_micro(replace(bound, output_tokens=each * choices), discount_percent)

    if costs(1) > limit_micro:
        return None
    fits, too_many = 1, bound.output_tokens // choices + 1
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if costs(middle) <= limit_micro:
            fits = middle
        else:
            too_many = middle
    return fits


def _input_bound(shape: RequestShape, model: ModelView) -> int:
    media_tokens = model.limits.image_input_tokens or DEFAULT_MEDIA_PART_TOKENS
    tokens = (
        -(-shape.input_bytes // model.limits.bytes_per_token)
        + shape.messages * MESSAGE_OVERHEAD_TOKENS
        + shape.media_parts * media_tokens
    )
    return min(tokens, model.context_tokens) if model.context_tokens else tokens


def _facts(*, input_tokens: int, output_tokens: int = 0, images: int = 0, seconds: int = 0) -> UsageFacts:
    return UsageFacts(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        requests=1,
        images=images,
        seconds=seconds,
        estimated=True,
        provider="",
    )
