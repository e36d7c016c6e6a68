"""Random lives of workspaces over simulated months, with declines and crashes; then both books agree, and reconcile.

`python -m tests.payments.soak --workspaces 200 --months 36 --seed 7` (make soak); a short one is in the tests.
"""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import stripe

from app.embedded import EmbeddedServers
from billing.auto_recharge import update_auto_recharge
from billing.payment_methods import methods_of
from billing.stripe_customers import known_customer
from billing.subscriptions import cancel, change_plan, resume
from billing.top_ups import add_credits
from kit.errors import Refusal
from kit.ids import uuid7
from metering.reconcile import reconcile
from models.database import Database
from models.migrate import migrate
from tests.billing.shop import MICRO
from tests.payments.house import DAY, Guest, House, open_house, session_of
from tests.payments.kill_points import child
from tests.stripe_shop import start_shop

CATALOG = "usd-balance"
CARDS = ("pm_card_visa", "pm_card_mastercard", "pm_card_amex", "pm_card_mastercard_prepaid")
MOODS = ("pm_card_visa", "pm_card_visa", "pm_card_chargeDeclined", "pm_card_authenticationRequired")
"""How a saved card behaves from now on."""

STRIDE_DAYS = 5
MOST_KILL_STEP = 30


@dataclass
class Soak:
    """`chance` decides everything, so that a seed repeats a life."""

    house: House
    database_url: str
    chance: random.Random
    done: Counter = field(default_factory=Counter)

    async def live(self, workspaces: int, months: int, *, tell=lambda _: None) -> None:
        guests = [await self.house.workspace() for _ in range(workspaces)]
        strides = months * 30 // STRIDE_DAYS
        for stride in range(strides):
            for guest in guests:
                if self.chance.random() < 0.4:
                    await self._act(guest)
            await self.house.go(days=STRIDE_DAYS)
            if stride % 6 == 5:
                await self.house.agree()
                tell(f"month {(stride + 1) // 6} of {months}: {sum(self.done.values())} acts")
        await self.house.go(days=2)
        await self.house.agree()

    async def _act(self, guest: Guest) -> None:
        act = self.chance.choice(
            (self._card, self._mood, self._top_up, self._top_up, self._plan, self._plan, self._end, self._spend,
             self._spend, self._recharge, self._money_back, self._bank_decides, self._forget, self._killed, self._late,
             self._deleted)
        )  # fmt: skip
        try:
            await act(guest)
            self.done[act.__name__] += 1
        except Refusal as refusal:
            self.done[refusal.code] += 1

    async def _card(self, guest: Guest) -> None:
        url = await self.house.billing.payments.open_setup(guest.id, "https://app.example/back")
        await self.house.double.try_ask(
            "POST", f"checkout/{session_of(url)}/pay", card=self.chance.choice(CARDS), authenticated=True
        )

    async def _mood(self, guest: Guest) -> None:
        for method in (await methods_of(self.house.link.database, [guest.id]))[guest.id]:
            await self.house.double.behave(method.object_id, self.chance.choice(MOODS))

    async def _top_up(self, guest: Guest) -> None:
        checkout = self.chance.random() < 0.3
        made = await add_credits(
            self.house.billing, guest.id, self.chance.randint(10, 90) * MICRO, idempotency_key=uuid7().hex,
            checkout=checkout,
        )  # fmt: skip
        if made.payment.action_url and self.chance.random() < 0.7:
            await self._on_page(made.payment.action_url, made.payment.id)

    async def _plan(self, guest: Guest) -> None:
        plan = self.chance.choice(("pro", "business"))
        row = await guest.subscription()
        if row is None or row["ended_at"] is not None or row["status"] == "INCOMPLETE":
            made = await guest.page(plan)
        else:
            price = self.house.price(
                *self.chance.choice((("pro", "monthly"), ("business", "monthly"), ("personal", "free")))
            )
            made = await change_plan(self.house.billing, guest.id, price.id, idempotency_key=uuid7().hex)
        if made.checkout_url is not None and self.chance.random() < 0.8:
            await self._on_page(made.checkout_url, None)

    async def _on_page(self, url: str, payment_id) -> None:
        if "cs_" in url:
            await self.house.double.try_ask(
                "POST", f"checkout/{session_of(url)}/pay", card=self.chance.choice(CARDS), authenticated=True
            )
        elif payment_id is not None:
            intent = await self.house.pg.fetchval("SELECT stripe_object_id FROM payments WHERE id = $1", payment_id)
            await self.house.double.try_ask("POST", f"payment_intents/{intent}/authenticate")

    async def _end(self, guest: Guest) -> None:
        verb = cancel if self.chance.random() < 0.6 else resume
        await verb(self.house.billing, guest.id, idempotency_key=uuid7().hex)

    async def _spend(self, guest: Guest) -> None:
        await guest.spend(self.chance.randint(1, 60) * MICRO)

    async def _recharge(self, guest: Guest) -> None:
        await update_auto_recharge(
            self.house.billing, guest.id, enabled=self.chance.random() < 0.8,
            threshold_usd_micro=20 * MICRO, amount_usd_micro=10 * MICRO,
        )  # fmt: skip

    async def _money_back(self, guest: Guest) -> None:
        """A refund by the operator, or a dispute of the whole or a part of a purchase or of a plan's period."""
        paid = [row for row in await guest.payments() if row["status"] in {"SUCCEEDED", "DISPUTED"}]
        paid = [row for row in paid if row["stripe_object_id"]]
        if not paid:
            return
        row = self.chance.choice(paid)
        part = self.chance.choice((1, 2)) * row["amount_usd_micro"] // 2 // 10_000 * 10_000
        if self.chance.random() < 0.5:
            await self.house.billing.payments.refund(row["id"], part, "soak")
            return
        intent = await self._intent_of(row["stripe_object_id"])
        status, _ = await self.house.double.try_ask(
            "POST", "disputes", payment_intent=intent, amount=part // 10_000, inquiry=self.chance.random() < 0.2
        )
        self.done[f"disputes {status}"] += 1

    async def _bank_decides(self, guest: Guest) -> None:
        """Of one dispute or inquiry that is open."""
        disputes = await self.house.double.v1.disputes.list_async({"limit": 100})
        if disputes.data:
            outcome = self.chance.choice(("won", "lost", "escalated", "closed"))
            one = self.chance.choice([dispute.id for dispute in disputes.data])
            status, _ = await self.house.double.try_ask("POST", "disputes", dispute=one, outcome=outcome)
            self.done[f"{outcome} {status}"] += 1

    async def _intent_of(self, object_id: str) -> str:
        if object_id.startswith("pi_"):
            return object_id
        invoice = await self.house.double.v1.invoices.retrieve_async(object_id, {"expand": ["payments"]})
        return invoice.payments.data[0].payment.payment_intent

    async def _forget(self, guest: Guest) -> None:
        for method in (await methods_of(self.house.link.database, [guest.id]))[guest.id][:1]:
            await self.house.billing.payments.remove_method(method.id)

    async def _late(self, guest: Guest) -> None:
        """The invoice of a renewal that was not paid, by its link, whatever has become of the plan."""
        customer = await known_customer(self.house.link, guest.id)
        if customer is None:
            return
        unpaid = await self.house.double.v1.invoices.list_async({"customer": customer, "status": "open"})
        for invoice in unpaid.data[:1]:
            with suppress(stripe.InvalidRequestError):  # a page that is open has it
                await self.house.double.v1.invoices.pay_async(invoice.id, {"payment_method": "pm_card_visa"})
                self.done["paid late"] += 1

    async def _deleted(self, guest: Guest) -> None:
        """The customer, by the operator in the dashboard; not often."""
        customer = await known_customer(self.house.link, guest.id)
        if customer is not None and self.chance.random() < 0.3:
            with suppress(stripe.InvalidRequestError):  # deleted since the last round of the worker
                await self.house.double.v1.customers.delete_async(customer)
                self.done["customers deleted"] += 1

    async def _killed(self, guest: Guest) -> None:
        act = self.chance.choice(("top_up", "upgrade", "end", "recharge", "inbox"))
        step = self.chance.randint(1, MOST_KILL_STEP)
        process, _ = child(act, guest.id, uuid7().hex, self.database_url, self.house.double.url, self.house.now, step)
        await asyncio.to_thread(process.join, 60)


