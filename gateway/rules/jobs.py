"""What becomes of a job: when it is looked at next, whether its creation may be tried again, and how its end is seen.

| the provider says | and | is seen as |
| --- | --- | --- |
| succeeded | with files | finished: what it reports, else what was asked for and counted |
| succeeded | without a file | failed with nothing made |
| failed, or cancelled and nobody had asked | with files | failed with them made: what it reports, else the files |
| failed, or cancelled and nobody had asked | without a file | failed with nothing made, whatever it reports |
| cancelled by the caller | with files, or it reports use | cancelled: what it reports, else the files |
| cancelled by the caller | nothing made | cancelled with nothing made |

What is charged for it says gateway.rules.truth. A job that its provider does not know (any more), or that is still worked
on at its deadline, is released. A reported number below 0 is none.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Final

from gateway.rules.requests import RequestShape
from gateway.rules.truth import End, Seen, Verdict, verdict
from metering.operations import UsageFacts
from providers.base import Usage
from providers.errors import (
    NotReached,
    ProviderError,
    ProviderNotConfigured,
    UpstreamAuthFailed,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from providers.predictions import PredictionState

DEADLINE: Final = timedelta(hours=1)
"""How long a job may take whose model states no `job_deadline_s`."""
GRACE: Final = timedelta(minutes=10)
"""How long after the deadline a provider is asked once more what became of it, and files are fetched."""
MAX_CREATIONS: Final = 5
MAX_MISSES: Final = 3
"""So many times in a row a provider may not know a job before it is lost: one just made may not be everywhere yet."""
OUTPUT_LIFE: Final = timedelta(hours=24)
MAX_TRIES_TOLD: Final = 64
"""So many of a job's tries at providers, the last ones, are written down."""
_GROWTH: Final = 1.5
_BAD_GATEWAY: Final = 502
_BETWEEN: Final = range(520, 529)


def pause_s(looks: int, first_s: int, longest_s: int) -> float:
    """Until the next look, after so many: half as long again each time."""
    return min(first_s * _GROWTH ** min(looks, 50), float(longest_s))


def is_certain(error: ProviderError) -> bool:
    """Whether the provider has surely made nothing of a creation that failed so.

    What stands between us and it cannot know what became of a request that it passed on (502, and 520 to 528 of some).
    """
    match error:
        case NotReached() | UpstreamRejected() | UpstreamAuthFailed() | UpstreamRateLimited() | ProviderNotConfigured():
            return True
        case UpstreamTimeout():
            return error.phase == "connect"
        case UpstreamUnavailable():
            return error.status is not None and error.status != _BAD_GATEWAY and error.status not in _BETWEEN
        case _:
            return False


def verdict_of(
    state: PredictionState,
    reported: Mapping[str, int] | None,
    files: int,
    bound: UsageFacts,
    provider: str,
    *,
    cancel_asked: bool,
    tokens_priced: bool,
) -> Verdict:
    """The truth about a job that has ended. `tokens_priced`: input that nobody reports is counted, where it costs anything."""
    if not tokens_priced:
        bound = replace(bound, input_tokens=0)
    told = {name: count for name, count in (reported or {}).items() if count >= 0}
    end = _end_of(state, files, cancel_asked=cancel_asked)
    made = bool(files) or (end is End.CANCELED and any(told.values()))
    seen = Seen(_used(told, files, bound)) if made else Seen()
    return verdict(end, seen, shape_of(bound), bound, provider)


def _end_of(state: PredictionState, files: int, *, cancel_asked: bool) -> End:
    match state:
        case PredictionState.SUCCEEDED if files:
            return End.FINISHED
        case PredictionState.CANCELED if cancel_asked:
            return End.CANCELED
        case _:
            return End.FAILED


def _used(told: Mapping[str, int], files: int, bound: UsageFacts) -> Usage:
    """What was made. Pictures that nobody reports are counted; the seconds of a film are not to be seen in it."""
    output_tokens = told.get("output_tokens", 0)
    input_tokens = told.get("input_tokens", bound.input_tokens)
    counted = (bound.seconds and "seconds" not in told) or (bound.input_tokens and "input_tokens" not in told)
    return Usage(
        input_tokens=input_tokens,
        cached_input_tokens=min(told.get("cached_input_tokens", 0), input_tokens),
        output_tokens=output_tokens,
        reasoning_tokens=min(told.get("reasoning_tokens", 0), output_tokens),
        images=told.get("images", min(files, bound.images)) if bound.images else 0,
        seconds=told.get("seconds", bound.seconds if files else 0),
        characters=told.get("characters", 0),
        reported=not counted,
    )


def shape_of(bound: UsageFacts) -> RequestShape:
    """Of a job's request: no bytes of text are counted for what it made."""
    return RequestShape(0, 0, 1, None, bound.images, 0, stream=False, seconds=bound.seconds)
