"""Published models and chains where they meet routing, traces, metrics, the answer cache, fitting and privacy."""

from dataclasses import replace

import pytest
from prometheus_client import generate_latest

from app.otel import OtelTracing
from gateway.errors import UpstreamFailed
from gateway.views import CallRequest, StreamedFailure
from providers.base import Operation
from tests.e2e.collector import collector_double
from tests.gateway.market import Market
from tests.gateway.test_chains import EACH, PRICES, step, streamed


class Once(dict[str, int]):
    """Statuses that are answered once each."""

    def get(self, key: str, default: int = 200) -> int:  # type: ignore[override]
        return self.pop(key, default)


def asked(model: str, **more: object) -> CallRequest:
    body: dict[str, object] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 50}
    return CallRequest(model, Operation.CHAT, body, **more)


async def test_D12_what_is_kept_of_a_stopped_chain_names_its_step_and_has_no_word_of_the_provider(
    market: Market,
) -> None:
    first, second = await market.part("a", prices=PRICES), await market.part("b", prices=PRICES)
    chain = await market.chain("pipe", step("one", first), step("two", second, "{{ steps.one.content }}"))
    market.provider.statuses = {"b": 400}
    with pytest.raises(UpstreamFailed, match="no") as caught:
        await market.call(chain)
    assert caught.value.call_id is not None
    row = await market.services.database.pool.fetchrow(
        "SELECT status, error_code, error_message FROM calls WHERE id = $1", caught.value.call_id
    )
    assert tuple(row) == ("FAILED", "UPSTREAM_ERROR", "the chain stopped at step 'two'")
    caller = await market.caller(market.buyer)
    *_, last = [event async for event in await market.services.streams.open(caller, streamed(chain))]
    assert isinstance(last, StreamedFailure)
    messages = await market.services.database.pool.fetch("SELECT DISTINCT error_message FROM calls")
    assert [each["error_message"] for each in messages] == ["the chain stopped at step 'two'"]
    charged = await market.services.database.pool.fetchval("SELECT sum(charged_micro) FROM usage_events")
    assert charged == 2 * EACH
    await market.agrees()


async def test_a_steps_second_try_stands_in_its_details(market: Market) -> None:
    first, second = await market.part("a", prices=PRICES), await market.part("b", prices=PRICES)
    chain = await market.chain("pipe", step("one", first), step("two", second, "{{ steps.one.content }}"))
    market.provider.statuses = Once(a=503, b=503)
    result = await market.call(chain)
    assert result.charged_micro == 2 * EACH
    steps = (await market.details())["steps"]
    assert [[outcome for _, outcome in each["route"]] for each in steps] == [["unavailable", "answered"]] * 2
    market.provider.statuses = Once(b=503)
    stream = await market.services.streams.open(await market.caller(market.buyer), streamed(chain))
    assert not [event async for event in stream if isinstance(event, StreamedFailure)]
    steps = (await market.details())["steps"]
    assert ["route" in each for each in steps] == [False, True]
    await market.agrees()


async def test_answers_of_published_models_and_chains_are_never_taken_from_the_cache(market: Market) -> None:
    part = await market.part("a", prices=PRICES)
    chain = await market.chain("pipe", step("one", part))
    for model, cost in ((part, EACH), (chain, EACH)):
        before = len(market.provider.asked)
        for _ in range(2):
            result = await market.services.calls.call(await market.caller(market.buyer), asked(model, cache=True))
            assert (result.cached, result.charged_micro) == (False, cost)
        assert len(market.provider.asked) == before + 2
    await market.agrees()


async def test_a_call_that_is_to_fit_lowers_a_published_models_output(market: Market) -> None:
    part = await market.part("a", prices=[{"meter": "OUTPUT_TOKENS", "credits": "1", "per": "1000"}])
    request = replace(asked(part, fit=True), max_credits_micro=30_000)
    result = await market.services.calls.call(await market.caller(market.buyer), request)
    assert market.provider.heard("a")[0]["max_tokens"] == 30
    assert result.charged_micro == 20_000
    await market.agrees()


async def test_publishers_count_as_one_in_the_metrics(market: Market) -> None:
    part = await market.part("a", prices=PRICES)
    chain = await market.chain("pipe", step("one", part))
    await market.call(part)
    await market.call(chain)
    told = generate_latest().decode()
    assert 'tollgate_provider_attempts_total{outcome="answered",provider="published"}' in told
    assert 'tollgate_calls_total{model="published",status="SUCCEEDED"}' in told
    assert part not in told
    assert chain not in told
    assert "published:" not in told


async def test_steps_side_by_side_have_a_span_each_and_a_publisher_hears_no_trace(market: Market) -> None:
    parts = {name: await market.part(name, prices=PRICES) for name in "abc"}
    last = step("last", parts["c"], "{{ steps.left.content }} {{ steps.right.content }}")
    chain = await market.chain("pipe", step("left", parts["a"]), step("right", parts["b"]), last)
    async with collector_double() as collector:
        tracing = OtelTracing(collector.url, "tollgate-test")
        market.services.calls.tracing = tracing
        await market.call(chain)
        market.provider.statuses = {"a": 400}
        with pytest.raises(UpstreamFailed):
            await market.call(chain)
        await tracing.aclose()
        clients = [span for span in collector.spans if span.kind == "CLIENT"]
        calls = [span for span in collector.spans if span.kind == "SERVER"]
    good = [span for span in clients if span.trace_id == calls[0].trace_id]
    assert sorted(str(span.attributes["gen_ai.request.model"]) for span in good) == ["a", "b", "c"]
    assert [span.attributes["gen_ai.usage.output_tokens"] for span in good] == [20, 20, 20]
    bad = {str(span.attributes["gen_ai.request.model"]): span for span in clients if span not in good}
    assert bad["a"].failed
    assert bad["a"].attributes["error.type"] == "UpstreamRejected"
    assert [call.failed for call in calls] == [False, True]
    assert not [heard for heard in market.provider.upstream.requests if "trace" in heard.head.lower()]
