"""What is weighed of a request in OpenAI's form: every text that a model may read, pictures where they are pictures."""

import pytest

from gateway.rules.messages import messages_shape
from gateway.rules.requests import PAGED_PARTS, read_shape
from gateway.rules.responses import responses_shape
from kit.errors import InvalidInput
from providers.base import JsonObject, Operation

LONG = "word " * 3_200
PICTURE = {"url": "data:image/png;base64," + "A" * 50_000}


def said(content: object, **more: object) -> JsonObject:
    return {"messages": [{"role": "user", "content": content, **more}]}


def weight(body: JsonObject) -> int:
    return read_shape(Operation.CHAT, body).input_bytes


def tool(name: str) -> JsonObject:
    return {"type": "object", "properties": {name: {"type": "string", "description": LONG}}}


@pytest.mark.parametrize("name", ["picture", "image_url", "input_audio", "file", "video_url", "source"])
@pytest.mark.parametrize(
    "hidden",
    [
        lambda name: weight({**said("x"), "tools": [{"type": "function", "function": {"parameters": tool(name)}}]}),
        lambda name: weight({**said("x"), "functions": [{"name": "f", "parameters": tool(name)}]}),
        lambda name: weight({**said("x"), "response_format": {"type": "json_schema", "json_schema": tool(name)}}),
        lambda name: weight(said("x", **{name: LONG})),
        lambda name: weight(said([{"type": "text", "text": "x", name: LONG}])),
        lambda name: weight(said([{"type": "text", "text": "x", "deeper": {name: LONG}}])),
        lambda name: responses_shape({"input": "x", "tools": [{"type": "function", "parameters": tool(name)}]}).input_bytes,
        lambda name: responses_shape({"input": "x", "text": {"format": tool(name)}}).input_bytes,
        lambda name: messages_shape({**said("x"), "max_tokens": 5, "tools": [{"input_schema": tool(name)}]}).input_bytes,
        lambda name: messages_shape(
            {**said([{"type": "tool_use", "id": "a", "name": "t", "input": {name: LONG}}]), "max_tokens": 5}
        ).input_bytes,
    ],
    ids=["tools", "functions", "format", "message", "part", "below a part", "response's tools", "response's format",
         "message's tools", "message's tool use"],
)  # fmt: skip
def test_no_name_of_a_field_hides_a_text(hidden, name: str) -> None:
    assert hidden(name) >= len(LONG)


@pytest.mark.parametrize("count", [4, "4", 0, [1]])
def test_several_videos_in_one_call_are_refused(count: object) -> None:
    film: JsonObject = {"prompt": "a wave", "seconds": 5}
    assert [read_shape(Operation.VIDEO, film | {"n": one}).seconds for one in (None, 1)] == [5, 5]
    with pytest.raises(InvalidInput, match="n must be 1"):
        read_shape(Operation.VIDEO, film | {"n": count})


@pytest.mark.parametrize(
    ("limits", "bound"),
    [
        ({}, None),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 5, "max_tokens": None}, 5),
        ({"max_completion_tokens": 5, "max_tokens": 9_000}, 9_000),
        ({"max_completion_tokens": 9_000, "max_tokens": 5}, 9_000),
    ],
)
def test_of_two_limits_of_the_output_the_larger_bounds_it(limits: dict, bound: int | None) -> None:
    assert read_shape(Operation.CHAT, {**said("x"), **limits}).output_tokens == bound


def test_a_picture_counts_as_one_and_not_by_its_bytes() -> None:
    text, picture = {"type": "text", "text": "what is it"}, {"type": "image_url", "image_url": PICTURE}
    shape = read_shape(Operation.CHAT, said([text, picture, picture]))
    assert (shape.media_parts, shape.input_bytes < 200) == (2, True)
    given = {"type": "input_image", "image_url": PICTURE["url"]}
    shape = responses_shape({"input": [{"role": "user", "content": [given]}]})
    assert (shape.media_parts, shape.input_bytes < 200) == (1, True)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA"}},
        {"type": "video_url", "video_url": {"url": "https://x.example/a.mp4"}},
    ],
)
def test_a_file_and_a_film_count_as_many_pictures(part: JsonObject) -> None:
    assert read_shape(Operation.CHAT, said([part])).media_parts >= PAGED_PARTS


@pytest.mark.parametrize("kind", [{"a": 1}, ["image_url"], 7, None])
def test_a_part_whose_type_is_no_text_is_weighed(kind: object) -> None:
    assert weight(said([{"type": kind, "image_url": LONG}])) >= len(LONG)
