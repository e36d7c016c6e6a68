"""Random lives of workspaces on the real database against the oracle; every invariant of money holds after each step."""

import asyncio
import os
from datetime import UTC, datetime, timedelta

import asyncpg
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from billing.advance import advance_due
from billing.due import settle_frozen
from billing.errors import AlreadySubscribed, ChangeRefused, NoSubscription, NothingToResume, PromoAlreadyRedeemed
from billing.packs import buy_pack
from billing.payments import apply_payment
from billing.promo import redeem
from billing.subscribing import subscribe
from billing.subscriptions import cancel, change_plan, resume
from kit.ids import uuid7
from models.database import Database
from tests.billing.catalog_samples import small
from tests.billing.lives_oracle import DAY, Oracle, Terms, months_later
from tests.billing.shop import MICRO, open_shop
from tests.metering.invariants import assert_invariants

BORN = [
    datetime(2027, 1, 31, 10, tzinfo=UTC),
    datetime(2028, 2, 29, 23, 59, 59, tzinfo=UTC),
    datetime(2027, 8, 30, 0, 0, 1, tzinfo=UTC),
    datetime(2027, 11, 15, 12, tzinfo=UTC),
]
FREE = Terms("free", "free", "MONTH", 5 * MICRO, 0, drip=True)
BASIC = Terms("basic", "monthly", "MONTH", 100 * MICRO, 10)
THIRTY = Terms("basic", "thirty", "THIRTY", 90 * MICRO, 10, drip=False)
PRO = Terms("pro", "monthly", "MONTH", 200 * MICRO, 20, keeps=True, cap=300 * MICRO)
YEARLY = Terms("pro", "yearly", "YEAR", 150 * MICRO, 20, drip=True)
WHOLE = Terms("basic", "yearly", "YEAR", 1000 * MICRO, 10)
LIFE = Terms("pro", "lifetime", "ENDLESS", 50 * MICRO, 20, drip=True)
ALL = [FREE, BASIC, THIRTY, PRO, YEARLY, WHOLE, LIFE]
UNITS = {"MONTH": "MONTH", "THIRTY": "DAYS_30", "YEAR": "YEAR", "ENDLESS": "LIFETIME"}
DOLLARS = {BASIC: 10, THIRTY: 9, PRO: 20, YEARLY: 200, WHOLE: 100, LIFE: 500}


def catalog() -> dict:
    values = small()
    values["plans"]["basic"] = values["plans"]["pro"] | {"name": "Basic", "rank": 10}
    values["plans"]["pro"]["rank"] = 20
    for code in ("basic", "pro"):
        values["plans"][code]["prices"] = [price_of(terms) for terms in ALL if terms.plan == code]
    values["packs"] = {
        "bound": {"name": "Bound", "credits": "70", "price": "7", "requires_active_plan": True},
        "year": {"name": "A year", "credits": "40", "price": "4", "expires_after_months": 12},
    }
    for code in ("free", "basic", "pro"):
        values["plans"][code]["entitlements"] = values["plans"][code]["entitlements"] | {"credit_packs": True}
    values["promo"] = {
        "gift": {"code_env": "GIFT", "credits": "9", "grant_expires_after_days": 45, "per_workspace_limit": 3}
    }
    return values


