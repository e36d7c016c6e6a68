"""GraphQL's model calls in OpenAI's form and back."""

from uuid import UUID

import pytest

from gateway.deltas import Assembly, deltas_of
from gateway.payloads import (
    AssetsOutputView,
    ChatMessage,
    ChatOutputView,
    ChatPayload,
    ContentPart,
    CustomPayload,
    EmbeddingOutputView,
    EmbeddingPayload,
    ImagePayload,
    SpeechPayload,
    UnservedPayload,
    input_path,
    openai_form,
    output_of,
)
from kit.errors import InvalidInput
from kit.ids import uuid7
from providers.base import Operation


def test_a_chat_carries_everything_that_was_given_and_nothing_else() -> None:
    payload = ChatPayload(
        messages=(
            ChatMessage("SYSTEM", "Be brief."),
            ChatMessage(
                "USER", parts=(ContentPart("text", "What is it?"), ContentPart("image_url", image_url="https://x/y"))
            ),
            ChatMessage("ASSISTANT", tool_calls=[{"id": "1"}]),
            ChatMessage("TOOL", "42", tool_call_id="1"),
        ),
        max_output_tokens=5,
        stop=("END",),
    )
    assert openai_form(payload, "TEXT") == (
        Operation.CHAT,
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is it?"},
                        {"type": "image_url", "image_url": {"url": "https://x/y"}},
                    ],
                },
                {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
                {"role": "tool", "content": "42", "tool_call_id": "1"},
            ],
            "max_tokens": 5,
            "stop": ["END"],
        },
    )


def test_embeddings_and_images_have_their_own_forms() -> None:
    assert openai_form(EmbeddingPayload(("a",), 8), None) == (Operation.EMBEDDING, {"input": ["a"], "dimensions": 8})
    assert openai_form(ImagePayload("cat", 2, "1x1"), None) == (
        Operation.IMAGE,
        {"prompt": "cat", "n": 2, "size": "1x1"},
    )


def test_speech_has_its_own_form_and_a_voice() -> None:
    assert openai_form(SpeechPayload("Hi", None, "mp3"), "AUDIO") == (
        Operation.SPEECH,
        {"input": "Hi", "voice": "alloy", "response_format": "mp3"},
    )
    assert input_path(SpeechPayload("Hi"), Operation.SPEECH, ["input"]) == ("payload", "audio", "text")
    assert openai_form(CustomPayload({"input": "Hi"}), "AUDIO")[0] is Operation.SPEECH


def test_the_outputs_of_other_forms_have_their_views() -> None:
    call_id = UUID(int=7)
    message = {"type": "message", "content": [{"type": "text", "text": "Hi"}], "stop_reason": "max_tokens"}
    assert output_of(call_id, message) == ChatOutputView("Hi", "length", None)
    response = {
        "object": "response",
        "status": "completed",
        "output": [{"type": "message", "content": [{"text": "Hi"}]}],
    }
    assert output_of(call_id, response) == ChatOutputView("Hi", "stop", None)
    spoken = output_of(call_id, {"content_type": "audio/wav", "b64_audio": "AAAA"})
    assert [(each.content_type, each.size_bytes, each.url) for each in spoken.assets] == [
        ("audio/wav", 3, "data:audio/wav;base64,AAAA")
    ]
    assert output_of(call_id, {"text": "heard"}) == ChatOutputView("heard", "stop", None)


def test_a_custom_body_takes_the_models_operation_and_loses_what_is_ours_to_say() -> None:
    given = CustomPayload({"input": "a", "stream": True, "model": "other"})
    assert openai_form(given, "EMBEDDING") == (Operation.EMBEDDING, {"input": "a"})
    assert openai_form(given, None)[0] is Operation.CHAT


@pytest.mark.parametrize(
    "payload",
    [
        UnservedPayload("video"),
        CustomPayload(None),
        CustomPayload([]),
        ChatPayload((ChatMessage("USER"),)),
        ChatPayload((ChatMessage("USER", "a", parts=()),)),
        ChatPayload((ChatMessage("USER", "a", tool_calls={}),)),
        ChatPayload((ChatMessage("USER", parts=(ContentPart("x", extra=[]),)),)),
        ChatPayload((ChatMessage("USER", "a"),), tools={}),
        ChatPayload((ChatMessage("USER", "a"),), response_format=[]),
    ],
)
def test_what_cannot_be_right_is_refused_with_its_place(payload) -> None:
    with pytest.raises(InvalidInput) as caught:
        openai_form(payload, "TEXT")
    assert caught.value.field[0] == "payload"


def test_places_in_the_body_become_places_in_the_input() -> None:
    chat = ChatPayload(())
    assert input_path(chat, Operation.CHAT, ("messages", "0", "role")) == ("payload", "chat", "messages", "0", "role")
    assert input_path(chat, Operation.CHAT, ("max_tokens",)) == ("payload", "chat", "maxOutputTokens")
    assert input_path(EmbeddingPayload(()), Operation.EMBEDDING, ("input",)) == ("payload", "embedding", "texts")
    assert input_path(CustomPayload({}), Operation.CHAT, ("messages",)) == ("payload", "custom", "messages")
    assert input_path(chat, Operation.CHAT, ("idempotencyKey",)) == ("idempotencyKey",)
    assert input_path(chat, Operation.CHAT, ()) == ()


def test_answers_are_read_by_their_shape() -> None:
    call_id = uuid7()
    chat = output_of(call_id, {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]})
    assert chat == ChatOutputView("hi", "stop", None)
    assert output_of(call_id, {"data": [{"embedding": [1.5]}]}) == EmbeddingOutputView(([1.5],))
    images = output_of(call_id, {"data": [{"url": "https://x"}, {"b64_json": "YWI="}]})
    assert isinstance(images, AssetsOutputView)
    assert [asset.size_bytes for asset in images.assets] == [None, 2]
    assert len({asset.id for asset in images.assets}) == 2
    for rubbish in ({}, {"choices": []}, {"choices": [None, 1]}, {"data": "x"}, {"data": [{"embedding": 3}]}):
        output_of(call_id, rubbish)


def test_a_stream_is_put_together_again() -> None:
    whole = Assembly()
    for delta, reason in [
        ({"role": "assistant", "content": ""}, None),
        ({"content": "Hel"}, None),
        ({"content": "lo"}, None),
        (
            {"tool_calls": [{"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": "{"}}]},
            None,
        ),
        ({"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]}, None),
        ({}, "tool_calls"),
    ]:
        whole.add({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})
    whole.add({"choices": [{"index": 1, "delta": {"content": "another"}}]})
    whole.add({"choices": "rubbish"})
    assert whole.output() == ChatOutputView(
        "Hello", "tool_calls", [{"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    )
    assert deltas_of({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}) == []
