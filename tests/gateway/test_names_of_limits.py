"""A provider that knows the limit of a chat by one name is told it by that name, whatever the caller calls it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from billing.catalog_settings import settings_json, settings_of
from billing.errors import CatalogErrors
from tests.billing.catalog_samples import file_of, shipped, small
from tests.gateway.upstream import Theatre, asked, event, streaming, theatre, usage_event, used, whole
from tests.metering.invariants import assert_invariants

OLDER, NEWER = "max_tokens", "max_completion_tokens"


@pytest.fixture
async def stage(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Theatre]:
    async with theatre(database_url, redis_url, tmp_path, alpha_more="max_tokens_only = true") as opened:
        yield opened


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({OLDER: 20}, 20),
        ({NEWER: 20}, 20),
        ({NEWER: 20, OLDER: 30}, 20),
        ({NEWER: 20, OLDER: None}, 20),
        ({NEWER: None}, None),
        ({}, None),
    ],
)
async def test_a_chats_limit_has_the_name_that_its_provider_knows(
    stage: Theatre, pg, limits: dict, told: int | None, stream: bool
) -> None:
    usage = used(100, 10)
    stage.plays.plays = [
        streaming(event("word"), event(None, "stop"), usage_event(usage)) if stream else whole(usage=usage)
    ]
    body = {name: value for name, value in asked(stream=stream).items() if name != OLDER}
    got = await stage.gate.ask(body | limits)
    assert got.status == 200, got.raw
    sent = stage.alpha.requests[-1].json
    assert (sent.get(OLDER), NEWER in sent) == (told, False)
    await stage.settled()
    await assert_invariants(pg)


async def test_another_provider_is_told_both_as_they_came(database_url: str, redis_url: str, tmp_path: Path) -> None:
    async with theatre(database_url, redis_url, tmp_path) as stage:
        stage.plays.plays = [whole(usage=used(100, 10))]
        assert (await stage.gate.ask(asked(**{NEWER: 20, OLDER: 30}))).status == 200
        sent = stage.alpha.requests[-1].json
        assert (sent[NEWER], sent[OLDER]) == (20, 30)


def test_a_catalog_says_so_of_a_provider_in_openais_form_only() -> None:
    settings = shipped("pay-as-you-go").settings
    assert {each.name for each in settings.providers if each.max_tokens_only} == {"mistral", "deepseek"}
    assert settings_of(settings_json(settings)) == settings
    values = small()
    values["providers"]["sandbox"]["max_tokens_only"] = True
    with pytest.raises(CatalogErrors) as caught:
        file_of(values)
    [problem] = caught.value.problems
    assert "providers.sandbox.max_tokens_only: a provider of the kind sandbox takes no limits by these names" in problem
