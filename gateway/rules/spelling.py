"""Refuses what some provider reads as another field than the one a call is reckoned and judged by: `MAX_TOKENS` beside `max_tokens`.

Many read names in any letters, some with any joints (`maxTokens`), and of what is there twice the last counts; gateways of models
put what is within `extra_body` over the rest. We go by the names that vendors document, in the body itself.
"""

from typing import Final

from gateway.rules import account_state, dearer, tools
from kit.errors import InvalidInput
from kit.json_values import folded, is_object
from metering.rules.price_list import WRAPPER
from providers.base import JsonObject

_COUNTED: Final = frozenset(
    {
        WRAPPER, "background", "functions", "input", "instructions", "max_completion_tokens", "max_output_tokens", "max_tokens",
        "messages", "model", "n", "output_config", "prompt", "response_format", "seconds", "stream", "system", "text",
        "tools",
    }
)  # fmt: skip
_SPELLED: Final = frozenset({*_COUNTED, *account_state.NAMED, *dearer.NAMED, *tools.SWITCHES})
_AS_FOLDED: Final = {folded(name): name for name in sorted(_SPELLED)}


def check_spelling(body: JsonObject) -> None:
    """InvalidInput names the field, and what it must be called or where it must stand."""
    _check_names(body, ())
    wrapped = body.get(WRAPPER)
    if is_object(wrapped):
        _check_names(wrapped, (WRAPPER,))
        for name in wrapped:
            if name in _COUNTED:
                raise InvalidInput(f"{name} must stand in the body itself, not within {WRAPPER}", field=[WRAPPER, name])


def _check_names(body: JsonObject, field: tuple[str, ...]) -> None:
    for name in body:
        if name not in _SPELLED:
            spelled = _AS_FOLDED.get(folded(name))
            if spelled is not None:
                raise InvalidInput(f"{name[:60]} must be spelled {spelled}", field=[*field, name[:60]])
