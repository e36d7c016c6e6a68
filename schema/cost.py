"""The cost directives of the SDL (IBM's GraphQL cost specification), from which the edge prices a document.

Scalars and enums cost 0, objects 1, a mutation 10, a connection its page size times what one item costs.
"""

import strawberry
from strawberry.schema_directive import Location

_WHERE = [Location.FIELD_DEFINITION, Location.OBJECT]


@strawberry.schema_directive(
    locations=_WHERE,
    name="cost",
    description="What resolving this once costs in API points, where it is not the default",
)
class Cost:
    """`@cost(weight: "10")`."""

    weight: str = strawberry.directive_field(name="weight")


@strawberry.schema_directive(
    locations=[Location.FIELD_DEFINITION],
    name="listSize",
    description="How many items a list holds at most, so that its cost is known before it runs",
)
class ListSize:
    """`@listSize(slicingArguments: ["first"], sizedFields: ["edges", "nodes"])` or `@listSize(assumedSize: 20)`."""

    assumed_size: int | None = strawberry.directive_field(name="assumedSize", default=strawberry.UNSET)
    slicing_arguments: list[str] | None = strawberry.directive_field(name="slicingArguments", default=strawberry.UNSET)
    sized_fields: list[str] | None = strawberry.directive_field(name="sizedFields", default=strawberry.UNSET)
    require_one_slicing_argument: bool = strawberry.directive_field(name="requireOneSlicingArgument", default=False)


PAGED = ListSize(slicing_arguments=["first"], sized_fields=["edges", "nodes"])
"""On every connection field."""


def sized(size: int) -> ListSize:
    """On a list field without pages that holds about so many items."""
    return ListSize(assumed_size=size)
