"""Nothing that the account at a provider keeps is within a caller's reach: it is one account for all workspaces."""

import pytest

from gateway.rules.account_state import check_account_state
from gateway.views import CallRequest
from kit.errors import InvalidInput
from providers.base import JsonObject, Operation
from tests.gateway.conftest import Gate
from tests.gateway.market import Market

NAMED = {"type": "file", "file": {"file_id": "file-1"}}
SOURCE = {"type": "file", "file_id": "file_1"}


def said(*parts: object, **more: object) -> JsonObject:
    return {"messages": [{"role": "user", "content": list(parts) or "hi"}], "max_tokens": 10, **more}


ACCOUNT_NAMED: list[tuple[str, JsonObject, str]] = [
    ("/v1/chat/completions", said(NAMED), "messages.0"),
    ("/v1/chat/completions", said({"type": "text", "text": "x"}, {"type": "input_file", "file_id": "file-1"}), "messages.0"),
    ("/v1/chat/completions", said({"type": "image_url", "image_url": {"file_id": "file-1"}}), "messages.0"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}, {"role": "user", "content": "x", "file_ids": ["file-1"]}]}, "messages.1"),
    ("/v1/chat/completions", said(previous_response_id="resp_1"), "previous_response_id"),
    ("/v1/chat/completions", said(conversation={"id": "conv_1"}), "conversation"),
    ("/v1/chat/completions", said(tool_resources={"file_search": {"vector_store_ids": ["vs_1"]}}), "tool_resources"),
    ("/v1/chat/completions", said(tools=[{"type": "file_search", "vector_store_ids": ["vs_1"]}]), "tools.0"),
    ("/v1/chat/completions", said(tools=[{"type": "odd", "file_search": {"vector_store_ids": ["vs_1"]}}]), "tools.0"),
    ("/v1/chat/completions", said(tools=[{"type": "code_interpreter", "container": "cntr_1"}]), "tools.0"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "audio": {"id": "audio_1"}}]}, "messages.1"),
    ("/v1/messages", said({"type": "image", "source": SOURCE}), "messages.0"),
    ("/v1/messages", said({"type": "document", "source": SOURCE}), "messages.0"),
    ("/v1/messages", said({"type": "container_upload", "file_id": "file_1"}), "messages.0"),
    ("/v1/messages", said({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": SOURCE}]}), "messages.0"),
    ("/v1/messages", said({"type": "document", "source": {"type": "content", "content": [{"type": "image", "source": SOURCE}]}}), "messages.0"),
    ("/v1/messages", said(container="container_1"), "container"),
    ("/v1/messages", said(container={"id": "container_1", "skills": []}), "container"),
    ("/v1/messages", said(container={"skills": [{"type": "anthropic", "skill_id": "pdf"}]}), "container"),
    ("/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": {"file_id": "file-1"}}]}]}, "input.0"),
    ("/v1/images/generations", {"prompt": "a cat", "images": [{"file_id": "file-1"}]}, "images.0"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "param"), ACCOUNT_NAMED)
async def test_what_names_something_of_the_providers_account_is_refused_by_name(
    gate: Gate, path: str, body: JsonObject, param: str
) -> None:
    model = "sandbox-image" if "images" in path else "sandbox-chat"
    refused = await gate.ask({"model": model, **body}, path=path)
    error = refused.body["error"]
    assert (refused.status, error["code"]) == (400, "invalid_value"), refused.raw
    if not path.startswith("/v1/messages"):
        assert error["param"] == param
    assert "kept" in error["message"]
    assert await gate.services.database.pool.fetchval("SELECT count(*) FROM calls") == 0


OWN_WORDS: list[tuple[Operation, JsonObject]] = [
    (Operation.CHAT, said({"type": "text", "text": '{"file_id": "file-1"}'})),
    (Operation.CHAT, said({"type": "file", "file": {"file_data": "data:application/pdf;base64,AA", "file_id": None}})),
    (Operation.CHAT, said(tools=[{"type": "function", "function": {"name": "file_search", "parameters": {"properties": {"file_id": {"type": "string"}}}}}])),
    (Operation.CHAT, {"messages": [{"role": "assistant", "tool_calls": [{"type": "custom", "custom": {"input": {"file_id": "mine"}}}]}]}),
    (Operation.MESSAGES, {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "read", "input": {"file_id": "mine"}}]}]}),
    (Operation.MESSAGES, said({"type": "code_execution_tool_result", "content": {"content": [{"type": "code_execution_output", "file_id": "file_1"}]}})),
    (Operation.MESSAGES, said({"type": "document", "source": {"type": "url", "url": "https://x.example/a.pdf"}})),
    (Operation.CHAT, said({"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}, audio={"voice": "alloy", "format": "wav"})),
    (Operation.CHAT, {"messages": [{"role": "assistant", "content": "x", "audio": None}]}),
    (Operation.IMAGE, {"prompt": "a cat", "input": {"file_id": "mine"}}),
    (Operation.EMBEDDING, {"input": ["file_id"]}),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "body"), OWN_WORDS)
def test_what_a_caller_says_in_words_of_its_own_is_not_looked_into(operation: Operation, body: JsonObject) -> None:
    check_account_state(operation, body)


async def test_a_publishers_account_is_its_own_workspaces_and_nobody_elses(market: Market) -> None:
    slug = await market.part("a")
    chain = await market.chain("pipe", {"name": "one", "model": "sandbox-chat", "history": True, "max_tokens": 10})
    part = [{"type": "text", "text": "Read."}, NAMED]
    for named, seeded in ((slug, market.buyer), (chain, market.buyer), (chain, market.maker)):
        request = CallRequest(named, Operation.CHAT, said(*part))
        with pytest.raises(InvalidInput, match="named by its id"):
            await market.services.calls.call(await market.caller(seeded), request)
    assert market.provider.asked == []
    await market.services.calls.call(await market.caller(market.maker), CallRequest(slug, Operation.CHAT, said(*part)))
    assert market.provider.asked[-1]["messages"][0]["content"] == part
