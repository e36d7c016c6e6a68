"""A second, naive telling of the money's rules: one wallet with its payee, lists and loops, nothing shared with the engine.

It answers each operation with (word, numbers…), which `told` makes of the ledger's outcomes too.
"""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from metering import views

STRENGTH = ["", "NO_ACTIVE_SUBSCRIPTION", "DISPUTE", "WORKSPACE_DELETED"]


@dataclass
class Pot:
    """A grant: what it has, and where everything else went."""

    id: UUID
    order: tuple
    expires: datetime | None
    effective: datetime
    has: int
    plan_bound: bool = False
    transferable: bool = False
    frozen: str = ""
    kept: dict[UUID, int] = field(default_factory=dict)  # call -> held
    went: dict[str, int] = field(default_factory=dict)

    def free(self) -> int:
        return self.has - sum(self.kept.values())

    def lapsed(self, now) -> bool:
        return self.expires is not None and now >= self.expires

    def usable(self, now) -> bool:
        return not self.frozen and self.effective <= now and not self.lapsed(now)

    def move(self, where: str, amount: int) -> None:
        self.has -= amount
        self.went[where] = self.went.get(where, 0) + amount


class Oracle:
    def __init__(self) -> None:
        self.pots: list[Pot] = []
        self.running: dict[UUID, dict] = {}
        self.over: dict[UUID, dict] = {}
        self.references: dict[tuple, list] = {}
        self.shortfall = 0
        self.earned = 0
        self.born = 0

    def balance(self) -> int:
        return sum(pot.has for pot in self.pots)

    def in_order(self, now) -> list[Pot]:
        return sorted((pot for pot in self.pots if pot.usable(now)), key=lambda pot: pot.order)

    def available(self, now) -> int:
        return sum(pot.free() for pot in self.in_order(now))

    def pot(self, grant_id) -> Pot | None:
        return next((pot for pot in self.pots if pot.id == grant_id), None)

    def do(self, op, now: datetime) -> tuple:
        return getattr(self, type(op).__name__)(op, now)

    # what a pot does not need any more

    def _lapse(self, pot: Pot, now) -> None:
        if pot.lapsed(now) and pot.free():
            pot.move("expired", pot.free())

    def _add(self, op, now, grant_id, kind_rank, amount, expires, **rest) -> Pot:
        self.born += 1
        never = datetime.max.replace(tzinfo=now.tzinfo)
        pot = Pot(
            grant_id, (kind_rank, expires or never, now, self.born), expires, rest.pop("effective", now), amount, **rest
        )
        self.pots.append(pot)
        return pot

    def Grant(self, op, now):
        if self.pot(op.grant_id):
            return ("posted", 0)
        pot = self._add(
            op,
            now,
            op.grant_id,
            op.burn_rank,
            op.amount_micro,
            op.expires_at,
            effective=op.effective_at,
            plan_bound=op.requires_active_plan,
            transferable=op.transferable,
        )
        self._lapse(pot, now)
        return ("posted", op.amount_micro)

    def PlaceHold(self, op, now):
        if op.call_id in self.running:
            return ("placed", op.amount_micro)
        if op.call_id in self.over:
            return ("rejected",)
        if op.amount_micro > self.available(now):
            with_holds = sum(pot.has for pot in self.in_order(now))
            return ("refused", "HELD" if op.amount_micro <= with_holds else "INSUFFICIENT", self.available(now))
        rest = op.amount_micro
        parts = []
        for pot in self.in_order(now):
            part = min(rest, pot.free())
            if part:
                pot.kept[op.call_id] = part
                parts.append(pot)
                rest -= part
        self.running[op.call_id] = {
            "pots": parts,
            "amount": op.amount_micro,
            "seen": None,
            "until": op.expires_at,
            "share": op.payee_share_percent,
        }
        return ("placed", op.amount_micro)

    def Checkpoint(self, op, now):
        call = self.running.get(op.call_id)
        if call is None:
            return ("posted", 0)
        call["until"] = max(call["until"], op.expires_at)
        if op.usage is not None and op.cost_micro >= (call["seen"] or 0):
            call["seen"] = op.cost_micro
        return ("posted", call["seen"] or 0)

    def _end(self, call_id, cost, now, share) -> dict:
        """Pay from what the call kept, then from what is free; give the rest back."""
        call = self.running.pop(call_id, {"pots": [], "amount": 0})
        paid: list[list] = []
        rest = cost
        returned: list[tuple] = []
        for pot in call["pots"]:
            kept = pot.kept.pop(call_id)
            part = min(rest, kept)
            returned.append((pot, kept - part))
            if part:
                pot.move("spent", part)
                paid.append([pot, part])
                rest -= part
        if rest:
            for pot in self.in_order(now):
                part = min(rest, pot.free())
                if part:
                    pot.move("spent", part)
                    paid.append([pot, part])
                    rest -= part
        for pot, back in returned:
            if pot.lapsed(now) and back:
                pot.move("expired", back)
        done = {"paid": paid, "cost": cost, "charged": cost - rest, "presumed": False, "share": share}
        done["earned"] = done["charged"] * share // 100
        self.earned += done["earned"]
        self.shortfall += rest
        self.over[call_id] = done
        return done

    def Settle(self, op, now):
        if op.call_id in self.running:
            done = self._end(op.call_id, op.cost_micro, now, self.running[op.call_id]["share"])
            return self._settled(done)
        done = self.over.get(op.call_id)
        if done is None:
            return ("rejected",)
        if done["cost"] is None:
            return self._settled(self._end(op.call_id, op.cost_micro, now, op.payee_share_percent))
        if done["presumed"]:
            self._correct(done, op.cost_micro, now)
        return self._settled(done)

    def _correct(self, done, cost, now):
        before_short = done["cost"] - done["charged"]
        rest = cost - done["cost"]
        for pot in self.in_order(now):
            part = max(0, min(rest, pot.free()))
            if part:
                pot.move("spent", part)
                done["paid"].append([pot, part])
                done["charged"] += part
                rest -= part
        over = done["charged"] - cost
        merged: dict[UUID, list] = {}
        for pot, part in done["paid"]:
            merged.setdefault(pot.id, [pot, 0])[1] += part
        if over > 0:
            for entry in reversed(list(merged.values())):
                back = min(over, entry[1])
                entry[0].move("spent", -back)
                entry[1] -= back
                over -= back
                done["charged"] -= back
                if entry[0].lapsed(now) and back:
                    entry[0].move("expired", back)
        done["paid"] = list(merged.values())
        done["cost"], done["presumed"] = cost, False
        self.shortfall += cost - done["charged"] - before_short
        earned = done["charged"] * done["share"] // 100
        self.earned += earned - done["earned"]
        done["earned"] = earned

    @staticmethod
    def _settled(done):
        return ("settled", done["charged"], done["cost"] - done["charged"], done["earned"])

    def Release(self, op, now):
        call = self.running.pop(op.call_id, None)
        if call is None:
            done = self.over.get(op.call_id)
            return ("released", 0) if done is not None and done["cost"] is None else ("rejected",)
        for pot in call["pots"]:
            back = pot.kept.pop(op.call_id)
            if pot.lapsed(now):
                pot.move("expired", back)
        self.over[op.call_id] = {"cost": None}
        return ("released", call["amount"])

    def Reap(self, op, now):
        call = self.running.get(op.call_id)
        if call is None or call["until"] > now:
            return ("posted", 0)
        if call["seen"] is None:
            return self.Release(op, now)
        done = self._end(op.call_id, call["seen"], now, call["share"])
        done["presumed"] = True
        return self._settled(done)

    def Expire(self, op, now):
        pot = self.pot(op.grant_id)
        if pot is None:
            return ("rejected",)
        free = pot.free() if pot.lapsed(now) else 0
        self._lapse(pot, now)
        return ("posted", free)

    def _those(self, op):
        return [
            pot for pot in self.pots if (op.grant_ids is None and pot.has) or (op.grant_ids and pot.id in op.grant_ids)
        ]

    def Freeze(self, op, now):
        total = 0
        for pot in self._those(op):
            if op.grant_ids is None and op.reason == "NO_ACTIVE_SUBSCRIPTION" and not pot.plan_bound:
                continue
            if STRENGTH.index(op.reason) > STRENGTH.index(pot.frozen):
                pot.frozen = op.reason
                total += pot.has
        return ("posted", total)

    def Thaw(self, op, now):
        total = 0
        for pot in self._those(op):
            if pot.frozen == op.reason:
                pot.frozen = ""
                total += pot.has
        return ("posted", total)

    def _take_back(self, op, where):
        pot = self.pot(op.grant_id)
        if pot is None:
            return ("rejected",)
        log = self.references.setdefault((where, op.reference), [])
        net = sum(amount for other, amount in log if other is pot)
        amount = min(pot.free(), max(0, op.amount_micro - net))
        pot.move(where, amount)
        log.append((pot, amount))
        return ("posted", amount)

    def Refund(self, op, now):
        return self._take_back(op, "refunded")

    def Clawback(self, op, now):
        return self._take_back(op, "clawed back")

    def _undo(self, key, where, now, most=10**30):
        total = 0
        log = self.references.get(key, [])
        for pot in reversed({id(pot): pot for pot, _ in log}.values()):
            net = min(sum(amount for other, amount in log if other is pot), most - total)
            if not net:
                continue
            pot.move(where, -net)
            log.append((pot, -net))
            total += net
            self._lapse(pot, now)
        return ("posted", total)

    def Reinstate(self, op, now):
        return self._undo(("clawed back", op.reference), "clawed back", now)

    def ReverseTransfer(self, op, now):
        key = ("transferred", op.reference)
        if op.amount_micro is None:
            return self._undo(key, "transferred", now)
        back = -sum(amount for _, amount in self.references.get(key, []) if amount < 0)
        return self._undo(key, "transferred", now, max(0, op.amount_micro - back))

    def TransferOut(self, op, now):
        key = ("transferred", op.reference)
        if self.references.get(key):
            return ("posted", 0)
        pots = [pot for pot in self.in_order(now) if pot.transferable]
        if sum(pot.free() for pot in pots) < op.amount_micro:
            return ("rejected",)
        self._take(key, pots, op.amount_micro, "transferred")
        return ("posted", op.amount_micro)

    def Adjust(self, op, now):
        key = ("adjusted", op.reference)
        if self.references.get(key):
            return ("posted", 0)
        if op.amount_micro > 0:
            pot = self._add(op, now, None, op.burn_rank, op.amount_micro, op.expires_at)
            self.references[key] = [(pot, -op.amount_micro)]
            return ("posted", op.amount_micro)
        return ("posted", self._take(key, self.in_order(now), -op.amount_micro, "adjusted"))

    def _take(self, key, pots, amount, where) -> int:
        rest = amount
        for pot in pots:
            part = min(rest, pot.free())
            if part:
                pot.move(where, part)
                self.references.setdefault(key, []).append((pot, part))
                rest -= part
        return amount - rest


def told(outcome: views.Outcome) -> tuple:
    """The ledger's outcome in the oracle's words."""
    match outcome:
        case views.HoldPlaced():
            return ("placed", sum(part for _, part in outcome.allocation))
        case views.HoldRefused():
            return ("refused", str(outcome.reason), outcome.available_micro)
        case views.Settled():
            return ("settled", outcome.charged_micro, outcome.shortfall_micro, outcome.earned_micro)
        case views.Released():
            return ("released", outcome.released_micro)
        case views.Posted():
            return ("posted", outcome.amount_micro)
        case views.Rejected():
            return ("rejected",)
    raise AssertionError(outcome)
