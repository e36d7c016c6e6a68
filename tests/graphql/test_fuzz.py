"""Random operations against the example schema: the edge's own share of "no client ever sees INTERNAL"."""

import pytest

from tests.graphql.example import build_example
from tests.graphql.fuzz import fuzz

MEANT_TO_BREAK = frozenset({"broken", "unsayable", "nullInNonNull", "breakIt", "slow"})


async def asking(edge, query, variables):
    answer = await edge.ask(query, variables)
    return answer.status, answer.body


async def test_no_operation_is_answered_internal(edge):
    schema = build_example()._schema
    statuses = await fuzz(
        lambda q, v: asking(edge, q, v), schema, examples=40, pool=["ws", "1"], without=MEANT_TO_BREAK
    )
    assert statuses[200] >= 20, statuses


async def test_the_fuzzer_finds_a_field_that_breaks(edge, caplog):
    schema = build_example()._schema
    with pytest.raises(AssertionError, match="INTERNAL"):
        await fuzz(lambda q, v: asking(edge, q, v), schema, examples=100, without=frozenset({"slow"}), shrink=False)
