"""The pure engine against the oracle, and its answers to single questions."""

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from kit.ids import uuid7
from metering.errors import CallEnded, CallIdTaken, InsufficientCredits, UnknownCall, UnknownGrant, UnknownWallet
from metering.operations import (
    Adjust,
    Checkpoint,
    Clawback,
    Expire,
    Freeze,
    PlaceHold,
    Reap,
    Reinstate,
    Release,
    Settle,
    Thaw,
    TransferOut,
    UsageFacts,
)
from metering.views import HoldPlaced, HoldRefusal, HoldRefused, Posted, Rejected, Released, Repeat, Settled
from tests.metering.machine import MoneyMachine
from tests.metering.memory import MemoryLedger
from tests.metering.money import HOUR, START, claim, grant, hold, settle

USAGE = UsageFacts(input_tokens=5, provider="sandbox")


class MemoryMachine(MoneyMachine):
    def open_driver(self):
        return MemoryLedger()


def test_the_engine_agrees_with_the_oracle_over_any_sequence():
    run_state_machine_as_test(
        MemoryMachine,
        settings=settings(
            max_examples=250, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


@pytest.fixture
def ledger():
    return MemoryLedger()


def do(ledger, *operations, at=START):
    outcomes = ledger.post(operations, at)
    ledger.check()
    return outcomes if len(outcomes) > 1 else outcomes[0]


def funded(ledger, *amounts, **rest):
    return [do(ledger, grant(ledger.wallet[0], amount, **rest)).grants[0][0] for amount in amounts]


def test_a_settlement_consumes_its_allocation_in_order_and_returns_the_rest(ledger):
    first, second = funded(ledger, 60, 100)
    placed = do(ledger, hold(ledger.wallet, 100))
    assert placed.allocation == ((first, 60), (second, 40))
    settled = do(ledger, settle(ledger.wallet, placed.call_id, 70))
    assert settled.charges == ((first, 60), (second, 10))
    assert ledger.grants() == {first: (0, 0), second: (90, 0)}


def test_a_settlement_above_its_hold_is_limited_to_available(ledger):
    funded(ledger, 100)
    placed = do(ledger, hold(ledger.wallet, 40))
    other = do(ledger, hold(ledger.wallet, 30))
    settled = do(ledger, settle(ledger.wallet, placed.call_id, 200))
    assert (settled.charged_micro, settled.shortfall_micro) == (70, 130)
    assert do(ledger, settle(ledger.wallet, other.call_id, 30)).shortfall_micro == 0


def test_credits_are_not_spendable_from_the_instant_they_expire(ledger):
    funded(ledger, 100, expires_at=START + HOUR)
    assert isinstance(do(ledger, hold(ledger.wallet, 10), at=START + HOUR - timedelta(microseconds=1)), HoldPlaced)
    assert isinstance(do(ledger, hold(ledger.wallet, 10), at=START + HOUR), HoldRefused)


def test_a_held_part_pays_for_its_call_after_its_grant_expired_and_the_rest_expires_at_once(ledger):
    [lot] = funded(ledger, 100, expires_at=START + HOUR)
    placed = do(ledger, hold(ledger.wallet, 80))
    assert do(ledger, Expire(lot, ledger.wallet[0]), at=START + HOUR).amount_micro == 20
    settled = do(ledger, settle(ledger.wallet, placed.call_id, 50), at=START + 2 * HOUR)
    assert settled.charged_micro == 50
    assert ledger.figures()[:2] == (0, 0)


def test_a_held_part_pays_for_its_call_after_its_grant_froze(ledger):
    [lot] = funded(ledger, 100)
    placed = do(ledger, hold(ledger.wallet, 80))
    do(ledger, Freeze(ledger.wallet[0], "DISPUTE", (lot,)))
    assert do(ledger, settle(ledger.wallet, placed.call_id, 90)).charged_micro == 80
    assert do(ledger, hold(ledger.wallet, 1)).reason is HoldRefusal.INSUFFICIENT
    do(ledger, Thaw(ledger.wallet[0], "DISPUTE"))
    assert isinstance(do(ledger, hold(ledger.wallet, 20)), HoldPlaced)


def test_a_refusal_says_whether_holds_stand_in_the_way(ledger):
    funded(ledger, 100)
    do(ledger, hold(ledger.wallet, 90))
    assert do(ledger, hold(ledger.wallet, 50)).reason is HoldRefusal.HELD
    assert do(ledger, hold(ledger.wallet, 101)).reason is HoldRefusal.INSUFFICIENT


def test_a_second_settlement_gets_the_first_figures(ledger):
    funded(ledger, 100)
    placed = do(ledger, hold(ledger.wallet, 50))
    first = do(ledger, settle(ledger.wallet, placed.call_id, 20))
    second = do(ledger, settle(ledger.wallet, placed.call_id, 40))
    assert (second.duplicate, second.charged_micro, second.charges) == (True, 20, first.charges)


def test_the_same_hold_sent_again_is_granted_once_and_another_with_its_id_never(ledger):
    funded(ledger, 100)
    op = hold(ledger.wallet, 60)
    again = do(ledger, op, op)
    assert again[1].duplicate
    assert ledger.figures()[1] == 60
    stranger = do(ledger, hold(ledger.wallet, 10, call_id=op.call_id))
    assert isinstance(stranger.error, CallIdTaken)


def test_a_repeated_key_in_one_batch_holds_once(ledger):
    funded(ledger, 100)
    first, second, other = do(
        ledger,
        hold(ledger.wallet, 10, idempotency=claim("k")),
        hold(ledger.wallet, 10, idempotency=claim("k")),
        hold(ledger.wallet, 10, idempotency=claim("k", b"other")),
    )
    assert isinstance(first, HoldPlaced)
    assert second == Repeat(first.call_id, input_matches=True, completed=False, answer=None)
    assert not other.input_matches
    do(ledger, Release(first.call_id, *ledger.wallet, error_code="UPSTREAM_ERROR"))
    repeat = do(ledger, hold(ledger.wallet, 10, idempotency=claim("k")))
    assert repeat.completed
    assert repeat.answer["error_code"] == "UPSTREAM_ERROR"


def test_a_refused_hold_leaves_its_key_free(ledger):
    assert isinstance(do(ledger, hold(ledger.wallet, 10, idempotency=claim("k"))), HoldRefused)
    funded(ledger, 100)
    assert isinstance(do(ledger, hold(ledger.wallet, 10, idempotency=claim("k"))), HoldPlaced)


def test_a_key_is_free_again_after_seven_days(ledger):
    funded(ledger, 100)
    first = do(ledger, hold(ledger.wallet, 10, idempotency=claim("k")))
    do(ledger, Release(first.call_id, *ledger.wallet))
    later = START + timedelta(days=7)
    assert isinstance(do(ledger, hold(ledger.wallet, 1, idempotency=claim("k")), at=later - HOUR), Repeat)
    assert isinstance(do(ledger, hold(ledger.wallet, 1, idempotency=claim("k")), at=later), HoldPlaced)


def test_a_lapsed_hold_without_checkpoint_is_released_and_its_late_settlement_charged(ledger):
    funded(ledger, 100)
    placed = do(ledger, hold(ledger.wallet, 60, expires_at=START + HOUR))
    assert do(ledger, Reap(placed.call_id, ledger.wallet[0])) == Posted(
        ledger.state.wallets[ledger.wallet[0]].figures(), changed=False
    )
    assert isinstance(do(ledger, Reap(placed.call_id, ledger.wallet[0]), at=START + HOUR), Released)
    late = do(ledger, settle(ledger.wallet, placed.call_id, 130), at=START + HOUR)
    assert (late.charged_micro, late.shortfall_micro, late.duplicate) == (100, 30, False)


@pytest.mark.parametrize(
    ("cost", "charged", "shortfall"), [(50, 50, 0), (30, 30, 0), (0, 0, 0), (90, 90, 0), (150, 100, 50)]
)
def test_a_presumed_settlement_moves_to_the_true_cost_within_what_is_free(ledger, cost, charged, shortfall):
    funded(ledger, 100)
    placed = do(ledger, hold(ledger.wallet, 60, expires_at=START + HOUR))
    do(ledger, Checkpoint(placed.call_id, ledger.wallet[0], 50, USAGE, START + HOUR))
    reaped = do(ledger, Reap(placed.call_id, ledger.wallet[0]), at=START + HOUR)
    assert reaped.presumed
    assert reaped.charged_micro == 50
    late = do(ledger, settle(ledger.wallet, placed.call_id, cost), at=START + HOUR)
    assert (late.charged_micro, late.shortfall_micro, late.presumed) == (charged, shortfall, False)
    assert do(ledger, settle(ledger.wallet, placed.call_id, 99), at=START + HOUR).duplicate


def test_an_overcharge_returns_to_the_grants_that_paid_last_first(ledger):
    first, second = funded(ledger, 60, 100)
    placed = do(ledger, hold(ledger.wallet, 100, expires_at=START + HOUR))
    do(ledger, Checkpoint(placed.call_id, ledger.wallet[0], 90, USAGE, START + HOUR))
    do(ledger, Reap(placed.call_id, ledger.wallet[0]), at=START + HOUR)
    late = do(ledger, settle(ledger.wallet, placed.call_id, 50), at=START + HOUR)
    assert late.charges == ((first, 50),)
    assert ledger.grants() == {first: (10, 0), second: (100, 0)}


def test_a_renewed_hold_is_not_reaped(ledger):
    funded(ledger, 100)
    placed = do(ledger, hold(ledger.wallet, 60, expires_at=START + HOUR))
    do(ledger, Checkpoint(placed.call_id, ledger.wallet[0], 0, None, START + 3 * HOUR))
    assert not do(ledger, Reap(placed.call_id, ledger.wallet[0]), at=START + 2 * HOUR).changed


def test_a_publisher_earns_the_share_of_what_was_charged_not_of_the_cost(ledger):
    funded(ledger, 100)
    placed = do(ledger, hold(ledger.wallet, 100, payee_wallet_id=ledger.payee[0], payee_share_percent=70))
    settled = do(ledger, settle(ledger.wallet, placed.call_id, 400))
    assert settled.earned_micro == 70 == ledger.figures()[2]


def test_a_clawback_takes_what_is_unspent_and_reinstatement_returns_it_once(ledger):
    [lot] = funded(ledger, 100)
    placed = do(ledger, hold(ledger.wallet, 30))
    wallet_id = ledger.wallet[0]
    assert do(ledger, Clawback("d", wallet_id, lot, 100)).amount_micro == 70
    assert do(ledger, Clawback("d", wallet_id, lot, 100)).amount_micro == 0
    do(ledger, Release(placed.call_id, *ledger.wallet))
    assert do(ledger, Clawback("d", wallet_id, lot, 100)).total_micro == 100
    assert do(ledger, Reinstate("d", wallet_id)).amount_micro == 100
    assert do(ledger, Reinstate("d", wallet_id)).amount_micro == 0


def test_a_transfer_takes_only_transferable_grants_and_all_or_nothing(ledger):
    funded(ledger, 100)
    funded(ledger, 50, kind="EARNINGS", transferable=True)
    refused = do(ledger, TransferOut("t", ledger.wallet[0], 51))
    assert isinstance(refused.error, InsufficientCredits)
    assert refused.error.available_micro == 50
    assert do(ledger, TransferOut("t", ledger.wallet[0], 50)).amount_micro == 50
    assert not do(ledger, TransferOut("t", ledger.wallet[0], 50)).changed


def test_an_adjustment_down_takes_only_what_is_free(ledger):
    funded(ledger, 100)
    do(ledger, hold(ledger.wallet, 70))
    assert do(ledger, Adjust("a", ledger.wallet[0], -50, "error")).amount_micro == 30
    assert do(ledger, Adjust("b", ledger.wallet[0], 10, "goodwill")).amount_micro == 10
    assert not do(ledger, Adjust("b", ledger.wallet[0], 10, "goodwill")).changed


def test_what_does_not_exist_is_refused_and_changes_nothing(ledger):
    funded(ledger, 100)
    nobody = (uuid7(), uuid7())
    errors = [
        outcome.error
        for outcome in do(
            ledger,
            hold(nobody, 1),
            settle(ledger.wallet, uuid7(), 1),
            Release(uuid7(), *ledger.wallet),
            Expire(uuid7(), ledger.wallet[0]),
            Freeze(ledger.wallet[0], "DISPUTE", (uuid7(),)),
        )
    ]
    assert [type(error) for error in errors] == [UnknownWallet, UnknownCall, UnknownCall, UnknownGrant, UnknownGrant]
    assert ledger.figures() == (100, 0, 0)


def test_a_settled_call_cannot_be_released_nor_held_again(ledger):
    funded(ledger, 100)
    op = hold(ledger.wallet, 10)
    do(ledger, op)
    do(ledger, settle(ledger.wallet, op.call_id, 5))
    assert isinstance(do(ledger, Release(op.call_id, *ledger.wallet)).error, CallEnded)
    assert isinstance(do(ledger, op).error, CallEnded)


@settings(max_examples=60, deadline=None)
@given(
    amounts=st.lists(st.integers(1, 50), min_size=1, max_size=4),
    script=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 60), st.booleans()), max_size=25),
)
def test_a_batch_equals_the_same_operations_one_by_one(amounts, script):
    whole, split = MemoryLedger(), MemoryLedger()
    split.wallet, split.payee = whole.wallet, whole.payee
    split.state.wallets = {
        key: type(each)(each.id, each.workspace_id, 0, 0) for key, each in whole.state.wallets.items()
    }
    operations = [grant(whole.wallet[0], amount) for amount in amounts]
    calls = [uuid7() for _ in range(6)]
    owners = {}
    for number, amount, place in script:
        op = (
            hold(whole.wallet, amount, call_id=calls[number], owner=owners.setdefault(number, uuid7()))
            if place
            else settle(whole.wallet, calls[number], amount)
        )
        operations.append(op)
    together = whole.post(operations, START)
    one_by_one = [split.post([op], START)[0] for op in operations]
    assert [str(outcome) for outcome in together] == [str(outcome) for outcome in one_by_one]
    assert whole.grants() == split.grants()
    whole.check()
    assert isinstance(operations[0], object)
    assert all(isinstance(o, (PlaceHold, Settle)) for o in operations[len(amounts) :])
    assert all(isinstance(o, (Posted, HoldPlaced, HoldRefused, Settled, Rejected)) for o in together)
