"""Derives every ledger line from the provider's own log by the truth table, and compares what clients saw with both."""

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import orjson

from gateway.rules.audio import speech_shape
from gateway.rules.requests import read_shape
from gateway.rules.truth import End, Seen, Verdict, verdict
from metering.operations import UsageFacts
from metering.reconcile import reconcile
from models.database import Database
from providers.base import Operation, Usage
from tests.faults.client import Attempt, Came
from tests.faults.plan import PROVIDERS_PATIENCE_S, Fault, Kind, Report

PRICES = {
    "routed": {
        "input": "0.37",
        "cached": "0.11",
        "written": "0.47",
        "written_long": "0.73",
        "output": "1.21",
        "reasoning": "1.9",
    },
    "solo": {"input": "0.5", "cached": "0.25", "written": "0.6", "output": "2"},
    "vectors": {"input": "0.13"},
    "voice": {"characters": "0.0153"},
}
"""Credits for 1,000 tokens or characters, as the run's catalog has them."""
TEMPLATE_TOKENS = 16
_UNBELIEVABLE = {Report.NONE, Report.NEGATIVE, Report.TEXT, Report.ABSURD}
NOT_DERIVABLE = "not derivable from the provider's log"
_EXAMPLES = 6
_SETTLED = """
SELECT c.request_id, c.id, c.status, c.model_slug, count(*) AS events, sum(u.cost_micro)::bigint AS cost,
    sum(u.charged_micro)::bigint AS charged, sum(u.input_tokens)::bigint AS input,
    sum(u.cached_input_tokens)::bigint AS cached, sum(u.output_tokens)::bigint AS output,
    coalesce(sum((u.details->>'cache_write_input_tokens')::bigint), 0)::bigint AS written,
    coalesce(sum((u.details->>'long_cache_write_input_tokens')::bigint), 0)::bigint AS written_long,
    sum(u.reasoning_tokens)::bigint AS reasoning, sum(u.characters)::bigint AS characters,
    bool_or(u.estimated) AS estimated, bool_or(u.presumed) AS presumed,
    min(u.provider) AS provider, min(u.details::text) AS details,
    (SELECT coalesce(-sum(amount_micro), 0) FROM ledger_entries l WHERE l.call_id = c.id AND l.kind = 'USAGE')::bigint
        AS debited
FROM calls c JOIN usage_events u ON u.call_id = c.id GROUP BY c.id
"""


@dataclass
class Findings:
    """`broken`: kind of breach -> examples; figures for the report."""

    broken: dict[str, list[str]] = field(default_factory=dict)
    counts: Counter = field(default_factory=Counter)
    figures: Counter = field(default_factory=Counter)

    def breach(self, kind: str, what: object) -> None:
        self.counts[kind] += 1
        examples = self.broken.setdefault(kind, [])
        if len(examples) < _EXAMPLES:
            examples.append(str(what))


async def audit(database: Database, attempts: list[Attempt], log: Path) -> Findings:
    """Compare the clients' log, the provider's log and the database."""
    findings = Findings()
    lines = _lines(log)
    settled = {row["request_id"]: dict(row) for row in await database.pool.fetch(_SETTLED)}
    by_call = {row["id"].bytes: row for row in settled.values()}
    of_key: dict[str, list[Attempt]] = defaultdict(list)
    known = set()
    for attempt in attempts:
        known.add(attempt.request_id)
        findings.figures[f"client: {attempt.came}"] += 1
        if attempt.call.kind is Kind.SPEECH:
            findings.figures[f"client: {attempt.came}, of sound"] += 1
        if attempt.call.key is not None:
            of_key[attempt.call.key].append(attempt)
        own = settled.get(attempt.request_id)
        _judge(findings, attempt, own, by_call, lines.get(attempt.request_id, []))
    for key, same in of_key.items():
        _judge_key(findings, key, same, lines, settled)
    for request_id in (settled.keys() | lines.keys()) - known:
        findings.breach("a call that no client made", request_id)
    await _database(database, findings)
    findings.figures["database: settlements"] = len(settled)
    for row in settled.values():
        findings.figures[f"database: {row['status']}{', estimated' if row['estimated'] else ''}"] += 1
        findings.figures["database: answered by a later try"] += (
            row["details"] is not None and "route" in row["details"]
        )
    for each in lines.values():
        for line in each:
            findings.figures[f"provider: {line['ended']}, {line['fault']}"] += 1
            findings.figures["provider: tries"] += 1
    return findings


