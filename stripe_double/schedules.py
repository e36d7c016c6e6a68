"""Subscription schedules: phases of a subscription, of which the next begins when one ends."""

from stripe_double.endpoint import PAGE, Call, Endpoint, copied, matching, page
from stripe_double.errors import invalid
from stripe_double.offered import only_offered
from stripe_double.periods import after
from stripe_double.products import get_price
from stripe_double.schedule_objects import make_phase, make_schedule
from stripe_double.subscription_billing import apply
from stripe_double.subscription_changes import Change, NewItem
from stripe_double.subscription_objects import UPDATED, end, items_of, period_of
from stripe_double.subscription_updates import update as update_subscription
from stripe_double.values import Json, part
from stripe_double.world import World

_UPDATED = "subscription_schedule.updated"
_PHASE = (
    "items",
    "start_date",
    "end_date",
    "duration",
    "metadata",
    "proration_behavior",
    "currency",
)


def _create(call: Call) -> Json:
    world, params = call.world, call.params
    if "from_subscription" not in params:
        raise invalid(
            "The double makes schedules from subscriptions.", code="double_not_offered", param="from_subscription"
        )
    subscription = world.get("subscription", params["from_subscription"], param="from_subscription")
    if subscription["schedule"] is not None:
        raise invalid("You cannot migrate a subscription that is already attached to a schedule: "
                      f"`{subscription['schedule']}`.")  # fmt: skip
    if subscription["status"] not in {"active", "trialing", "past_due"}:
        raise invalid(f"You cannot migrate a subscription that is {subscription['status']}.")
    schedule = make_schedule(world, subscription, part(params, "metadata"))
    world.add(schedule)
    with world.changing(subscription, UPDATED):
        subscription["schedule"] = schedule["id"]
    world.emit("subscription_schedule.created", schedule)
    _plan(world, schedule)
    return schedule


def _update(call: Call) -> Json:
    world, params = call.world, call.params
    schedule = world.get("subscription_schedule", call.id)
    _require_living(schedule, "update")
    phases = _phases(world, schedule, params["phases"]) if "phases" in params else None
    subscription = world.get("subscription", schedule["subscription"])
    with world.changing(schedule, _UPDATED):
        copied(schedule, params, "end_behavior")
        if phases is not None:
            schedule["phases"] = phases
            current = _current(schedule, world.now)
            schedule["current_phase"] = {"start_date": current["start_date"], "end_date": current["end_date"]}
            _follow(world, subscription, current, params.get("proration_behavior", "create_prorations"))
            _plan(world, schedule)
    return schedule


def _phases(world: World, schedule: Json, wanted: list[Json]) -> list[Json]:
    phases: list[Json] = []
    for position, phase in enumerate(wanted):
        where = f"phases[{position}]"
        only_offered(phase, *_PHASE, where=where)
        recurring = None
        for at, item in enumerate(phase["items"]):
            recurring = get_price(world, item["price"], param=f"{where}[items][{at}][price]")["recurring"]
        start = _instant(world, phase.get("start_date")) or (phases[-1]["end_date"] if phases else None)
        if start is None:
            raise invalid("Missing required param: phases[0][start_date].", code="parameter_missing", param=where)
        finish = _instant(world, phase.get("end_date"))
        if finish is None:
            step = phase.get("duration") or recurring
            assert step is not None, "a phase has items"
            finish = after(start, {"interval_count": 1, **step}, 1)
        if finish <= start:
            raise invalid("The end date of a phase must be after its start.", param=f"{where}[end_date]")
        if phases and start != phases[-1]["end_date"]:
            raise invalid("Each phase must start when the one before ends.", param=f"{where}[start_date]")
        phases.append(make_phase(phase, start, finish))
    if not phases or phases[0]["start_date"] != schedule["phases"][0]["start_date"]:
        raise invalid("You can not modify the start date of the current phase.", param="phases[0][start_date]")
    if phases[-1]["end_date"] <= world.now:
        raise invalid("The subscription schedule update is invalid: all phases are over.", param="phases")
    return phases


def _instant(world: World, wanted: object) -> int | None:
    if wanted == "now":
        return world.now
    return wanted if isinstance(wanted, int) else None


def _current(schedule: Json, at: int) -> Json:
    return next(p for p in schedule["phases"] if p["start_date"] <= at < p["end_date"])


def _follow(world: World, subscription: Json, phase: Json, proration_behavior: str) -> None:
    """The current phase may say other items than the subscription has: then they change now."""
    have = [(item["price"]["id"], item["quantity"]) for item in items_of(subscription)]
    want = [(item["price"], item["quantity"]) for item in phase["items"]]
    if have != want:
        items = [
            {"id": i["id"], "price": p, "quantity": q} for i, (p, q) in zip(items_of(subscription), want, strict=False)
        ]
        update_subscription(world, subscription, {"items": items, "proration_behavior": proration_behavior})


