"""The list of events of the last thirty days."""

import fnmatch

import orjson

from stripe_double.endpoint import PAGE, Call, Endpoint, page
from stripe_double.errors import missing
from stripe_double.values import Json
from stripe_double.world import Happened


def _shown(happened: Happened) -> Json:
    event: Json = orjson.loads(happened.body)
    return event


def _list(call: Call) -> Json:
    call.world.forget_old()
    kinds: list[str] = call.params.get("types") or ([call.params["type"]] if "type" in call.params else ["*"])
    delivered: bool | None = call.params.get("delivery_success")
    wanted = [
        {"id": e.id, "created": e.created, "of": e}
        for e in call.world.events
        if e.account == call.account and any(fnmatch.fnmatchcase(e.kind, kind) for kind in kinds)
        if delivered is None or delivered == (e.id in call.world.delivered)
    ]
    found = page(call, wanted)
    return {**found, "data": [_shown(one["of"]) for one in found["data"]]}


def _retrieve(call: Call) -> Json:
    for event in call.world.events:
        if event.id == call.id and event.account == call.account:
            return _shown(event)
    raise missing("event", call.id)


ENDPOINTS = (
    Endpoint("GET", "/v1/events", "EventListParams", _list, (*PAGE, "type", "types", "delivery_success")),
    Endpoint("GET", "/v1/events/{id}", "EventRetrieveParams", _retrieve, ()),
)
