"""What the SDL states of costs: the weights of @cost and the sizes of @listSize, by type and field."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from graphql import (
    ConstDirectiveNode,
    FieldDefinitionNode,
    IntValueNode,
    ListValueNode,
    ObjectTypeDefinitionNode,
    StringValueNode,
    parse,
)


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
    def of_sdl(cls, sdl: str) -> "Weights":
        """Read the directives from the printed schema: graphql-core's own objects do not keep them."""
        weights = cls()
        for definition in parse(sdl, no_location=True).definitions:
            if isinstance(definition, ObjectTypeDefinitionNode):
                name = definition.name.value
                weight = _weight_in(definition.directives)
                if weight is not None:
                    weights.type_weights[name] = weight
                for each in definition.fields or ():
                    weights.read_field(name, each)
        return weights

    def read_field(self, type_name: str, definition: FieldDefinitionNode) -> None:
        """Note what one field states."""
        key = (type_name, definition.name.value)
        weight = _weight_in(definition.directives)
        if weight is not None:
            self.field_weights[key] = weight
        for directive in definition.directives or ():
            if directive.name.value == "listSize":
                self.sizes[key] = _list_size(directive)


def _weight_in(directives: Sequence[ConstDirectiveNode] | None) -> int | None:
    for directive in directives or ():
        if directive.name.value == "cost":
            for argument in directive.arguments or ():
                if argument.name.value == "weight" and isinstance(argument.value, StringValueNode | IntValueNode):
                    return round(float(argument.value.value))
    return None


def _list_size(directive: ConstDirectiveNode) -> ListSize:
    assumed: int | None = None
    texts: dict[str, tuple[str, ...]] = {}
    for argument in directive.arguments or ():
        value = argument.value
        if isinstance(value, IntValueNode):
            assumed = int(value.value)
        elif isinstance(value, ListValueNode):
            texts[argument.name.value] = tuple([v.value for v in value.values if isinstance(v, StringValueNode)])
    return ListSize(assumed, texts.get("slicingArguments", ()), texts.get("sizedFields", ()))
