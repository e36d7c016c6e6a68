"""Reads a provider's answer about a prediction: its state, its outputs, what it reports to have used."""

import base64
import binascii
import math
from typing import Final

from kit.json_values import is_list, is_object
from providers.base import JsonObject
from providers.errors import UpstreamGarbage
from providers.json_paths import read
from providers.prediction_terms import PredictionMeter, PredictionTerms
from providers.predictions import MAX_OUTPUTS, OutputFile, Prediction, PredictionState

MAX_COUNT: Final = 1_000_000_000
MAX_ERROR_CHARACTERS: Final = 500
MAX_ID_CHARACTERS: Final = 1_000
_ADDRESSES: Final = ("url", "uri", "href")
_INLINE: Final = ("b64_json", "base64", "b64_audio")
_FIELDS: Final = {
    PredictionMeter.INPUT_TOKENS: "input_tokens",
    PredictionMeter.OUTPUT_TOKENS: "output_tokens",
    PredictionMeter.REQUESTS: "requests",
    PredictionMeter.IMAGES: "images",
    PredictionMeter.SECONDS: "seconds",
    PredictionMeter.CHARACTERS: "characters",
}


def prediction_of(terms: PredictionTerms, answer: JsonObject, known_id: str) -> Prediction:
    """The prediction in an answer; UpstreamGarbage where it has no id or a status that the catalog does not name."""
    found_id = read(answer, terms.id_field)
    prediction_id = str(found_id) if isinstance(found_id, str | int) and found_id != "" else known_id
    if not prediction_id or len(prediction_id) > MAX_ID_CHARACTERS or "\0" in prediction_id:
        raise UpstreamGarbage("the provider's answer has no id")
    return Prediction(
        id=known_id or prediction_id,
        state=_state_of(terms, read(answer, terms.status_field)),
        outputs=outputs_of(read(answer, terms.output_field)),
        reported=_reported(terms, answer),
        error=_error_of(read(answer, terms.error_field)),
    )


def outputs_of(value: object) -> tuple[OutputFile, ...]:
    """The files in a text, an object, or a list of either; what is neither is left out."""
    items = value if is_list(value) else [value]
    found = [file for item in items if (file := _file_of(item)) is not None]
    return tuple(found[:MAX_OUTPUTS])


def _state_of(terms: PredictionTerms, status: object) -> PredictionState:
    for words, state in (
        (terms.queued, PredictionState.QUEUED),
        (terms.running, PredictionState.RUNNING),
        (terms.succeeded, PredictionState.SUCCEEDED),
        (terms.failed, PredictionState.FAILED),
        (terms.canceled, PredictionState.CANCELED),
    ):
        if isinstance(status, str) and status in words:
            return state
    raise UpstreamGarbage("the provider's answer has a status that the catalog does not name")


def _file_of(item: object) -> OutputFile | None:
    if isinstance(item, str):
        return _at(item)
    if not is_object(item):
        return None
    for name in _ADDRESSES:
        address = item.get(name)
        if isinstance(address, str):
            return _at(address)
    for name in _INLINE:
        text = item.get(name)
        if isinstance(text, str):
            content_type = item.get("content_type")
            return _inline(text, content_type if isinstance(content_type, str) else None)
    return None


def _at(address: str) -> OutputFile | None:
    if address.startswith(("http://", "https://")):
        return OutputFile(url=address)
    head, comma, text = address.partition(",")
    if head.startswith("data:") and comma and head.endswith(";base64"):
        return _inline(text, head.removeprefix("data:").removesuffix(";base64").partition(";")[0] or None)
    return None


def _inline(text: str, content_type: str | None) -> OutputFile | None:
    try:
        return OutputFile(inline=base64.b64decode(text, validate=True), content_type=content_type)
    except (binascii.Error, ValueError):
        return None


def _reported(terms: PredictionTerms, answer: JsonObject) -> dict[str, int] | None:
    """What is reported; one number that cannot be believed spoils the whole, one that is not there does not."""
    counts: dict[str, int] = {}
    for meter, path in terms.usage:
        value = read(answer, path)
        if value is None:
            continue
        count = _count(value)
        if count is None:
            return None
        counts[_FIELDS[PredictionMeter(meter)]] = count
    return counts


def _count(value: object) -> int | None:
    """A number of units, parts of one rounded up; None for what is none."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not math.isfinite(value) or not 0 <= value <= MAX_COUNT:
        return None
    return math.ceil(value)


def _error_of(value: object) -> str:
    if is_object(value):
        value = value.get("message")
    text = value if isinstance(value, str) else ""
    return "".join(character for character in text if character.isprintable())[:MAX_ERROR_CHARACTERS]
