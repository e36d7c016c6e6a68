"""The metering truth table: how a call ended, what it produced and what usage was reported decide what is charged.

`verdict` is the only place where that is decided; `ROWS` names the situations, and docs/metering.md prints for each what
`verdict` says of it. A usage that no reader could believe (negative, no number, beyond 1,000,000,000 tokens) arrives here
as none: providers/openai_usage.py.
"""

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Final

from gateway.rules.requests import RequestShape
from kit.records import record
from metering.operations import EndStatus, UsageFacts
from providers.base import Usage
from providers.input_parts import parts_within
from providers.openai_audio import HEARD_TOKENS_PER_SECOND

ESTIMATED_BYTES_PER_TOKEN: Final = 4
"""The usual length of a token of English text; the ground for usage that no provider reported."""


class End(StrEnum):
    """How a call came to its end."""

    FINISHED = "finished"  # the provider's last word came
    REFUSED = "refused"  # the provider refused the request as the caller made it
    FAILED = "failed"  # it failed, broke off or sent rubbish
    TIMED_OUT = "timed out"
    LEFT = "left"  # nobody reads the stream any more
    CANCELED = "canceled"  # the caller took back a prediction


class Ground(StrEnum):
    """What the charge rests on; the values are the words of the printed table."""

    NOTHING = "nothing"
    REPORTED = "the reported usage"
    COUNTED = "bytes in and out, 4 to a token, within the bound"
    TOPPED = "the reported usage; its output counted where more came"
    CUT = "the reported usage, cut at the bound"


@record
class Seen:
    """What the gateway has seen of a call. `usage` is the last one reported; `bytes_after_usage` of output came after it."""

    usage: Usage | None = None
    content_bytes: int = 0
    bytes_after_usage: int = 0


@record
class Verdict:
    """What becomes of the hold. `usage` is what is charged and recorded; None: the hold is released whole."""

    status: EndStatus
    ground: Ground
    usage: UsageFacts | None


STATUS: Final[Mapping[End, EndStatus]] = {
    End.FINISHED: "SUCCEEDED",
    End.REFUSED: "FAILED",
    End.FAILED: "FAILED",
    End.TIMED_OUT: "FAILED",
    End.LEFT: "CANCELED",
    End.CANCELED: "CANCELED",
}


def verdict(end: End, seen: Seen, shape: RequestShape, bound: UsageFacts, provider: str) -> Verdict:
    """The truth about one call. `bound` is the usage its hold was made for; no charge goes beyond it.

    A call that finished is charged, whatever it gave; any other only where it produced something.
    """
    status = STATUS[end]
    if end is not End.FINISHED and not has_produced(seen):
        return Verdict(status, Ground.NOTHING, None)
    reported = seen.usage
    if reported is None or _is_of_nothing(reported, bound):
        return Verdict(status, Ground.COUNTED, _counted(seen, shape, bound, provider))
    if seen.bytes_after_usage or _lacks_output(reported, seen, bound):
        return Verdict(status, Ground.TOPPED, _topped(reported, seen, bound, provider))
    if _is_above(reported, bound):
        return Verdict(status, Ground.CUT, _cut(reported, bound, provider))
    return Verdict(status, Ground.REPORTED, _as_reported(reported, provider))


def has_produced(seen: Seen) -> bool:
    """Whether output reached us, or the provider says that there was some; input alone is none."""
    usage = seen.usage
    if seen.content_bytes > 0:
        return True
    return usage is not None and bool(usage.output_tokens or usage.images or usage.seconds or usage.characters)


def _is_of_nothing(reported: Usage, bound: UsageFacts) -> bool:
    """Not even the input that was sent."""
    return _is_of_tokens(reported, bound) and reported.input_tokens == reported.output_tokens == 0


def _lacks_output(reported: Usage, seen: Seen, bound: UsageFacts) -> bool:
    """No token of output, although some came, of a call that is asked for tokens."""
    asks_for_tokens = _is_of_tokens(reported, bound) and bound.output_tokens > 0
    return asks_for_tokens and seen.content_bytes > 0 and reported.output_tokens == 0


def _is_of_tokens(reported: Usage, bound: UsageFacts) -> bool:
    """Whether tokens alone meter the call: one of pictures, seconds or characters may have none."""
    return not any((each.images or each.seconds or each.characters) for each in (reported, bound))


def _as_reported(reported: Usage, provider: str) -> UsageFacts:
    return UsageFacts(
        input_tokens=reported.input_tokens,
        cached_input_tokens=reported.cached_input_tokens,
        output_tokens=reported.output_tokens,
        reasoning_tokens=reported.reasoning_tokens,
        requests=reported.requests,
        images=reported.images,
        seconds=reported.seconds,
        characters=reported.characters,
        cache_write_input_tokens=reported.cache_write_input_tokens,
        long_cache_write_input_tokens=reported.long_cache_write_input_tokens,
        estimated=not reported.reported,
        provider=provider,
    )


