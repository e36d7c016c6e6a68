"""The whole schema, built from its parts."""

import strawberry
from strawberry.schema.config import StrawberryConfig

from schema.federation import ANY, AnyReference
from schema.mutation import Mutation
from schema.query import Query
from schema.scalars import SCALARS
from schema.subscription import Subscription


def build_schema() -> strawberry.Schema:
    """The schema; build it once a process, it takes a tenth of a second."""
    return strawberry.Schema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        config=StrawberryConfig(scalar_map={**SCALARS, AnyReference: ANY}, disable_field_suggestions=True),
    )