async def _main(workspaces: int, months: int, seed: int) -> int:
    directory = Path(tempfile.mkdtemp(prefix="tollgate-soak-"))
    directory.chmod(0o755)
    servers = await EmbeddedServers.start(directory, postgres=True, valkey=False, durable=False)
    double = await start_shop()
    began = time.monotonic()
    try:
        await migrate(servers.database_url)
        database, pg = await Database.open(servers.database_url), await asyncpg.connect(servers.database_url)
        async with open_house(database, pg, double, CATALOG) as house:
            soak = Soak(house, servers.database_url, random.Random(seed))
            await soak.live(workspaces, months, tell=lambda text: print(text, flush=True))
            report = await reconcile(database)
        await pg.close()
        await database.close()
        print(dict(soak.done))
        print(f"{workspaces} workspaces, {months} months, seed {seed}: {time.monotonic() - began:.0f} s")
        print("reconcile finds nothing" if report.agrees else f"reconcile: {report}")
        return 0 if report.agrees else 1
    finally:
        await double.close()
        await servers.stop()
        shutil.rmtree(directory, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.payments.soak", description=__doc__)
    parser.add_argument("--workspaces", type=int, default=200)
    parser.add_argument("--months", type=int, default=36)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    return asyncio.run(_main(options.workspaces, options.months, options.seed))


if __name__ == "__main__":
    sys.exit(main())


__all__ = ["DAY", "Soak"]
