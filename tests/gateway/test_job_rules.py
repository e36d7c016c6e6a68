"""The truth table of jobs, row by row, and when they are looked at."""

import pytest

from gateway.rules.jobs import is_certain, pause_s, verdict_of
from metering.operations import UsageFacts
from providers.errors import (
    ProviderNotConfigured,
    UpstreamGarbage,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from providers.prediction_http import NotReached
from providers.predictions import PredictionState

FILM = UsageFacts(input_tokens=20, requests=1, seconds=8, estimated=True)
PICTURES = UsageFacts(input_tokens=20, requests=1, images=4, estimated=True)
DONE, FAILED, CANCELED = PredictionState.SUCCEEDED, PredictionState.FAILED, PredictionState.CANCELED


@pytest.mark.parametrize(
    ("state", "reported", "files", "bound", "asked", "expected"),
    [
        (DONE, {"seconds": 7}, 1, FILM, False, (7, 0, False)),
        (DONE, {}, 1, FILM, False, (8, 0, True)),
        (DONE, None, 1, FILM, False, (8, 0, True)),
        (DONE, {"seconds": 9}, 1, FILM, False, (8, 0, True)),
        (DONE, {"seconds": 0}, 1, FILM, False, (0, 0, False)),
        (DONE, {}, 0, FILM, False, None),
        (DONE, {}, 3, PICTURES, False, (0, 3, False)),
        (DONE, {"images": 2}, 3, PICTURES, False, (0, 2, False)),
        (DONE, {"images": 5}, 6, PICTURES, False, (0, 4, True)),
        (DONE, {"seconds": -1}, 1, FILM, False, (8, 0, True)),
        (FAILED, {"seconds": 5}, 1, FILM, False, (5, 0, False)),
        (FAILED, {"seconds": 5}, 0, FILM, False, None),
        (FAILED, {}, 2, PICTURES, False, (0, 2, False)),
        (FAILED, {}, 0, FILM, True, None),
        (CANCELED, {"seconds": 3}, 0, FILM, True, (3, 0, False)),
        (CANCELED, {"seconds": 3}, 0, FILM, False, None),
        (CANCELED, {}, 0, FILM, True, None),
        (CANCELED, {"seconds": 0}, 0, FILM, True, None),
        (CANCELED, {}, 1, FILM, True, (8, 0, True)),
        (CANCELED, {}, 2, PICTURES, True, (0, 2, False)),
        (CANCELED, {"seconds": 99}, 0, FILM, True, (8, 0, True)),
        (CANCELED, {}, 1, PICTURES, False, (0, 1, False)),
    ],
)
def test_what_a_job_is_charged(state, reported, files: int, bound: UsageFacts, asked: bool, expected) -> None:
    told = verdict_of(state, reported, files, bound, "p", cancel_asked=asked, tokens_priced=False)
    got = None if told.usage is None else (told.usage.seconds, told.usage.images, told.usage.estimated)
    assert got == expected
    ended = "SUCCEEDED" if state is DONE and files else "CANCELED" if state is CANCELED and asked else "FAILED"
    assert told.status == ended
    if told.usage is not None:
        assert (told.usage.requests, told.usage.input_tokens, told.usage.provider) == (1, 0, "p")


def test_input_is_counted_by_its_bound_only_where_it_has_a_price() -> None:
    counted = verdict_of(DONE, {}, 1, PICTURES, "p", cancel_asked=False, tokens_priced=True).usage
    told = verdict_of(DONE, {"input_tokens": 7}, 1, PICTURES, "p", cancel_asked=False, tokens_priced=True).usage
    assert counted is not None
    assert told is not None
    assert (counted.input_tokens, counted.estimated) == (20, True)
    assert (told.input_tokens, told.estimated) == (7, False)


@pytest.mark.parametrize(
    ("error", "certain"),
    [
        (NotReached(), True),
        (UpstreamRejected(400, "x"), True),
        (UpstreamRateLimited(None), True),
        (ProviderNotConfigured("x"), True),
        (UpstreamUnavailable("x", status=503), True),
        (UpstreamTimeout("connect"), True),
        (UpstreamUnavailable("x"), False),
        (UpstreamTimeout("first_byte"), False),
        (UpstreamTimeout("total"), False),
        (UpstreamGarbage("x"), False),
    ],
)
def test_whether_a_failed_creation_has_surely_made_nothing(error, certain: bool) -> None:
    assert is_certain(error) is certain


def test_pauses_grow_to_the_longest() -> None:
    assert [pause_s(looks, 1, 15) for looks in range(4)] == [1.0, 1.5, 2.25, 3.375]
    assert pause_s(10**9, 1, 15) == 15.0
