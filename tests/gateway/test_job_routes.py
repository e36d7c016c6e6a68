"""Which provider makes a job, over real sockets: lots, tries, fallback, circuits, pauses, and what is told of it."""

import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

import orjson
import pytest
from prometheus_client import REGISTRY

from gateway.job_rows import claim
from gateway.jobs import Jobs
from kit.clock import now
from tests.gateway.conftest import OpenShop
from tests.gateway.job_shop import Shop
from tests.gateway.test_provider_webhooks import post, signed
from tests.gateway.upstream import Play, Stage, closing, failing, saying
from tests.providers.upstreams import Upstream, answer, scripted

MORE = """
[providers.alpha]
kind = "prediction"
base_url = "{url}"
circuit_failures = 6
circuit_cooldown_s = 30

[providers.keyed]
kind = "prediction"
base_url = "{url}"
[providers.keyed.prediction]
idempotency_header = "Idempotency-Key"

[providers.whole]
kind = "openai_compatible"
base_url = "http://127.0.0.1:9/v1"

[models.duo]
name = "Clip that alpha makes first"
modality = "VIDEO"
max_seconds = 10
routes = [
    {{ provider = "alpha", upstream_model = "a-video", order = 0 }},
    {{ provider = "prints", upstream_model = "the-video", order = 1 }},
]
prices = [{{ meter = "SECONDS", credits = "2" }}]

[models.keyed-duo]
name = "Clip of a provider with keys first"
modality = "VIDEO"
max_seconds = 10
routes = [
    {{ provider = "keyed", upstream_model = "a-video", order = 0 }},
    {{ provider = "prints", upstream_model = "the-video", order = 1 }},
]
prices = [{{ meter = "SECONDS", credits = "2" }}]

[models.shared]
name = "Clip by lot"
modality = "VIDEO"
max_seconds = 10
routes = [
    {{ provider = "prints", upstream_model = "a-video", order = 0, weight = 3 }},
    {{ provider = "once", upstream_model = "a-video", order = 0, weight = 1 }},
    {{ provider = "nowhere", upstream_model = "a-video", order = 1 }},
]
prices = [{{ meter = "SECONDS", credits = "2" }}]

[models.solo]
name = "Clip of alpha alone"
modality = "VIDEO"
max_seconds = 10
routes = [{{ provider = "alpha", upstream_model = "a-video" }}]
prices = [{{ meter = "SECONDS", credits = "2" }}]

[models.print-elsewhere]
name = "Print whose first provider is not there"
modality = "IMAGE"
max_images = 10
routes = [
    {{ provider = "whole", upstream_model = "sandbox-image", order = 0 }},
    {{ provider = "rest", upstream_model = "sandbox-image", order = 1 }},
]
prices = [{{ meter = "IMAGES", credits = "3" }}]
"""
MADE = {"id": "p1", "status": "succeeded", "output": ["data:video/mp4;base64,AAAA"]}


@dataclass
class Stand:
    shop: Shop
    alpha: Upstream
    stage: Stage

    async def route(self) -> list:
        """Of the only usage event, with nothing held and every invariant of the money true."""
        details = await self.shop.pg.fetchval("SELECT details FROM usage_events")
        return [] if details is None else orjson.loads(details).get("route", [])


@pytest.fixture
async def stand(open_shop_with: OpenShop) -> AsyncIterator[Stand]:
    stage = Stage([failing("503 Busy")])
    async with scripted(stage) as alpha, open_shop_with(MORE.format(url=alpha.url)) as shop:
        yield Stand(shop, alpha, stage)


def making(**more: object) -> Play:
    return saying(answer(orjson.dumps(MADE | more), "201 Created"))


