"""The audit sees each kind of breach, and the plan is a pure function of its seed."""

import orjson
import pytest

from tests.chaos.audit import LOST_DEBIT, Findings, Settlement, Upstream, _judge, _judge_key, _upstream
from tests.chaos.client import Attempt, Came
from tests.chaos.plan import Victim, call_of, kills_of

CALL, OTHER = b"c" * 16, b"o" * 16
DRY = "dry"


def answered(charged: int = 5, **given) -> Attempt:
    return Attempt(1, "r-1", None, Came.ANSWERED, 200, CALL, charged, **given)


def settled(charged: int = 5, call_id: bytes = CALL, *, status: str = "SUCCEEDED", **given) -> Settlement:
    facts = {"settlements": 1, "estimated": False, "presumed": False, "corrected": False, "cost_micro": charged}
    return Settlement(call_id, status, charged, **{**facts, "wallet_id": "rich", **given})


CASES = {
    "an answer that was charged as it said": (answered(), settled(), None),
    "an answer that was never charged": (answered(), None, LOST_DEBIT),
    "another amount": (answered(5), settled(6), "charged another amount than the answer said"),
    "a late charge that a rich wallet did not pay": (
        answered(5), settled(3, cost_micro=5), "charged another amount than the answer said",
    ),
    "a late charge that a dry wallet could not pay": (answered(5), settled(3, cost_micro=5, wallet_id=DRY), None),
    "two settlements": (answered(), settled(settlements=2), "settled more than once"),
    "a repeat with a charge of its own": (answered(repeated=True), settled(), "a repeat that was charged again"),
    "a refusal that was charged": (Attempt(1, "r-1", None, Came.REFUSED, 402), settled(), "refused, but charged"),
    "an internal error": (Attempt(1, "r-1", None, Came.REFUSED, 500), None, "an internal error"),
    "a provider's error": (Attempt(1, "r-1", None, Came.REFUSED, 502), None, None),
    "what was never sent": (Attempt(1, "r-1", None, Came.NOT_SENT), settled(), "never sent, but known"),
    "a lost answer that was charged": (Attempt(1, "r-1", None, Came.LOST), settled(), None),
    "a lost call that was not charged": (Attempt(1, "r-1", None, Came.LOST), None, None),
    "a lost call charged by its checkpoint": (
        Attempt(1, "r-1", None, Came.LOST), settled(status="FAILED", presumed=True, estimated=True), None,
    ),
    "a lost call that failed and was charged in full": (
        Attempt(1, "r-1", None, Came.LOST), settled(status="FAILED"), "charged in a way that the truth table does not name",
    ),
    "a broken stream charged as it said": (Attempt(1, "r-1", None, Came.BROKEN, 200, CALL, 5), settled(), None),
    "a broken stream that said nothing": (
        Attempt(1, "r-1", None, Came.BROKEN, 200, CALL), settled(), "a broken stream that told no charge, but was charged",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_audit_judges_what_a_client_saw_against_what_was_charged(case: str):
    attempt, own, expected = CASES[case]
    findings = Findings()
    upstream = {} if attempt.came is Came.NOT_SENT else {"r-1": Upstream(1, finished=True)}

    _judge(findings, attempt, own, {own.call_id: own} if own else {}, upstream, DRY)

    assert list(findings.broken) == ([expected] if expected else [])


def test_a_success_that_the_provider_never_finished_is_a_breach():
    findings = Findings()

    _judge(findings, Attempt(1, "r-1", None, Came.LOST), settled(), {}, {"r-1": Upstream(1)}, DRY)

    assert list(findings.broken) == ["succeeded, but the provider did not finish it"]


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        (Upstream(1, finished=True), []),
        (Upstream(1, all_said=True), []),
        (Upstream(1), ["charged in a way that the truth table does not name"]),
    ],
)
def test_a_stream_that_was_left_is_charged_by_its_usage_only_where_the_provider_came_to_tell_it(there, expected):
    findings = Findings()

    _judge(findings, Attempt(1, "r-1", None, Came.LEFT, 200), settled(status="CANCELED"), {}, {"r-1": there}, DRY)

    assert list(findings.broken) == expected


def test_the_providers_log_tells_how_far_it_came(tmp_path):
    log = tmp_path / "log"
    facts = {"request_id": "r", "status": 200, "streamed": True, "output_tokens": 5}
    for streamed_tokens, complete, expected in (
        (4, False, Upstream(1)), (5, False, Upstream(1, all_said=True)), (5, True, Upstream(1, True, True)),
    ):  # fmt: skip
        log.write_bytes(orjson.dumps({**facts, "streamed_tokens": streamed_tokens, "complete": complete}) + b"\n")
        assert _upstream(log) == {"r": expected}


def test_one_key_charged_or_answered_twice_is_a_breach():
    findings = Findings()
    first = Attempt(1, "r-1", "k", Came.LOST)
    second = Attempt(1, "r-2", "k", Came.ANSWERED, 200, OTHER, 5)
    third = Attempt(1, "r-3", "k", Came.ANSWERED, 200, OTHER, 6)

    _judge_key(findings, "k", [first, second, third], {"r-1": settled(), "r-2": settled(5, OTHER)})

    assert set(findings.broken) == {"an idempotency key charged twice", "an idempotency key answered differently"}


def test_a_seed_gives_the_same_kills_and_calls_and_every_kind_of_victim():
    assert kills_of(5, 1_000, 12, 2) == kills_of(5, 1_000, 12, 2) != kills_of(6, 1_000, 12, 2)
    assert {kill.victim for kill in kills_of(5, 1_000, 4, 2)} == set(Victim)
    assert [call_of(5, number, 9, 2) for number in range(50)] == [call_of(5, number, 9, 2) for number in range(50)]
