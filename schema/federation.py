"""What makes this schema a subgraph of Apollo Federation 2, so that a partner's supergraph can include it."""

import re
from functools import lru_cache
from typing import Final, NewType

import strawberry
from graphql import GraphQLError
from strawberry.schema_directive import Location
from strawberry.types.scalar import ScalarDefinition

from resolvers import entities
from resolvers.entities import Reference


@strawberry.schema_directive(
    locations=[Location.OBJECT],
    name="key",
    description="By which fields other subgraphs may refer to an entity (Apollo Federation)",
)
class Key:
    """`@key(fields: "id")`."""

    fields: str = strawberry.directive_field(name="fields")


BY_ID: Final = Key(fields="id")
"""On every entity."""
LINK: Final = 'extend schema @link(url: "https://specs.apollo.dev/federation/v2.3", import: ["@key"])\n\n'

_KEY_DEFINITION: Final = re.compile(r'"""[^"]*"""\ndirective @key\([^\n]*\n\n')
"""The link above imports it, and may not find it defined."""

AnyReference = NewType("AnyReference", Reference)


def _read_reference(value: object) -> Reference:
    if isinstance(value, dict):
        kind: object = value.get("__typename")  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType] -- parsed JSON
        key: object = value.get("id")  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType] -- likewise
        if isinstance(kind, str) and kind in entities.PREFIXES and isinstance(key, str):
            return Reference(kind, key)
    raise GraphQLError(f"_Any is an object of __typename, one of {', '.join(entities.PREFIXES)}, and id.")


ANY: Final[ScalarDefinition] = strawberry.scalar(
    name="_Any", description="A reference to an entity: its __typename and id", parse_value=_read_reference
)


@strawberry.type(name="_Service", description="This subgraph")
class Service:
    """The federation specification's _Service."""

    sdl: str = strawberry.field(description="Its schema")


@lru_cache(maxsize=1)
def subgraph_sdl(schema: strawberry.Schema) -> str:
    """The schema with the link that makes it a subgraph."""
    return LINK + _KEY_DEFINITION.sub("", schema.as_str())