def _judge(findings: Findings, attempt: Attempt, own: dict | None, by_call: dict, lines: list[dict]) -> None:
    shown = f"{attempt.request_id} {attempt.came} {attempt.status} told {attempt.charged_micro} {attempt.error}: {own} {lines}"
    last = lines[-1] if lines else None
    if attempt.came is Came.LOST or (attempt.status >= 500 and attempt.status not in {502, 503, 504}):
        findings.breach("lost, or an internal error", shown)
    if own is not None:
        if last is None:
            findings.breach("a settlement of a call that no provider saw", shown)
            return
        _derive(findings, attempt, own, last, shown)
        _route(findings, own, lines, shown)
        if attempt.came is Came.REFUSED:
            findings.breach("refused, but charged", shown)
        if attempt.came in {Came.ANSWERED, Came.BROKEN} and not _came_as_settled(attempt, own, last):
            findings.breach("broken but settled as whole, or the other way round", shown)
    elif last is not None and not any(told.usage is None for told in _verdicts(attempt, last)):
        findings.breach("the provider's log says that it must be charged", shown)
    if any(_must_have_ended(line) and not _kept_waiting(line) for line in lines[:-1]):
        findings.breach("tried again after something was produced", shown)
    if attempt.charged_micro is not None:
        settlement = by_call.get(attempt.call_id or b"")
        if settlement is None or settlement["charged"] != attempt.charged_micro:
            findings.breach("told another charge than was made", f"{shown} {settlement}")
        if attempt.repeated and own is not None:
            findings.breach("a repeat that was charged again", shown)


def _came_as_settled(attempt: Attempt, own: dict, line: dict) -> bool:
    """A client sees that its answer is whole or is not; whole sound is what the provider sent."""
    if attempt.came is Came.BROKEN:
        return own["status"] == "FAILED"
    whole = attempt.call.kind is not Kind.SPEECH or attempt.received_bytes == line["marks"][-1][0]
    return own["status"] == "SUCCEEDED" and whole


def _derive(findings: Findings, attempt: Attempt, own: dict, line: dict, shown: str) -> None:
    """The settlement must be one that the truth table makes of the provider's log."""
    if own["events"] != 1 or own["presumed"] or own["status"] == "RUNNING":
        findings.breach("not settled once, by its own process", shown)
    told = (
        *(own["status"], own["input"], own["cached"], own["output"], own["reasoning"], own["characters"]),
        *(own["written"], own["written_long"]),
        own["estimated"],
    )
    possible = set()
    for each in _verdicts(attempt, line):
        usage = each.usage
        if usage is None:
            continue
        tokens = (usage.input_tokens, usage.cached_input_tokens, usage.output_tokens, usage.reasoning_tokens)
        writes = (usage.cache_write_input_tokens, usage.long_cache_write_input_tokens)
        possible.add((each.status, *tokens, usage.characters, *writes, usage.estimated))
    if told not in possible:
        findings.breach(NOT_DERIVABLE, f"{told} is none of {possible}: {shown}")
        return
    if len(possible) == 1:
        findings.figures["derived: exactly"] += 1
    else:
        findings.figures["derived: as one of the provider's marks, where the call was cut"] += 1
    cost = _cost(own)
    if not cost == own["cost"] == own["charged"] == own["debited"]:
        findings.breach("debited another amount than the price", f"{cost}: {shown}")


def _kept_waiting(line: dict) -> bool:
    """The providers' process got no core for so long that the gateway was right to give the try up, whatever was sent after."""
    return line["late_s"] > PROVIDERS_PATIENCE_S / 2


def _verdicts(attempt: Attempt, line: dict) -> list[Verdict]:
    """What the truth table says of this try; where the call was cut, at each mark that the gateway can have reached."""
    told = _verdicts_of_the_script(attempt, line)
    if not _kept_waiting(line):
        return told
    marks = [_seen(line, mark) for mark in line["marks"] if mark[0] >= attempt.received_bytes]
    return [*told, *(_of(attempt, End.TIMED_OUT, mark) for mark in (Seen(), *marks))]


def _verdicts_of_the_script(attempt: Attempt, line: dict) -> list[Verdict]:
    marks = [_seen(line, mark) for mark in line["marks"]]
    speech = attempt.call.kind is Kind.SPEECH
    if speech and line["ended"] == "complete":
        marks[-1] = replace(marks[-1], usage=Usage(characters=_characters(attempt)))
    last = marks[-1]
    own = _of(attempt, End.FINISHED if line["ended"] == "complete" else End.FAILED, last)
    if not line["streamed"]:
        return [own]
    left = attempt.came is Came.LEFT
    later = [mark for mark in marks if mark.content_bytes >= attempt.received_bytes]
    if left and not (speech and attempt.call.key is not None):  # sound that may be asked for again goes on
        return [own, *(_of(attempt, End.LEFT, mark) for mark in later)]
    if line["fault"] == Fault.RESET and line["ended"] == "broken":  # a reset throws away what was not read yet
        reached = later if left else [mark for mark in marks if mark.content_bytes == attempt.received_bytes]
        return [_of(attempt, End.FAILED, mark) for mark in reached]
    return [own]


