"""The whole schema, built from its parts."""

from functools import cache

import strawberry
from strawberry.schema.config import StrawberryConfig

from schema.federation import ANY, AnyReference
from schema.mutation import Mutation
from schema.query import Query
from schema.scalars import SCALARS
from schema.subscription import Subscription


@cache
def build_schema() -> strawberry.Schema:
    """The schema; built once a process, since it takes a tenth of a second and nothing in it changes."""
    return strawberry.Schema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        config=StrawberryConfig(scalar_map={**SCALARS, AnyReference: ANY}, disable_field_suggestions=True),
    )
