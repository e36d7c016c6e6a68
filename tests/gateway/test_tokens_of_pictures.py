"""Pictures and films that are priced by tokens are held for by their share of the most that a call generates."""

from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from gateway.rules.jobs import verdict_of
from metering.operations import UsageFacts
from providers.predictions import PredictionState
from tests.gateway.conftest import OpenShop
from tests.gateway.upstream import Play, Theatre, saying, theatre
from tests.metering.invariants import assert_invariants
from tests.providers.upstreams import answer

MODEL = """
[models.{slug}]
name = "Painter"
modality = "{modality}"
max_{unit} = 10
max_output_tokens = 1_000
routes = [{{ provider = "{provider}", upstream_model = "a-video" }}]
prices = [{{ meter = "OUTPUT_TOKENS", credits = "2" }}]
"""
IMAGES = "/v1/images/generations"
CREDITS = 500


@pytest.fixture
async def stage(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Theatre]:
    painter = MODEL.format(slug="painter", modality="IMAGE", unit="images", provider="alpha")
    async with theatre(
        database_url, redis_url, tmp_path, alpha_more=painter, credits_micro=CREDITS * 1_000_000
    ) as opened:
        yield opened


def painting(tokens: int) -> Play:
    return saying(
        answer(orjson.dumps({"data": [{"b64_json": "AA=="}], "usage": {"input_tokens": 5, "output_tokens": tokens}}))
    )


@pytest.mark.parametrize(("reported", "credits_", "estimated"), [(60, 120, False), (100, 200, False), (900, 200, True)])
async def test_a_picture_is_charged_for_its_tokens_within_its_hold(
    stage: Theatre, pg, reported: int, credits_: int, estimated: bool
) -> None:
    held: list[int] = []

    async def play(reader, writer):
        held.append(await pg.fetchval("SELECT amount_micro FROM holds"))
        await painting(reported)(reader, writer)

    stage.plays.plays = [play]
    got = await stage.gate.ask({"model": "painter", "prompt": "a gate"}, path=IMAGES)
    assert got.status == 200, got.raw
    assert held == [200_000_000]  # one of ten pictures
    ended = await stage.settled()
    assert (ended["charged_micro"], ended["estimated"]) == (credits_ * 1_000_000, estimated)
    await assert_invariants(pg)


async def test_pictures_that_the_wallet_cannot_pay_are_not_made(stage: Theatre) -> None:
    stage.plays.plays = [painting(100)]
    refused = await stage.gate.ask({"model": "painter", "prompt": "a gate", "n": 3}, path=IMAGES)
    assert refused.code == "insufficient_credits"
    assert (await stage.gate.ask({"model": "painter", "prompt": "a gate", "n": 2}, path=IMAGES)).status == 200
    assert len(stage.alpha.requests) == 1


async def test_a_films_share_is_that_of_its_seconds_and_is_kept_with_its_job(open_shop_with: OpenShop) -> None:
    film = MODEL.format(slug="token-film", modality="VIDEO", unit="seconds", provider="prints")
    async with open_shop_with(film) as shop:
        call_id = await shop.start("token-film")
        assert (await shop.wallet())[1] == 600_000_000  # 3 of 10 seconds
        assert orjson.loads((await shop.row(call_id))["terms"])["bound"]["output_tokens"] == 300


@pytest.mark.parametrize(("bound", "charged"), [(300, 300), (0, 900)])
def test_what_a_job_reports_is_cut_at_its_bound_where_its_row_has_one(bound: int, charged: int) -> None:
    facts = UsageFacts(output_tokens=bound, requests=1, seconds=3, estimated=True)
    told = verdict_of(
        PredictionState.SUCCEEDED,
        {"seconds": 3, "output_tokens": 900},
        1,
        facts,
        "p",
        cancel_asked=False,
        tokens_priced=False,
    )
    assert told.usage is not None
    assert told.usage.output_tokens == charged
