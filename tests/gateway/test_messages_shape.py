"""What a message in Anthropic's form can cost at most, and what of it is refused before anything is held."""

import pytest

from accounts.views import Environment
from gateway.rules.estimate import bound_usage, likely_input_tokens
from gateway.rules.messages import TOOLS_OVERHEAD_TOKENS, input_shape, messages_shape
from gateway.rules.requests import PAGED_PARTS
from kit.errors import InvalidInput
from providers.base import Operation
from tests.gateway.conftest import Gate, chat

TOOL = {"name": "t", "input_schema": {"type": "object"}}


def asked(content: object = "hi", **more: object) -> dict:
    return {"max_tokens": 10, "messages": [{"role": "user", "content": content}], **more}


def test_every_text_that_the_model_reads_is_weighed() -> None:
    empty = messages_shape(asked("")).input_bytes
    long = "x" * 1_000
    inside = [
        asked(long),
        asked([{"type": "text", "text": long}]),
        asked([{"type": "tool_result", "tool_use_id": "a", "content": long}]),
        asked([{"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": long}]}]),
        asked([{"type": "document", "source": {"type": "text", "data": long}}]),
        asked([{"type": "unheard_of", "words": [long]}]),
        asked([{"type": "tool_use", "id": "a", "name": "t", "input": {"a": long}}]),
        asked("", system=long),
        asked("", system=[{"type": "text", "text": long}]),
        asked("", tools=[{**TOOL, "description": long}]),
        asked("", output_config={"format": {"type": "json_schema", "schema": {"description": long}}}),
    ]
    for body in inside:
        assert messages_shape(body).input_bytes >= empty + 1_000, body


def test_pictures_count_as_pictures_wherever_they_stand_and_not_by_their_bytes() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "x" * 100_000}}
    for content in ([image], [{"type": "tool_result", "tool_use_id": "a", "content": [image]}]):
        shape = messages_shape(asked(content))
        assert shape.media_parts == 1
        assert shape.input_bytes < 200


@pytest.mark.parametrize(
    "body",
    [
        asked([{"type": "document", "source": {"type": "url", "url": "https://x.example/a.pdf"}}]),
        asked([{"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AA"}}]),
        asked("x", tools=[{"type": "web_search_20250305", "name": "web_search"}]),
        asked("x", mcp_servers=[{"type": "url", "url": "https://x.example"}]),
    ],
)
def test_what_is_read_from_elsewhere_counts_as_many_pages(body) -> None:
    assert messages_shape(body).media_parts >= PAGED_PARTS


def test_tools_bring_words_of_the_vendors_own() -> None:
    without = messages_shape(asked("x")).input_bytes
    assert messages_shape(asked("x", tools=[TOOL])).input_bytes > without + TOOLS_OVERHEAD_TOKENS
    own = messages_shape(asked("x", tools=[{"type": "bash_20250124", "name": "bash"}]))
    assert own.input_bytes > without + 2 * TOOLS_OVERHEAD_TOKENS
    assert own.media_parts == 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, ("messages",)),
        ({"messages": []}, ("messages",)),
        ({"messages": ["x"], "max_tokens": 1}, ("messages", "0")),
        ({"messages": [{"role": "user"}], "max_tokens": 1}, ("messages", "0", "content")),
        ({"messages": [{"role": "user", "content": ["x"]}], "max_tokens": 1}, ("messages", "0", "content")),
        ({"messages": [{"role": "user", "content": "x"}]}, ("max_tokens",)),
        (asked(max_tokens=-1), ("max_tokens",)),
        (asked(max_tokens=True), ("max_tokens",)),
        (asked(max_tokens=1.5), ("max_tokens",)),
        (asked(stream="yes"), ("stream",)),
    ],
)
def test_what_cannot_be_right_is_refused_by_its_field(body, field) -> None:
    with pytest.raises(InvalidInput) as refused:
        messages_shape(body)
    assert refused.value.field == field


async def test_the_bound_covers_the_guess_and_both_stay_within_the_context(gate: Gate) -> None:
    model = gate.services.catalog.current.models_by_slug["claude-sonnet-4"]
    for body in (asked("x" * 4_000), asked("x" * 4_000_000), asked("", tools=[TOOL] * 20)):
        bound = bound_usage(Operation.MESSAGES, messages_shape(body), model)
        guess = likely_input_tokens(input_shape(body), model)
        assert 0 < guess <= bound.input_tokens <= model.context_tokens
        assert bound.output_tokens == 10


async def test_a_message_needs_a_chat_model_of_the_plan(gate: Gate) -> None:
    for model, status in (("sandbox-embedding", 400), ("no-such", 404), ("sandbox-chat", 200)):
        for path in ("/v1/messages", "/v1/messages/count_tokens"):
            answer = await gate.ask({**asked(), "model": model}, path=path)
            assert answer.status == status, (model, path, answer.body)
            assert answer.headers["request-id"] == answer.headers["x-request-id"]
            assert "ratelimit" in answer.headers


async def test_a_test_key_reaches_the_sandbox_only_and_pays_nothing_in_every_form(gate: Gate) -> None:
    key = await gate.key(Environment.TEST)
    for path, body in (
        ("/v1/messages", asked()),
        ("/v1/responses", {"input": "hi"}),
        ("/v1/chat/completions", chat()),
    ):
        answer = await gate.ask({**body, "model": "sandbox-chat"}, key=key, path=path)
        assert (answer.status, answer.body["usage"]["credits"]) == (200, "0"), path
        assert answer.headers["x-tollgate-usd"] == answer.body["usage"]["usd"]
        refused = await gate.ask({**body, "model": "claude-sonnet-4"}, key=key, path=path)
        assert refused.status == 403, path


async def test_each_path_takes_one_method_and_says_so(gate: Gate) -> None:
    for path in ("/v1/messages", "/v1/responses", "/v1/messages/count_tokens", "/v1/chat/completions"):
        answer = await gate.ask(None, path=path)
        assert (answer.status, answer.headers["allow"]) == (405, "POST"), path


async def test_a_model_of_both_vendors_answers_in_every_form_while_one_of_them_is_away(gate: Gate) -> None:
    for path, body in (
        ("/v1/messages", asked()),
        ("/v1/responses", {"input": "hi", "max_output_tokens": 20}),
        ("/v1/chat/completions", chat()),
        ("/v1/chat/completions", chat(n=2)),  # which Claude cannot, and nobody is asked to
    ):
        answer = await gate.ask({**body, "model": "both-vendors"}, path=path)
        assert answer.status == 200, (path, answer.body)
        stream = await gate.ask({**body, "model": "both-vendors", "stream": True}, path=path)
        assert stream.status == 200, (path, stream.raw)


async def test_what_no_form_of_a_models_providers_can_say_is_a_bad_request(gate: Gate) -> None:
    search = {"type": "web_search_20250305", "name": "web_search"}
    answer = await gate.ask({**asked(tools=[search]), "model": "sandbox-chat"}, path="/v1/messages")
    assert (answer.status, answer.body["error"]["type"]) == (400, "invalid_request_error")
    assert "web_search_20250305" in answer.body["error"]["message"]