def price_of(terms: Terms) -> dict:
    policy = {"amount": str(terms.credits // MICRO), "cadence": "MONTH" if terms.drip else "BILLING_PERIOD"}
    if terms.keeps:
        policy |= {"rollover": True, "rollover_cap": str(terms.cap // MICRO)}
    return {"code": terms.code, "amount": str(DOLLARS[terms]), "period": UNITS[terms.unit], "credits": policy}


class Lives(RuleBasedStateMachine):
    url: str
    runner: asyncio.Runner
    database: Database
    pg: asyncpg.Connection

    def __init__(self) -> None:
        super().__init__()
        self.run = self.runner.run
        start = BORN[0]
        self.opened = open_shop(self.database, self.pg, catalog(), start=start, codes={"GIFT": "gift"})
        self.shop = self.run(self.opened.__aenter__())
        self.customer = self.run(self.shop.workspace())
        self.oracle = Oracle(start)
        self.checkouts = []
        self.subs = {}
        self.worker_is_up = True

    def do(self, work, *refusals):
        """The result, or None where it was refused in one of these ways."""
        try:
            return self.run(work)
        except refusals:
            return None

    def price(self, terms):
        return self.shop.price(terms.plan, terms.code)

    def key(self):
        return uuid7().hex

    # --- Time ---

    @rule(days=st.integers(0, 40), hours=st.integers(0, 30))
    def time_goes_on(self, days, hours):
        self.jump(timedelta(days=days, hours=hours))

    @rule(days=st.integers(1, 400))
    def time_jumps(self, days):
        self.jump(timedelta(days=days))

    @rule(seconds=st.sampled_from([-1, 0, 1]))
    def time_comes_to_the_periods_end(self, seconds):
        sub = self.oracle.sub
        if sub is not None and sub.alive and sub.end is not None and sub.end - DAY > self.oracle.now:
            self.jump(sub.end - self.oracle.now + timedelta(seconds=seconds))

    @rule(born=st.sampled_from(BORN))
    def time_comes_to_an_awkward_day(self, born):
        if born > self.oracle.now:
            self.jump(born - self.oracle.now)

    def jump(self, delta):
        self.shop.go(to=self.shop.time.at + delta)
        self.oracle.now += delta
        if self.worker_is_up:
            self.worker_works()

    @rule(up=st.booleans())
    def worker_goes_up_or_down(self, up):
        self.worker_is_up = up
        if up:
            self.worker_works()

    def worker_works(self):
        self.run(self.shop.work())
        self.oracle.catch_up()

    @rule(workers=st.integers(2, 3))
    @precondition(lambda self: self.worker_is_up)
    def workers_meet(self, workers):
        async def together():
            await asyncio.gather(*(advance_due(self.shop.billing) for _ in range(workers)))

        self.run(together())

    # --- Plans ---

    @rule(terms=st.sampled_from(ALL), pays=st.booleans())
    def subscribes(self, terms, pays):
        work = subscribe(self.shop.billing, self.customer.id, self.price(terms).id, idempotency_key=self.key())
        made = self.do(work, AlreadySubscribed)
        allowed = self.oracle.subscribe(terms)
        assert (made is not None) == allowed
        if made is None:
            return
        self.subs[made.subscription.id] = self.oracle.sub
        if not terms.free:
            self.checkouts.append((self.run(self.customer.open_payment_id()), made.subscription.id, terms))
            if pays:
                self.pays_a_checkout(0)

    @rule(back=st.integers(0, 2))
    @precondition(lambda self: self.checkouts)
    def pays_a_checkout(self, back):
        """Also one that lapsed or was replaced, and sometimes twice."""
        payment_id, subscription_id, terms = self.checkouts.pop(-1 - min(back, len(self.checkouts) - 1))
        applied = self.run(apply_payment(self.shop.billing, payment_id))
        assert applied.changed == self.oracle.pay(self.subs[subscription_id], terms, self.oracle.now)
        assert not applied.changed or not self.run(apply_payment(self.shop.billing, payment_id)).changed

    @rule(late=st.booleans())
    @precondition(lambda self: self.renewing() is not None)
    def renews(self, late):
        """The provider charged at the period's end; the news may come late."""
        subscription_id, sub = self.renewing()
        terms = sub.scheduled or sub.terms
        paid_at = sub.end if late else self.oracle.now
        applied = self.run(self.customer.pay(subscription_id, self.price(terms), paid_at=paid_at))
        assert applied.changed == self.oracle.pay(sub, terms, paid_at)

    def renewing(self):
        """The subscription whose next period could be charged by now."""
        for subscription_id, sub in reversed(self.subs.items()):
            over = sub.end is not None and sub.end <= self.oracle.now and sub.status != "CANCELED"
            if sub is self.oracle.sub and over and not sub.terms.free and not (sub.scheduled or sub.terms).free:
                return subscription_id, sub
        return None

    @rule(terms=st.sampled_from(ALL))
    def changes_plan(self, terms):
        work = change_plan(self.shop.billing, self.customer.id, self.price(terms).id, idempotency_key=self.key())
        made = self.do(work, ChangeRefused, NoSubscription)
        what = self.oracle.change(terms)
        assert (made is None) == (what == "REFUSED")
        if what == "CHECKOUT":
            self.checkouts.append((self.run(self.customer.open_payment_id()), made.subscription.id, terms))

    @rule(back=st.booleans())
    def cancels(self, back):
        made = self.do(
            cancel(self.shop.billing, self.customer.id, idempotency_key=self.key()), NoSubscription, ChangeRefused
        )
        assert (made is not None) == self.oracle.cancel()
        if back:
            self.resumes()

    @rule()
    def resumes(self):
        made = self.do(
            resume(self.shop.billing, self.customer.id, idempotency_key=self.key()), NoSubscription, NothingToResume
        )
        assert (made is not None) == self.oracle.resume()

    # --- Credits ---

    @rule(whole=st.integers(1, 300), micro=st.integers(0, 999))
    def spends(self, whole, micro):
        amount = whole * MICRO + micro
        assert self.run(self.customer.spend(amount)) == self.oracle.spend(amount)

    @rule()
    def spends_everything(self):
        amount = self.oracle.available()
        if amount:
            assert self.run(self.customer.spend(amount)) == self.oracle.spend(amount)

    @rule(code=st.sampled_from(["bound", "year"]))
    def buys_a_pack(self, code):
        self.run(buy_pack(self.shop.billing, self.customer.id, code, idempotency_key=self.key()))
        if code == "bound":
            self.oracle.add("PACK", 70 * MICRO, None, needs_plan=True)
        else:
            self.oracle.add("PACK", 40 * MICRO, months_later(self.oracle.now, 12))

    @rule()
    def redeems(self):
        work = redeem(self.shop.billing, self.customer.id, "gift", redeemed_by=None, idempotency_key=self.key())
        made = self.do(work, PromoAlreadyRedeemed)
        assert (made is not None) == (self.oracle.redeemed < 3)
        if made is not None:
            self.oracle.redeemed += 1
            self.oracle.add("PROMO", 9 * MICRO, self.oracle.now + 45 * DAY)

    @rule()
    def the_sweep_comes(self):
        self.run(settle_frozen(self.shop.billing))
        self.oracle.settle_frozen()

    # --- What must hold ---

    @invariant()
    def it_is_as_the_oracle_says(self):
        wallet = self.run(self.customer.wallet())
        assert (wallet.available_micro, wallet.frozen_micro) == (self.oracle.available(), self.oracle.frozen())
        row = self.run(self.customer.subscription())
        sub = self.oracle.sub
        if row is None:
            assert sub is None
            return
        seen = next(sub for key, sub in self.subs.items() if key == row["id"]) if row["id"] in self.subs else None
        assert seen is not None
        assert (row["status"], row["current_period_end"]) == (seen.status, seen.end)
        assert self.run(self.granted_twice()) == 0

    async def granted_twice(self):
        return await self.pg.fetchval(
            "SELECT count(*) FROM (SELECT FROM credit_grants WHERE wallet_id = $1 AND source_kind = 'SUBSCRIPTION'"
            " GROUP BY subscription_id, effective_at, amount_micro HAVING count(*) > 1) AS twice",
            self.customer.wallet_id,
        )

    @invariant()
    def all_invariants_of_money_hold(self):
        self.run(assert_invariants(self.pg))

    def teardown(self):
        self.run(self.pg.execute("UPDATE workspaces SET deleted_at = now() WHERE id = $1", self.customer.id))
        self.run(self.opened.__aexit__(None, None, None))


def test_random_lives_agree_with_the_oracle(database_url):
    with asyncio.Runner() as runner:
        database = runner.run(Database.open(database_url))
        pg = runner.run(asyncpg.connect(database_url))

        class Machine(Lives):
            pass

        Machine.url, Machine.runner, Machine.database, Machine.pg = database_url, runner, database, pg
        try:
            run_state_machine_as_test(
                Machine,
                settings=settings(
                    max_examples=int(os.environ.get("TOLLGATE_TEST_LIVES", "25")),
                    stateful_step_count=25,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(pg.close())
            runner.run(database.close())
