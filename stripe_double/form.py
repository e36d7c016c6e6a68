"""Reads form-encoded nested parameters: `items[0][price]=…` becomes {"items": {"0": {"price": …}}}."""

from urllib.parse import parse_qsl

from stripe_double.errors import invalid
from stripe_double.values import Json, is_object

_MOST_FIELDS = 2_000


def parse_form(encoded: str) -> Json:
    """The tree of a body or a query; lists are still objects keyed by position (params_check knows which are which).

    Raises ApiError 400 where a key is both a value and an object.
    """
    tree: Json = {}
    try:
        pairs = parse_qsl(encoded, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise invalid("Too many parameters") from None
    for key, value in pairs:
        _put(tree, _segments(key), value, key)
    return tree


def _segments(key: str) -> list[str]:
    head, bracket, rest = key.partition("[")
    if not bracket:
        return [key]
    if not head or not rest.endswith("]"):
        raise invalid(f"Invalid parameter name: {key}", param=key)
    return [head, *rest[:-1].split("][")]


def _put(tree: Json, segments: list[str], value: str, key: str) -> None:
    *parents, last = segments
    here = tree
    for segment in parents:
        following = here.setdefault(segment or str(len(here)), {})
        if not is_object(following):
            raise invalid(f"Invalid object at {key}", param=key)
        here = following
    here[last or str(len(here))] = value
