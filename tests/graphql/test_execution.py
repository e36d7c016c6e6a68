"""What running an operation answers: the same as graphql-core's own execute, errors masked, costs told."""

import logging

import pytest
from graphql import execute, parse
from strawberry.execution import optimized_is_awaitable

from app.graphql.limits import DocumentLimits
from app.graphql.operations import Operations
from tests.graphql.conftest import KEY
from tests.graphql.example import Context, Happenings, build_example

QUERIES = [
    ("{ __typename workspace { __typename id name } }", {}),
    ("{ workspace { members(first: 3) { nodes { id name role email workspace { id } } edges { cursor node { name } } } } }", {}),
    ("query($f: Int = 2) { workspace { members(first: $f) { nodes { id } } } }", {"f": 1}),
    ("query($f: Int = 2) { workspace { members(first: $f) { nodes { id } } } }", {}),
    ("query($x: Boolean!) { workspace { id @skip(if: $x) name @include(if: $x) ... @include(if: $x) { dear } } }", {"x": True}),
    ("query($x: Boolean!) { workspace { id @skip(if: $x) name @include(if: $x) ... @include(if: $x) { dear } } }", {"x": False}),
    ("{ search { __typename ... on Member { name role } ... on Note { text } } node(id: 1) { id ... on Note { text } } }", {}),
    ("{ ...F workspace { name } } fragment F on Query { workspace { id ...G } } fragment G on Workspace { name tags { id } }", {}),
    ('{ hidden broken forbidden a: echo(text: "1") }', {}),
    ("{ nullInNonNull { id name } echo }", {}),
    ("query($r: [[Int!]!]) { grid(rows: $r) }", {"r": [[1], [2]]}),
    ("query($n: NoteInput) { echo(note: $n) anything(value: {a: [1, {b: null}]}) }", {"n": {"text": "t"}}),
    ('mutation { a: write(text: "1") { id text } b: breakIt { id } c: write(text: "2") { __typename } }', {}),
    ("{ __schema { queryType { name } } }", {}),
]  # fmt: skip


@pytest.mark.parametrize(("query", "variables"), QUERIES)
async def test_the_answer_is_that_of_graphql_core(query, variables):
    schema = build_example()
    operation = (
        Operations(schema, DocumentLimits(), introspection=True).read(query, hide_suggestions=True).operation(None)
    )
    for _ in range(2):  # the second run is from what the first one remembered
        coerced = operation.prepared.coerce(dict(variables), hide_suggestions=True)
        ours = await operation.prepared.run(coerced, Context(KEY, "r", "a", Happenings()))
        theirs = execute(
            schema._schema,
            parse(query),
            context_value=Context(KEY, "r", "a", Happenings()),
            variable_values=dict(variables),
            executor_class=schema.execution_context_class,
            is_awaitable=optimized_is_awaitable,
        )
        if optimized_is_awaitable(theirs):
            theirs = await theirs
        assert ours.data == theirs.data
        assert [(e.message, e.path) for e in ours.errors or []] == [(e.message, e.path) for e in theirs.errors or []]


async def test_what_nobody_meant_for_callers_is_masked_and_logged_with_its_operation(edge, caplog):
    with caplog.at_level(logging.ERROR):
        answer = await edge.ask("query Leaky { broken }")
    assert answer.status == 200
    assert "secret" not in str(answer.body)
    assert answer.code == "INTERNAL"
    assert answer.errors[0]["extensions"]["requestId"] == answer.headers["x-request-id"]
    logged = next(record for record in caplog.records if "Leaky" in record.getMessage())
    assert answer.headers["x-request-id"] in logged.getMessage()
    assert "the secret is 42" in str(logged.exc_info[1])


async def test_null_in_a_non_null_field_is_masked(edge, caplog):
    answer = await edge.ask("{ nullInNonNull { name } }")
    assert (answer.data, answer.code) == ({"nullInNonNull": None}, "INTERNAL")


async def test_a_value_without_json_is_masked(edge, caplog):
    answer = await edge.ask("{ unsayable }")
    assert (answer.data, answer.code) == (None, "INTERNAL")


async def test_refusals_of_resolvers_keep_their_code_and_message(edge):
    answer = await edge.ask("{ hidden forbidden }")
    told = {error["path"][0]: (error["extensions"]["code"], error["message"]) for error in answer.errors}
    assert told == {"hidden": ("NOT_FOUND", "there is no such thing"), "forbidden": ("FORBIDDEN", "not yours")}


async def test_a_refusal_of_a_querys_field_is_the_callers_error_with_its_reason(edge):
    answer = await edge.ask("{ unpaged }")
    assert (answer.status, answer.data) == (200, {"unpaged": None})
    assert answer.errors[0]["message"] == "this is not a cursor of this list"
    assert answer.errors[0]["extensions"] == {"code": "BAD_REQUEST", "reason": "INVALID_INPUT", "field": ["after"]}


async def test_an_argument_null_at_run_time_is_the_callers_error(edge):
    answer = await edge.ask('query($t: String = "a") { echo(text: $t) }', {"t": None})
    assert answer.code == "BAD_REQUEST"


async def test_an_answer_refused_by_a_bucket_in_every_root_field_is_429(edge):
    answer = await edge.ask("{ throttled again: throttled }")
    assert (answer.status, answer.code, answer.headers["retry-after"]) == (429, "RATE_LIMITED", "7")
    assert "data" not in answer.body
    partly = await edge.ask("{ throttled echo }")
    assert (partly.status, partly.data) == (200, {"throttled": None, "echo": ""})


async def test_mutations_run_one_after_the_other(edge):
    answer = await edge.ask('mutation { a: write(text: "1", waitS: 0.02) { id } b: write(text: "2") { id } }')
    assert answer.data == {"a": {"id": "n"}, "b": {"id": "n"}}
    assert edge.happenings.mutations == ["1", "2"]


async def test_each_request_has_a_context_of_its_own(edge):
    await edge.ask("{ whoami }")
    answer = await edge.ask("{ whoami }", token="user")
    assert answer.data == {"whoami": "USER 127.0.0.1"}
    assert edge.happenings.contexts == 2


async def test_introspection_is_answered_from_memory_the_second_time(edge):
    query = "{ __schema { types { name fields { name } } } }"
    first = await edge.ask(query)
    contexts = edge.happenings.contexts
    second = await edge.ask(query)
    assert first.data == second.data
    assert edge.happenings.contexts == contexts
