"""Fills in the objects that a request asks for by `expand[]`."""

from collections.abc import Iterable

from stripe_double.errors import invalid
from stripe_double.values import Json, is_object
from stripe_double.world import World, shown

_DEEPEST = 4


def expanded(world: World, answer: Json, paths: Iterable[str]) -> Json:
    """A copy of `answer` with ids replaced by objects along each path; ApiError 400 where a path cannot be expanded."""
    wanted: Json = {}
    for path in paths:
        segments = path.split(".")
        if len(segments) > _DEEPEST + (segments[0] == "data"):
            raise invalid("You cannot expand more than 4 levels of a property.", param="expand")
        here = wanted
        for segment in segments:
            here = here.setdefault(segment, {})
    return _filled(world, answer, wanted, "")


def _filled(world: World, subject: Json, wanted: Json, path: str) -> Json:
    copy = dict(shown(subject))
    for name, inner in wanted.items():
        where = f"{path}.{name}" if path else name
        if name not in subject:
            raise invalid(f"This property cannot be expanded ({where}).", param="expand")
        copy[name] = _value(world, subject[name], inner, where)
    if copy.get("object") == "list" and "data" not in wanted:
        copy["data"] = [shown(one) for one in copy["data"]]
    return copy


def _value(world: World, value: object, inner: Json, where: str) -> object:
    if value is None:
        return None
    if isinstance(value, str):
        found = world.find(value)
        if found is None:
            raise invalid(f"This property cannot be expanded ({where}).", param="expand")
        return _filled(world, found, inner, where)
    if isinstance(value, list):
        members: list[object] = list(value)  # pyright: ignore[reportUnknownArgumentType]  JSON of any kind
        return [_value(world, one, inner, where) for one in members]
    if is_object(value):
        return _filled(world, value, inner, where)
    raise invalid(f"This property cannot be expanded ({where}).", param="expand")
