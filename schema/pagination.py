"""Connections: pages of lists that can grow."""

from collections.abc import Callable
from typing import Annotated, Generic, TypeVar

import strawberry

from kit.pages import Page
from schema.cost import PAGED

T = TypeVar("T")
V = TypeVar("V")

First = Annotated[int | None, strawberry.argument(description="How many items: 1 to 100")]
After = Annotated[str | None, strawberry.argument(description="Begin behind the item with this cursor")]
DEFAULT_FIRST = 20


@strawberry.type(description="Where a page stands in its list")
class PageInfo:
    """The contract's PageInfo."""

    has_next_page: bool = strawberry.field(description="Whether items follow this page")
    has_previous_page: bool = strawberry.field(description="Whether items stand before this page")
    start_cursor: str | None = strawberry.field(description="The cursor of the page's first item")
    end_cursor: str | None = strawberry.field(
        description="The cursor of its last item: give it as `after` for the next page"
    )


@strawberry.type(description="An item of a list and its place in it")
class Edge(Generic[T]):
    """The contract's …Edge types."""

    cursor: str = strawberry.field(description="The item's place, for `after`")
    node: T = strawberry.field(description="The item")


@strawberry.type(description="A page of a list")
class Connection(Generic[T]):
    """The contract's …Connection types, with `nodes` for those who need no cursors."""

    edges: list[Edge[T]] = strawberry.field(description="The page's items with their cursors")
    nodes: list[T] = strawberry.field(description="The page's items without their cursors")
    page_info: PageInfo = strawberry.field(description="Where the page stands in the list")


def connection_of(page: Page[V], of: Callable[[V], T]) -> Connection[T]:
    """The page with each view wrapped into its type."""
    nodes = [of(view) for view in page.items]
    return Connection(
        edges=[Edge(cursor=cursor, node=node) for cursor, node in zip(page.cursors, nodes, strict=True)],
        nodes=nodes,
        page_info=PageInfo(
            has_next_page=page.has_next,
            has_previous_page=page.has_previous,
            start_cursor=page.cursors[0] if page.cursors else None,
            end_cursor=page.cursors[-1] if page.cursors else None,
        ),
    )


def listed(description: str):  # noqa: ANN201  strawberry's own decorator type
    """The decorator of every connection field: a field with `@listSize`."""
    return strawberry.field(description=description, directives=[PAGED])
