"""Random operations made from a schema, sent to a server that must never answer INTERNAL: run it against any schema.

    await fuzz(ask, schema, examples=300, pool=["ws_01h…"])

`ask(query, variables)` answers (status, body). Documents are valid in form; their arguments are often not: numbers out
of range, texts of any kind, ids of other things. A failure is shrunk to its smallest document by Hypothesis.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLScalarType,
    GraphQLSchema,
    get_named_type,
    is_abstract_type,
    is_leaf_type,
)
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

Ask = Callable[[str, dict], Awaitable[tuple[int, dict]]]

ALLOWED_STATUSES = frozenset({200, 400, 401, 403, 404, 413, 429})
TEXTS = st.one_of(
    st.sampled_from(
        ["", " ", "a", "x" * 5_000, "\u0000", "\u202e", "🏃", "'; DROP TABLE x; --", "%s", "../..", "NaN", "-1", "null"]
    ),
    st.text(st.characters(codec="utf-8"), max_size=30),
)
INTS = st.one_of(st.integers(-3, 120), st.sampled_from([2**31 - 1, -(2**31)]))
WILD_INTS = st.sampled_from([2**31, 2**53, 2**63, -(2**63), 10**30, "1", 1.5, True])
FLOATS = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([0.0, -0.0, 1e308, -1e308, 5e-324]))
NUMBERS = st.sampled_from(["0", "1", "1.5", "-1", "0.000001", "9999999", "9223372036854.775807", "9223372036854775807"])
WILD_NUMBERS = st.sampled_from(
    ["0.0000001", "1e400", "1E-400", "NaN", "Infinity", "-0", "9" * 40, "", "1,5", "٣", " 1 ", "0x1", 7, 1.5]
)
TIMES = st.sampled_from(
    ["2026-01-01T00:00:00Z", "2026-12-31T23:59:59.5+02:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"]
)
WILD_TIMES = st.sampled_from(
    [
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "2026-02-30T00:00:00Z",
        "2026-01-01",
        "now",
        "",
        "1",
        "2026-01-01T00:00:00",
    ]
)
JSONS = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**31), 2**31 - 1),
        st.floats(-1e9, 1e9),
        st.text(st.characters(codec="utf-8"), max_size=8),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["a", "b", "messages", "role", "content", "model", "stream", "n"]), inner, max_size=3
        ),
    ),
    max_leaves=6,
)


@dataclass
class Asked:
    """One operation to send."""

    query: str
    variables: dict


@dataclass
class Making:
    """What is known while an operation is made."""

    schema: GraphQLSchema
    draw: st.DrawFn
    pool: Sequence[str]
    without: frozenset[str]
    variables: dict = field(default_factory=dict)
    declared: list[str] = field(default_factory=list)
    fields_left: int = 25

    def value(self, type_, depth: int = 0):
        """A value of the type; seldom null where it may not be."""
        required = isinstance(type_, GraphQLNonNull)
        if self.draw(st.sampled_from(range(100 if required else 10))) == 9:
            return None
        return self.present(type_.of_type if required else type_, depth)

    def present(self, type_, depth: int):
        draw = self.draw
        if isinstance(type_, GraphQLList):
            return [self.value(type_.of_type, depth + 1) for _ in range(draw(st.sampled_from([1, 0, 2, 3])))]
        if isinstance(type_, GraphQLEnumType):
            return draw(st.sampled_from([*type_.values, *([] if draw(st.integers(0, 9)) else ["NO_SUCH_VALUE"])]))
        if isinstance(type_, GraphQLInputObjectType):
            return {
                name: None
                if depth > 3 and not isinstance(each.type, GraphQLNonNull)
                else self.value(each.type, depth + 1)
                for name, each in type_.fields.items()
                if isinstance(each.type, GraphQLNonNull) or draw(st.integers(0, 2)) == 0
            }
        return self.scalar(type_)

    def scalar(self, type_: GraphQLScalarType):
        """Mostly what the type takes: one value that it refuses, and the whole document is refused with it."""
        draw, wild = self.draw, self.draw(st.sampled_from(range(12))) == 11
        match type_.name:
            case "Int":
                return draw(WILD_INTS if wild else INTS)
            case "Float":
                return draw(FLOATS)
            case "Boolean":
                return draw(st.booleans())
            case "ID":
                return draw(TEXTS if wild or not self.pool else st.sampled_from(self.pool))
            case "JSON":
                return draw(JSONS)
            case "Vector":
                return draw(st.lists(FLOATS, max_size=3))
            case "DateTime" | "Date":
                return draw(WILD_TIMES if wild else TIMES)
            case "String":
                return draw(TEXTS if wild else st.sampled_from([*self.pool, "a@example.com", "name"]))
            case _:
                return draw(st.one_of(WILD_NUMBERS, TEXTS) if wild else NUMBERS)

    def arguments(self, arguments) -> str:
        parts = []
        for name, argument in arguments.items():
            if not isinstance(argument.type, GraphQLNonNull) and self.draw(st.integers(0, 2)):
                continue
            value = self.value(argument.type)
            if self.draw(st.booleans()):
                variable = f"v{len(self.declared)}"
                self.declared.append(f"${variable}: {argument.type}")
                self.variables[variable] = value
                parts.append(f"{name}: ${variable}")
            else:
                parts.append(f"{name}: {literal(argument.type, value)}")
        return f"({', '.join(parts)})" if parts else ""

    def selection(self, type_, depth: int) -> str:
        if is_abstract_type(type_):
            possible = self.schema.get_possible_types(type_)
            chosen = self.draw(st.lists(st.sampled_from(possible), min_size=1, max_size=2, unique_by=lambda t: t.name))
            return (
                "{ __typename "
                + " ".join(f"... on {each.name} {self.selection(each, depth + 1)}" for each in chosen)
                + " }"
            )
        assert isinstance(type_, GraphQLObjectType)
        fields = [
            (name, each)
            for name, each in type_.fields.items()
            if name not in self.without and (depth < 5 or is_leaf_type(get_named_type(each.type)))
        ]
        chosen = (
            self.draw(st.lists(st.sampled_from(fields), min_size=1, max_size=4, unique_by=lambda f: f[0]))
            if fields
            else []
        )
        return "{ __typename " + " ".join(self.field(name, each, depth) for name, each in chosen) + " }"

    def field(self, name: str, definition, depth: int) -> str:
        if self.fields_left <= 0:
            return ""
        self.fields_left -= 1
        condition = self.draw(st.sampled_from(["", "", "", " @include(if: true)", " @skip(if: true)"]))
        # An alias of its own: the same field may stand in fragments of two types with other arguments.
        text = f"f{self.fields_left}: {name}{self.arguments(definition.args)}{condition}"
        named = get_named_type(definition.type)
        return text if is_leaf_type(named) else f"{text} {self.selection(named, depth + 1)}"


@st.composite
def operations(
    draw: st.DrawFn, schema: GraphQLSchema, pool: Sequence[str] = (), without: frozenset[str] = frozenset()
) -> Asked:
    """Queries and mutations of the schema. `pool`: ids that exist; `without`: names of fields to leave out."""
    roots = [("query", schema.query_type), ("query", schema.query_type), ("mutation", schema.mutation_type)]
    kind, root = draw(st.sampled_from([each for each in roots if each[1] is not None]))
    making = Making(schema, draw, pool, without)
    body = making.selection(root, 0)
    declared = f"({', '.join(making.declared)})" if making.declared else ""
    return Asked(f"{kind} Fuzz{declared} {body}", making.variables)


def literal(type_, value) -> str:
    """The value as a document writes it."""
    if value is None:
        return "null"
    if isinstance(type_, GraphQLNonNull):
        return literal(type_.of_type, value)
    if isinstance(type_, GraphQLList):
        return f"[{', '.join(literal(type_.of_type, item) for item in value)}]"
    if isinstance(type_, GraphQLEnumType):
        return value
    if isinstance(type_, GraphQLInputObjectType):
        return (
            "{" + ", ".join(f"{name}: {literal(type_.fields[name].type, item)}" for name, item in value.items()) + "}"
        )
    return plain(value)


def plain(value) -> str:
    """A literal of no particular type, as for JSON."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {plain(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(plain(item) for item in value)}]"
    return json.dumps(value, ensure_ascii=False)


