"""A driver of the pure engine: the whole state stays in memory, and its invariants are checked after each step."""

from collections import defaultdict

from kit.ids import uuid7
from metering.rules.burn import is_live
from metering.rules.posting import post
from metering.rules.state import Changes, State, Wallet
from tests.metering.money import START


class MemoryLedger:
    def __init__(self):
        self.state = State(START, uuid7, "2026-03-01", 6)
        self.wallet, self.payee = (uuid7(), uuid7()), (uuid7(), uuid7())
        for wallet_id, workspace_id in (self.wallet, self.payee):
            self.state.wallets[wallet_id] = Wallet(wallet_id, workspace_id, 0, 0)
        self.entries = []
        self.usage = []

    def post(self, operations, now):
        state = self.state
        state.now = now
        for wallet in state.wallets.values():
            wallet.available = 0
            for lot in wallet.lots:
                lot.live = is_live(lot, now)
                wallet.available += lot.free if lot.live else 0
        outcomes = post(state, operations)
        self.entries += state.changes.entries
        self.usage += state.changes.usage
        state.changes = Changes()
        return outcomes

    def grants(self):
        lots = self.state.wallets[self.wallet[0]].lots
        return {lot.id: (lot.remaining, lot.held) for lot in lots}

    def figures(self):
        wallet, payee = (self.state.wallets[each[0]] for each in (self.wallet, self.payee))
        return wallet.balance, wallet.held, payee.balance

    def check(self):
        """Invariants 1, 2, 3 and 4 of shared/architecture.md."""
        state = self.state
        by_lot, by_wallet, by_call = defaultdict(int), defaultdict(int), defaultdict(int)
        accounts = defaultdict(int)
        for entry in self.entries:
            accounts[entry[1] or "SHORTFALL"] += entry[4]
            accounts[entry[6]] -= entry[4]
            if entry[1] is not None:
                by_wallet[entry[1]] += entry[4]
                by_lot[entry[2]] += entry[4]
                assert entry[5] == by_wallet[entry[1]] >= 0
            if entry[3] == "USAGE":
                by_call[entry[7]] -= entry[4]
        assert sum(accounts.values()) == 0
        for wallet in state.wallets.values():
            assert wallet.balance == by_wallet[wallet.id] == sum(lot.remaining for lot in wallet.lots)
            assert wallet.held == sum(lot.held for lot in wallet.lots)
            assert wallet.available == sum(lot.free for lot in wallet.lots if lot.live) >= 0
            for lot in wallet.lots:
                assert lot.remaining == by_lot[lot.id] >= lot.held >= 0
                assert lot.amount + lot.reinstated == lot.remaining + lot.spent + lot.expired + lot.clawed_back + (
                    lot.refunded + lot.transferred + lot.adjusted
                )
        seen = [(row.call.call_id, row.sequence) for row in self.usage]
        assert len(seen) == len(set(seen))
        charged = defaultdict(int)
        for row in self.usage:
            charged[row.call.call_id] += row.charged
        assert {call: amount for call, amount in charged.items() if amount} == {
            call: amount for call, amount in by_call.items() if amount
        }

    def close(self):
        pass
