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
    ("/v1/images/generations", {"prompt": "a cat", "image": ["s3://bucket/a.png"]}, "image"),
    ("/v1/images/generations", {"prompt": "a cat", "image": {"url": "gs://bucket/a.png"}}, "image"),
    ("/v1/images/generations", {"prompt": "a cat", "style_id": "229b2a75-05e4-4580-85f9-b47ee521a00d"}, "style_id"),
    ("/v1/images/generations", {"prompt": "a cat", "video": {"id": "video_1"}}, "video"),
    ("/v1/audio/speech", {"input": "Hello", "voice": {"id": "voice_1"}}, "voice"),
    ("/v1/chat/completions", said(modalities=["text", "audio"], audio={"voice": {"id": "voice_1"}, "format": "wav"}), "audio.voice"),
    ("/v1/responses", {"input": "x", "audio": {"voice": {"id": "voice_1"}}}, "audio.voice"),
    ("/v1/chat/completions", said(cached_content="cachedContents/1"), "cached_content"),
    ("/v1/chat/completions", said(google={"cached_content": "cachedContents/1"}), "google.cached_content"),
    ("/v1/chat/completions", said(extra_body={"google": {"cached_content": "cachedContents/1"}}), "extra_body.google.cached_content"),
    ("/v1/chat/completions", said(extra_body={"google": {"cachedContent": "cachedContents/1"}}), "extra_body.google.cachedContent"),
    ("/v1/messages", said(extra_body={"google": {"cached_content": "cachedContents/1"}}), "extra_body.google.cached_content"),
    ("/v1/responses", {"input": "x", "extra_body": {"cached_content": "cachedContents/1"}}, "extra_body.cached_content"),
    ("/v1/chat/completions", said(store=True, metadata={"of": "mine"}), "store"),
    ("/v1/chat/completions", said(store="yes", stream=True), "store"),
    ("/v1/chat/completions", said(extra_body={"store": True}), "store"),
    ("/v1/messages", said(store=True), "store"),
    ("/v1/responses", {"input": "x", "store": True, "extra_body": {"store": True}}, "store"),
    ("/v1/chat/completions", said(data_sources=[{"type": "azure_search", "parameters": {"index_name": "hr"}}]), "data_sources"),
    ("/v1/chat/completions", said(preset="the-operators"), "preset"),
    ("/v1/chat/completions", said(file_ids=["file-1"]), "file_ids"),
    ("/v1/chat/completions", said(prompt={"id": "pmpt_1"}), "prompt"),
    ("/v1/chat/completions", said(assistant_id="asst_1"), "assistant_id"),
    ("/v1/responses", {"input": "x", "thread_id": "thread_1"}, "thread_id"),
    ("/v1/messages", said(thread={"type": "continue", "previous_message_id": "msg_1"}), "thread"),
    ("/v1/messages", said(diagnostics={"previous_message_id": "msg_1"}), "diagnostics"),
    ("/v1/chat/completions", {"messages": [{"role": "cache", "content": "cache_id=cache-1"}, {"role": "user", "content": "x"}]}, "messages.0"),
    ("/v1/chat/completions", {"messages": [{"role": "system", "content": "fileid://file-fe-1,fileid://file-fe-2"}, {"role": "user", "content": "x"}]}, "messages.0"),
    ("/v1/responses", {"input": "x", "instructions": "fileid://file-fe-1"}, "instructions"),
    ("/v1/messages", said(system=[{"type": "text", "text": "fileid://file-fe-1"}]), "system"),
    ("/v1/chat/completions", said({"type": "image_url", "image_url": {"url": "ms://file-1"}}), "messages.0"),
    ("/v1/chat/completions", said({"type": "image_url", "image_url": " GS://bucket/a.png"}), "messages.0"),
    ("/v1/chat/completions", said({"type": "input_audio", "input_audio": {"data": "gs://bucket/a.wav", "format": "wav"}}), "messages.0"),
    ("/v1/chat/completions", said({"type": "video_url", "video_url": {"url": "https://generativelanguage.googleapis.com/v1beta/files/1"}}), "messages.0"),
    ("/v1/messages", said({"type": "image", "source": {"type": "url", "url": "file:///etc/passwd"}}), "messages.0"),
    ("/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "s3://bucket/a.pdf"}]}]}, "input.0"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "param"), ACCOUNT_NAMED)
async def test_what_names_something_of_the_providers_account_is_refused_by_name(
    gate: Gate, path: str, body: JsonObject, param: str
) -> None:
    model = {"images": "sandbox-image", "audio": "sandbox-audio"}.get(path.split("/")[2], "sandbox-chat")
    refused = await gate.ask({"model": model, **body}, path=path)
    error = refused.body["error"]
    assert (refused.status, error["code"]) == (400, "invalid_value"), refused.raw
    if not path.startswith("/v1/messages"):
        assert error["param"] == param
    assert any(word in error["message"] for word in ("kept", "keeps", "keep"))
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
    (Operation.IMAGE, {"prompt": "a cat", "image": "https://x.example/a.png", "images": ["data:image/png;base64,AA", "AA=="]}),
    (Operation.SPEECH, {"input": "voice_1", "voice": "alloy"}),
    (Operation.SPEECH, {"input": "x", "voice": {"id": None}}),
    (Operation.CHAT, said(extra_body={"google": {"thinking_config": {"include_thoughts": True}, "cached_content": None}})),
    (Operation.CHAT, said(metadata={"thread_id": "mine"}, prompt="a cat", user="file_id")),
    (Operation.CHAT, said("fileid://file-fe-1")),
    (Operation.CHAT, said(store=False, extra_body={"store": None}, metadata={"store": True})),
    (Operation.RESPONSES, {"input": "x", "store": True}),
    (Operation.CHAT, said({"type": "image_url", "image_url": {"url": "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg'/>"}})),
    (Operation.CHAT, said({"type": "image_url", "image_url": {"url": "https://x.example/?of=gs://bucket"}}, {"type": "image_url", "image_url": {"url": "iVBORw0KGgo="}})),
    (Operation.MESSAGES, said({"type": "search_result", "source": "doc://mine", "title": "x", "content": [{"type": "text", "text": "gs://x"}]})),
    (Operation.MESSAGES, said({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "ftp://x.example"}})),
    (Operation.MESSAGES, said(diagnostics={"previous_message_id": None})),
    (Operation.TRANSCRIPTION, {"language": "en", "prompt": "file_id"}),
    (Operation.EMBEDDING, {"input": ["file_id"]}),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "body"), OWN_WORDS)
