"""What the SDL states of costs: the weights of @cost and the sizes of @listSize, by type and field."""

from dataclasses import dataclass, field
from typing import Any, Final

from graphql import GraphQLObjectType, GraphQLSchema

from schema.cost import Cost
from schema.cost import ListSize as StatedListSize

_DEFINITION: Final = "strawberry-definition"
"""Where Strawberry leaves its own definition, with the directives, at graphql-core's objects, which do not keep them."""


@dataclass(frozen=True, slots=True)
class ListSize:
    """`@listSize` on a field."""

    assumed: int | None = None
    slicing: tuple[str, ...] = ()
    sized_fields: tuple[str, ...] = ()


@dataclass(slots=True)
class Weights:
    """The weights and sizes that the SDL states, by type and field."""

    field_weights: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    type_weights: dict[str, int] = field(default_factory=dict[str, int])
    sizes: dict[tuple[str, str], ListSize] = field(default_factory=dict[tuple[str, str], ListSize])

    @classmethod
    def of_schema(cls, core: GraphQLSchema) -> "Weights":
        """Read the directives from the definitions, which takes a hundredth of printing the SDL and parsing it again."""
        weights = cls()
        for name, kind in core.type_map.items():
            if isinstance(kind, GraphQLObjectType):
                weight = _weight_in(_directives_of(kind))
                if weight is not None:
                    weights.type_weights[name] = weight
                for field_name, each in kind.fields.items():
                    weights._read_field((name, field_name), _directives_of(each))
        return weights

    def _read_field(self, key: tuple[str, str], directives: list[object]) -> None:
        weight = _weight_in(directives)
        if weight is not None:
            self.field_weights[key] = weight
        for directive in directives:
            if isinstance(directive, StatedListSize):
                self.sizes[key] = ListSize(
                    directive.assumed_size if isinstance(directive.assumed_size, int) else None,  # UNSET
                    tuple(directive.slicing_arguments or ()),
                    tuple(directive.sized_fields or ()),
                )


def _directives_of(stated: Any) -> list[object]:  # Any: graphql-core's types and fields share no base with extensions
    definition = stated.extensions.get(_DEFINITION)
    return list(getattr(definition, "directives", None) or ())


def _weight_in(directives: list[object]) -> int | None:
    for directive in directives:
        if isinstance(directive, Cost):
            return round(float(directive.weight))
    return None
