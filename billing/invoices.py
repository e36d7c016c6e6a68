"""Reads the invoices that the payment provider wrote for a workspace (D7), page by page."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg import Record

from kit.pages import Page, PageRequest, decode_cursor, encode_cursor, pages_of
from models.database import Database, connection

_PAGE: Final = """SELECT found.* FROM unnest($1::uuid[]) AS parent(id) CROSS JOIN LATERAL (SELECT * FROM invoices
    WHERE workspace_id = parent.id AND ($2::timestamptz IS NULL OR (created_at, id) < ($2, $3))
    ORDER BY created_at DESC, id DESC LIMIT $4) AS found ORDER BY found.created_at DESC, found.id DESC"""
_BY_IDS: Final = "SELECT * FROM invoices WHERE id = ANY ($1)"


@dataclass(frozen=True, slots=True)
class InvoiceView:
    """An invoice. `hosted_url` and `pdf_url`: the provider's pages."""

    id: UUID
    workspace_id: UUID
    number: str | None
    status: str
    total_usd_micro: int
    hosted_url: str | None
    pdf_url: str | None
    created_at: datetime


async def invoices_of_workspaces(
    database: Database, workspace_ids: Sequence[UUID], request: PageRequest
) -> dict[UUID, Page[InvoiceView]]:
    """A page of each workspace's invoices, the newest first."""
    at, key = decode_cursor(request.after) if request.after else (None, None)
    async with connection(database) as conn:
        rows = await conn.fetch(_PAGE, list(workspace_ids), at, key, request.first + 1)
    found = [(row["workspace_id"], _view(row)) for row in rows]
    return pages_of(workspace_ids, found, request, lambda view: encode_cursor(view.created_at, view.id))


async def invoices_by_ids(database: Database, ids: Sequence[UUID]) -> dict[UUID, InvoiceView]:
    """Invoices by id."""
    async with connection(database) as conn:
        rows = await conn.fetch(_BY_IDS, list(ids))
    return {row["id"]: _view(row) for row in rows}


def _view(row: Record) -> InvoiceView:
    return InvoiceView(
        id=row["id"],
        workspace_id=row["workspace_id"],
        number=row["number"],
        status=row["status"],
        total_usd_micro=row["total_usd_micro"],
        hosted_url=row["hosted_url"],
        pdf_url=row["pdf_url"],
        created_at=row["created_at"],
    )