def count(metric: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(metric, labels) or 0.0


async def test_a_job_that_its_first_provider_refuses_to_make_goes_to_the_second(stand: Stand) -> None:
    ended = await stand.shop.ended(await stand.shop.start("duo"))
    assert (ended.status, ended.usage.provider) == ("SUCCEEDED", "prints")
    assert len(stand.alpha.requests) == 3  # as often as calls are tried there
    assert await stand.route() == [["alpha", "unavailable"]] * 3 + [["prints", "answered"]]
    assert len(stand.shop.served("created")) == 1
    assert await stand.shop.spent() == 6


@pytest.mark.parametrize("status", ["401 No", "429 Slow"])
async def test_what_another_try_would_not_mend_goes_to_the_next_at_once(stand: Stand, status: str) -> None:
    stand.stage.plays = [failing(status)]
    assert (await stand.shop.ended(await stand.shop.start("duo"))).usage.provider == "prints"
    assert len(stand.alpha.requests) == 1


async def test_a_refused_request_goes_nowhere_else(stand: Stand) -> None:
    stand.stage.plays = [failing("422 Unprocessable")]
    ended = await stand.shop.ended(await stand.shop.start("duo"))
    assert (ended.status, ended.error_code) == ("FAILED", "UPSTREAM_REJECTED")
    assert len(stand.alpha.requests) == 1
    assert stand.shop.served("created") == []


async def test_a_provider_whose_circuit_is_open_is_passed_over(stand: Stand) -> None:
    first = [await stand.shop.start("duo") for _ in range(2)]
    for call_id in first:
        await stand.shop.ended(call_id)
    await stand.shop.services.calls._router._breakers.close()
    assert count("tollgate_provider_circuit", provider="alpha") == 2
    seen = len(stand.alpha.requests)
    await stand.shop.pg.execute("CREATE TEMP TABLE older AS SELECT call_id FROM usage_events")
    await stand.shop.ended(await stand.shop.start("duo"))
    assert len(stand.alpha.requests) == seen == 6
    details = await stand.shop.pg.fetchval(
        "SELECT details FROM usage_events WHERE call_id NOT IN (SELECT call_id FROM older)"
    )
    assert orjson.loads(details)["route"] == [["alpha", "left_alone"], ["prints", "answered"]]


async def test_a_job_whose_only_provider_is_left_alone_waits_and_is_made_when_it_is_back(stand: Stand) -> None:
    breakers = stand.shop.services.calls._router._breakers
    for _ in range(6):
        breakers.failed("alpha")
    await breakers.close()
    call_id = await stand.shop.start("solo")
    await stand.shop.round()
    assert (await stand.shop.call(call_id)).status == "QUEUED"
    assert (await stand.shop.row(call_id))["submitting_at"] is None
    assert stand.alpha.requests == []
    breakers._closed("alpha")
    stand.stage.plays = [making()]
    ended = await stand.shop.ended(call_id)
    assert (ended.status, len(stand.alpha.requests)) == ("SUCCEEDED", 1)


async def test_one_that_asks_for_a_pause_gets_no_job_meanwhile(stand: Stand) -> None:
    stand.stage.plays = [failing("429 Slow", "Retry-After: 50\r\n")]
    for _ in range(2):
        assert (await stand.shop.ended(await stand.shop.start("duo"))).usage.provider == "prints"
    assert len(stand.alpha.requests) == 1


async def test_a_failed_creation_speaks_against_the_provider_for_calls_too(stand: Stand) -> None:
    before = count("tollgate_provider_attempts_total", provider="alpha", outcome="unavailable")
    answered = count("tollgate_provider_seconds_count", provider="prints")
    await stand.shop.ended(await stand.shop.start("duo"))
    assert count("tollgate_provider_attempts_total", provider="alpha", outcome="unavailable") == before + 3
    assert count("tollgate_provider_seconds_count", provider="prints") == answered + 1


# What may have been made is made nowhere else


@pytest.mark.parametrize(
    "play",
    [closing, failing("502 Bad"), failing("504 Slow"), failing("200 OK", body=b"rubbish")],
    ids=["closed", "502", "504", "rubbish"],
)
async def test_a_creation_that_may_have_been_accepted_is_not_repeated_anywhere(stand: Stand, play: Play) -> None:
    stand.stage.plays = [play]
    ended = await stand.shop.ended(await stand.shop.start("duo"))
    assert ended.status == "FAILED"
    assert len(stand.alpha.requests) == 1
    assert stand.shop.served("created") == []
    assert await stand.shop.spent() == 0


async def test_where_the_provider_promises_one_for_a_key_it_alone_is_asked_again_under_the_same_key(
    stand: Stand,
) -> None:
    stand.stage.plays = [closing, failing("503 Busy"), failing("429 Slow"), making()]
    ended = await stand.shop.ended(await stand.shop.start("keyed-duo"))
    assert (ended.status, ended.usage.provider) == ("SUCCEEDED", "keyed")
    keys = {
        line for heard in stand.alpha.requests for line in heard.head.split("\r\n") if "idempotency" in line.lower()
    }
    assert (len(stand.alpha.requests), len(keys)) == (4, 1)
    assert stand.shop.served("created") == []
    assert await stand.route() == [
        ["keyed", "unavailable"],
        ["keyed", "unavailable"],
        ["keyed", "rate_limited"],
        ["keyed", "answered"],
    ]


async def test_a_provider_that_never_tells_is_given_up_and_nothing_is_charged(stand: Stand) -> None:
    stand.stage.plays = [closing]
    ended = await stand.shop.ended(await stand.shop.start("keyed-duo"))
    assert (ended.status, ended.error_code) == ("FAILED", "UPSTREAM_ERROR")
    assert stand.shop.served("created") == []
    assert await stand.shop.spent() == 0


async def test_a_worker_that_dies_between_two_tries_leaves_the_job_as_one_that_nobody_has(stand: Stand) -> None:
    """What surely failed is written down before anybody else is asked, so that the next worker begins anew."""
    call_id = await stand.shop.start("duo")
    stand.stage.plays = [failing("503 Busy"), failing("429 Slow")]
    (job,) = await claim(stand.shop.services.database, now(), 1)
    runner = stand.shop.services.jobs.runner
    placement = runner._placing.of(job, {"prompt": "x", "seconds": 3, "metadata": {"sandbox_status": "503"}})
    with pytest.raises(Exception, match="503"):
        await runner._placing.place(placement)
    row = await stand.shop.row(call_id)
    assert (row["submitting_at"], row["prediction_id"], row["provider"]) == (None, None, "prints")
    (again,) = await _claimed_again(stand.shop)
    assert [each.provider for each in again.tries][:2] == ["alpha", "alpha"]
    assert (await stand.shop.ended(call_id)).usage.provider == "prints"


async def _claimed_again(shop: Shop) -> list:
    await shop.hurry()
    return await claim(shop.services.database, now(), 1)


async def test_a_picture_whose_first_provider_cannot_be_reached_is_made_by_the_next(stand: Stand) -> None:
    ended = await stand.shop.ended(await stand.shop.start("print-elsewhere", n=2, prompt="x"))
    assert (ended.status, ended.usage.provider) == ("SUCCEEDED", "rest")
    assert await stand.shop.spent() == 6


async def test_a_job_cancelled_between_two_tries_ends_at_once_and_nobody_else_is_asked(stand: Stand) -> None:
    call_id = await stand.shop.start("duo")

    async def cancelled(reader, writer) -> None:
        await stand.shop.pg.execute("UPDATE jobs SET cancel_requested_at = now() WHERE call_id = $1", call_id)
        await failing("503 Busy")(reader, writer)

    stand.stage.plays = [cancelled]
    ended = await stand.shop.ended(call_id)
    assert (ended.status, len(stand.alpha.requests)) == ("CANCELED", 1)
    assert stand.shop.served("created") == []
    assert await stand.shop.spent() == 0


# Lots


async def test_jobs_go_to_routes_by_weight_within_their_order(stand: Stand) -> None:
    jobs: Jobs = stand.shop.services.jobs.jobs
    jobs._chance = random.Random(7).random
    for _ in range(120):
        await stand.shop.start("shared")
    rows = await stand.shop.pg.fetch("SELECT terms FROM jobs")
    drawn = Counter("-".join(route[0] for route in orjson.loads(row["terms"])["routes"]) for row in rows)
    assert drawn.keys() == {"prints-once-nowhere", "once-prints-nowhere"}
    assert 78 <= drawn["prints-once-nowhere"] <= 102  # three of four


async def test_the_first_of_the_lot_makes_the_job(stand: Stand) -> None:
    jobs: Jobs = stand.shop.services.jobs.jobs
    for lots, expected in (([0.9, 0.01, 0.5], "prints"), ([0.01, 0.9, 0.5], "once")):
        jobs._chance = iter(lots).__next__
        assert (await stand.shop.ended(await stand.shop.start("shared"))).usage.provider == expected


# What holds for those made elsewhere too


async def test_polls_of_a_job_made_elsewhere_cost_nothing_and_its_webhook_makes_it_due(stand: Stand) -> None:
    shop = stand.shop
    call_id = await shop.start("duo", sandbox_delay_ms=1_500)
    for _ in range(5):
        await shop.hurry()
        await shop.round()
    row = await shop.row(call_id)
    assert row["provider"] == "prints"
    assert await shop.wallet() == (1_000_000_000, 6_000_000)
    assert await shop.pg.fetchval("SELECT count(*) FROM usage_events") == 0
    await shop.pg.execute("UPDATE jobs SET due_at = now() + interval '1 hour'")
    body = orjson.dumps({"id": row["prediction_id"]})
    assert await post(shop, "alpha", body, signed(body)) in {401, 404}  # it has no secret, and not this job
    assert await post(shop, "prints", body, signed(body, key=b"another")) == 401
    assert await shop.round() == 0
    assert await post(shop, "prints", body, signed(body)) == 204
    assert await shop.round() == 1
    assert (await shop.ended(call_id)).status == "SUCCEEDED"
    assert await shop.spent() == 6
    assert len(shop.served("created")) == 1


async def test_jobs_count_once_at_their_end_by_the_truth_table(stand: Stand) -> None:
    def figures() -> list[float]:
        return [
            *[count("tollgate_calls_total", model="clip", status=each) for each in ("SUCCEEDED", "FAILED", "CANCELED")],
            count("tollgate_call_credits_total", model="clip"),
            count("tollgate_usage_estimated_total", model="clip", provider="prints"),
        ]

    async def more_after(call_id) -> list[float]:
        before = figures()
        await stand.shop.ended(call_id)
        await stand.shop.hurry()
        await stand.shop.round()
        return [now_ - was for now_, was in zip(figures(), before, strict=True)]

    shop = stand.shop
    assert await more_after(await shop.start()) == [1, 0, 0, 7, 0]
    assert await more_after(await shop.start(sandbox_outcome="fail")) == [0, 1, 0, 0, 0]
    assert await more_after(await shop.start(sandbox_usage="none")) == [1, 0, 0, 7, 1]
    before = figures()
    await shop.services.jobs.jobs.cancel(await shop.start())
    assert [now_ - was for now_, was in zip(figures(), before, strict=True)] == [0, 0, 1, 0, 0]