def _counted(seen: Seen, shape: RequestShape, bound: UsageFacts, provider: str) -> UsageFacts:
    """A text to be spoken counts whole, for providers charge it so; a recording as long as it probably plays."""
    heard_tokens = shape.likely_seconds * HEARD_TOKENS_PER_SECOND
    return UsageFacts(
        input_tokens=min(_tokens_of(shape.input_bytes) + heard_tokens, bound.input_tokens),
        output_tokens=min(_tokens_of(seen.content_bytes), bound.output_tokens),
        requests=1,
        images=bound.images,
        seconds=min(shape.likely_seconds, bound.seconds) or bound.seconds,
        characters=bound.characters,
        estimated=True,
        provider=provider,
    )


def _topped(reported: Usage, seen: Seen, bound: UsageFacts, provider: str) -> UsageFacts:
    output_tokens = min(max(reported.output_tokens, _tokens_of(seen.content_bytes)), bound.output_tokens)
    return _bounded(reported, output_tokens, bound, provider)


def _is_above(reported: Usage, bound: UsageFacts) -> bool:
    """More than the call can have used: a meter that the bound leaves at 0 has no price in this modality."""
    return (
        reported.input_tokens > bound.input_tokens > 0
        or reported.output_tokens > bound.output_tokens > 0
        or reported.images > bound.images > 0
        or reported.seconds > bound.seconds > 0
        or reported.characters > bound.characters > 0
    )


def _cut(reported: Usage, bound: UsageFacts, provider: str) -> UsageFacts:
    """Cut, and marked as estimated; what the provider said stays in the details."""
    said = {
        name: getattr(reported, name) for name in ("input_tokens", "output_tokens", "images", "seconds", "characters")
    }
    cut = _bounded(reported, _at_most(reported.output_tokens, bound.output_tokens), bound, provider)
    return replace(cut, details={"reported": said})


def _bounded(reported: Usage, output_tokens: int, bound: UsageFacts, provider: str) -> UsageFacts:
    """What was reported, at most the bound, with so much output; each part within what it is a part of."""
    input_tokens = _at_most(reported.input_tokens, bound.input_tokens)
    cached, written, written_long = parts_within(
        input_tokens,
        reported.cached_input_tokens,
        reported.cache_write_input_tokens,
        reported.long_cache_write_input_tokens,
    )
    return UsageFacts(
        input_tokens=input_tokens,
        cached_input_tokens=cached,
        output_tokens=output_tokens,
        reasoning_tokens=min(reported.reasoning_tokens, output_tokens),
        requests=reported.requests,
        images=_at_most(reported.images, bound.images),
        seconds=_at_most(reported.seconds, bound.seconds),
        characters=_at_most(reported.characters, bound.characters),
        cache_write_input_tokens=written,
        long_cache_write_input_tokens=written_long,
        estimated=True,
        provider=provider,
    )


def _at_most(reported: int, bound: int) -> int:
    return min(reported, bound) if bound else reported


