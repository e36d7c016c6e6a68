"""The rule-based machine that plays the ledger against the oracle, over any driver that posts operations."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from kit.ids import uuid7
from metering.operations import (
    Adjust,
    Checkpoint,
    Clawback,
    Expire,
    Freeze,
    Operation,
    Reap,
    Refund,
    Reinstate,
    Release,
    ReverseTransfer,
    Thaw,
    TransferOut,
    UsageFacts,
)
from metering.views import Outcome
from tests.metering.money import START, grant, hold, settle
from tests.metering.oracle import Oracle, told

AMOUNTS = st.integers(1, 1000)
GIFTS = st.integers(1, 3000)
KINDS = st.sampled_from(["CYCLE", "PROMO", "BONUS", "PACK", "TOP_UP", "EARNINGS"])
HOURS = st.integers(1, 5)
REASONS = st.sampled_from(["NO_ACTIVE_SUBSCRIPTION", "DISPUTE", "WORKSPACE_DELETED"])
REFERENCES = st.sampled_from(["a", "b"])
USAGE = UsageFacts(input_tokens=1, provider="sandbox")


class Driver(Protocol):
    """Where operations are posted."""

    wallet: tuple[UUID, UUID]
    payee: tuple[UUID, UUID]

    def post(self, operations: Sequence[Operation], now: datetime) -> list[Outcome]: ...

    def grants(self) -> dict[UUID, tuple[int, int]]:
        """(remaining, held) of each grant of the wallet."""
        ...

    def figures(self) -> tuple[int, int, int]:
        """(wallet's balance, wallet's held, payee's balance)"""
        ...

    def check(self) -> None: ...

    def close(self) -> None: ...


class MoneyMachine(RuleBasedStateMachine):
    calls = Bundle("calls")
    grants = Bundle("grants")

    def open_driver(self) -> Driver:
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.driver = self.open_driver()
        self.oracle = Oracle()
        self.now = START
        self.unique = str(uuid7())

    def play(self, op: Operation) -> tuple:
        [outcome] = self.driver.post([op], self.now)
        said = told(outcome)
        assert said == self.oracle.do(op, self.now), op
        return said

    @initialize(target=grants, amount=st.integers(1000, 5000))
    def first_grant(self, amount):
        return self.give(amount, "TOP_UP", None, 0, True, False)

    @rule(
        target=grants,
        amount=GIFTS,
        kind=KINDS,
        life=st.none() | HOURS,
        later=st.integers(0, 1),
        transferable=st.booleans(),
        bound=st.booleans(),
    )
    def give(self, amount, kind, life, later, transferable, bound):
        effective = self.now + timedelta(hours=later)
        op = grant(
            self.driver.wallet[0],
            amount,
            kind,
            effective_at=effective,
            expires_at=None if life is None else effective + timedelta(hours=life),
            transferable=transferable,
            requires_active_plan=bound,
        )
        self.play(op)
        return op.grant_id

    @rule(target=calls, amount=st.integers(0, 800), life=HOURS, share=st.sampled_from([0, 0, 30]))
    def place(self, amount, life, share):
        op = hold(
            self.driver.wallet,
            amount,
            expires_at=self.now + timedelta(hours=life),
            payee_wallet_id=self.driver.payee[0] if share else None,
            payee_share_percent=share,
        )
        self.play(op)
        return op.call_id, amount, share

    @rule(target=calls, amount=st.integers(1, 200), life=HOURS)
    def place_small(self, amount, life):
        return self.place(amount, life, 0)

    @rule(target=calls, amount=st.integers(1, 200), percent=st.integers(1, 100))
    def place_and_checkpoint(self, amount, percent):
        call = self.place(amount, 1, 30)
        self.checkpoints(call, percent, 1)
        return call

    @rule(call=calls, percent=st.integers(0, 99))
    def settles_below(self, call, percent):
        self.settle_at(call, call[1] * percent // 100)

    @rule(call=calls, more=st.sampled_from([0, 1, 100, 1000, 5000]))
    def settles_above(self, call, more):
        self.settle_at(call, call[1] + more)

    def settle_at(self, call, cost):
        call_id, _, share = call
        payee = self.driver.payee[0] if share else None
        self.play(settle(self.driver.wallet, call_id, cost, payee_wallet_id=payee, payee_share_percent=share))

    @rule(call=calls, hours=st.integers(1, 3))
    def waits_and_reaps(self, call, hours):
        self.now += timedelta(hours=hours)
        self.play(Reap(call[0], self.driver.wallet[0]))

    @rule(call=consumes(calls))
    def releases(self, call):
        self.play(Release(call[0], *self.driver.wallet))

    @rule(call=calls, percent=st.integers(0, 150), life=HOURS)
    def checkpoints(self, call, percent, life):
        usage = USAGE if percent else None
        cost = call[1] * percent // 100
        self.play(Checkpoint(call[0], self.driver.wallet[0], cost, usage, self.now + timedelta(hours=life)))

    @rule(grant_id=grants, minutes=st.sampled_from([0, 60, 120]))
    def waits_and_expires(self, grant_id, minutes):
        self.now += timedelta(minutes=minutes)
        self.play(Expire(grant_id, self.driver.wallet[0]))

    @rule(reason=REASONS, grant_id=st.none() | grants, call=st.none() | calls, back=st.booleans())
    def freezes(self, reason, grant_id, call, back):
        """Mostly thawed again, after something happened under it."""
        ids = None if grant_id is None else (grant_id,)
        self.play(Freeze(self.driver.wallet[0], reason, ids))
        if call is not None:
            self.settles_below(call, 50)
        if back:
            self.play(Thaw(self.driver.wallet[0], reason, ids))

    @rule(reason=REASONS)
    def thaws(self, reason):
        self.play(Thaw(self.driver.wallet[0], reason))

    @rule(reference=REFERENCES, grant_id=grants, amount=AMOUNTS, take=st.sampled_from([Refund, Clawback, Clawback]))
    def takes_back(self, reference, grant_id, amount, take):
        self.play(take(self.unique + reference, self.driver.wallet[0], grant_id, amount))

    @rule(reference=REFERENCES, amount=AMOUNTS)
    def transfers(self, reference, amount):
        self.play(TransferOut(self.unique + reference, self.driver.wallet[0], amount))

    @rule(reference=REFERENCES, undo=st.sampled_from([Reinstate, ReverseTransfer]))
    def undoes(self, reference, undo):
        self.play(undo(self.unique + reference, self.driver.wallet[0]))

    @rule(reference=REFERENCES, amount=AMOUNTS)
    def reverses_in_part(self, reference, amount):
        self.play(ReverseTransfer(self.unique + reference, self.driver.wallet[0], amount))

    @rule(reference=REFERENCES, amount=st.integers(-500, 500).filter(bool))
    def adjusts(self, reference, amount):
        self.play(Adjust(self.unique + reference, self.driver.wallet[0], amount, "by hand"))

    @rule(minutes=st.sampled_from([1, 60, 200]))
    def waits(self, minutes):
        self.now += timedelta(minutes=minutes)

    @invariant()
    def ledger_equals_oracle(self):
        expected = sorted((pot.has, sum(pot.kept.values())) for pot in self.oracle.pots)
        assert sorted(self.driver.grants().values()) == expected
        held = sum(call["amount"] for call in self.oracle.running.values())
        assert self.driver.figures() == (self.oracle.balance(), held, self.oracle.earned)
        self.driver.check()

    def teardown(self):
        self.driver.close()
