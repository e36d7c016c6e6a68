"""What an endpoint is: a method, a path, the SDK's class of its parameters, and who answers."""

from collections.abc import Callable
from dataclasses import dataclass

from stripe_double.errors import invalid
from stripe_double.values import Json, is_object, listed
from stripe_double.world import World

PAGE = ("limit", "starting_after", "ending_before", "created")
"""What every list takes."""

_PAGE_LIMIT = 100
_PAGE_DEFAULT = 10


@dataclass(frozen=True, slots=True)
class Call:
    """One request: its world, the ids in its path, its checked parameters, the connected account it is made for."""

    world: World
    ids: dict[str, str]
    params: Json
    account: str | None
    path: str

    @property
    def id(self) -> str:
        """The object of the path."""
        return self.ids["id"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`params` names a class of stripe.params; `takes` those of its parameters that the double honours."""

    method: str
    path: str
    params: str
    answer: Callable[[Call], Json]
    takes: tuple[str, ...]


def page(call: Call, objects: list[Json]) -> Json:
    """One page of a list, the newest first; `objects` come oldest first."""
    params = call.params
    limit = params.get("limit", _PAGE_DEFAULT)
    if not 1 <= limit <= _PAGE_LIMIT:
        raise invalid("Invalid limit: must be between 1 and 100", code="parameter_invalid_integer", param="limit")
    newest = [o for o in reversed(objects) if _created_within(o, params.get("created"))]
    if (before := params.get("ending_before")) is not None:
        rest = newest[: _position(newest, before, "ending_before")]
        return listed(call.path, rest[-limit:], has_more=len(rest) > limit)
    if (after := params.get("starting_after")) is not None:
        newest = newest[_position(newest, after, "starting_after") + 1 :]
    return listed(call.path, newest[:limit], has_more=len(newest) > limit)


def _position(objects: list[Json], key: str, param: str) -> int:
    for at, one in enumerate(objects):
        if one["id"] == key:
            return at
    raise invalid(f"No such object: '{key}'", code="resource_missing", param=param)


def _created_within(one: Json, wanted: object) -> bool:
    if wanted is None:
        return True
    created: int = one["created"]
    if isinstance(wanted, int):
        return created == wanted
    bounds: Json = wanted if is_object(wanted) else {}
    return (
        created >= bounds.get("gte", created)
        and created > bounds.get("gt", created - 1)
        and created <= bounds.get("lte", created)
        and created < bounds.get("lt", created + 1)
    )


def matching(objects: list[Json], params: Json, *names: str) -> list[Json]:
    """Those whose fields equal the parameters of the same names, where given."""
    given = {name: params[name] for name in names if name in params}
    return [o for o in objects if all(o.get(name) == value for name, value in given.items())]


def merged_metadata(old: Json, new: object) -> Json:
    """Stripe's rule: keys are merged, an empty value removes one, an empty text all."""
    if new == "" or new is None:
        return {} if new == "" else old
    given: Json = new if is_object(new) else {}
    return {k: v for k, v in {**old, **given}.items() if v != ""}


def copied(target: Json, params: Json, *names: str) -> None:
    """Take over simple fields; an empty text unsets."""
    for name in names:
        if name in params:
            target[name] = None if params[name] == "" else params[name]
    if "metadata" in params:
        target["metadata"] = merged_metadata(target.get("metadata") or {}, params["metadata"])
