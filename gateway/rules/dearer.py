"""Refuses by name what makes a provider take more for a call than its model's prices show: a faster tier, a place, another model.

A price is for a token, a second or a file of one model; a request that changes what those cost at the provider would be paid by
the operator. Cheaper ways, those that an operator's account chooses by itself, and
those that a price of the model names pass.
"""

from collections.abc import Callable
from typing import Final

from kit.errors import InvalidInput
from kit.json_values import is_list, is_object
from metering.rules.price_list import WRAPPER
from providers.base import JsonObject, Operation

_OTHER_MODELS: Final = ("models", "fallbacks")
"""OpenRouter's and Anthropic's lists of models that may answer instead."""
_AS_LISTED: Final = {
    "service_tier": frozenset({"auto", "default", "standard", "standard_only", "on_demand", "flex"}),
    "speed": frozenset({"standard"}),
    "inference_geo": frozenset({"global"}),
}
"""Fields by which a request asks for a dearer way of being computed, with the values that are none."""
_HOSTS: Final = ("order", "only", "sort")
"""By which a request of OpenRouter chooses among hosts of one model, each with prices of its own."""
_OTHER_RECORDINGS: Final = ("url", "file_url")
NAMED: Final = frozenset({*_OTHER_MODELS, *_AS_LISTED, *_OTHER_RECORDINGS, "provider"})
"""All fields that are looked at."""
_UNPRICED: Final = "it changes what the provider takes, which the model's prices do not show"


def check_dearer(operation: Operation, body: JsonObject, priced: Callable[[str, object], bool]) -> None:
    """InvalidInput names the field. `priced`: whether a price of the model is for this value of a field."""
    if operation is Operation.TRANSCRIPTION:
        for name in _OTHER_RECORDINGS:
            if body.get(name):
                raise InvalidInput(f"{name} is not served here: send the recording as file", field=[name])
        return
    if operation not in (Operation.CHAT, Operation.MESSAGES, Operation.RESPONSES):
        return
    for name in _OTHER_MODELS:
        if body.get(name):
            raise InvalidInput(f"{name} is not served here: {_UNPRICED}. Name one model", field=[name])
    for name, listed in _AS_LISTED.items():
        value = body.get(name)
        if value is not None and (not isinstance(value, str) or value not in listed) and not priced(name, value):
            raise InvalidInput(f"{name} must be {' or '.join(sorted(listed))}: {_UNPRICED}", field=[name])
    _check_compaction(body.get("context_management"))
    hosts = body.get("provider")
    if is_object(hosts):
        for name in _HOSTS:
            if hosts.get(name):
                raise InvalidInput(f"provider.{name} is not served here: {_UNPRICED}", field=["provider", name])
    wrapped = body.get(WRAPPER)
    if is_object(wrapped):
        check_dearer(operation, wrapped, priced)


def _check_compaction(management: object) -> None:
    """Anthropic reads the whole conversation once more for its summary, and leaves that out of the usage it totals."""
    edits = management.get("edits") if is_object(management) else None
    for index, edit in enumerate(edits if is_list(edits) else []):
        kind = edit.get("type") if is_object(edit) else None
        if isinstance(kind, str) and kind.startswith("compact"):
            raise InvalidInput(
                f"{kind[:60]} is not served here: {_UNPRICED}. Send fewer or shorter messages",
                field=["context_management", "edits", str(index)],
            )
