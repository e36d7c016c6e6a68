"""Event streams are read the same wherever they are cut."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

import providers.sse
from providers.sse import EventReader, EventTooLongError

STREAM = (
    b'\xef\xbb\xbf: comment\n\ndata: {"a":1}\n\nevent: x\r\ndata:two\r\ndata: lines\r\n\r\n'
    b"id: 3\rdata: cr\r\r\n\n\ndata: \n\nretry: 5\n\ndata: \xc3\xa9\n\ndata: rest"
)  # fmt: skip
EVENTS = [b'{"a":1}', b"two\nlines", b"cr", b"", b"\xc3\xa9"]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_a_stream_cut_anywhere_gives_the_same_events(cuts):
    edges = [0, *sorted(cuts), len(STREAM)]
    reader = EventReader()
    events = [event for a, b in itertools.pairwise(edges) for event in reader.feed(STREAM[a:b])]
    assert events == EVENTS
    assert reader.finish() == b"rest"
    assert reader.finish() is None


def test_an_event_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(providers.sse, "MAX_EVENT_BYTES", 100)
    reader = EventReader()
    reader.feed(b"data: " + b"x" * 90)
    with pytest.raises(EventTooLongError):
        reader.feed(b"x" * 20)