def _plan(world: World, schedule: Json) -> None:
    for phase in schedule["phases"]:
        world.plan(phase["end_date"], "schedule.phase_end", schedule["id"])


def enter_phase(world: World, subscription: Json) -> None:
    """At the end of a billing period: take the items of the phase that begins now, or let the schedule end."""
    if subscription["schedule"] is None:
        return
    schedule = world.get("subscription_schedule", subscription["schedule"])
    if schedule["current_phase"] is None or schedule["current_phase"]["end_date"] > world.now:
        return
    following = next((p for p in schedule["phases"] if p["start_date"] <= world.now < p["end_date"]), None)
    if following is None:
        _finish(world, schedule, subscription)
        return
    with world.changing(schedule, _UPDATED):
        schedule["current_phase"] = {"start_date": following["start_date"], "end_date": following["end_date"]}
    old = items_of(subscription)
    items = tuple(
        NewItem(old[at]["id"] if at < len(old) else None, world.get("price", item["price"]), item["quantity"])
        for at, item in enumerate(following["items"])
    )
    same = _interval(old[0]["price"]) == _interval(items[0].price)
    with world.changing(subscription, UPDATED):
        apply(world, subscription, Change(items, (), world.now))
        subscription["metadata"] = {**subscription["metadata"], **following["metadata"]}
        if not same:
            subscription["billing_cycle_anchor"] = world.now


def _interval(price: Json) -> tuple[str, int]:
    return price["recurring"]["interval"], price["recurring"]["interval_count"]


def phase_end(world: World, schedule: Json) -> None:
    """A phase's end that is no period's end: its successor's items come into force now, prorated as it says."""
    subscription = world.find(schedule["subscription"] or "")
    if schedule["status"] != "active" or subscription is None or period_of(subscription)[1] == world.now:
        return
    current = schedule["current_phase"]
    if current is None or current["end_date"] > world.now:
        return
    following = next((p for p in schedule["phases"] if p["start_date"] <= world.now < p["end_date"]), None)
    if following is None:
        _finish(world, schedule, subscription)
        return
    with world.changing(schedule, _UPDATED):
        schedule["current_phase"] = {"start_date": following["start_date"], "end_date": following["end_date"]}
    _follow(world, subscription, following, following["proration_behavior"])


def _finish(world: World, schedule: Json, subscription: Json) -> None:
    """After the last phase."""
    if schedule["end_behavior"] == "cancel":
        schedule["status"], schedule["completed_at"], schedule["current_phase"] = "completed", world.now, None
        subscription["schedule"] = None
        world.emit("subscription_schedule.completed", schedule)
        end(world, subscription, reason="cancellation_requested")
        return
    release(world, schedule)


def release(world: World, schedule: Json) -> None:
    """The subscription goes on as it is, without the schedule."""
    _require_living(schedule, "release")
    subscription = world.get("subscription", schedule["subscription"])
    schedule.update(
        status="released", released_at=world.now, released_subscription=subscription["id"], subscription=None,
        current_phase=None,
    )  # fmt: skip
    with world.changing(subscription, UPDATED):
        subscription["schedule"] = None
    world.emit("subscription_schedule.released", schedule)


def _require_living(schedule: Json, verb: str) -> None:
    if schedule["status"] not in {"active", "not_started"}:
        raise invalid(
            f"You cannot {verb} a subscription schedule that is currently in the `{schedule['status']}` status."
        )


def _release(call: Call) -> Json:
    schedule = call.world.get("subscription_schedule", call.id)
    release(call.world, schedule)
    return schedule


def _cancel(call: Call) -> Json:
    schedule = call.world.get("subscription_schedule", call.id)
    _require_living(schedule, "cancel")
    end(call.world, call.world.get("subscription", schedule["subscription"]), reason="cancellation_requested")
    return schedule


def _list(call: Call) -> Json:
    return page(call, matching(call.world.all("subscription_schedule"), call.params, "customer"))


_PATH = "/v1/subscription_schedules"
ENDPOINTS = (
    Endpoint("POST", _PATH, "SubscriptionScheduleCreateParams", _create, ("from_subscription", "metadata")),
    Endpoint("GET", _PATH, "SubscriptionScheduleListParams", _list, (*PAGE, "customer")),
    Endpoint(
        "GET",
        f"{_PATH}/{{id}}",
        "SubscriptionScheduleRetrieveParams",
        lambda call: call.world.get("subscription_schedule", call.id),
        (),
    ),
    Endpoint(
        "POST",
        f"{_PATH}/{{id}}",
        "SubscriptionScheduleUpdateParams",
        _update,
        ("phases", "end_behavior", "metadata", "proration_behavior"),
    ),
    Endpoint("POST", f"{_PATH}/{{id}}/release", "SubscriptionScheduleReleaseParams", _release, ()),
    Endpoint("POST", f"{_PATH}/{{id}}/cancel", "SubscriptionScheduleCancelParams", _cancel, ()),
)
