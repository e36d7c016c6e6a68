"""Jobs from their hold to their end, against a sandbox server over real HTTP: settled once, or released, whatever happens."""

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from app.lifespan import open_services
from gateway.errors import InsufficientCredits, NotAJob
from gateway.job_rows import LEASE
from gateway.places import TooManyCalls
from kit.errors import InvalidInput
from metering.errors import IdempotencyKeyReused
from metering.reaper import reap_holds
from providers.base import Operation
from tests.gateway.job_shop import Shop, later, settings_of, until
from tests.metering.invariants import assert_invariants
from tests.metering.money import waiting_for_lock


async def test_a_job_is_held_for_queued_worked_on_and_settled_by_what_the_provider_reports(shop: Shop) -> None:
    call_id = await shop.start()
    assert (await shop.call(call_id)).status == "QUEUED"
    assert (await shop.wallet())[1] == 7_000_000  # one request and three seconds
    assert await shop.room() == (0, 3_000)
    ended = await shop.ended(call_id)
    assert (ended.status, ended.usage.seconds, ended.usage.requests) == ("SUCCEEDED", 3, 1)
    assert not ended.usage.estimated
    assert await shop.spent() == 7
    assert await shop.room() == (256, 0)
    assert len(shop.served("created")) == 1


async def test_while_the_provider_works_the_call_runs_and_each_look_costs_nothing(shop: Shop) -> None:
    call_id = await shop.start(sandbox_delay_ms=60_000)
    for _ in range(8):
        await shop.hurry()
        await shop.round()
    assert (await shop.call(call_id)).status == "RUNNING"
    assert (await shop.row(call_id))["polls"] >= 5
    assert await shop.wallet() == (1_000_000_000, 7_000_000)
    assert await shop.pg.fetchval("SELECT count(*) FROM usage_events") == 0


async def test_pictures_are_charged_as_many_as_were_made(shop: Shop) -> None:
    ended = await shop.ended(await shop.start("print", n=4))
    assert ended.usage.images == 4
    assert await shop.spent() == 12
    assert await shop.pg.fetchval("SELECT count(*) FROM assets WHERE content_type = 'image/png'") == 4


async def test_a_provider_that_answers_at_once_serves_jobs_too(shop: Shop) -> None:
    ended = await shop.ended(await shop.start("snapshot", n=2))
    assert (ended.status, ended.usage.images, ended.usage.provider) == ("SUCCEEDED", 2, "rest")
    assert await shop.spent() == 6


@pytest.mark.parametrize(("usage", "estimated"), [("none", True), ("negative", True), ("huge", True)])
async def test_usage_that_is_missing_or_cannot_be_believed_is_counted_by_what_was_asked_for(
    shop: Shop, usage: str, estimated: bool
) -> None:
    ended = await shop.ended(await shop.start(sandbox_usage=usage))
    assert (ended.usage.seconds, ended.usage.estimated) == (3, estimated)
    assert await shop.spent() == 7


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        ("fail", "the provider failed"),
        ("empty", "the provider made nothing; nothing is charged"),
        ("forget", "the provider no longer knows this job; nothing is charged"),
    ],
)
async def test_a_job_that_fails_makes_nothing_or_is_forgotten_costs_nothing(
    shop: Shop, outcome: str, told: str
) -> None:
    ended = await shop.ended(await shop.start(sandbox_outcome=outcome))
    assert (ended.status, ended.error_code, ended.error_message) == ("FAILED", "UPSTREAM_ERROR", told)
    assert await shop.spent() == 0
    assert await shop.room() == (0, 0)


async def test_a_refused_creation_is_told_and_costs_nothing(shop: Shop) -> None:
    ended = await shop.ended(await shop.start(sandbox_status=422))
    assert (ended.status, ended.error_code) == ("FAILED", "UPSTREAM_REJECTED")
    assert await shop.spent() == 0


async def test_a_provider_that_is_away_is_tried_again_then_given_up(shop: Shop) -> None:
    ended = await shop.ended(await shop.start(sandbox_status=503))
    assert (ended.status, ended.error_code) == ("FAILED", "UPSTREAM_ERROR")
    assert await shop.spent() == 0
    assert shop.served("created") == []


async def test_another_route_takes_a_job_that_the_first_cannot(shop: Shop) -> None:
    ended = await shop.ended(await shop.start("clip-elsewhere"))
    assert (ended.status, ended.usage.provider) == ("SUCCEEDED", "prints")
    assert await shop.spent() == 6


