"""Places in JSON named by dotted paths: names of objects, numbers of lists, * for all of a list, . for the whole."""

from collections.abc import Sequence
from typing import Final

from kit.json_values import is_list, is_object
from providers.base import JsonObject
from providers.prediction_terms import WHOLE

_ALL: Final = "*"


def read(value: object, path: str) -> object:
    """What stands at the path; None where nothing does. A path with * gives the list of what it found."""
    return value if path == WHOLE else _read(value, path.split("."))


def write(body: JsonObject, path: str, value: object) -> None:
    """Put the value at a path of names, making the objects on the way; at the whole, an object's fields are added."""
    if path == WHOLE:
        if is_object(value):
            body.update(value)
        return
    *above, last = path.split(".")
    place = body
    for name in above:
        below = place.get(name)
        if not is_object(below):
            below = place[name] = {}
        place = below
    place[last] = value


def _read(value: object, steps: Sequence[str]) -> object:
    for number, step in enumerate(steps):
        if step == _ALL:
            found = [_read(item, steps[number + 1 :]) for item in value] if is_list(value) else []
            return [item for item in found if item is not None]
        if is_object(value):
            value = value.get(step)
        elif is_list(value) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value
