"""A process that kills itself at its nth step: before or after a request to Stripe, or a commit of ours."""

import asyncio
import multiprocessing
import os
import signal
from datetime import datetime
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import Synchronized
from uuid import UUID

import asyncpg.connection
import asyncpg.transaction

from accounts.audit import noting_for_system
from billing.catalog import CatalogHolder
from billing.services import Billing
from billing.stripe_client import Stripe
from billing.stripe_link import StripeLink
from billing.stripe_payments import StripePayments
from kit import clock
from metering.ledger import Ledger
from models.database import Database
from tests.billing.shop import SECRET, Attempts
from tests.payments import kill_scenarios

WRITES = ("INSERT", "UPDATE", "DELETE", "WITH")
FINISHED = 0
FAILED = 3


class Steps:
    """Counts steps; the process is killed at the one that was asked for."""

    def __init__(self, at: int, count: Synchronized) -> None:
        self.at = at
        self.count = count

    def step(self) -> None:
        self.count.value += 1
        if self.count.value == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        """Stand around every request and every commit of this process."""
        ask, commit, execute = (
            Stripe._ask,
            asyncpg.transaction.Transaction.commit,
            asyncpg.connection.Connection._execute,
        )

        async def asking(stripe, request):
            self.step()
            answer = await ask(stripe, request)
            self.step()
            return answer

        async def committing(transaction):
            self.step()
            await commit(transaction)
            self.step()

        async def executing(connection, query, *arguments, **more):
            found = await execute(connection, query, *arguments, **more)
            if not connection.is_in_transaction() and query.lstrip().upper().startswith(WRITES):
                self.step()
            return found

        Stripe._ask = asking
        asyncpg.transaction.Transaction.commit = committing
        asyncpg.connection.Connection._execute = executing


def run(
    name: str,
    workspace_id: UUID,
    key: str,
    database_url: str,
    double_url: str,
    now: datetime,
    at: int,
    count: Synchronized,
) -> None:
    """The child's life: open what a gateway opens, do one thing, end; or be killed on the way."""
    steps = Steps(at, count)
    try:
        with clock.installed(clock.VirtualClock(now)):
            asyncio.run(_do(name, workspace_id, key, database_url, double_url, steps))
    except Exception as error:
        print(f"{name} at step {at}: {error!r}", flush=True)
        os._exit(FAILED)
    os._exit(FINISHED)


async def _do(name: str, workspace_id: UUID, key: str, database_url: str, double_url: str, steps: Steps) -> None:
    database = await Database.open(database_url, max_size=3)
    catalog = CatalogHolder(database)
    await catalog.reload()
    ledger = await Ledger.open(database)
    link = StripeLink(Stripe("sk_test_double", base=double_url), database, catalog, "https://gateway.example")
    billing = Billing(database, ledger, catalog, StripePayments(link), Attempts(), SECRET, noting_for_system)
    steps.watch()
    await kill_scenarios.ACTS[name](billing, link, workspace_id, key)


def child(*arguments) -> tuple[BaseProcess, Synchronized]:
    """A process of its own, forked from a server that has everything imported; and where it counts its steps."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.payments.kill_points"])
    count = context.Value("i", 0)
    process = context.Process(target=run, args=(*arguments, count))
    process.start()
    return process, count
