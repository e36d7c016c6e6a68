"""Answers what a workspace used in a range of time, by hour, day or month, and by model, member, key or modality.

Days and quarters come from the roll-ups where these are complete, and from the events themselves where a mark says that
they are not and at the edges of the range; one statement, so one snapshot: the report is right at its instant.
"""

import base64
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from itertools import pairwise
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

import asyncpg
import orjson

from kit.errors import InvalidInput
from kit.pages import Page, PageRequest
from kit.records import record
from metering.rules.intervals import DAY, QUARTER, UsageInterval, bucket_starts, floor_to
from models.database import Database, connection

MAX_BUCKETS: Final = 10_000
"""Hours, days or months of one report."""
MAX_ROWS: Final = 10_000
"""Buckets with usage times groups: what one report holds."""
_EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)
_NOBODY: Final = UUID(int=0)


class UsageDimension(StrEnum):
    """What usage can be grouped by."""

    MODEL = "MODEL"
    MEMBER = "MEMBER"
    API_KEY = "API_KEY"
    MODALITY = "MODALITY"


_COLUMNS: Final = {
    UsageDimension.MODEL: "model_slug",
    UsageDimension.MEMBER: "user_id",
    UsageDimension.API_KEY: "api_key_id",
    UsageDimension.MODALITY: "modality",
}
_FINE: Final = frozenset({UsageDimension.MEMBER, UsageDimension.API_KEY})
"""What the running sums of days do not know."""


@record
class UsageBucketView:
    """One group's usage in one bucket; a dimension that was not asked for is None, as is a caller without a user or key."""

    start: datetime
    model_slug: str | None
    user_id: UUID | None
    api_key_id: UUID | None
    modality: str | None
    calls: int
    input_tokens: int
    output_tokens: int
    charged_micro: int

    @property
    def position(self) -> str:
        """Where it stands in its report."""
        key = [self.start.isoformat(), self.model_slug, self.user_id, self.api_key_id, self.modality]
        return base64.urlsafe_b64encode(orjson.dumps(key, default=str)).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class UsageReportView:
    """The whole report: at most MAX_ROWS buckets in order of time, only those with usage."""

    calls: int
    charged_micro: int
    buckets: tuple[UsageBucketView, ...]

    def page(self, request: PageRequest) -> Page[UsageBucketView]:
        """Some of the buckets. InvalidInput for a cursor of another report; what is new since stands in its place."""
        start = 0 if request.after is None else self._behind(request.after)
        shown = self.buckets[start : start + request.first]
        return Page(
            shown, tuple(bucket.position for bucket in shown), start + request.first < len(self.buckets), start > 0
        )

    def _behind(self, cursor: str) -> int:
        after = _sort_key_of(cursor)
        return next((index for index, each in enumerate(self.buckets) if _sort_key(each) > after), len(self.buckets))


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """What is asked. `end` is not part of the range. `zone_name`: an IANA name, the zone in which days begin."""

    begin: datetime
    end: datetime
    interval: UsageInterval
    group_by: frozenset[UsageDimension]
    zone_name: str

    def starts(self) -> tuple[datetime, ...]:
        """Where its buckets begin. InvalidInput for an unknown zone and for a range that is empty or too long."""
        if self.zone_name not in _zones():
            raise InvalidInput("timeZone must be the name of a time zone such as Europe/Berlin", field=["time_zone"])
        if not _EARLIEST <= self.begin < self.end <= _LATEST:
            raise InvalidInput("from must be before to, and both must lie in the years 2000 to 2199", field=["from"])
        starts = bucket_starts(self.begin, self.end, self.interval, ZoneInfo(self.zone_name), MAX_BUCKETS)
        if len(starts) > MAX_BUCKETS:
            raise InvalidInput(
                f"from and to are more than {MAX_BUCKETS} {self.interval.lower()}s apart: ask for less, or longer intervals",
                field=["from"],
            )
        return starts


