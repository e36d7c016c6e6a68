"""What a workspace's life must come to, told a second time in the plainest way: lots, dates and one loop."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction

DAY = timedelta(days=1)
RANKS = {"CYCLE": 0, "PROMO": 1, "BONUS": 2, "PACK": 3}


@dataclass(frozen=True)
class Terms:
    """A price of the lives' catalog; amounts in micro-credits."""

    plan: str
    code: str
    unit: str
    credits: int
    rank: int
    drip: bool = False
    keeps: bool = False
    cap: int = 0

    @property
    def free(self):
        return self.plan == "free"


@dataclass(eq=False)
class Lot:
    kind: str
    left: int
    start: datetime
    end: datetime | None
    needs_plan: bool = False
    frozen: bool = False
    of: object = None


@dataclass(eq=False)
class Sub:
    terms: Terms
    created: datetime
    status: str = "INCOMPLETE"
    anchor: datetime | None = None
    start: datetime | None = None
    end: datetime | None = None
    todo: list[datetime] = field(default_factory=list)
    cancelled: bool = False
    scheduled: Terms | None = None
    grace: datetime | None = None
    periods: int = 0

    @property
    def alive(self):
        return self.status not in {"CANCELED", "EXPIRED"}


def months_later(anchor: datetime, count: int) -> datetime:
    years, month = divmod(anchor.month - 1 + count, 12)
    for day in range(anchor.day, 0, -1):
        try:
            return anchor.replace(year=anchor.year + years, month=month + 1, day=day)
        except ValueError:
            continue
    raise AssertionError


def step(anchor: datetime, unit: str, count: int) -> datetime:
    if unit == "THIRTY":
        return anchor + count * 30 * DAY
    return months_later(anchor, count * (12 if unit == "YEAR" else 1))


def first_after(anchor: datetime, unit: str, at: datetime) -> datetime:
    count = 0
    while step(anchor, unit, count) <= at:
        count += 1
    return step(anchor, unit, count)


def refusal_undoes_all(command):
    """A refused command leaves nothing behind, not even that it caught up."""

    def undone(self, *arguments):
        things = [*self.lots, *([self.sub] if self.sub else [])]
        before = self.sub, list(self.lots), [(each, dict(each.__dict__)) for each in things]
        todo = list(self.sub.todo) if self.sub else []
        answer = command(self, *arguments)
        if not answer or answer == "REFUSED":
            self.sub, self.lots, fields = before
            for each, values in fields:
                each.__dict__.update(values)
            if self.sub:
                self.sub.todo = todo
        return answer

    return undone


