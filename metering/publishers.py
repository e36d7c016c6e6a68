"""What published models were used for and what their workspace earned by them, by hour, day or month and by model."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from kit.errors import InvalidInput
from kit.pages import Page, PageRequest, decode_cursor, encode_cursor
from metering.reports import MAX_ROWS, UsageQuery
from models.database import Database, connection

# The index by wallet and time is read once; buckets begin where the query says.
_REPORT: Final = """
SELECT width_bucket(u.created_at, $4::timestamptz[]) AS bucket, u.model_id, min(m.slug) AS slug,
    count(*)::bigint AS calls, sum(u.uses)::bigint AS uses, sum(u.input_tokens)::bigint AS input_tokens,
    sum(u.output_tokens)::bigint AS output_tokens, sum(u.charged_micro)::bigint AS charged_micro,
    sum(u.earned_micro)::bigint AS earned_micro
FROM published_uses u JOIN models m ON m.id = u.model_id
WHERE u.wallet_id = $1 AND u.created_at >= $2 AND u.created_at < $3 AND ($5::uuid IS NULL OR u.model_id = $5)
GROUP BY bucket, u.model_id ORDER BY bucket, u.model_id LIMIT $6
"""


@dataclass(frozen=True, slots=True)
class EarningsBucketView:
    """One model's use in one bucket: `calls` in which it was used, `uses` of it, steps of chains counted each."""

    start: datetime
    model_id: UUID
    slug: str
    calls: int
    uses: int
    input_tokens: int
    output_tokens: int
    charged_micro: int
    earned_micro: int


@dataclass(frozen=True, slots=True)
class EarningsReportView:
    """The whole report, in order of time and then of the models' making; only buckets with use."""

    buckets: tuple[EarningsBucketView, ...]

    @property
    def calls(self) -> int:
        """In how many calls a model was used; a call of two models counts for both."""
        return sum(bucket.calls for bucket in self.buckets)

    @property
    def charged_micro(self) -> int:
        """What callers paid for them."""
        return sum(bucket.charged_micro for bucket in self.buckets)

    @property
    def earned_micro(self) -> int:
        """The publisher's share of that."""
        return sum(bucket.earned_micro for bucket in self.buckets)

    def page(self, request: PageRequest) -> Page[EarningsBucketView]:
        """Some of the buckets. InvalidInput for a cursor of another list."""
        after = None if request.after is None else decode_cursor(request.after)
        behind = [each for each in self.buckets if after is None or (each.start, each.model_id) > after]
        shown = tuple(behind[: request.first])
        cursors = tuple(encode_cursor(each.start, each.model_id) for each in shown)
        return Page(shown, cursors, len(behind) > request.first, after is not None)


async def earnings_report(
    database: Database, wallet_id: UUID, query: UsageQuery, model_id: UUID | None
) -> EarningsReportView:
    """The report of a publisher's wallet; `model_id` for one model only. InvalidInput where it is too large."""
    starts = query.starts()
    async with connection(database) as conn:
        rows: Sequence[asyncpg.Record] = await conn.fetch(
            _REPORT, wallet_id, query.begin, query.end, list(starts), model_id, MAX_ROWS + 1
        )
    if len(rows) > MAX_ROWS:
        raise InvalidInput(f"this report has more than {MAX_ROWS} rows: ask for a shorter range", field=["from"])
    return EarningsReportView(tuple(_bucket(row, starts) for row in rows))


def _bucket(row: asyncpg.Record, starts: Sequence[datetime]) -> EarningsBucketView:
    bucket: int = row["bucket"]
    return EarningsBucketView(
        start=starts[bucket - 1],
        model_id=row["model_id"],
        slug=row["slug"],
        calls=row["calls"],
        uses=row["uses"],
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        charged_micro=row["charged_micro"],
        earned_micro=row["earned_micro"],
    )
