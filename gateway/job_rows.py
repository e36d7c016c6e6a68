"""The rows of jobs: written with the hold, claimed by workers, ended with the settlement."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from asyncpg import Record

from gateway.assets import Maker, Room
from gateway.failures import Outcome
from gateway.routed import Try
from gateway.rules.jobs import MAX_TRIES_TOLD
from gateway.rules.storage import KeptTime
from gateway.tracing import JobFacts
from kit.json_values import JsonObject
from metering.operations import UsageFacts
from metering.rules.rating import MeterPrice, Rates
from models.database import Database, execute, fetch_row, transaction
from models.pool import PoolConnection
from providers.base import Headers, Operation

LEASE: Final = timedelta(seconds=30)
"""How long a job taken by one worker is not taken by another, unless its provider says that it ended."""
_BOUNDED: Final = ("input_tokens", "output_tokens", "images", "seconds")
KEPT_FOR: Final = timedelta(days=7)
"""How long the row of an ended job stays, for questions about it; it holds no prompt."""

_INSERT: Final = """
INSERT INTO jobs (call_id, workspace_id, wallet_id, user_id, api_key_id, model_slug, operation, request_id, terms, request,
    due_at, deadline_at, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $11)
"""
_COLUMNS: Final = """j.call_id, j.workspace_id, j.wallet_id, j.user_id, j.api_key_id, j.model_slug, j.operation,
    j.request_id, j.terms, j.request, j.route, j.provider, j.prediction_id, j.submitting_at, j.polls, j.misses,
    j.deadline_at, j.cancel_requested_at, j.created_at"""
_CLAIM: Final = f"""
UPDATE jobs j SET due_at = $1::timestamptz + $2::interval, polls = j.polls + 1, poked_at = NULL
FROM (SELECT call_id FROM jobs WHERE ended_at IS NULL AND due_at <= $1 ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED) due
WHERE j.call_id = due.call_id
RETURNING {_COLUMNS}, (SELECT h.expires_at FROM holds h WHERE h.call_id = j.call_id) AS hold_expires_at
"""  # noqa: S608  our own columns
_RENEW: Final = """
UPDATE jobs SET due_at = greatest(due_at, $2) WHERE call_id = ANY ($1) AND ended_at IS NULL AND poked_at IS NULL
"""
_SUBMITTING: Final = """
UPDATE jobs SET submitting_at = $2, provider = $3, route = $4
WHERE call_id = $1 AND ended_at IS NULL AND prediction_id IS NULL AND cancel_requested_at IS NULL
"""
_TRIED: Final = """
UPDATE jobs SET terms = terms || $2, submitting_at = CASE WHEN $3 THEN NULL ELSE submitting_at END
WHERE call_id = $1 AND ended_at IS NULL AND prediction_id IS NULL
"""
_TAKEN: Final = """
UPDATE jobs SET prediction_id = $2, taken_at = $3::timestamptz, request = NULL, polls = 0, misses = 0, terms = terms || $5,
    due_at = CASE WHEN cancel_requested_at IS NULL THEN $4::timestamptz ELSE $3::timestamptz END
WHERE call_id = $1 AND ended_at IS NULL AND prediction_id IS NULL
"""
_LATER: Final = """
UPDATE jobs SET due_at = CASE WHEN poked_at IS NULL THEN $2 ELSE poked_at END, misses = $3, poked_at = NULL
WHERE call_id = $1 AND ended_at IS NULL
"""
_POKE: Final = """
UPDATE jobs SET due_at = $3, poked_at = $3 WHERE provider = $1 AND prediction_id = $2 AND ended_at IS NULL
"""
_LOCK_WALLET: Final = "SELECT FROM wallets WHERE id = $1 FOR NO KEY UPDATE"
_LOCK_JOB: Final = """
SELECT workspace_id, submitting_at, prediction_id, ended_at, cancel_requested_at, created_at, model_slug, operation, request_id,
    terms
FROM jobs WHERE call_id = $1 FOR UPDATE
"""
_OF_CALL: Final = "SELECT workspace_id, wallet_id FROM jobs WHERE call_id = $1"
_ASK_CANCEL: Final = """
UPDATE jobs SET cancel_requested_at = coalesce(cancel_requested_at, $2),
    due_at = CASE WHEN prediction_id IS NULL THEN due_at ELSE $2 END,
    poked_at = CASE WHEN prediction_id IS NULL THEN poked_at ELSE $2 END
WHERE call_id = $1
"""
_END: Final = "UPDATE jobs SET ended_at = $2, request = NULL WHERE call_id = $1"
_RUNNING: Final = "SELECT count(*) FROM jobs WHERE workspace_id = $1 AND ended_at IS NULL"
_FORGET: Final = """
DELETE FROM jobs WHERE call_id IN
    (SELECT call_id FROM jobs WHERE ended_at <= $1 ORDER BY ended_at LIMIT $2 FOR UPDATE SKIP LOCKED)
