"""The events of a message, put together again, are the message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.message_so_far import MessageSoFar
from tests.providers.claude import TEXT, THINKING, TOOL, USAGE, events, message

texts = st.text(max_size=20)
blocks = st.one_of(
    texts.map(lambda text: {"type": "text", "text": text, "citations": None}),
    texts.map(lambda text: {"type": "thinking", "thinking": text, "signature": "s"}),
    st.dictionaries(texts, texts | st.integers(0, 9), max_size=3).map(
        lambda given: {"type": "tool_use", "id": "t", "name": "n", "input": given}
    ),
)


@given(st.lists(blocks, max_size=4), st.sampled_from(["end_turn", "max_tokens", "tool_use"]))
def test_a_streamed_message_is_the_whole_one(content, stop_reason) -> None:
    so_far = MessageSoFar()
    for event in events(content, stop_reason):
        so_far.add(event)
    assert so_far.body() == message(content, stop_reason)


@given(st.lists(blocks, max_size=4), st.integers(0, 40))
def test_who_comes_later_is_told_the_same_in_fewer_events(content, cut) -> None:
    told = events(content)
    before, later = MessageSoFar(), MessageSoFar()
    for event in told[:cut]:
        before.add(event)
    for event in [*before.chunks(), *told[cut:]]:
        later.add(event)
    assert later.body() == message(content)
    merged = [
        (event.get("index"), event["delta"]["type"])
        for event in before.chunks()
        if "index" in event and "delta" in event
    ]
    assert len(merged) == len(set(merged))
    assert "ping" not in {event["type"] for event in before.chunks()}
    assert before.is_empty == (not before.chunks())


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_copy_goes_its_own_way(cut) -> None:
    told = events([THINKING, TEXT, TOOL], "tool_use")
    so_far = MessageSoFar()
    for event in told[:cut]:
        so_far.add(event)
    copy = so_far.copy()
    before = so_far.body()
    for event in told[cut:]:
        copy.add(event)
    assert so_far.body() == before
    assert copy.body()["usage"] == USAGE


def test_citations_are_kept_and_rubbish_changes_nothing() -> None:
    so_far = MessageSoFar()
    for event in events([TEXT])[:3]:
        so_far.add(event)
    before = so_far.body()
    for rubbish in (
        {},
        {"type": "x"},
        {"type": "content_block_delta", "index": 0, "delta": 5},
        {"type": "message_start"},
    ):
        so_far.add(rubbish)
    assert so_far.body() == before
    cited = {"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta", "citation": {"a": 1}}}
    so_far.add(cited)
    so_far.add(cited)
    assert so_far.body()["content"][0]["citations"] == [{"a": 1}, {"a": 1}]
