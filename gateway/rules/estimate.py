"""The most that a call can cost, from its request, the model's limits and its prices. It needs no tokenizer.

A byte-level tokenizer makes at most one token of a byte, so bytes bound tokens; a catalog may state a larger number of
bytes per token for a model (`limits.bytes_per_token`) where its operator has measured one, or name a tokenizer that is
installed beside the gateway (gateway.tokenizers).
"""

from dataclasses import replace
from typing import Final

from billing.views import ModelView
from gateway.rules.requests import MESSAGE_OVERHEAD_TOKENS, RequestShape
from gateway.rules.truth import ESTIMATED_BYTES_PER_TOKEN
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
        output_tokens = _share(model, shape.images, model.limits.max_images)
        return _facts(input_tokens=_input_bound(shape, model), output_tokens=output_tokens, images=shape.images)
    if operation is Operation.VIDEO:
        longest = model.limits.max_seconds
        if longest is not None and shape.seconds > longest:
            raise InvalidInput(f"{model.slug} makes at most {longest} seconds, not {shape.seconds}", field=["seconds"])
        output_tokens = _share(model, shape.seconds, longest)
        return _facts(input_tokens=_input_bound(shape, model), output_tokens=output_tokens, seconds=shape.seconds)
    if operation is Operation.EMBEDDING:
        return _facts(input_tokens=_input_bound(shape, model))
    if operation is Operation.SPEECH:
        _check(shape.characters, model.limits.max_characters, model, "characters", "input")
        return _facts(input_tokens=_input_bound(shape, model), characters=shape.characters)
    if operation is Operation.TRANSCRIPTION:
        return _transcription(shape, model)
    most = model.max_output_tokens
    if shape.output_tokens is not None and most is not None and shape.output_tokens > most:
        limit = "max_output_tokens" if operation is Operation.RESPONSES else "max_tokens"
        raise InvalidInput(f"{model.slug} gives at most {most} output tokens, not {shape.output_tokens}", field=[limit])
    each = shape.output_tokens if shape.output_tokens is not None else (most or DEFAULT_OUTPUT_TOKENS)
    return _facts(input_tokens=_input_bound(shape, model), output_tokens=each * shape.choices)


HEARD_TOKENS_PER_SECOND: Final = 50
"""Input tokens that a second of a recording counts at most; the vendors' are 10 to 40."""
LIKELY_PICTURE_TOKENS: Final = 1_600
"""Input tokens that a picture of usual size counts, where the model states none."""
LIKELY_MESSAGE_TOKENS: Final = 4
"""Tokens that a chat template usually adds to a message."""


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


def likely_input_tokens(shape: RequestShape, model: ModelView) -> int:
    """About how many tokens the input will count: a guess for people, where `bound_usage` is a bound for holds."""
    tokens = (
        -(-shape.input_bytes // ESTIMATED_BYTES_PER_TOKEN)
        + shape.messages * LIKELY_MESSAGE_TOKENS
        + shape.media_parts * (model.limits.image_input_tokens or LIKELY_PICTURE_TOKENS)
    )
    return min(tokens, model.context_tokens) if model.context_tokens else tokens


def _input_bound(shape: RequestShape, model: ModelView) -> int:
    media_tokens = model.limits.image_input_tokens or DEFAULT_MEDIA_PART_TOKENS
    counted = max(0, shape.input_bytes - shape.spared_bytes)
    text_tokens = min(-(-shape.input_bytes // model.limits.bytes_per_token), counted)
    tokens = text_tokens + shape.messages * MESSAGE_OVERHEAD_TOKENS + shape.media_parts * media_tokens
    return min(tokens, model.context_tokens) if model.context_tokens else tokens


def _share(model: ModelView, asked: int, most: int | None) -> int:
    """The tokens that pictures or seconds may come to: of the most of a call so much as they are of the most in one."""
    tokens = model.max_output_tokens or 0
    return tokens if most is None else -(-tokens * asked // most)


def _transcription(shape: RequestShape, model: ModelView) -> UsageFacts:
    """A recording may play as long as its bytes allow, at most as long as the model takes."""
    seconds = min(shape.seconds, model.limits.max_seconds or shape.seconds)
    return _facts(
        input_tokens=_input_bound(shape, model) + seconds * HEARD_TOKENS_PER_SECOND,
        output_tokens=model.max_output_tokens or DEFAULT_OUTPUT_TOKENS,
        seconds=seconds,
    )


def _check(asked: int, most: int | None, model: ModelView, what: str, field: str) -> None:
    if most is not None and asked > most:
        raise InvalidInput(f"{model.slug} takes at most {most} {what}, not {asked}", field=[field])


def _facts(
    *, input_tokens: int, output_tokens: int = 0, images: int = 0, seconds: int = 0, characters: int = 0
) -> UsageFacts:
    return UsageFacts(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        requests=1,
        images=images,
        seconds=seconds,
        characters=characters,
        estimated=True,
        provider="",
    )
