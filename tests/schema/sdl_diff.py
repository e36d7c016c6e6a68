"""Compares two schemas: what of the first is not in the second, or is stricter there."""

from collections.abc import Iterator

from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLScalarType,
    GraphQLSchema,
    GraphQLUnionType,
    is_introspection_type,
    is_specified_scalar_type,
    print_ast,
)


def missing_and_changed(wanted: GraphQLSchema, built: GraphQLSchema) -> tuple[set[str], list[str]]:
    """Coordinates of `wanted` that `built` lacks, and sentences about those that differ."""
    missing: set[str] = set()
    changed: list[str] = []
    for name, type_ in wanted.type_map.items():
        if is_introspection_type(type_) or is_specified_scalar_type(type_):
            continue
        there = built.type_map.get(name)
        if there is None:
            missing.add(name)
            continue
        if type(there) is not type(type_):
            changed.append(f"{name} is a {type(there).__name__}, wanted {type(type_).__name__}")
            continue
        if type_.description and there.description != type_.description:
            changed.append(f"{name}: description {there.description!r}, wanted {type_.description!r}")
        for coordinate, problem in _differences(name, type_, there):
            if problem is None:
                missing.add(coordinate)
            else:
                changed.append(f"{coordinate}: {problem}")
    return missing, changed


def _differences(name: str, wanted, there) -> Iterator[tuple[str, str | None]]:
    match wanted:
        case GraphQLObjectType() | GraphQLInterfaceType():
            for interface in wanted.interfaces:
                if interface.name not in {each.name for each in there.interfaces}:
                    yield f"{name} implements {interface.name}", None
            yield from _fields(name, wanted, there)
        case GraphQLInputObjectType():
            if wanted.is_one_of != there.is_one_of:
                yield name, "@oneOf differs"
            yield from _inputs(name, wanted.fields, there.fields)
        case GraphQLEnumType():
            for value in wanted.values:
                if value not in there.values:
                    yield f"{name}.{value}", None
        case GraphQLUnionType():
            for member in wanted.types:
                if member.name not in {each.name for each in there.types}:
                    yield f"{name} | {member.name}", None
        case GraphQLScalarType():
            pass


def _fields(name: str, wanted, there) -> Iterator[tuple[str, str | None]]:
    for field_name, field in wanted.fields.items():
        coordinate = f"{name}.{field_name}"
        if field_name not in there.fields:
            yield coordinate, None
            continue
        other = there.fields[field_name]
        if str(other.type) != str(field.type):
            yield coordinate, f"is {other.type}, wanted {field.type}"
        if field.description and field.description != other.description:
            yield coordinate, f"description {other.description!r}, wanted {field.description!r}"
        yield from _inputs(coordinate, field.args, other.args)


def _inputs(coordinate: str, wanted, there) -> Iterator[tuple[str, str | None]]:
    for name, value in wanted.items():
        at = f"{coordinate}.{name}"
        if name not in there:
            yield at, None
            continue
        other = there[name]
        if str(other.type) != str(value.type):
            yield at, f"is {other.type}, wanted {value.type}"
        if _default(value) not in {None, _default(other)}:
            yield at, f"defaults to {_default(other)}, wanted {_default(value)}"
        if value.description and value.description != other.description:
            yield at, f"description {other.description!r}, wanted {value.description!r}"
    for name in set(there) - set(wanted):
        extra = there[name]
        if _default(extra) is None and isinstance(extra.type, GraphQLNonNull):
            yield f"{coordinate}.{name}", "is required and not in the contract"


def _default(value) -> str | None:
    node = value.ast_node.default_value
    return None if node is None else print_ast(node)