async def usage_report(database: Database, workspace_id: UUID, query: UsageQuery) -> UsageReportView:
    """The report. InvalidInput where it is too large; see UsageQuery.starts."""
    starts = query.starts()
    dimensions = [each for each in UsageDimension if each in query.group_by]
    fine = not _FINE.isdisjoint(query.group_by)
    async with connection(database) as conn:
        rows: Sequence[asyncpg.Record] = await conn.fetch(
            _statement(tuple(dimensions), fine=fine),
            workspace_id, query.begin, query.end, list(starts), _edges(query), MAX_ROWS + 1,
            *(() if fine else _parts_of_days(query, starts)),
        )  # fmt: skip
    if len(rows) > MAX_ROWS:
        raise InvalidInput(
            f"this report has more than {MAX_ROWS} rows: ask for a shorter range, longer intervals or fewer dimensions",
            field=["group_by"],
        )
    buckets = _buckets(rows, starts, dimensions)
    return UsageReportView(sum(each.calls for each in buckets), sum(each.charged_micro for each in buckets), buckets)


def _edges(query: UsageQuery) -> list[datetime]:
    """The quarters of which the range holds only a part."""
    first, last = floor_to(query.begin, QUARTER), floor_to(query.end, QUARTER)
    return sorted({edge for edge, at in ((first, query.begin), (last, query.end)) if edge != at})


