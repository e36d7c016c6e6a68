"""What a call wrote to a provider's cache, as it is kept: in its usage's details, for few calls write any.

So the numbers cost the other calls no column, and what a process of an older version has read it writes on as it was.
"""

from typing import Final

from kit.json_values import is_object
from metering.operations import UsageFacts

WRITTEN: Final = "cache_write_input_tokens"
WRITTEN_LONG: Final = "long_cache_write_input_tokens"
"""The keys of the details under which they stand; neither where it is zero."""


def kept_details(usage: UsageFacts) -> dict[str, object] | None:
    """The usage's details with what it wrote."""
    written, long = usage.cache_write_input_tokens, usage.long_cache_write_input_tokens
    if not (written or long):
        return usage.details
    counts = {WRITTEN: written, WRITTEN_LONG: long}
    return {**(usage.details or {}), **{name: count for name, count in counts.items() if count}}


def usage_of(kept: dict[str, object]) -> UsageFacts:
    """The facts of `metering.rows.usage_json`; TypeError where these are none."""
    details = kept.get("details")
    counts: dict[str, object] = {}
    if is_object(details):
        counts = {name: details[name] for name in (WRITTEN, WRITTEN_LONG) if name in details}
        kept = {**kept, "details": {name: value for name, value in details.items() if name not in counts} or None}
    return UsageFacts(**{**kept, **counts})  # pyright: ignore[reportArgumentType] -- written by usage_json
