"""Which prices a request has: those of its settings, and of what is written to a cache those of what it asks to be written."""

from typing import Final

from billing.views import ModelView
from kit.json_values import JsonObject, is_list, is_object
from metering.rules.price_list import PriceList
from metering.rules.rating import Rates
from models.enums import Meter

_CACHE_CONTROL: Final = "cache_control"
"""Where it stands, in a chat or a message, Anthropic writes what is before it to its cache."""
_SHORT: Final = (None, "5m")
_LONG_WRITES: Final = frozenset({Meter.LONG_CACHE_WRITE_INPUT_TOKENS.value})
_ALL_WRITES: Final = _LONG_WRITES | {Meter.CACHE_WRITE_INPUT_TOKENS.value}


def request_rates(model: ModelView, prices: PriceList, body: JsonObject, otherwise: JsonObject | None = None) -> Rates:
    """The prices by which a request is held for and charged. `otherwise`: see PriceList.rates_for.

    What the request does not ask to be written to a cache, where that is how its provider does, has no price of its own:
    so the hold need not be as if all of the input were written, and whatever is reported, the charge is within it.
    """
    rates = prices.rates_for(body, otherwise)
    if not (rates.prices_writes and model.caches_when_asked):
        return rates
    unasked = writes_unasked(body)
    return rates.without(unasked) if unasked else rates


def writes_unasked(body: JsonObject) -> frozenset[str]:
    """The meters of what a request of Anthropic's does not ask to be written to a cache."""
    unasked = _ALL_WRITES
    waiting: list[object] = [body]
    while waiting:
        value = waiting.pop()
        if is_object(value):
            control = value.get(_CACHE_CONTROL)
            if control is not None:
                if not is_object(control) or control.get("ttl") not in _SHORT:
                    return frozenset()
                unasked = _LONG_WRITES
            waiting.extend(value.values())
        elif is_list(value):
            waiting.extend(value)
    return unasked
