"""What a provider may read as a field that the call is reckoned by is refused, however it is spelled and wherever it stands."""

import pytest

from gateway.rules.spelling import check_spelling
from gateway.views import CallRequest
from kit.errors import InvalidInput
from providers.base import JsonObject, Operation
from tests.gateway.conftest import Gate
from tests.gateway.market import Market
from tests.gateway.test_tools_of_vendors import CHAT, FUNCTION, MESSAGES, RESPONSES, refusal_of, said

ELSEWHERE: list[tuple[str, JsonObject, str, str]] = [
    (CHAT, said(MAX_TOKENS=100_000), "MAX_TOKENS", "must be spelled max_tokens"),
    (CHAT, said(maxTokens=100_000), "maxTokens", "must be spelled max_tokens"),
    (CHAT, said(N=8), "N", "must be spelled n"),
    (CHAT, said(Messages=[{"role": "user", "content": "x" * 900}]), "Messages", "must be spelled messages"),
    (CHAT, said(Service_Tier="priority"), "Service_Tier", "must be spelled service_tier"),
    (CHAT, said() | {"\u017ftore": True}, "\u017ftore", "must be spelled store"),
    (CHAT, said(Model="dearer"), "Model", "must be spelled model"),
    (CHAT, said(webSearchOptions={}), "webSearchOptions", "must be spelled web_search_options"),
    (MESSAGES, said(Speed="fast"), "Speed", "must be spelled speed"),
    (RESPONSES, {"input": "x", "maxOutputTokens": 9}, "maxOutputTokens", "must be spelled max_output_tokens"),
    (CHAT, said(extra_body={"max_tokens": 100_000}), "extra_body.max_tokens", "must stand in the body itself"),
    (CHAT, said(extra_body={"n": 8}), "extra_body.n", "must stand in the body itself"),
    (CHAT, said(extra_body={"tools": [FUNCTION]}), "extra_body.tools", "must stand in the body itself"),
    (CHAT, said(extra_body={"extra_body": {}}), "extra_body.extra_body", "must stand in the body itself"),
    (CHAT, said(extra_body={"Service_Tier": "priority"}), "extra_body.Service_Tier", "must be spelled service_tier"),
]


@pytest.mark.parametrize(("path", "body", "param", "words"), ELSEWHERE)
async def test_another_word_for_a_field_that_is_reckoned_with_is_refused_by_name(
    gate: Gate, path: str, body: JsonObject, param: str, words: str
) -> None:
    assert words in await refusal_of(gate, path, body, param)


@pytest.mark.parametrize(
    "body",
    [
        said(temperature=1, topK=5, safetySettings=[], metadata={"N": 1}, Seed=7),
        said(extra_body={"google": {"thinking_config": {"thinking_budget": 5}}, "topK": 5}),
        said(extra_body="max_tokens"),
        {"prompt": "x", "seconds": 2, "aspectRatio": "16:9", "negative_prompt": "y"},
    ],
)
def test_what_is_no_other_word_for_one_passes(body: JsonObject) -> None:
    check_spelling(body)


async def test_a_publisher_says_what_it_likes_to_its_own_provider(market: Market) -> None:
    slug = await market.part("a")
    with pytest.raises(InvalidInput, match="must be spelled"):
        await market.services.calls.call(
            await market.caller(market.buyer), CallRequest(slug, Operation.CHAT, said(N=2))
        )
    await market.services.calls.call(await market.caller(market.maker), CallRequest(slug, Operation.CHAT, said(N=2)))
    assert market.provider.asked[-1]["N"] == 2