def _tokens_of(size_bytes: int) -> int:
    return -(-size_bytes // ESTIMATED_BYTES_PER_TOKEN)


@record
class Row:
    """A situation with how the gateway sees it; `name` is what its test is called."""

    name: str
    what: str
    end: End
    seen: Seen

    @property
    def verdict(self) -> Verdict:
        """What is decided, for a call of 400 bytes that may use 420 tokens of input and 100 of output."""
        return verdict(self.end, self.seen, _SHAPE, _BOUND, "provider")


_SHAPE: Final = RequestShape(400, 1, 1, 100, 0, 0, stream=True)
_BOUND: Final = UsageFacts(input_tokens=420, output_tokens=100, requests=1, estimated=True)
_USUAL: Final = Usage(input_tokens=100, output_tokens=30)
_WRITTEN: Final = Usage(100, 20, 30, cache_write_input_tokens=60, long_cache_write_input_tokens=40)
_TEXT: Final = 120  # bytes of output
_ANSWERED: Final = Seen(_USUAL, _TEXT)
_UNREPORTED: Final = Seen(None, _TEXT)

ROWS: Final = (
    Row("answered", "answered, usage reported", End.FINISHED, _ANSWERED),
    Row("answered_after_others", "answered by a later provider, after others failed", End.FINISHED, _ANSWERED),
    Row("usage_last", "streamed, usage only in the last chunk", End.FINISHED, _ANSWERED),
    Row("usage_in_each_chunk", "streamed, a running usage in each chunk: the last one counts", End.FINISHED, _ANSWERED),
    Row("no_usage", "answered, no usage reported", End.FINISHED, _UNREPORTED),
    Row("negative_usage", "answered, negative usage, or none that is a number", End.FINISHED, _UNREPORTED),
    Row("absurd_usage", "answered, more than 1,000,000,000 tokens reported", End.FINISHED, _UNREPORTED),
    Row("no_output_reported", "answered, no output reported although some came", End.FINISHED, Seen(Usage(100), _TEXT)),
    Row("nothing_reported", "answered, zero reported of everything", End.FINISHED, Seen(Usage(), _TEXT)),
    Row("usage_above_bound", "answered, more reported than the call can have used", End.FINISHED, Seen(Usage(9_000, output_tokens=900), _TEXT)),
    Row("inconsistent_usage", "answered, details larger than what they are part of: they are cut to it", End.FINISHED, Seen(Usage(100, 100, 30, 30), _TEXT)),
    Row("usage_before_output", "streamed, usage reported before the end of the output only", End.FINISHED, Seen(Usage(100, output_tokens=1), _TEXT, _TEXT)),
    Row("cached_and_reasoning", "cached input and reasoning: priced by their own meters where these have a price", End.FINISHED, Seen(Usage(100, 80, 30, 20), _TEXT)),
    Row("cache_writes", "input written to a cache, also for a longer life: priced by its own meters where these have a price", End.FINISHED, Seen(_WRITTEN, _TEXT)),
    Row("inconsistent_writes", "answered, more cached and written to a cache than was input: what was cached is believed, of the written so much as is left", End.FINISHED, Seen(_WRITTEN, _TEXT)),
    Row("client_gone_after_writes", "the client left a stream after the first token, what was written to a cache reported before", End.LEFT, Seen(_WRITTEN, _TEXT, _TEXT)),
    Row("tool_calls", "tool calls: output like text", End.FINISHED, _ANSWERED),
    Row("empty_output", "answered with no output at all", End.FINISHED, Seen(Usage(100), 0)),
    Row("empty_output_no_usage", "answered with no output and no usage: the input", End.FINISHED, Seen()),
    Row("content_filter", "cut short by the provider's content filter", End.FINISHED, _ANSWERED),
    Row("several_choices", "several choices: all of them", End.FINISHED, _ANSWERED),
    Row("price_changed", "the price changed meanwhile: the price of the submit", End.FINISHED, _ANSWERED),
    Row("client_gone_whole", "the client left while it waited for a whole answer: the call goes on and is kept for its repeat", End.FINISHED, _ANSWERED),
    Row("refused", "the provider refused the request, its content filter included", End.REFUSED, Seen()),
    Row("failed_before", "the provider failed before the first token, after all tries", End.FAILED, Seen()),
    Row("failed_after_usage", "the provider reported input, then failed before the first token", End.FAILED, Seen(Usage(100), 0)),
    Row("failed_during", "the provider failed after the first token", End.FAILED, _UNREPORTED),
    Row("failed_at_end", "the provider failed after its last usage", End.FAILED, _ANSWERED),
    Row("timed_out_before", "the provider took too long before the first token", End.TIMED_OUT, Seen()),
    Row("timed_out_during", "the provider took too long after the first token", End.TIMED_OUT, _UNREPORTED),
    Row("client_gone_before", "the client left a stream before the first token", End.LEFT, Seen()),
    Row("client_gone_during", "the client left a stream after the first token", End.LEFT, _UNREPORTED),
    Row("client_gone_after_input", "the client left a stream after the first token, its input reported before", End.LEFT, Seen(Usage(100), _TEXT, _TEXT)),
    Row("client_gone_at_end", "the client left a stream after the provider's last usage", End.LEFT, _ANSWERED),
    Row("prediction_failed", "a prediction failed with nothing made", End.FAILED, Seen()),
    Row("prediction_failed_partly", "a prediction failed with some of it made", End.FAILED, Seen(Usage(images=1))),
    Row("prediction_canceled", "a prediction was cancelled with nothing made", End.CANCELED, Seen()),
    Row("prediction_canceled_partly", "a prediction was cancelled with some of it made", End.CANCELED, Seen(Usage(images=1))),
)  # fmt: skip
"""The situations that have a name and a test; every other one is decided by `verdict` all the same."""


def table() -> str:
    """The table of docs/metering.md."""
    lines = ["| what happened | charged | hold | estimated | status |", "| --- | --- | --- | --- | --- |"]
    for row in ROWS:
        told = row.verdict
        hold = "released" if told.usage is None else "settled, the rest released"
        estimated = "–" if told.usage is None else "yes" if told.usage.estimated else "no"
        lines.append(f"| {row.what} | {told.ground} | {hold} | {estimated} | {told.status} |")
    return "\n".join(lines) + "\n"
