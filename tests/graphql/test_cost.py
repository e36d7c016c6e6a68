"""What operations cost, when they are refused for it, and how their points are taken and given back."""

import pytest
from graphql import ObjectTypeDefinitionNode, parse, value_from_ast_untyped

from app.graphql.limits import DocumentLimits
from app.graphql.operations import Operations
from app.graphql.weights import ListSize, Weights
from schema.root import build_schema
from schema.sdl import sdl
from tests.graphql.example import build_example

COSTS = [
    ("{ __typename }", {}, 1),
    ("{ workspace { id name } }", {}, 1),
    ("{ workspace { dear } }", {}, 1 + 7),
    ("{ workspace { tags { id } } }", {}, 1 + 5),
    ("{ workspace { members { nodes { id } } } }", {}, 1 + 1 + 20),
    ("{ workspace { members(first: 7) { nodes { id } } } }", {}, 1 + 1 + 7),
    ("{ workspace { members(first: 7) { edges { cursor node { id } } } } }", {}, 1 + 1 + 7),
    ("{ workspace { members(first: 7) { nodes { workspace { id } } } } }", {}, 1 + 1 + 7 * 2),
    ("query($f: Int) { workspace { members(first: $f) { nodes { id } } } }", {"f": 3}, 1 + 1 + 3),
    ("query($f: Int = 4) { workspace { members(first: $f) { nodes { id } } } }", {}, 1 + 1 + 4),
    ("query($f: Int) { workspace { members(first: $f) { nodes { id } } } }", {"f": 2_000_000_000}, 1 + 1 + 100),
    ("query($f: Int) { workspace { members(first: $f) { nodes { id } } } }", {"f": -5}, 1 + 1 + 20),
    ("{ workspace { members(first: 99999999999999999999) { nodes { id } } } }", {}, None),
    ("{ a: workspace { id } b: workspace { id } }", {}, 2),
    ("{ workspace { id } workspace { tags { id } } }", {}, 1 + 5),
    ("{ workspace { ...F } ...G } fragment F on Workspace { tags { id } } fragment G on Query { workspace { tags { name } } }", {}, 1 + 5),
    ("{ search { ... on Member { workspace { id } } ... on Note { text } } }", {}, 10 * 2),
    ("{ workspace { tags @skip(if: true) { id } } }", {}, 1 + 5),
    ('mutation { write(text: "a") { id } }', {}, 10),
    ('mutation { a: write(text: "a") { id } b: write(text: "a") { id } }', {}, 20),
    ("{ __schema { types { name } } }", {}, 10),
    ("subscription { count }", {}, 1),
]  # fmt: skip


@pytest.mark.parametrize(("query", "variables", "expected"), [case for case in COSTS if case[2] is not None])
def test_the_requested_cost_is_the_sum_of_what_may_be_answered(query, variables, expected):
    operation = (
        Operations(build_example(), DocumentLimits(), introspection=True)
        .read(query, hide_suggestions=True)
        .operation(None)
    )
    coerced = operation.prepared.coerce(variables, hide_suggestions=True)
    assert operation.formula.requested(coerced.coerced) == expected


def test_the_weights_are_those_that_the_sdl_states():
    stated = Weights()
    for kind in parse(sdl()).definitions:
        if isinstance(kind, ObjectTypeDefinitionNode):
            kind_name = kind.name.value
            if "cost" in (own := _directives(kind)):
                stated.type_weights[kind_name] = int(own["cost"]["weight"])
            for each in kind.fields:
                directives, key = _directives(each), (kind_name, each.name.value)
                if "cost" in directives:
                    stated.field_weights[key] = int(directives["cost"]["weight"])
                if "listSize" in directives:
                    size = directives["listSize"]
                    texts = [tuple(size.get(name, ())) for name in ("slicingArguments", "sizedFields")]
                    stated.sizes[key] = ListSize(size.get("assumedSize"), *texts)
    assert stated.field_weights
    assert stated.sizes
    assert Weights.of_schema(build_schema()._schema) == stated


def _directives(node) -> dict:
    return {
        each.name.value: {given.name.value: value_from_ast_untyped(given.value) for given in each.arguments or ()}
        for each in node.directives or ()
    }


async def test_the_answer_tells_requested_and_actual_cost_and_what_is_left(edge):
    answer = await edge.ask("{ workspace { members(first: 10) { nodes { id } } } }")
    assert answer.body["extensions"]["cost"] == {"requested": 12, "actual": 1 + 1 + 3, "limit": 2_000}
    assert answer.body["extensions"]["rateLimit"]["limit"] == 1_000_000
    assert answer.headers["ratelimit-policy"] == '"points";q=1000000;w=3600'


async def test_a_query_too_dear_is_refused_with_both_figures_before_anything_runs(serve):
    async with serve(max_cost=50) as edge:
        answer = await edge.ask("{ workspace { members(first: 50) { nodes { id } } } }")
        assert (answer.status, answer.code) == (400, "QUERY_TOO_COMPLEX")
        assert (answer.errors[0]["extensions"]["requested"], answer.errors[0]["extensions"]["limit"]) == (52, 50)
        assert answer.body["extensions"]["cost"] == {"requested": 52, "actual": 0, "limit": 50}
        assert edge.happenings.resolved == 0
        fitting = await edge.ask("query($f: Int!) { workspace { members(first: $f) { nodes { id } } } }", {"f": 48})
        assert fitting.status == 200
        dear = await edge.ask("query($f: Int!) { workspace { members(first: $f) { nodes { id } } } }", {"f": 49})
        assert dear.code == "QUERY_TOO_COMPLEX"


async def test_points_are_charged_refunded_to_the_actual_and_refused_with_429(serve):
    query = "{ workspace { members(first: 48) { nodes { id } } } }"
    async with serve(points=100, points_per_hour=1) as edge:
        first = await edge.ask(query)
        assert (first.body["extensions"]["cost"]["actual"], first.body["extensions"]["rateLimit"]["remaining"]) == (
            5,
            50,
        )
        second = await edge.ask(query)
        assert second.body["extensions"]["rateLimit"]["remaining"] == 100 - 5 - 50
        third = await edge.ask("{ workspace { members(first: 95) { nodes { id } } } }")
        assert (third.status, third.code) == (429, "RATE_LIMITED")
        assert int(third.headers["retry-after"]) >= 1
        assert third.headers["ratelimit"].startswith('"points"')
        assert "points" in third.errors[0]["message"]
        other = await edge.ask(query, token="user")
        assert other.status == 200


async def test_strangers_share_a_smaller_bucket_by_address(serve):
    async with serve(stranger_points=3, stranger_points_per_hour=1) as edge:
        statuses = [(await edge.ask("{ __typename }", token=None)).status for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