def _parts_of_days(
    query: UsageQuery, starts: Sequence[datetime]
) -> tuple[list[datetime], list[int], list[int], list[int]]:
    """The range cut where buckets and UTC days begin: each part's day, its first quarter, the one behind, its bucket."""
    begin, end = floor_to(query.begin, QUARTER), floor_to(query.end, QUARTER)
    midnight = floor_to(begin, DAY)
    midnights = [midnight + number * DAY for number in range(1, -((midnight - end) // DAY))]
    cuts = sorted({begin, end, *starts[1:], *midnights})
    days: list[datetime] = []
    firsts: list[int] = []
    behinds: list[int] = []
    buckets: list[int] = []
    for first, behind in pairwise(cuts):
        day = floor_to(first, DAY)
        days.append(day)
        firsts.append((first - day) // QUARTER)
        behinds.append((behind - day) // QUARTER)
        buckets.append(bisect_right(starts, first) or 1)
    return days, firsts, behinds, buckets


def _buckets(
    rows: Sequence[asyncpg.Record], starts: Sequence[datetime], dimensions: Sequence[UsageDimension]
) -> tuple[UsageBucketView, ...]:
    """In the order of `_sort_key`. A row is the bucket's number, the dimensions in their order, and four sums.

    A year by day has thousands of rows: each is read by place, and sorted as PostgreSQL gave it.
    """
    width = 1 + len(dimensions)
    places = {dimension: place for place, dimension in enumerate(dimensions, start=1)}
    model, member, key, modality = (places.get(each) for each in UsageDimension)

    def start_of(bucket: int) -> datetime:
        return starts[bucket - 1]

    return tuple(
        UsageBucketView(
            start_of(row[0]),
            row[model] if model else None,
            _somebody(row[member]) if member else None,
            _somebody(row[key]) if key else None,
            row[modality] if modality else None,
            *row[width:],
        )
        for row in sorted(rows, key=lambda row: row[:width])
    )


def _somebody(found: UUID) -> UUID | None:
    return None if found == _NOBODY else found


_SortKey = tuple[datetime, str, str, str, str]


def _sort_key(bucket: UsageBucketView) -> _SortKey:
    return (
        bucket.start,
        bucket.model_slug or "",
        str(bucket.user_id or ""),
        str(bucket.api_key_id or ""),
        bucket.modality or "",
    )


def _sort_key_of(cursor: str) -> _SortKey:
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        at, model, user, key, modality = orjson.loads(raw)
        start = datetime.fromisoformat(at).astimezone(UTC)
    except (ValueError, TypeError, OverflowError) as error:  # decoding errors are ValueErrors
        raise InvalidInput("this is not a cursor of this list", field=["after"]) from error
    return start, str(model or ""), str(user or ""), str(key or ""), str(modality or "")


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


# OFFSET 0: one index look-up for each quarter, whatever the planner believes of the tables.
# Marked quarters, and those of which the range holds a part: their events are read. $5 are the parts at the edges.
_OPEN: Final = """
open AS MATERIALIZED (
    SELECT DISTINCT quarter_start FROM usage_marks
    WHERE workspace_id = $1 AND quarter_start > $2::timestamptz - interval '15 minutes' AND quarter_start < $3
    UNION SELECT unnest($5::timestamptz[])
)"""
_EVENTS: Final = """
SELECT width_bucket(e.created_at, $4::timestamptz[]) AS bucket, e.model_slug, e.modality, coalesce(e.user_id, '00000000-0000-0000-0000-000000000000') AS user_id,
    coalesce(e.api_key_id, '00000000-0000-0000-0000-000000000000') AS api_key_id,
    CASE WHEN e.sequence = 0 THEN 1 ELSE 0 END AS calls, e.input_tokens, e.output_tokens, e.charged_micro
FROM open o CROSS JOIN LATERAL (
    SELECT * FROM usage_events u WHERE u.workspace_id = $1 AND u.created_at >= greatest(o.quarter_start, $2)
        AND u.created_at < least(o.quarter_start + interval '15 minutes', $3) OFFSET 0
) AS e"""
_QUARTERS: Final = """
SELECT width_bucket(r.quarter_start, $4), r.model_slug, r.modality, r.user_id, r.api_key_id, r.calls, r.input_tokens,
    r.output_tokens, r.charged_micro
FROM usage_rollups r
WHERE r.workspace_id = $1 AND r.quarter_start >= $2 AND r.quarter_start < $3
    AND NOT EXISTS (SELECT FROM open o WHERE o.quarter_start = r.quarter_start)"""
# Days that are read from their running sums: no quarter of theirs is open. All other days are read by quarters.
_DAYS: Final = """
whole AS MATERIALIZED (
    SELECT DISTINCT day_start FROM usage_days WHERE workspace_id = $1 AND day_start = ANY ($7::timestamptz[])
    EXCEPT SELECT date_bin('1 day', quarter_start, timestamptz 'epoch') FROM open
), other AS MATERIALIZED (
    SELECT DISTINCT day_start FROM unnest($7::timestamptz[]) AS d (day_start) EXCEPT SELECT day_start FROM whole
)"""
# $7 to $10 cut the range where buckets and UTC days begin: the day, its first quarter and the one behind, the bucket.
_SUMS: Final = """
SELECT s.bucket, d.model_slug, d.modality, NULL::uuid, NULL::uuid, d.calls[s.behind + 1] - d.calls[s.first + 1],
    d.input_tokens[s.behind + 1] - d.input_tokens[s.first + 1],
    d.output_tokens[s.behind + 1] - d.output_tokens[s.first + 1],
    d.charged_micro[s.behind + 1] - d.charged_micro[s.first + 1]
FROM unnest($7::timestamptz[], $8::int[], $9::int[], $10::int[]) AS s (day_start, first, behind, bucket)
JOIN whole USING (day_start) JOIN usage_days d ON d.workspace_id = $1 AND d.day_start = s.day_start"""
_QUARTERS_OF_OTHER: Final = """
SELECT width_bucket(r.quarter_start, $4), r.model_slug, r.modality, r.user_id, r.api_key_id, r.calls, r.input_tokens,
    r.output_tokens, r.charged_micro
FROM other b CROSS JOIN LATERAL (
    SELECT * FROM usage_rollups q WHERE q.workspace_id = $1 AND q.quarter_start >= greatest(b.day_start, $2)
        AND q.quarter_start < least(b.day_start + interval '1 day', $3) OFFSET 0
) AS r
WHERE NOT EXISTS (SELECT FROM open o WHERE o.quarter_start = r.quarter_start)"""


@cache
def _statement(dimensions: tuple[UsageDimension, ...], *, fine: bool) -> str:
    columns = "".join(f", {_COLUMNS[each]}" for each in dimensions)
    parts = (_EVENTS, _QUARTERS) if fine else (_EVENTS, _SUMS, _QUARTERS_OF_OTHER)
    given = _OPEN if fine else f"{_OPEN}, {_DAYS}"
    return f"""
        WITH {given}, parts AS ({" UNION ALL ".join(parts)})
        SELECT bucket{columns}, sum(calls)::bigint AS calls, sum(input_tokens)::bigint AS input_tokens,
            sum(output_tokens)::bigint AS output_tokens, sum(charged_micro)::bigint AS charged_micro
        FROM parts GROUP BY bucket{columns}
        HAVING sum(calls) <> 0 OR sum(input_tokens) <> 0 OR sum(output_tokens) <> 0 OR sum(charged_micro) <> 0 LIMIT $6
    """  # noqa: S608  the parts are ours