"""


@dataclass(frozen=True, slots=True)
class JobTerms:
    """What a job was admitted on: the price at its submit counts. `routes` in the order in which they were drawn.

    `trace`: as gateway.tracing.JobFacts carries it.
    """

    bound: UsageFacts
    rates: Rates
    discount_percent: int
    routes: tuple[tuple[str, str], ...]
    kept: KeptTime
    stored_days: int | None
    test: bool
    trace: Headers = ()

    def as_json(self) -> JsonObject:
        """As the row keeps them."""
        bound = self.bound
        return {
            "bound": {name: getattr(bound, name) for name in _BOUNDED},
            "prices": [[price.meter, price.credits_micro, price.per] for price in self.rates.prices],
            "discount_percent": self.discount_percent,
            "routes": [list(route) for route in self.routes],
            "kept_s": self.kept.whole_s,
            "unstored_s": self.kept.unstored_s,
            "stored_days": self.stored_days,
            "test": self.test,
            "trace": [list(header) for header in self.trace],
        }


@dataclass(frozen=True, slots=True)
class Job:
    """A job as a worker has claimed it. `hold_expires_at` None: its hold is gone.

    `route`: the one of its terms that was asked last. `submitting_at`: since when it may be there, with no id known.
    `tries`: all so far, in order.
    """

    call_id: UUID
    workspace_id: UUID
    wallet_id: UUID
    user_id: UUID | None
    api_key_id: UUID | None
    model_slug: str
    operation: Operation
    request_id: str
    terms: JobTerms
    request: bytes | None
    route: int
    provider: str | None
    prediction_id: str | None
    submitting_at: datetime | None
    polls: int
    misses: int
    deadline_at: datetime
    cancel_requested_at: datetime | None
    created_at: datetime
    hold_expires_at: datetime | None
    tries: tuple[Try, ...] = ()

    @property
    def traced(self) -> JobFacts:
        """Its place in its trace."""
        return JobFacts(
            self.call_id, self.workspace_id, self.request_id, self.model_slug, self.operation, self.terms.trace
        )

    @property
    def maker(self) -> Maker:
        """Whose files it makes."""
        return Maker(self.call_id, self.workspace_id, self.user_id, self.api_key_id)


@dataclass(frozen=True, slots=True)
class Locked:
    """A job under the locks of its wallet and its own row, taken in this order."""

    submitting_at: datetime | None
    prediction_id: str | None
    ended_at: datetime | None
    cancel_requested_at: datetime | None
    created_at: datetime
    traced: JobFacts


async def insert(
    conn: PoolConnection,
    room: Room,
    *,
    wallet_id: UUID,
    user_id: UUID | None,
    api_key_id: UUID | None,
    model_slug: str,
    operation: Operation,
    request_id: str,
    terms: JobTerms,
    sealed: bytes,
    at: datetime,
    deadline_at: datetime,
) -> None:
    """In the transaction that places the hold; due at once."""
    await conn.execute(
        _INSERT,
        room.call_id,
        room.workspace_id,
        wallet_id,
        user_id,
        api_key_id,
        model_slug,
        operation.value,
        request_id,
        terms.as_json(),
        sealed,
        at,
        deadline_at,
    )


async def running_in(conn: PoolConnection, workspace_id: UUID) -> int:
    """How many jobs of a workspace have not ended."""
    count: int = await conn.fetchval(_RUNNING, workspace_id)
    return count


async def claim(database: Database, at: datetime, limit: int) -> list[Job]:
    """Jobs that are due, leased to the caller."""
    async with transaction(database) as conn:
        rows = await conn.fetch(_CLAIM, at, LEASE, limit)
    return [_job_of(row) for row in rows]


async def renew(database: Database, call_ids: Sequence[UUID], until: datetime) -> None:
    """The caller still works on them."""
    await execute(database, _RENEW, list(call_ids), until)


async def mark_submitting(database: Database, call_id: UUID, at: datetime, provider: str, route: int) -> bool:
    """Before a provider is asked; False where the job was cancelled, taken or ended meanwhile."""
    return await execute(database, _SUBMITTING, call_id, at, provider, route) == "UPDATE 1"


async def mark_tried(database: Database, call_id: UUID, tries: Sequence[Try], *, nothing_made: bool) -> None:
    """A provider that was asked failed; `nothing_made`: surely, so that no creation is under way any more."""
    await execute(database, _TRIED, call_id, _tries_json(tries), nothing_made)


async def mark_taken(
    database: Database, call_id: UUID, prediction_id: str, at: datetime, due_at: datetime, tries: Sequence[Try]
) -> bool:
    """A provider works on it, and its prompt is forgotten here; False where the job ended meanwhile."""
    return await execute(database, _TAKEN, call_id, prediction_id, at, due_at, _tries_json(tries)) == "UPDATE 1"


async def put_off(database: Database, job: Job, due_at: datetime, *, misses: int = 0) -> None:
    """Look again then, or at once where the provider spoke up meanwhile."""
    await execute(database, _LATER, job.call_id, due_at, misses)


async def poke(database: Database, provider: str, prediction_id: str, at: datetime) -> bool:
    """A provider spoke of it: it is due now. False where no job that runs has this id."""
    return await execute(database, _POKE, provider, prediction_id, at) == "UPDATE 1"


async def lock(conn: PoolConnection, wallet_id: UUID, call_id: UUID) -> Locked | None:
    """Lock the wallet, then the job, in the order of every posting; None where there is no such job."""
    await conn.execute(_LOCK_WALLET, wallet_id)
    row = await conn.fetchrow(_LOCK_JOB, call_id)
    if row is None:
        return None
    terms = _terms_of(row["terms"])
    operation = Operation(row["operation"])
    traced = JobFacts(call_id, row["workspace_id"], row["request_id"], row["model_slug"], operation, terms.trace)
    return Locked(
        row["submitting_at"],
        row["prediction_id"],
        row["ended_at"],
        row["cancel_requested_at"],
        row["created_at"],
        traced,
    )


async def wallet_of(database: Database, call_id: UUID) -> UUID | None:
    """The wallet that pays a job; None where the call is none."""
    row = await fetch_row(database, _OF_CALL, call_id)
    return None if row is None else row["wallet_id"]


async def ask_cancel(conn: PoolConnection, call_id: UUID, at: datetime) -> None:
    """The next worker cancels it at its provider; one that asks a provider just now is left to hear the answer."""
    await conn.execute(_ASK_CANCEL, call_id, at)


async def end(conn: PoolConnection, call_id: UUID, at: datetime) -> None:
    """With its settlement or release; nothing of the prompt is left."""
    await conn.execute(_END, call_id, at)


async def forget(database: Database, at: datetime, *, limit: int) -> int:
    """Remove rows of jobs that ended KEPT_FOR ago; how many."""
    status = await execute(database, _FORGET, at - KEPT_FOR, limit)
    return int(status.rpartition(" ")[2])


def _job_of(row: Record) -> Job:
    known = dict(row)
    terms: JsonObject = known.pop("terms")
    operation = Operation(known.pop("operation"))
    return Job(**known, operation=operation, terms=_terms_of(terms), tries=_tries_of(terms))


def _tries_json(tries: Sequence[Try]) -> JsonObject:
    """To stand beside the terms."""
    return {"tries": [[each.provider, each.outcome.value] for each in tries[-MAX_TRIES_TOLD:]]}


def _tries_of(row: JsonObject) -> tuple[Try, ...]:
    tries: list[tuple[str, str]] = row.get("tries", [])  # pyright: ignore[reportAssignmentType] -- written by _tries_json
    return tuple(Try(provider, Outcome(outcome)) for provider, outcome in tries)


def _terms_of(row: JsonObject) -> JobTerms:
    bound: dict[str, int] = row["bound"]  # pyright: ignore[reportAssignmentType] -- written by JobTerms.as_json
    prices: list[tuple[str, int, int]] = row["prices"]  # pyright: ignore[reportAssignmentType] -- likewise
    routes: list[tuple[str, str]] = row["routes"]  # pyright: ignore[reportAssignmentType] -- likewise
    trace: list[tuple[str, str]] = row.get("trace", [])  # pyright: ignore[reportAssignmentType] -- likewise
    kept_s, unstored_s, discount, days = (
        row.get(name) for name in ("kept_s", "unstored_s", "discount_percent", "stored_days")
    )
    return JobTerms(
        bound=UsageFacts(
            input_tokens=bound["input_tokens"],
            output_tokens=bound.get("output_tokens", 0),  # rows of an older version have none
            requests=1,
            images=bound["images"],
            seconds=bound["seconds"],
            estimated=True,
        ),
        rates=Rates(MeterPrice(*price) for price in prices),
        discount_percent=discount if isinstance(discount, int) else 0,
        routes=tuple((provider, model) for provider, model in routes),
        kept=KeptTime(
            kept_s if isinstance(kept_s, int | float) else None,
            unstored_s if isinstance(unstored_s, int | float) else None,
        ),
        stored_days=days if isinstance(days, int) else None,
        test=row["test"] is True,
        trace=tuple((name, value) for name, value in trace),
    )
