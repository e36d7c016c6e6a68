"""What makes the provider take more than the prices show is refused by name in every form, and before any hold."""

import pytest

from gateway.rules.dearer import check_dearer
from gateway.views import CallRequest
from kit.errors import InvalidInput
from metering.rules.price_list import NO_PRICES
from providers.base import JsonObject, Operation
from tests.gateway.conftest import Gate
from tests.gateway.market import Market
from tests.gateway.test_tools_of_vendors import CHAT, MESSAGES, RESPONSES, refusal_of, said

DEARER: list[tuple[str, JsonObject, str]] = [
    (CHAT, said(service_tier="priority"), "service_tier"),
    (CHAT, said(service_tier="fast"), "service_tier"),
    (CHAT, said(service_tier={"x": 1}), "service_tier"),
    (CHAT, said(models=["openai/gpt-5-pro"]), "models"),
    (CHAT, said(fallbacks=[{"model": "x"}]), "fallbacks"),
    (CHAT, said(provider={"sort": "throughput"}), "provider.sort"),
    (CHAT, said(provider={"order": ["dear"]}), "provider.order"),
    (CHAT, said(stream=True, speed="fast"), "speed"),
    (MESSAGES, said(speed="fast"), "speed"),
    (MESSAGES, said(inference_geo="us"), "inference_geo"),
    (MESSAGES, said(fallbacks=["claude-opus-4"]), "fallbacks"),
    (MESSAGES, said(service_tier="priority"), "service_tier"),
    (
        MESSAGES,
        said(context_management={"edits": [{"type": "clear_tool_uses_20250919"}, {"type": "compact_20260112"}]}),
        "context_management.edits.1",
    ),
    (CHAT, said(context_management={"edits": [{"type": "compact_20260112"}]}), "context_management.edits.0"),
    (RESPONSES, {"input": "x", "service_tier": "priority"}, "service_tier"),
    (CHAT, said(service_tier="default", extra_body={"service_tier": "priority"}), "service_tier"),
    (MESSAGES, said(extra_body={"speed": "fast"}), "speed"),
    (RESPONSES, {"input": "x", "extra_body": {"models": ["y"]}}, "models"),
    (RESPONSES, {"input": "x", "service_tier": ["flex"]}, "service_tier"),
]


@pytest.mark.parametrize(("path", "body", "param"), DEARER)
async def test_what_the_prices_do_not_show_is_refused_by_name(
    gate: Gate, path: str, body: JsonObject, param: str
) -> None:
    message = await refusal_of(gate, path, body, param)
    assert "prices do not show" in message
    assert param in message or param.startswith("context_management")


AS_LISTED: list[tuple[Operation, JsonObject]] = [
    (Operation.CHAT, said(service_tier="flex", models=[], fallbacks=None, speed="standard", provider={"zdr": True})),
    (Operation.CHAT, said(service_tier="auto", provider="mine")),
    (Operation.CHAT, said(extra_body={"service_tier": "flex", "google": {"thinking_config": {}}})),
    (Operation.CHAT, said(extra_body="priority")),
    (Operation.CHAT, said(service_tier=None, speed=None, inference_geo=None)),
    (Operation.MESSAGES, said(service_tier="standard_only", inference_geo="global")),
    (Operation.MESSAGES, said(context_management={"edits": [{"type": "clear_thinking_20251015"}, "x", {"type": 1}]})),
    (Operation.MESSAGES, said(context_management={"edits": "compact_20260112"})),
    (Operation.RESPONSES, {"input": "x", "service_tier": "default"}),
    (Operation.IMAGE, {"prompt": "x", "models": ["a"], "speed": "fast"}),
    (Operation.SPEECH, {"input": "x", "speed": 1.5}),
    (Operation.TRANSCRIPTION, {"url": "", "speed": "fast"}),
]


@pytest.mark.parametrize(("operation", "body"), AS_LISTED)
def test_what_costs_as_listed_or_less_is_served(operation: Operation, body: JsonObject) -> None:
    check_dearer(operation, body, NO_PRICES.names)


@pytest.mark.parametrize("name", ["url", "file_url"])
def test_another_recording_than_the_one_that_is_measured_is_not_named(name: str) -> None:
    with pytest.raises(InvalidInput, match=f"{name} is not served"):
        check_dearer(Operation.TRANSCRIPTION, {name: "https://x.example/long.wav"}, NO_PRICES.names)


async def test_a_publisher_pays_its_own_provider_and_chooses_what_it_likes(market: Market) -> None:
    slug = await market.part("a")
    body = said(service_tier="priority", models=["x"])
    with pytest.raises(InvalidInput, match="prices do not show"):
        await market.services.calls.call(await market.caller(market.buyer), CallRequest(slug, Operation.CHAT, body))
    assert market.provider.asked == []
    await market.services.calls.call(await market.caller(market.maker), CallRequest(slug, Operation.CHAT, body))
    assert market.provider.asked[-1]["service_tier"] == "priority"