def test_what_a_caller_says_in_words_of_its_own_is_not_looked_into(operation: Operation, body: JsonObject) -> None:
    check_account_state(operation, body)


def test_a_recording_that_the_account_keeps_is_not_heard() -> None:
    with pytest.raises(InvalidInput, match="keeps") as refused:
        check_account_state(Operation.TRANSCRIPTION, {"file_id": "file-1"})
    assert refused.value.field == ("file_id",)


@pytest.mark.parametrize("within", ["extra_body", "google", "messages"])
def test_what_is_nested_without_end_is_refused_and_not_followed(within: str) -> None:
    body: JsonObject = {}
    for _ in range(2_000):
        body = {within: [body] if within == "messages" else body}
    with pytest.raises(InvalidInput, match="nested deeper"):
        check_account_state(Operation.CHAT, body)


async def test_a_publishers_account_is_its_own_workspaces_and_nobody_elses(market: Market) -> None:
    slug = await market.part("a")
    chain = await market.chain("pipe", {"name": "one", "model": "sandbox-chat", "history": True, "max_tokens": 10})
    part = [{"type": "text", "text": "Read."}, NAMED]
    kept: JsonObject = {
        "audio": {"voice": {"id": "voice_1"}},
        "extra_body": {"google": {"cached_content": "cachedContents/1"}},
    }
    for named, seeded in ((slug, market.buyer), (chain, market.buyer), (chain, market.maker)):
        request = CallRequest(named, Operation.CHAT, said(*part))
        with pytest.raises(InvalidInput, match="named by its id"):
            await market.services.calls.call(await market.caller(seeded), request)
        for name in kept:
            asked = CallRequest(named, Operation.CHAT, said(**{name: kept[name]}))
            with pytest.raises(InvalidInput, match="account keeps"):
                await market.services.calls.call(await market.caller(seeded), asked)
    assert market.provider.asked == []
    own = CallRequest(slug, Operation.CHAT, said(*part, **kept))
    await market.services.calls.call(await market.caller(market.maker), own)
    heard = market.provider.asked[-1]
    assert heard["messages"][0]["content"] == part
    assert {name: heard[name] for name in kept} == kept
