"""Entities of the federated graph, read by reference: the same as nodes, under the same rules."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from kit.errors import BadRequest
from kit.pages import MAX_PAGE_SIZE
from resolvers import nodes
from resolvers.context import RequestContext
from resolvers.nodes import NodeView

PREFIXES: Final = {"Workspace": "ws", "Plan": "plan", "Model": "model", "User": "user"}
"""The id prefix of each kind of entity."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What another subgraph knows of an entity."""

    kind: str
    id: str


async def entities(context: RequestContext, references: Sequence[Reference]) -> list[NodeView | None]:
    """Those that the viewer may see, None for the others. BadRequest for more than 100."""
    if len(references) > MAX_PAGE_SIZE:
        raise BadRequest(f"_entities takes {MAX_PAGE_SIZE} references at most, not {len(references)}")
    return await asyncio.gather(*(_entity(context, reference) for reference in references))


async def _entity(context: RequestContext, reference: Reference) -> NodeView | None:
    if reference.id.rpartition("_")[0] != PREFIXES[reference.kind]:
        return None
    return await nodes.node(context, reference.id)
