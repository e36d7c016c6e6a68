"""What of a request in OpenAI's Responses form has a price, and what is refused by its field."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rules.templates import parse_template
from gateway.rules.estimate import bound_usage
from gateway.rules.inputs import with_input
from gateway.rules.requests import MAX_MESSAGES, PAGED_PARTS
from gateway.rules.responses import responses_shape
from kit.errors import InvalidInput
from providers.base import Operation
from tests.gateway.conftest import Gate

PICTURE = {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 5_000}
TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object", "description": "x" * 500}}


def said(*parts: dict) -> dict:
    return {"role": "user", "content": list(parts)}


def bytes_of(**body: object) -> int:
    return responses_shape({"input": "", **body}).input_bytes


def test_every_text_of_a_request_counts() -> None:
    assert bytes_of(input="é" * 10) == 20
    assert bytes_of(instructions="x" * 30) == 30
    assert bytes_of(tools=[TOOL]) > 500
    assert bytes_of(text={"format": {"type": "json_schema", "schema": {"description": "x" * 400}}}) > 400
    for item in (
        said({"type": "input_text", "text": "x" * 100}),
        {"role": "assistant", "type": "message", "content": [{"type": "output_text", "text": "x" * 100}]},
        {"type": "function_call", "call_id": "c", "name": "n", "arguments": "x" * 100},
        {"type": "function_call_output", "call_id": "c", "output": "x" * 100},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "x" * 100}]},
        {"type": "custom_tool_call", "call_id": "c", "name": "n", "input": "x" * 100},
        {"type": "custom_tool_call_output", "call_id": "c", "output": "x" * 100},
        {"type": "reasoning", "id": "r", "summary": [], "encrypted_content": "x" * 100},
        {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "x" * 100}]},
        {"type": "compaction", "encrypted_content": "x" * 100},
        {"role": "user", "content": "x" * 100, "unheard_of": "y"},
    ):
        assert 100 <= bytes_of(input=[item]) < 300, item


def test_pictures_count_as_parts_and_files_as_pages() -> None:
    shape = responses_shape({"input": [said(PICTURE, PICTURE), {"type": "function_call_output", "call_id": "c", "output": [PICTURE]}]})  # fmt: skip
    assert (shape.media_parts, shape.messages) == (3, 3)
    assert shape.input_bytes < 500
    for file in ({"file_url": "https://x/y.pdf"}, {"file_data": "data:application/pdf;base64,AAAA", "filename": "x"}):
        assert responses_shape({"input": [said({"type": "input_file", **file})]}).media_parts == PAGED_PARTS


async def test_the_bound_is_the_limit_of_the_request_or_the_models(gate: Gate) -> None:
    model = gate.services.catalog.current.models_by_slug["sandbox-chat"]
    for limit, expected in ((7, 7), (None, model.max_output_tokens)):
        bound = bound_usage(Operation.RESPONSES, responses_shape({"input": "x", "max_output_tokens": limit}), model)
        assert bound.output_tokens == expected
    with pytest.raises(InvalidInput) as refused:
        bound_usage(Operation.RESPONSES, responses_shape({"input": "x", "max_output_tokens": 10**8}), model)
    assert refused.value.field == ("max_output_tokens",)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, ("input",)),
        ({"input": []}, ("input",)),
        ({"input": ["x"]}, ("input", "0")),
        ({"input": [{"role": "user"}] * (MAX_MESSAGES + 1)}, ("input",)),
        ({"input": [{"role": "user"}]}, ("input", "0", "content")),
        ({"input": [said({"type": "input_text", "text": "x"}), said("x")]}, ("input", "1", "content")),
        ({"input": [said({"type": "input_image", "file_id": "f"})]}, ("input", "0", "content")),
        ({"input": [{"type": "item_reference", "id": "x"}]}, ("input", "0", "type")),
        ({"input": [{"type": "web_search_call", "id": "x"}]}, ("input", "0", "type")),
        ({"input": "x", "max_output_tokens": 0}, ("max_output_tokens",)),
        ({"input": "x", "max_output_tokens": True}, ("max_output_tokens",)),
        ({"input": "x", "stream": "yes"}, ("stream",)),
        ({"input": [{"type": {"a": 1}}]}, ("input", "0", "type")),
        ({"input": [{"type": ["message"]}]}, ("input", "0", "type")),
        ({"input": "x", "previous_response_id": "resp_1"}, ("previous_response_id",)),
    ],
)
def test_what_cannot_be_right_or_is_not_served_is_refused_by_its_field(body, field) -> None:
    with pytest.raises(InvalidInput) as refused:
        responses_shape(body)
    assert refused.value.field == field


def test_a_refusal_says_what_to_do_instead() -> None:
    for body in ({"previous_response_id": "r"}, {"input": [{"type": "item_reference", "id": "x"}]}):
        with pytest.raises(InvalidInput, match=r"reasoning\.encrypted_content"):
            responses_shape({"input": "x", **body})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.sampled_from(["function", "message"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "content", "role", "text", "output", "id", "file_id", "image_url"]), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["input", "tools", "instructions", "text", "max_output_tokens", "prompt", "stream"]), JSON))  # fmt: skip
def test_any_request_has_a_shape_or_is_refused(body: dict) -> None:
    with contextlib.suppress(InvalidInput):
        assert responses_shape(body).input_bytes >= 0


def test_the_input_of_a_response_is_not_the_input_of_a_template() -> None:
    body = {"input": "hi"}
    assert with_input(Operation.RESPONSES, body, None, parse_template("say {{ input.text }}")) == body