class Oracle:
    def __init__(self, now: datetime) -> None:
        self.now = now
        self.lots: list[Lot] = []
        self.sub: Sub | None = None
        self.redeemed = 0

    # --- What can be seen ---

    def live(self, lot: Lot) -> bool:
        return not lot.frozen and lot.start <= self.now and (lot.end is None or lot.end > self.now)

    def available(self) -> int:
        return sum(lot.left for lot in self.lots if self.live(lot))

    def frozen(self) -> int:
        return sum(lot.left for lot in self.lots if lot.frozen and (lot.end is None or lot.end > self.now))

    def gives_plan(self) -> bool:
        sub = self.sub
        if sub is None or sub.status in {"INCOMPLETE", "CANCELED", "EXPIRED"}:
            return False
        if sub.cancelled and sub.end is not None and sub.end <= self.now:
            return False
        return sub.status != "PAST_DUE" or self.now < sub.grace

    # --- Credits ---

    def spend(self, amount: int) -> int:
        if amount > self.available():
            return 0
        rest = amount
        never = datetime.max.replace(tzinfo=self.now.tzinfo)
        for lot in sorted(filter(self.live, self.lots), key=lambda lot: (RANKS[lot.kind], lot.end or never)):
            part = min(rest, lot.left)
            lot.left -= part
            rest -= part
        return amount

    def add(self, kind: str, amount: int, end: datetime | None, *, needs_plan: bool = False) -> None:
        frozen = needs_plan and not self.gives_plan()
        self.lots.append(Lot(kind, amount, self.now, end, needs_plan, frozen))

    def settle_frozen(self) -> None:
        for lot in self.lots:
            if lot.needs_plan and lot.left:
                lot.frozen = not self.gives_plan()

    # --- Time ---

    def catch_up(self, until: datetime | None = None) -> None:
        until = until or self.now
        changed = False
        while self.sub is not None and self._one_thing(self.sub, until):
            changed = True
        if changed:
            self.settle_frozen()

    def _one_thing(self, sub: Sub, until: datetime) -> bool:
        end = self._end_of(sub)
        if sub.todo and sub.todo[0] <= until and (end is None or sub.todo[0] < end[0]):
            self._grant(sub, sub.todo.pop(0))
            return True
        if end is None or end[0] > until:
            return False
        _, what = end
        if what == "RENEW":
            self.begin(sub, sub.scheduled or sub.terms, sub.end, anew=False)
        elif what == "PAST_DUE":
            sub.status, sub.grace = "PAST_DUE", sub.end + 7 * DAY
        else:
            sub.status, sub.todo, sub.scheduled = what, [], None
        return True

    def _end_of(self, sub: Sub):
        if not sub.alive:
            return None
        if sub.status == "INCOMPLETE":
            return sub.created + DAY, "EXPIRED"
        if sub.status == "PAST_DUE":
            return sub.grace, "EXPIRED"
        if sub.end is None:
            return None
        if sub.cancelled:
            return sub.end, "CANCELED"
        if (sub.scheduled or sub.terms).free:
            return sub.end, "RENEW"
        return sub.end + DAY, "PAST_DUE"

    def _grant(self, sub: Sub, at: datetime) -> None:
        terms = sub.terms
        ends = first_after(sub.anchor, "MONTH" if terms.drip else terms.unit, at)
        ends = ends if sub.end is None else min(ends, sub.end)
        left = sum(lot.left for lot in self.lots if lot.of is sub and lot.end == at)
        self.lots.append(Lot("CYCLE", terms.credits, at, ends, of=sub))
        if terms.keeps and left:
            self.lots.append(Lot("CYCLE", min(left, terms.cap), at, ends, of=sub))

    def begin(self, sub: Sub, terms: Terms, start: datetime, *, anew: bool) -> None:
        if anew or terms.unit != sub.terms.unit:
            sub.anchor = start
        sub.terms, sub.start, sub.status, sub.scheduled, sub.grace = terms, start, "ACTIVE", None, None
        sub.periods += 1
        sub.end = None if terms.unit == "ENDLESS" else first_after(sub.anchor, terms.unit, start)
        last = sub.end or months_later(start, 12 * 60)
        sub.todo = [start]
        while terms.drip and (following := first_after(sub.anchor, "MONTH", sub.todo[-1])) < last:
            sub.todo.append(following)

    # --- Commands ---

    @refusal_undoes_all
    def subscribe(self, terms: Terms) -> bool:
        """Whether it is allowed; a free one begins, a paid one waits."""
        self.catch_up()
        sub = self.sub
        if sub is not None and sub.alive and sub.status != "INCOMPLETE":
            return sub.terms.free and not terms.free
        if sub is not None and sub.status == "INCOMPLETE":
            sub.status = "CANCELED"
        self.sub = Sub(terms, self.now)
        if terms.free:
            self.begin(self.sub, terms, self.now, anew=True)
            self.catch_up()
            self.settle_frozen()
        return True

    def pay(self, sub: Sub, terms: Terms, at: datetime) -> bool:
        if sub is not self.sub and self.sub is not None and self.sub.alive:
            return False
        if sub.alive:
            self.catch_up(at)
        if sub.status == "CANCELED" or (sub.terms.unit == "ENDLESS" and sub.periods):
            return False
        if sub.end is None or terms.unit == "ENDLESS":
            sub.cancelled = False
            self.begin(sub, terms, at, anew=True)
        elif sub.status == "EXPIRED":
            in_time = sub.grace is not None and at < sub.grace
            self.begin(sub, terms, sub.end if in_time else at, anew=not in_time)
        elif sub.terms.free:
            sub.cancelled = False
            self.begin(sub, terms, at, anew=True)
        else:
            self.begin(sub, terms, sub.end, anew=False)
        self.sub = sub
        self.settle_frozen()
        self.catch_up()
        return True

    @refusal_undoes_all
    def cancel(self) -> bool:
        self.catch_up()
        sub = self.sub
        if sub is None or not sub.alive:
            return False
        if sub.status in {"INCOMPLETE", "PAST_DUE"}:
            sub.status, sub.todo, sub.scheduled = "CANCELED", [], None
        elif sub.end is None:
            return False
        else:
            sub.cancelled, sub.scheduled = True, None
        self.settle_frozen()
        return True

    @refusal_undoes_all
    def resume(self) -> bool:
        self.catch_up()
        sub = self.sub
        if sub is None or not sub.alive or not sub.cancelled:
            return False
        sub.cancelled = False
        return True

    def _cycle(self, sub: Sub, terms: Terms):
        unit = "MONTH" if terms.drip else terms.unit
        count = 0
        while step(sub.anchor, unit, count + 1) <= self.now:
            count += 1
        return step(sub.anchor, unit, count), min(step(sub.anchor, unit, count + 1), sub.end)

    def _left_of(self, sub: Sub, terms: Terms) -> Fraction:
        start, end = self._cycle(sub, terms)
        second = timedelta(seconds=1)
        return Fraction(terms.credits * -((self.now - end) // second), (end - start) // second)

    @refusal_undoes_all
    def change(self, terms: Terms) -> str:
        self.catch_up()
        sub = self.sub
        if sub is None or sub.status != "ACTIVE" or sub.cancelled or (sub.end and sub.end <= self.now):
            return "REFUSED"
        if terms is sub.terms:
            was, sub.scheduled = sub.scheduled, None
            return "TAKEN_BACK" if was else "REFUSED"
        if sub.terms.free:
            return "CHECKOUT"
        if sub.terms.unit == "ENDLESS":
            return "REFUSED"
        if terms.unit == "ENDLESS":
            return "CHECKOUT"
        if terms.rank > sub.terms.rank and terms.unit == sub.terms.unit:
            worth = self._left_of(sub, terms) - self._left_of(sub, sub.terms)
            more = max(0, -(-worth.numerator // worth.denominator))
            if more:
                self.lots.append(Lot("CYCLE", more, self.now, self._cycle(sub, terms)[1], of=sub))
            sub.terms, sub.scheduled, sub.todo = terms, None, []
            at = self.now
            while terms.drip and (at := first_after(sub.anchor, "MONTH", at)) < sub.end:
                sub.todo.append(at)
            return "AT_ONCE"
        sub.scheduled = terms
        return "SCHEDULED"