async def test_the_price_at_the_submit_counts(shop: Shop) -> None:
    call_id = await shop.start()
    await shop.pg.execute("UPDATE model_prices SET credits_micro = credits_micro * 1000")
    await shop.services.catalog.reload()
    await shop.ended(call_id)
    assert await shop.spent() == 7


async def test_a_job_beyond_its_models_deadline_is_cancelled_and_released(shop: Shop) -> None:
    call_id = await shop.start(sandbox_outcome="hang")
    await shop.round()
    async with later(timedelta(seconds=601)):
        ended = await shop.ended(call_id)
    assert (ended.status, ended.error_code) == ("FAILED", "UPSTREAM_TIMEOUT")
    assert len(shop.served("canceled")) == 1
    assert await shop.spent() == 0


async def test_a_job_that_waited_beyond_its_deadline_is_not_handed_over(shop: Shop) -> None:
    call_id = await shop.start()
    async with later(timedelta(seconds=601)):
        ended = await shop.ended(call_id)
    assert (ended.status, ended.error_code) == ("FAILED", "UPSTREAM_TIMEOUT")
    assert shop.served("created") == []


@pytest.mark.slow
async def test_holds_are_renewed_while_the_job_lasts_and_never_reaped_under_it(shop: Shop) -> None:
    call_id = await shop.start(sandbox_delay_ms=6_000)
    await shop.round()
    first = await shop.pg.fetchval("SELECT expires_at FROM holds")
    async with later(timedelta(minutes=9)):
        await shop.hurry()
        await shop.round()
    assert await shop.pg.fetchval("SELECT expires_at FROM holds") == first  # not half over
    await shop.pg.execute("UPDATE jobs SET deadline_at = now() + interval '1 day'")
    async with later(timedelta(minutes=16)):
        await shop.hurry()
        await shop.round()
    assert await shop.pg.fetchval("SELECT expires_at FROM holds") > first + timedelta(minutes=15)
    async with later(timedelta(hours=3)):  # all workers were away
        assert await reap_holds(shop.services.database, shop.services.ledger) == 0
        ended = await shop.ended(call_id)
    assert ended.status == "SUCCEEDED"
    assert await shop.spent() == 7


async def test_the_prompt_is_sealed_and_gone_once_a_provider_has_the_job(shop: Shop, database_url: str) -> None:
    call_id = await shop.start(sandbox_delay_ms=60_000)
    sealed = (await shop.row(call_id))["request"]
    assert sealed is not None
    assert b"marker" not in sealed
    await shop.round()
    row = await shop.row(call_id)
    assert row["request"] is None
    assert row["prediction_id"] is not None
    await shop.services.jobs.jobs.cancel(call_id)
    await shop.ended(call_id)
    for table in await shop.pg.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
        found = await shop.pg.fetchval(
            f"SELECT count(*) FROM {table[0]} t WHERE strpos(t::text, 'marker of this prompt') > 0"
            f" OR strpos(t::text, encode('marker of this prompt', 'hex')) > 0"
        )
        assert found == 0, table[0]


async def test_a_repeat_gives_the_same_call_running_or_ended(shop: Shop) -> None:
    first = await shop.start(key="k", sandbox_delay_ms=50)
    assert await shop.start(key="k", sandbox_delay_ms=50) == first
    await shop.ended(first)
    assert await shop.start(key="k", sandbox_delay_ms=50) == first
    with pytest.raises(IdempotencyKeyReused):
        await shop.start(key="k", seconds=4)
    assert await shop.spent() == 7
    assert len(shop.served("created")) == 1


async def test_many_repeats_at_once_are_one_job(shop: Shop) -> None:
    ids = await asyncio.gather(*(shop.start(key="k") for _ in range(12)))
    assert len(set(ids)) == 1
    await shop.ended(ids[0])
    assert await shop.spent() == 7


async def test_a_job_that_cannot_be_paid_is_refused_and_leaves_nothing(shop: Shop) -> None:
    await shop.pg.execute(
        "UPDATE model_prices SET credits_micro = 1000000000000 WHERE model_id = (SELECT id FROM models WHERE slug = 'clip')"
    )
    await shop.services.catalog.reload()
    with pytest.raises(InsufficientCredits):
        await shop.start(key="k")
    assert await shop.pg.fetchval("SELECT count(*) FROM jobs") == 0
    assert await shop.room() == (0, 0)


async def test_no_more_jobs_run_than_the_plan_allows_calls(shop: Shop) -> None:
    caller = await shop.caller(concurrent_calls=2)
    running = [await shop.start(caller=caller, sandbox_delay_ms=60_000) for _ in range(2)]
    with pytest.raises(TooManyCalls):
        await shop.start(caller=caller)
    assert (await shop.wallet())[1] == 14_000_000
    await shop.services.jobs.jobs.cancel(running[0])
    await shop.start(caller=caller)


