"""How a sandbox call is told to behave: texts under `metadata` of its body, such as {"sandbox_delay_ms": "200"}."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from providers.base import JsonObject

MAX_DELAY_MS: Final = 120_000
MAX_OUTPUT_TOKENS: Final = 200_000


class Fault(StrEnum):
    """Ways to go wrong. In a stream they strike after `fault_after` chunks, else in place of the answer."""

    NONE = "none"
    GARBAGE = "garbage"  # something that is not JSON, with status 200
    SHAPE = "shape"  # JSON of another shape, with status 200
    HTML = "html"  # a page in place of the answer
    HALF = "half"  # the connection closes in the middle of the answer
    EMPTY = "empty"  # status 200 and nothing
    CLOSE = "close"  # the connection closes without an answer
    RESET = "reset"  # the connection is reset without an answer
    HANG = "hang"  # silence, with the connection open
    ERROR_EVENT = "error_event"  # an error inside a stream; a whole answer is an error object with status 200


class UsageFault(StrEnum):
    """What is reported in place of the true usage."""

    TRUE = "true"
    NONE = "none"
    NEGATIVE = "negative"
    HUGE = "huge"
    TEXT = "text"
    INCONSISTENT = "inconsistent"  # more cached than input tokens, more reasoning than output tokens


@dataclass(frozen=True, slots=True)
class SandboxBehaviour:
    """Each field is set by the metadata key `sandbox_` and its name. `status` other than 200 fails with it.

    `output_tokens` is how long the answer would be without a limit, None leaves it to the hash of the input.
    """

    delay_ms: int = 0
    chunk_delay_ms: int = 0
    status: int = 200
    retry_after: str = ""
    fault: Fault = Fault.NONE
    fault_after: int = 3
    usage: UsageFault = UsageFault.TRUE
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    output_tokens: int | None = None
    content_filter: bool = False
    tool_call: bool = False


FAULTS: Final = {fault.value: fault for fault in Fault}
_USAGE_FAULTS: Final = {fault.value: fault for fault in UsageFault}
_BOUNDS: Final = {
    "delay_ms": (0, MAX_DELAY_MS),
    "chunk_delay_ms": (0, MAX_DELAY_MS),
    "status": (200, 599),
    "fault_after": (0, MAX_OUTPUT_TOKENS),
    "cached_tokens": (0, 2**31),
    "reasoning_tokens": (0, 2**31),
    "output_tokens": (0, MAX_OUTPUT_TOKENS),
}


def behaviour_of(body: JsonObject, default: SandboxBehaviour) -> SandboxBehaviour:
    """`default` with what the body's metadata says; values it cannot read are left out of account."""
    metadata = body.get("metadata")
    if not isinstance(metadata, dict) or not metadata:
        return default
    found: dict[str, object] = {}
    for key, value in metadata.items():  # pyright: ignore[reportUnknownVariableType] -- judged below
        text = _text_of(value)  # pyright: ignore[reportUnknownArgumentType] -- judged there
        if isinstance(key, str) and key.startswith("sandbox_") and text is not None:
            name = key.removeprefix("sandbox_")
            setting = _setting(name, text)
            if setting is not None:
                found[name] = setting
    # Each value was made by _setting for the field of its name; replace() cannot be told so.
    return replace(default, **found) if found else default  # pyright: ignore[reportArgumentType]


def _text_of(value: object) -> str | None:
    """Metadata are texts; numbers and truth values of a sensible size are taken, too."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and value.bit_length() < 64 else None


def _setting(name: str, text: str) -> object:
    if name in _BOUNDS:
        low, high = _BOUNDS[name]
        if not (text.isascii() and text.isdigit() and len(text) <= 10):
            return None
        return min(max(int(text), low), high)
    match name:
        case "fault":
            return FAULTS.get(text)
        case "usage":
            return _USAGE_FAULTS.get(text)
        case "content_filter" | "tool_call":
            return text.lower() in ("true", "1")
        case "retry_after":
            return text if text.isascii() and text.isprintable() and len(text) <= 40 else None
        case _:
            return None