def complaint_of(status: int, body: dict) -> str | None:
    """Why an answer is not acceptable."""
    codes = [error.get("extensions", {}).get("code") for error in body.get("errors") or ()]
    if "INTERNAL" in codes or None in codes:
        return f"answered {body['errors']}"
    if status not in ALLOWED_STATUSES:
        return f"status {status}"
    return None


async def fuzz(
    ask: Ask,
    schema: GraphQLSchema,
    *,
    examples: int = 200,
    pool: Sequence[str] = (),
    without: frozenset[str] = frozenset(),
    start: int = 0,
    shrink: bool = True,
) -> dict[int, int]:
    """Send so many operations; AssertionError with the smallest that is answered INTERNAL. Returns counts by status.

    The same `start` makes the same operations.
    """
    loop = asyncio.get_running_loop()
    statuses: dict[int, int] = {}
    phases = [Phase.generate, Phase.shrink] if shrink else [Phase.generate]

    @seed(start)
    @settings(
        max_examples=examples, deadline=None, database=None, phases=phases, suppress_health_check=list(HealthCheck)
    )
    @given(operations(schema, pool, without))
    def check(asked: Asked) -> None:
        status, body = asyncio.run_coroutine_threadsafe(ask(asked.query, asked.variables), loop).result(60)
        statuses[status] = statuses.get(status, 0) + 1
        complaint = complaint_of(status, body)
        assert complaint is None, f"{complaint}\n{asked.query}\n{json.dumps(asked.variables)}"

    await asyncio.to_thread(check)
    return statuses
