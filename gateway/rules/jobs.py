"""What becomes of a job: when it is looked at next, whether its creation may be tried again, and what it is charged.

| the provider says | and | charged | status | estimated |
| --- | --- | --- | --- | --- |
| succeeded | with files | what it reports, else what was asked for and counted | SUCCEEDED | where it was counted by the request |
| succeeded | without a file | nothing | FAILED | – |
| failed | whatever it reports | nothing | FAILED | – |
| cancelled by the caller | with files, or it reports use | what it reports, else the files | CANCELED | where it was counted |
| cancelled by the caller | nothing made | nothing | CANCELED | – |
| cancelled, and nobody had asked | – | nothing | FAILED | – |
| it does not know it (any more) | – | nothing | FAILED | – |
| still working at the deadline | – | nothing | FAILED | – |

A number that is negative, not a number, or above what was asked for contradicts the request: it is counted instead.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from metering.operations import UsageFacts
from providers.errors import (
    ProviderError,
    ProviderNotConfigured,
    UpstreamAuthFailed,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from providers.prediction_http import NotReached
from providers.predictions import PredictionState

DEADLINE: Final = timedelta(hours=1)
"""How long a job may take whose model states no `job_deadline_s`."""
GRACE: Final = timedelta(minutes=10)
"""How long after the deadline a provider is asked once more what became of it, and files are fetched."""
MAX_CREATIONS: Final = 5
MAX_MISSES: Final = 3
"""So many times in a row a provider may not know a job before it is lost: one just made may not be everywhere yet."""
OUTPUT_LIFE: Final = timedelta(hours=24)
_GROWTH: Final = 1.5


def pause_s(looks: int, first_s: int, longest_s: int) -> float:
    """Until the next look, after so many: half as long again each time."""
    return min(first_s * _GROWTH ** min(looks, 50), float(longest_s))


def is_certain(error: ProviderError) -> bool:
    """Whether the provider has surely made nothing of a creation that failed so."""
    match error:
        case NotReached() | UpstreamRejected() | UpstreamAuthFailed() | UpstreamRateLimited() | ProviderNotConfigured():
            return True
        case UpstreamTimeout():
            return error.phase == "connect"
        case UpstreamUnavailable():
            return error.status is not None
        case _:
            return False


@dataclass(frozen=True, slots=True)
class Charge:
    """What a job that has ended is charged; None where it is nothing, and it is released."""

    usage: UsageFacts


def charge_of(
    state: PredictionState,
    reported: Mapping[str, int] | None,
    files: int,
    bound: UsageFacts,
    provider: str,
    *,
    cancel_asked: bool,
    tokens_priced: bool,
) -> Charge | None:
    """The table above. `tokens_priced`: input that nobody reports is counted by its bound, where it costs anything."""
    if not tokens_priced:
        bound = replace(bound, input_tokens=0)
    believed = _believed(reported, bound)
    match state:
        case PredictionState.SUCCEEDED if files:
            return Charge(_whole(believed, files, bound, provider))
        case PredictionState.CANCELED if cancel_asked and (files or any(believed.values())):
            return Charge(_part(believed, files, bound, provider))
        case _:
            return None


def _believed(reported: Mapping[str, int] | None, bound: UsageFacts) -> dict[str, int]:
    most = {"images": bound.images, "seconds": bound.seconds}
    return {name: count for name, count in (reported or {}).items() if 0 <= count <= most.get(name, count)}


def _is_counted(believed: Mapping[str, int], bound: UsageFacts) -> bool:
    return bool(
        (bound.seconds and "seconds" not in believed) or (bound.input_tokens and "input_tokens" not in believed)
    )


def _whole(believed: Mapping[str, int], files: int, bound: UsageFacts, provider: str) -> UsageFacts:
    """All that was asked for. Pictures are counted where they are not reported; the seconds of a film are not to be seen."""
    seconds = believed.get("seconds", bound.seconds)
    return UsageFacts(
        input_tokens=believed.get("input_tokens", bound.input_tokens),
        cached_input_tokens=min(believed.get("cached_input_tokens", 0), believed.get("input_tokens", 0)),
        output_tokens=believed.get("output_tokens", 0),
        reasoning_tokens=min(believed.get("reasoning_tokens", 0), believed.get("output_tokens", 0)),
        requests=1,
        images=believed.get("images", min(files, bound.images)) if bound.images else 0,
        seconds=seconds,
        characters=believed.get("characters", 0),
        estimated=_is_counted(believed, bound),
        provider=provider,
    )


def _part(believed: Mapping[str, int], files: int, bound: UsageFacts, provider: str) -> UsageFacts:
    """What was made before the cancellation; of a film without a report nothing can be said but that it is there."""
    seconds = believed.get("seconds", bound.seconds if files else 0)
    return UsageFacts(
        input_tokens=believed.get("input_tokens", bound.input_tokens),
        output_tokens=believed.get("output_tokens", 0),
        requests=1,
        images=believed.get("images", min(files, bound.images)) if bound.images else 0,
        seconds=seconds,
        characters=believed.get("characters", 0),
        estimated=_is_counted(believed, bound),
        provider=provider,
    )