@pytest.mark.parametrize(
    ("model", "body", "field"),
    [
        ("clip", {"seconds": 11}, "seconds"),
        ("clip", {"seconds": 0}, "seconds"),
        ("clip", {"prompt": ""}, "prompt"),
        ("print", {"n": 99}, "n"),
        ("sandbox-chat", {}, "model"),
    ],
)
async def test_what_no_job_can_be_is_refused(shop: Shop, model: str, body: dict, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        await shop.start(model, **body)
    assert refused.value.field == (field,)


async def test_what_takes_minutes_is_not_answered_whole(shop: Shop) -> None:
    from gateway.views import CallRequest

    request = CallRequest("clip", Operation.VIDEO, {"prompt": "x", "seconds": 1})
    with pytest.raises(InvalidInput, match="startCall"):
        await shop.services.calls.call(await shop.caller(), request)


# cancelling


async def test_a_job_cancelled_before_a_provider_knows_it_ends_at_once(shop: Shop) -> None:
    call_id = await shop.start()
    await shop.services.jobs.jobs.cancel(call_id)
    ended = await shop.call(call_id)
    assert (ended.status, ended.error_message) == ("CANCELED", "the call was cancelled")
    assert await shop.spent() == 0
    assert await shop.room() == (0, 0)
    await shop.hurry()
    assert await shop.round() == 0
    await shop.services.jobs.jobs.cancel(call_id)  # again: nothing to do


async def test_a_cancelled_film_is_charged_the_seconds_that_were_made(shop: Shop) -> None:
    call_id = await shop.start(seconds=10, sandbox_delay_ms=600_000)
    await shop.round()
    await shop.pg.execute("UPDATE jobs SET deadline_at = now() + interval '1 day'")
    await shop.services.jobs.jobs.cancel(call_id)
    ended = await shop.ended(call_id)
    assert (ended.status, ended.usage) == ("CANCELED", None)
    assert await shop.spent() == 0  # less than a second of it was made


async def test_a_cancelled_job_is_charged_what_it_had_made(shop: Shop) -> None:
    call_id = await shop.start("print", n=10, sandbox_delay_ms=10_000)
    await shop.round()
    await asyncio.sleep(1.1)
    await shop.services.jobs.jobs.cancel(call_id)
    ended = await shop.ended(call_id)
    made = ended.usage.images
    assert ended.status == "CANCELED"
    assert 1 <= made <= 9
    assert await shop.spent() == 3 * made
    assert await shop.pg.fetchval("SELECT count(*) FROM assets") == made


async def test_a_job_that_ended_before_its_cancellation_is_charged_whole(shop: Shop) -> None:
    call_id = await shop.start()
    await shop.round()
    await shop.services.jobs.jobs.cancel(call_id)
    ended = await shop.ended(call_id)
    assert ended.status == "SUCCEEDED"
    assert await shop.spent() == 7
    await shop.services.jobs.jobs.cancel(call_id)
    assert (await shop.call(call_id)).status == "SUCCEEDED"


async def test_a_job_that_its_provider_cannot_cancel_goes_on_to_its_end(shop: Shop) -> None:
    call_id = await shop.start("clip-once", sandbox_delay_ms=300)
    await shop.round()
    await shop.services.jobs.jobs.cancel(call_id)
    assert (await shop.ended(call_id)).status == "SUCCEEDED"
    assert await shop.spent() == 6


async def test_only_jobs_can_be_cancelled(shop: Shop) -> None:
    with pytest.raises(NotAJob):
        await shop.services.jobs.jobs.cancel(shop.seeded.api_key_id)


# what its output is kept for


async def test_D12_a_jobs_output_is_stored_only_while_the_workspace_says_so(shop: Shop) -> None:
    await shop.pg.execute("UPDATE workspaces SET store_outputs = true")
    shop.services.workspaces.forget_all()
    call_id = await shop.start()
    await shop.ended(call_id)
    outputs = shop.services.resolver_services.outputs
    after_a_day = datetime.now(UTC) + timedelta(hours=25)
    assert await outputs.read(call_id, after_a_day) is not None
    await shop.pg.execute("UPDATE workspaces SET store_outputs = false")
    assert await outputs.read(call_id, after_a_day) is None
    assert await outputs.read(call_id, datetime.now(UTC)) is not None  # who follows the job may fetch it for a day


# several workers


async def test_two_workers_take_each_job_once(shop: Shop, database_url: str, redis_url: str, tmp_path) -> None:
    async with AsyncExitStack() as stack:
        second = await stack.enter_async_context(open_services(settings_of(database_url, redis_url, tmp_path / "b")))
        ids = [await shop.start() for _ in range(12)]
        taken = 0
        while taken < 12:
            counts = await asyncio.gather(shop.round(), shop.round(second))
            taken += sum(counts)
        assert len(shop.served("created")) == 12
        for call_id in ids:
            await shop.ended(call_id)
    assert await shop.spent() == 84


async def test_two_workers_that_look_at_one_ended_job_together_settle_it_once(
    shop: Shop, database_url: str, redis_url: str, tmp_path
) -> None:
    async with AsyncExitStack() as stack:
        second = await stack.enter_async_context(open_services(settings_of(database_url, redis_url, tmp_path / "b")))
        for _ in range(6):
            call_id = await shop.start(sandbox_delay_ms=400, sandbox_file_delay_ms=400)
            while (await shop.row(call_id))["prediction_id"] is None:
                await shop.hurry()
                await shop.round()
            await asyncio.sleep(0.5)
            await shop.hurry()
            first = asyncio.create_task(shop.round())
            await until_fetched(shop)
            await shop.services.jobs.jobs.poke("prints", (await shop.row(call_id))["prediction_id"])
            assert await shop.round(second) == 1
            await first
            await shop.ended(call_id)
        assert len(shop.served("fetched")) >= 12
    assert await shop.spent() == 42
    assert await shop.pg.fetchval("SELECT count(*) FROM usage_events") == 6
    assert await shop.pg.fetchval("SELECT count(*) FROM assets") == 6
    assert await shop.room() == (6 * 256, 0)


async def until_fetched(shop: Shop) -> None:
    before = len(shop.served("fetched"))
    await until(lambda: len(shop.served("fetched")) > before)


async def test_a_lease_keeps_others_away_until_it_is_over(shop: Shop) -> None:
    await shop.start()
    async with shop.services.database.pool.acquire() as conn:
        await conn.execute("UPDATE jobs SET due_at = now()")
    from gateway.job_rows import claim
    from kit.clock import now

    assert len(await claim(shop.services.database, now(), 10)) == 1
    assert await claim(shop.services.database, now(), 10) == []
    async with later(LEASE):
        assert len(await claim(shop.services.database, now(), 10)) == 1


async def test_a_creation_of_unknown_outcome_is_repeated_only_where_the_provider_promises_one(shop: Shop) -> None:
    """What is left of a worker that died while it asked a provider: `submitting_at`, and no id."""
    repeated, once = await shop.start(), await shop.start("clip-once")
    await shop.pg.execute("UPDATE jobs SET submitting_at = now(), provider = 'prints' WHERE call_id = $1", repeated)
    await shop.pg.execute("UPDATE jobs SET submitting_at = now(), provider = 'once' WHERE call_id = $1", once)
    assert (await shop.ended(repeated)).status == "SUCCEEDED"
    ended = await shop.ended(once)
    assert (ended.status, ended.error_message) == ("FAILED", "the call was interrupted while a provider was asked")
    assert await shop.spent() == 7


async def test_a_settlement_that_cannot_be_written_is_tried_again_and_written_once(
    shop: Shop, database_url: str
) -> None:
    call_id = await shop.start(sandbox_delay_ms=300)
    await shop.round()
    await asyncio.sleep(0.4)
    blocker = await asyncpg.connect(database_url)
    await blocker.execute("BEGIN")
    await blocker.execute("SELECT FROM wallets FOR UPDATE")
    await shop.hurry()
    stuck = asyncio.create_task(shop.round())
    await until(lambda: len(shop.served("fetched")) == 1)
    await waiting_for_lock(database_url)
    # Its connection is cut in the middle of the settling transaction.
    await shop.pg.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    await stuck
    await blocker.execute("ROLLBACK")
    await blocker.close()
    assert (await shop.ended(call_id)).status == "SUCCEEDED"
    assert await shop.spent() == 7
    await assert_invariants(shop.pg)


async def test_ended_jobs_are_forgotten_after_a_week(shop: Shop) -> None:
    from gateway.job_rows import forget
    from kit.clock import now

    call_id = await shop.start()
    await shop.ended(call_id)
    running = await shop.start(sandbox_delay_ms=60_000)
    assert await forget(shop.services.database, now() + timedelta(days=6), limit=10) == 0
    assert await forget(shop.services.database, now() + timedelta(days=8), limit=10) == 1
    assert await shop.row(running) is not None
    assert (await shop.call(call_id)).status == "SUCCEEDED"
