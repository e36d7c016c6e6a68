"""What the worker does, and how often."""

from collections.abc import Awaitable, Callable

from accounts.alert_mails import AlertMails
from accounts.housekeeping import BATCH, sweep
from accounts.mail.outbox import deliver_mail
from accounts.workspace_deletion import purge_deleted_workspaces
from app.batch_work import LINES_AT_ONCE
from app.lifespan import Services
from app.worker import BACKLOG, Task
from billing.advance import advance_due
from billing.alerts import look_at_wallets
from billing.auto_recharge import recharge_due
from billing.backlog import backlog_seconds
from billing.due import settle_frozen, subscribe_by_default
from billing.events import dispatch_events
from billing.free_credits import forget_origins
from billing.giving_back import give_back_unapplied
from billing.money_gone import take_gone_released
from billing.services import Billing
from billing.stripe_inbox import purge_inbox, work_inbox
from billing.stripe_inbox import sweep as sweep_events
from billing.stripe_invoicing import write_invoices
from billing.stripe_reconcile import ask_for_payments
from billing.stripe_tell import tell_due
from billing.stripe_transfers import move_transfers
from billing.taking_back import take_back_released
from billing.webhooks import deliver_webhooks
from gateway.files import purge_files
from gateway.job_rows import forget
from kit.clock import now
from metering.idempotency import purge_keys
from metering.reaper import purge_outputs, reap_holds, sweep_grants
from metering.rollups import roll_up


def money_tasks(billing: Billing) -> list[Task]:
    """What keeps credits and subscriptions going, for the worker and for `tollgate simulate`."""

    def ledger(work: Callable[..., Awaitable[int]]) -> Callable[[int], Awaitable[int]]:
        return lambda limit: work(billing.database, billing.ledger, limit=limit)

    def verbs(work: Callable[..., Awaitable[int]]) -> Callable[[int], Awaitable[int]]:
        return lambda limit: work(billing, limit=limit)

    return [
        Task("reap-holds", every_s=1.0, limit=200, run=ledger(reap_holds)),
        Task("expire-grants", every_s=5.0, limit=200, run=ledger(sweep_grants)),
        Task("advance-subscriptions", every_s=5.0, limit=100, run=verbs(advance_due)),
        Task("subscribe-by-default", every_s=30.0, limit=100, run=verbs(subscribe_by_default)),
        Task("take-back-released", every_s=5.0, limit=20, run=verbs(take_back_released)),
        Task("take-gone-released", every_s=5.0, limit=20, run=verbs(take_gone_released)),
        Task("settle-frozen", every_s=60.0, limit=100, run=verbs(settle_frozen)),
        Task("recharge", every_s=3.0, limit=50, run=verbs(recharge_due)),
    ]


def worker_tasks(services: Services) -> list[Task]:
    """Every task of the product; each is bounded by its limit and safe beside itself."""

    def database(work: Callable[..., Awaitable[int]]) -> Callable[[int], Awaitable[int]]:
        return lambda limit: work(services.database, limit=limit)

    async def mail(limit: int) -> int:
        done = await deliver_mail(services.database, services.sealer, services.mailer, services.sender, limit)
        return done.sent + done.dropped + done.postponed

    async def deleted_workspaces(limit: int) -> int:
        return len(await purge_deleted_workspaces(services.database, limit=limit))

    async def webhooks(limit: int) -> int:
        allowed = services.settings.egress_allow
        return await deliver_webhooks(services.database, services.sealer, allowed, limit=limit)

    mails = AlertMails(services.sealer, services.accounts.product_name)

    async def events(limit: int) -> int:
        return await dispatch_events(services.database, mails, limit=limit)

    async def backlog(_limit: int) -> int:
        for queue, seconds in (await backlog_seconds(services.database)).items():
            BACKLOG.labels(queue).set(seconds)
        return 0

    async def forget_jobs(limit: int) -> int:
        return await forget(services.database, now(), limit=limit)

    return [
        Task("measure-backlog", every_s=15.0, limit=1, run=backlog),
        *money_tasks(services.billing),
        Task("advance-jobs", every_s=0.5, limit=50, run=lambda limit: services.jobs.runner.advance(limit=limit)),
        Task("purge-assets", every_s=30.0, limit=200, run=lambda limit: services.jobs.assets.purge(limit=limit)),
        Task("forget-jobs", every_s=300.0, limit=500, run=forget_jobs),
        Task("purge-outputs", every_s=30.0, limit=500, run=database(purge_outputs)),
        Task("purge-idempotency-keys", every_s=60.0, limit=500, run=database(purge_keys)),
        Task("forget-origins", every_s=3600.0, limit=1_000, run=database(forget_origins)),
        Task("advance-batches", every_s=1.0, limit=20, run=lambda limit: services.batches.advance(now(), limit=limit)),
        Task("work-batches", every_s=1.0, limit=LINES_AT_ONCE, run=services.batch_work.run),
        Task(
            "purge-files", every_s=30.0, limit=50, run=lambda limit: purge_files(services.database, now(), limit=limit)
        ),
        Task("roll-up-usage", every_s=15.0, limit=200, run=database(roll_up)),
        Task("look-at-wallets", every_s=1.0, limit=100, run=database(look_at_wallets)),
        Task("dispatch-events", every_s=1.0, limit=100, run=events),
        Task("deliver-webhooks", every_s=1.0, limit=20, run=webhooks),
        Task("deliver-mail", every_s=1.0, limit=20, run=mail),
        Task("purge-deleted-workspaces", every_s=300.0, limit=20, run=deleted_workspaces),
        *_stripe_tasks(services),
        # A round removes at most BATCH of each kind: when one of them was full, the sum is BATCH or more.
        Task("sweep-accounts", every_s=3600.0, limit=BATCH, run=lambda _: sweep(services.database)),
    ]


def _stripe_tasks(services: Services) -> list[Task]:
    """What keeps Stripe and us in agreement; none without an account."""
    link, billing = services.payment_link, services.billing
    if link is None:
        return []
    return [
        Task("work-stripe-inbox", every_s=1.0, limit=20, run=lambda limit: work_inbox(billing, link, limit=limit)),
        Task("tell-stripe", every_s=10.0, limit=50, run=lambda limit: tell_due(link, limit=limit)),
        Task("ask-stripe", every_s=60.0, limit=20, run=lambda limit: ask_for_payments(billing, link, limit=limit)),
        Task("give-back", every_s=5.0, limit=20, run=lambda limit: give_back_unapplied(billing, limit=limit)),
        Task("write-invoices", every_s=5.0, limit=20, run=lambda limit: write_invoices(billing, link, limit=limit)),
        Task("move-transfers", every_s=10.0, limit=20, run=lambda limit: move_transfers(billing, link, limit=limit)),
        Task("sweep-stripe-events", every_s=3600.0, limit=1_000_000, run=lambda _: sweep_events(link)),
        Task("purge-inbox", every_s=3600.0, limit=500, run=lambda limit: purge_inbox(services.database, limit=limit)),
    ]
