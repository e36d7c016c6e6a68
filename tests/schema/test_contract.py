"""The schema holds what the contract promises, its snapshot is current, and everything in it is described and well named."""

import re
from pathlib import Path

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    build_schema,
    is_introspection_type,
    is_specified_scalar_type,
    parse,
    print_ast,
    validate,
)

from schema.sdl import CONTRACT, SNAPSHOT, sdl
from tests.schema.not_built_yet import NOT_BUILT_YET
from tests.schema.sdl_diff import missing_and_changed

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.graphql"))


@pytest.fixture(scope="module")
def built() -> GraphQLSchema:
    return build_schema(sdl())


@pytest.fixture(scope="module")
def contract() -> GraphQLSchema:
    return build_schema(CONTRACT.read_text(encoding="utf-8"))


def test_the_schema_is_a_superset_of_the_contract(built: GraphQLSchema, contract: GraphQLSchema) -> None:
    missing, changed = missing_and_changed(contract, built)
    assert changed == []
    assert missing == NOT_BUILT_YET, "NOT_BUILT_YET names what is missing, and nothing that is there"


def test_the_comparison_sees_every_kind_of_difference() -> None:
    wanted = build_schema(
        'type Query { "said" a(x: Int = 1, y: [ID!]): [Int!] b: E c(i: I): U } enum E { A B } union U = V | W'
        " type V { v: Int } type W { w: Int } input I @oneOf { i: Int j: Int } interface N { id: ID! } type T implements N { id: ID! }"
    )
    built = build_schema(
        "type Query { a(x: Int = 2, z: Int!): [Int] c(i: I): U } enum E { A } union U = V"
        " type V { v: Int } type W { w: Int! } input I { i: Int! j: Int k: Int! } interface N { id: ID! } type T { id: ID! }"
    )
    missing, changed = missing_and_changed(wanted, built)
    assert missing == {"Query.a.y", "Query.b", "E.B", "U | W", "T implements N"}
    assert {line.split(":")[0] for line in changed} == {"Query.a", "Query.a.x", "Query.a.z", "W.w", "I", "I.i", "I.k"}


def test_the_committed_snapshot_is_current() -> None:
    assert SNAPSHOT.read_text(encoding="utf-8") == sdl(), "run: python -m schema --write"


def test_everything_is_described(built: GraphQLSchema) -> None:
    silent = [coordinate for coordinate, description in _descriptions(built) if not description]
    assert silent == []


def test_names_follow_the_usual_forms(built: GraphQLSchema) -> None:
    wrong = []
    for name, type_ in _own_types(built):
        if not re.fullmatch(r"_?[A-Z][A-Za-z0-9]*", name):
            wrong.append(name)
        if isinstance(type_, GraphQLEnumType):
            wrong += [f"{name}.{value}" for value in type_.values if not re.fullmatch(r"[A-Z][A-Z0-9_]*", value)]
        elif isinstance(type_, GraphQLObjectType | GraphQLInterfaceType | GraphQLInputObjectType):
            wrong += [f"{name}.{field}" for field in type_.fields if not re.fullmatch(r"_?[a-z][A-Za-z0-9]*", field)]
        if isinstance(type_, GraphQLInputObjectType) and not name.endswith("Input"):
            wrong.append(f"input {name}")
    assert wrong == []


def test_root_fields_are_nullable_and_mutations_take_one_input(built: GraphQLSchema) -> None:
    for root in (built.query_type, built.mutation_type):
        strict = [name for name, field in root.fields.items() if isinstance(field.type, GraphQLNonNull)]
        assert [name for name in strict if not name.startswith("_")] == [], "Federation asks for its own otherwise"
    for name, field in built.mutation_type.fields.items():
        assert list(field.args) == ([] if name in {"signOut", "enrolTwoFactor"} else ["input"])
        assert field.type.name.endswith("Payload")
        assert str(field.type.fields["userErrors"].type) == "[UserError!]!"


def test_every_connection_is_paged_and_tells_its_cost(built: GraphQLSchema) -> None:
    connections = list(_connection_fields(built))
    assert connections
    for coordinate, field in connections:
        assert {"first", "after"} <= set(field.args), coordinate
        assert '@listSize(slicingArguments: ["first"]' in print_ast(field.ast_node), coordinate


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_are_valid(built: GraphQLSchema, path: Path) -> None:
    assert validate(built, parse(path.read_text(encoding="utf-8"))) == []


def _own_types(schema: GraphQLSchema):
    return [
        (name, type_)
        for name, type_ in schema.type_map.items()
        if not is_introspection_type(type_) and not is_specified_scalar_type(type_)
    ]


def _connection_fields(schema: GraphQLSchema):
    for name, type_ in _own_types(schema):
        if isinstance(type_, GraphQLObjectType):
            for field_name, field in type_.fields.items():
                if str(field.type).rstrip("!").endswith("Connection"):
                    yield f"{name}.{field_name}", field


def _descriptions(schema: GraphQLSchema):
    for name, type_ in _own_types(schema):
        yield name, type_.description
        if isinstance(type_, GraphQLEnumType):
            yield from ((f"{name}.{key}", value.description) for key, value in type_.values.items())
        elif isinstance(type_, GraphQLObjectType | GraphQLInterfaceType):
            for field_name, field in type_.fields.items():
                yield f"{name}.{field_name}", field.description
                yield from ((f"{name}.{field_name}({key}:)", arg.description) for key, arg in field.args.items())
        elif isinstance(type_, GraphQLInputObjectType):
            yield from ((f"{name}.{key}", field.description) for key, field in type_.fields.items())