def _of(attempt: Attempt, end: End, seen: Seen) -> Verdict:
    call = attempt.call
    body = call.body()
    if call.kind is Kind.SPEECH:
        shape = speech_shape(body)
    else:
        shape = read_shape(Operation.EMBEDDING if call.kind is Kind.EMBEDDING else Operation.CHAT, body)
    output = 0 if call.kind in {Kind.EMBEDDING, Kind.SPEECH} else call.max_tokens * call.choices
    bound = UsageFacts(
        input_tokens=shape.input_bytes + TEMPLATE_TOKENS, output_tokens=output, characters=_characters(attempt)
    )
    return verdict(end, seen, shape, bound, "")


def _characters(attempt: Attempt) -> int:
    """Of the text that is to be spoken."""
    return len(str(attempt.call.body()["input"])) if attempt.call.kind is Kind.SPEECH else 0


def _seen(line: dict, mark: list) -> Seen:
    content, usage, after = mark
    if usage is None or line["report"] in _UNBELIEVABLE:
        return Seen(None, content, 0)
    of_input = usage["prompt_tokens_details"]
    told, short = of_input["cache_write_tokens"], of_input["cache_write_tokens_details"]["ttl_30m_tokens"]
    reasoning = usage["completion_tokens_details"]["reasoning_tokens"]
    prompt, completion = usage["prompt_tokens"], usage["completion_tokens"]
    cached = min(of_input["cached_tokens"], prompt)
    written = min(told, prompt - cached)
    writes = {"cache_write_input_tokens": written, "long_cache_write_input_tokens": max(0, written - short)}
    return Seen(Usage(prompt, cached, completion, min(reasoning, completion), **writes), content, after)


def _must_have_ended(line: dict) -> bool:
    return line["ended"] == "complete" or (line["marks"][-1][0] > 0 and line["fault"] != Fault.RESET)


def _cost(row: dict) -> int:
    """By the prices of this file, exact, rounded up once."""
    prices = defaultdict(Fraction, {meter: Fraction(price) for meter, price in PRICES[row["model_slug"]].items()})
    output = prices["output"]
    of_written = prices.get("written", prices["input"])
    total = (
        row["characters"] * prices["characters"]
        + (row["input"] - row["cached"] - row["written"]) * prices["input"]
        + (row["written"] - row["written_long"]) * of_written
        + row["written_long"] * prices.get("written_long", of_written)
        + row["cached"] * prices.get("cached", prices["input"])
        + (row["output"] - row["reasoning"]) * output
        + row["reasoning"] * prices.get("reasoning", output)
    )
    return math.ceil(total * 1_000_000 / 1_000)


def _route(findings: Findings, own: dict, lines: list[dict], shown: str) -> None:
    """The usage event names every try that a provider saw, in order; others only where a kept connection was closed."""
    details = orjson.loads(own["details"] or "{}")
    route = details.get("route", [[own["provider"], "answered"]])
    if route[-1][0] != own["provider"]:
        findings.breach("the route ends elsewhere than the usage event", shown)
    expected = [line["provider"] for line in lines]
    for name, outcome in route:
        if expected and expected[0] == name and outcome != "left_alone":
            expected.pop(0)
        elif outcome not in {"left_alone", "unavailable"}:
            findings.breach("a try that no provider saw", f"{route}: {shown}")
        else:
            findings.figures[f"routes: {outcome}, unseen by the provider"] += 1
    if expected:
        findings.breach("another route than the providers saw", f"{route}: {shown}")


def _judge_key(findings: Findings, key: str, same: list[Attempt], lines: dict, settled: dict) -> None:
    owners = {attempt.request_id for attempt in same if attempt.request_id in settled}
    if len(owners) > 1:
        findings.breach("an idempotency key charged twice", f"{key}: {same}")
    told = {(each.call_id, each.charged_micro, each.received_bytes) for each in same if each.came is Came.ANSWERED}
    if len(told) > 1:
        findings.breach("an idempotency key answered differently", f"{key}: {told}")
    sent = {lines[owner][-1]["marks"][-1][0] for owner in owners & lines.keys()}
    if same[0].call.kind is Kind.SPEECH and {received for *_, received in told} - sent:
        findings.breach("sound that was kept otherwise than it was sent", f"{key}: {told}, {sent}")
    if len(same) > 1:
        findings.figures["keys sent more than once"] += 1


async def _database(database: Database, findings: Findings) -> None:
    for row in await database.pool.fetch("SELECT call_id, request_id FROM holds LIMIT 20"):
        findings.breach("a hold that is left", dict(row))
    report = await reconcile(database)
    for each in report.shown:
        findings.breach(f"reconcile: {each.kind}", f"{each.id} {each.figures}")
    findings.figures["reconcile: entries"] = report.checked["entries"]


def _lines(log: Path) -> dict[str, list[dict]]:
    """The tries of each request, in the order of their arrival."""
    found: dict[str, list[dict]] = defaultdict(list)
    for text in log.read_bytes().splitlines():
        line = orjson.loads(text)
        found[line["request_id"]].append(line)
    for lines in found.values():
        lines.sort(key=lambda line: line["arrival"])
    return found
