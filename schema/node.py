"""What everything with a global id is."""

import strawberry

from resolvers.context import RequestContext

Info = strawberry.Info[RequestContext, None]


@strawberry.interface(description="Everything that has a global id")
class Node:
    """The contract's Node."""

    id: strawberry.ID = strawberry.field(description="Its opaque global id; give it to `node` to read it again")
