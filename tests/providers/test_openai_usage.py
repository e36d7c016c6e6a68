"""Usage is taken only where it can be believed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.base import Operation, Usage
from providers.openai_content import generated_bytes
from providers.openai_usage import MAX_TOKENS, usage_of_answer, usage_of_openai

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text("a1é٣-.", max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "content", "delta", "message", "function"]), inner, max_size=3)
    ),
    max_leaves=6,
)
names = st.sampled_from(
    ["prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens", "prompt_tokens_details",
     "completion_tokens_details"]
)  # fmt: skip
lives = st.dictionaries(
    st.sampled_from(["ttl_30m_tokens", "ttl_12h_tokens", "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"]),
    json_values | st.integers(0, 50),
)
details = st.dictionaries(
    st.sampled_from(["cached_tokens", "reasoning_tokens", "cache_write_tokens", "cache_creation_tokens"]),
    json_values | st.integers(0, 50),
) | st.fixed_dictionaries(
    {"cache_write_tokens": st.integers(0, 50), "cache_creation_tokens": st.integers(0, 50)},
    optional={"cache_write_tokens_details": lives | json_values, "cache_creation_token_details": lives | json_values},
)


def test_cached_and_reasoning_tokens_are_read_from_the_details():
    usage = usage_of_openai(
        {
            "prompt_tokens": 10,
            "completion_tokens": 20,
            "total_tokens": 30,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 5},
        }
    )
    assert usage == Usage(input_tokens=10, cached_input_tokens=4, output_tokens=20, reasoning_tokens=5)


def test_the_names_of_the_responses_api_are_read_too():
    usage = usage_of_openai({"input_tokens": 7, "output_tokens": 1, "input_tokens_details": {"cached_tokens": 2}})
    assert usage == Usage(input_tokens=7, cached_input_tokens=2, output_tokens=1)


@pytest.mark.parametrize(
    ("told", "written", "written_long"),
    [
        ({"cache_write_tokens": 60}, 60, 0),  # OpenRouter
        ({"cache_write_tokens": 60, "cache_write_tokens_details": None}, 60, 0),
        (  # OpenAI
            {"cache_write_tokens": 60, "cache_write_tokens_details": {"ttl_30m_tokens": 20, "ttl_12h_tokens": 40}},
            *(60, 40),
        ),
        ({"cache_creation_tokens": 60}, 60, 0),  # LiteLLM
        (
            {
                "cache_creation_tokens": 60,
                "cache_creation_token_details": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 40},
            },
            *(60, 40),
        ),
        ({"cache_write_tokens": 60, "cache_creation_tokens": 60}, 60, 0),  # one number under two names
        ({"cache_write_tokens": 0, "cache_creation_tokens": 60}, 60, 0),
        ({"cache_write_tokens": 60, "cache_write_tokens_details": {"ttl_12h_tokens": 900}}, 60, 60),
        (
            {"cache_write_tokens": 60, "cache_write_tokens_details": {"ttl_30m_tokens": 50, "ttl_12h_tokens": 60}},
            *(60, 10),
        ),
        ({"cache_write_tokens_details": {"ttl_12h_tokens": 40}}, 0, 0),
        ({"cache_write_tokens": -60}, 0, 0),
        ({"cache_write_tokens": 900}, 80, 0),
    ],
)
def test_what_was_written_to_a_cache_is_read_under_the_names_of_every_vendor(told, written, written_long):
    for names in (("prompt_tokens", "completion_tokens", "prompt"), ("input_tokens", "output_tokens", "input")):
        payload = {names[0]: 100, names[1]: 1, f"{names[2]}_tokens_details": {"cached_tokens": 20, **told}}
        usage = usage_of_openai(payload)
        assert (usage.input_tokens, usage.cached_input_tokens) == (100, 20)
        assert (usage.cache_write_input_tokens, usage.long_cache_write_input_tokens) == (written, written_long)


def test_reasoning_outside_the_output_is_added_where_the_total_shows_it():
    usage = usage_of_openai(
        {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 115,
            "completion_tokens_details": {"reasoning_tokens": 100},
        }
    )
    assert usage == Usage(input_tokens=10, output_tokens=105, reasoning_tokens=100)


@pytest.mark.parametrize(
    "payload",
    [
        None,
        [],
        "12",
        {},
        {"completion_tokens": 5},
        {"prompt_tokens": -1, "completion_tokens": 5},
        {"prompt_tokens": 1, "completion_tokens": -5},
        {"prompt_tokens": True, "completion_tokens": 5},
        {"prompt_tokens": 1, "completion_tokens": MAX_TOKENS + 1},
        {"prompt_tokens": 1e30, "completion_tokens": 1},
        {"prompt_tokens": float("nan"), "completion_tokens": 1},
        {"prompt_tokens": "many", "completion_tokens": 1},
        {"prompt_tokens": "١٢", "completion_tokens": 1},
        {"prompt_tokens": 1.5, "completion_tokens": 1},
        {"prompt_tokens": {"a": 1}, "completion_tokens": 1},
    ],
)
def test_usage_that_cannot_be_believed_is_none(payload):
    assert usage_of_openai(payload) is None


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({"prompt_tokens": 8, "total_tokens": 8}, Usage(input_tokens=8)),
        ({"total_tokens": 8}, Usage(input_tokens=8)),
        ({"prompt_tokens": "12", "completion_tokens": 3.0}, Usage(input_tokens=12, output_tokens=3)),
        (
            {"prompt_tokens": 2, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 999}},
            Usage(input_tokens=2, cached_input_tokens=2, output_tokens=3),
        ),
        (
            {"prompt_tokens": 2, "completion_tokens": 3, "prompt_tokens_details": [1], "completion_tokens_details": 4},
            Usage(input_tokens=2, output_tokens=3),
        ),
    ],
)
def test_usage_that_is_odd_but_readable_is_taken(payload, expected):
    assert usage_of_openai(payload) == expected


@given(st.dictionaries(names, json_values | st.integers(0, 100) | details))
def test_any_json_gives_bounded_usage_or_none(payload):
    usage = usage_of_openai(payload)
    if usage is not None:
        assert 0 <= usage.cached_input_tokens <= usage.input_tokens <= MAX_TOKENS
        assert usage.cached_input_tokens + usage.cache_write_input_tokens <= usage.input_tokens
        assert 0 <= usage.long_cache_write_input_tokens <= usage.cache_write_input_tokens
        assert 0 <= usage.reasoning_tokens <= usage.output_tokens <= 2 * MAX_TOKENS


@given(st.dictionaries(st.sampled_from(["choices", "usage", "data"]), json_values))
def test_any_json_has_a_countable_content(body):
    assert generated_bytes(body, "message") >= 0
    assert generated_bytes(body, "delta") >= 0


def test_images_are_counted_where_no_tokens_are_reported():
    assert usage_of_answer(Operation.IMAGE, {"data": [{}, {}]}) == Usage(images=2)
    reported = {"data": [{}], "usage": {"input_tokens": 5, "output_tokens": 0, "total_tokens": 5}}
    assert usage_of_answer(Operation.IMAGE, reported) == Usage(input_tokens=5, images=1)


def test_text_refusals_reasoning_and_tool_calls_all_count_as_content():
    message = {
        "content": "é",
        "refusal": "no",
        "reasoning_content": "abc",
        "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}, "odd"],
    }
    assert generated_bytes({"choices": [{"message": message}, {"message": message}, 3]}, "message") == 2 * (
        2 + 2 + 3 + 3
    )
