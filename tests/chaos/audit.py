"""What must be true afterwards, from three independent records: the clients' log, the provider's log and the database."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import asyncpg
import orjson

from metering.reconcile import reconcile
from models.database import Database
from tests.chaos.client import Attempt, Came

_SETTLED = """
SELECT c.request_id, c.id, c.status, sum(u.charged_micro)::bigint AS charged, sum(u.cost_micro)::bigint AS cost,
    min(u.wallet_id::text) AS wallet, count(*) FILTER (WHERE u.sequence = 0) AS settlements,
    bool_or(u.estimated) AS estimated, bool_and(u.presumed) AS presumed, count(*) AS events
FROM usage_events u LEFT JOIN calls c ON c.id = u.call_id GROUP BY u.call_id, c.id
"""
_EXAMPLES = 8


class Upstream(NamedTuple):
    """What the provider's log has of a request: how often it served it, and whether it ever finished a good answer.

    `all_said`: it sent all its output, after which the usage follows at once; one that was left then has been told what to
    charge, and may not have come to its end mark.
    """

    served: int = 0
    finished: bool = False
    all_said: bool = False


@dataclass(slots=True)
class Settlement:
    call_id: bytes
    status: str
    charged_micro: int
    settlements: int
    estimated: bool
    presumed: bool
    corrected: bool
    cost_micro: int
    wallet_id: str


@dataclass
class Findings:
    """`broken`: kind of breach -> examples and count. The rest are figures for the report."""

    broken: dict[str, list[str]] = field(default_factory=dict)
    counts: Counter = field(default_factory=Counter)
    figures: Counter = field(default_factory=Counter)
    charged_micro: int = 0

    def breach(self, kind: str, what: str) -> None:
        self.counts[kind] += 1
        examples = self.broken.setdefault(kind, [])
        if len(examples) < _EXAMPLES:
            examples.append(what)


LOST_DEBIT = "answered, but never charged"


async def audit(database: Database, attempts: list[Attempt], sandbox_log: Path, dry_wallet: str) -> Findings:
    """Compare all three; every breach is named."""
    findings = Findings()
    upstream = _upstream(sandbox_log)
    async with database.pool.acquire() as conn:
        settled = await _settlements(conn, findings)
        await _holds(conn, findings)
    by_call = {each.call_id: each for each in settled.values()}
    known: set[str] = set()
    of_key: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        known.add(attempt.request_id)
        findings.figures[f"client: {attempt.came}"] += 1
        if attempt.came is Came.REFUSED:
            findings.figures[f"client: status {attempt.status}"] += 1
        if attempt.key is not None:
            of_key.setdefault(attempt.key, []).append(attempt)
        _judge(findings, attempt, settled.get(attempt.request_id), by_call, upstream, dry_wallet)
    for key, same in of_key.items():
        _judge_key(findings, key, same, settled)
    for request_id in settled.keys() - known:
        findings.breach("a settlement of a call that no client made", request_id)
    for request_id in settled.keys() - upstream.keys():
        findings.breach("a settlement of a call that the provider never saw", request_id)
    await _invariants(database, findings)
    findings.charged_micro = sum(each.charged_micro for each in settled.values())
    findings.figures["provider: requests"] = sum(each.served for each in upstream.values())
    findings.figures["database: settlements"] = len(settled)
    return findings


def _judge(
    findings: Findings,
    attempt: Attempt,
    own: Settlement | None,
    by_call: dict[bytes, Settlement],
    upstream: dict[str, Upstream],
    dry_wallet: str,
) -> None:
    shown = f"{attempt.request_id} {attempt.came} {attempt.status} told {attempt.charged_micro}: {own}"
    match attempt.came:
        case Came.ANSWERED | Came.BROKEN:
            _judge_told(findings, attempt, own, by_call, shown, dry_wallet)
        case Came.REFUSED:
            if own is not None:
                findings.breach("refused, but charged", f"{shown} {attempt.error}")
            if attempt.status >= 500 and attempt.status not in {502, 503, 504}:
                findings.breach("an internal error", f"{shown} {attempt.error}")
        case Came.NOT_SENT:
            if own is not None or attempt.request_id in upstream:
                findings.breach("never sent, but known", shown)
        case Came.LOST | Came.LEFT:
            _judge_unseen(findings, attempt, own, upstream, shown)


def _judge_told(
    findings: Findings,
    attempt: Attempt,
    own: Settlement | None,
    by_call: dict[bytes, Settlement],
    shown: str,
    dry_wallet: str,
) -> None:
    """The client was told a charge: exactly that was charged, once, for the call it was told."""
    if attempt.charged_micro is None:
        if own is not None and own.presumed:
            findings.figures[f"{attempt.came}: interrupted, last checkpoint charged"] += 1
        elif own is not None:
            findings.breach("a broken stream that told no charge, but was charged", shown)
        return
    if attempt.repeated:
        findings.figures["answers repeated under their key"] += 1
        if own is not None:
            findings.breach("a repeat that was charged again", shown)
    settlement = by_call.get(attempt.call_id or b"")
    if settlement is None:
        findings.breach(LOST_DEBIT, shown)
    elif _late_and_dry(settlement, attempt, dry_wallet):
        findings.figures["journalled, late, and the wallet was dry: the platform's shortfall"] += 1
    elif settlement.charged_micro != attempt.charged_micro:
        findings.breach("charged another amount than the answer said", f"{shown} {settlement}")
    elif own is not None and own.call_id != attempt.call_id:
        findings.breach("charged another call than the answer said", shown)
    elif settlement.settlements != 1:
        findings.breach("settled more than once", f"{shown} {settlement}")


def _late_and_dry(settlement: Settlement, attempt: Attempt, dry_wallet: str) -> bool:
    told = attempt.charged_micro
    return settlement.wallet_id == dry_wallet and settlement.charged_micro < settlement.cost_micro == told


def _judge_unseen(
    findings: Findings, attempt: Attempt, own: Settlement | None, upstream: dict[str, Upstream], shown: str
) -> None:
    """The client saw no end: not charged, or charged in one of the ways the truth table names."""
    there = upstream.get(attempt.request_id, Upstream())
    if own is None:
        findings.figures[f"{attempt.came}: not charged"] += 1
    elif own.status == "SUCCEEDED":
        findings.figures[f"{attempt.came}: answered upstream and charged"] += 1
        if not there.finished:
            findings.breach("succeeded, but the provider did not finish it", shown)
    elif own.status == "CANCELED" and not own.estimated and (there.finished or there.all_said):
        findings.figures[f"{attempt.came}: left after the provider's last word, its usage charged"] += 1
    elif own.presumed:
        findings.figures[f"{attempt.came}: killed in mid-stream, last checkpoint charged"] += 1
    elif own.estimated:
        findings.figures[f"{attempt.came}: stopped in mid-stream, its output charged"] += 1
    else:
        findings.breach("charged in a way that the truth table does not name", shown)


def _judge_key(findings: Findings, key: str, same: list[Attempt], settled: dict[str, Settlement]) -> None:
    charged = {own.call_id for each in same if (own := settled.get(each.request_id)) is not None}
    if len(charged) > 1:
        findings.breach("an idempotency key charged twice", f"{key}: {same}")
    told = {(each.call_id, each.charged_micro) for each in same if each.came is Came.ANSWERED}
    if len(told) > 1:
        findings.breach("an idempotency key answered differently", f"{key}: {told}")
    if len(same) > 1 and told:
        findings.figures["keys answered after trying again"] += 1


async def _settlements(conn: asyncpg.Connection, findings: Findings) -> dict[str, Settlement]:
    settled: dict[str, Settlement] = {}
    async with conn.transaction():
        async for row in conn.cursor(_SETTLED, prefetch=2000):
            if row["id"] is None or row["settlements"] != 1:
                findings.breach("a usage event without its call, or settled more than once", str(dict(row)))
                continue
            if row["request_id"] in settled:
                findings.breach("one request charged for two calls", row["request_id"])
            findings.figures["database: presumed"] += row["presumed"]
            findings.figures["database: corrected"] += row["events"] > 1
            settled[row["request_id"]] = Settlement(
                row["id"].bytes, row["status"], row["charged"], row["settlements"], row["estimated"], row["presumed"],
                row["events"] > 1, row["cost"], row["wallet"],
            )  # fmt: skip
    return settled


async def _holds(conn: asyncpg.Connection, findings: Findings) -> None:
    for row in await conn.fetch("SELECT call_id, request_id, expires_at FROM holds LIMIT 20"):
        findings.breach("a hold that did not lapse", str(dict(row)))


async def _invariants(database: Database, findings: Findings) -> None:
    report = await reconcile(database)
    for each in report.shown:
        findings.breach(f"reconcile: {each.kind}", f"{each.id} {each.figures}")
    findings.figures["reconcile: entries"] = report.checked["entries"]


def _upstream(log: Path) -> dict[str, Upstream]:
    """By request id."""
    seen: dict[str, Upstream] = {}
    with log.open("rb") as lines:
        for line in lines:
            record = orjson.loads(line)
            before = seen.get(record["request_id"], Upstream())
            good = record["status"] == 200
            seen[record["request_id"]] = Upstream(
                before.served + 1,
                before.finished or (record["complete"] and good),
                before.all_said
                or (record["streamed"] and good and 0 < record["output_tokens"] <= record["streamed_tokens"]),
            )
    return seen
