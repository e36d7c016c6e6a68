"""What the worker does, and how often."""

from collections.abc import Awaitable, Callable

from accounts.alert_mails import AlertMails
from accounts.housekeeping import BATCH, sweep
from accounts.mail.outbox import deliver_mail
from accounts.workspace_deletion import purge_deleted_workspaces
from app.lifespan import Services
from app.worker import Task
from billing.advance import advance_due
from billing.alerts import look_at_wallets
from billing.auto_recharge import recharge_due
from billing.due import settle_frozen, subscribe_by_default
from billing.events import dispatch_events
from billing.webhooks import deliver_webhooks
from gateway.job_rows import forget
from kit.clock import now
from metering.idempotency import purge_keys
from metering.reaper import purge_outputs, reap_holds, sweep_grants
from metering.rollups import roll_up


def worker_tasks(services: Services) -> list[Task]:
    """Every task of the product; each is bounded by its limit and safe beside itself."""

    def ledger(work: Callable[..., Awaitable[int]]) -> Callable[[int], Awaitable[int]]:
        return lambda limit: work(services.database, services.ledger, limit=limit)

    def database(work: Callable[..., Awaitable[int]]) -> Callable[[int], Awaitable[int]]:
        return lambda limit: work(services.database, limit=limit)

    def billing(work: Callable[..., Awaitable[int]]) -> Callable[[int], Awaitable[int]]:
        return lambda limit: work(services.billing, limit=limit)

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

    async def forget_jobs(limit: int) -> int:
        return await forget(services.database, now(), limit=limit)

    return [
        Task("advance-jobs", every_s=0.5, limit=50, run=lambda limit: services.jobs.runner.advance(limit=limit)),
        Task("purge-assets", every_s=30.0, limit=200, run=lambda limit: services.jobs.assets.purge(limit=limit)),
        Task("forget-jobs", every_s=300.0, limit=500, run=forget_jobs),
        Task("reap-holds", every_s=1.0, limit=200, run=ledger(reap_holds)),
        Task("expire-grants", every_s=5.0, limit=200, run=ledger(sweep_grants)),
        Task("purge-outputs", every_s=30.0, limit=500, run=database(purge_outputs)),
        Task("purge-idempotency-keys", every_s=60.0, limit=500, run=database(purge_keys)),
        Task("advance-subscriptions", every_s=5.0, limit=100, run=billing(advance_due)),
        Task("subscribe-by-default", every_s=30.0, limit=100, run=billing(subscribe_by_default)),
        Task("settle-frozen", every_s=60.0, limit=100, run=billing(settle_frozen)),
        Task("recharge", every_s=3.0, limit=50, run=billing(recharge_due)),
        Task("roll-up-usage", every_s=15.0, limit=200, run=database(roll_up)),
        Task("look-at-wallets", every_s=1.0, limit=100, run=database(look_at_wallets)),
        Task("dispatch-events", every_s=1.0, limit=100, run=events),
        Task("deliver-webhooks", every_s=1.0, limit=20, run=webhooks),
        Task("deliver-mail", every_s=1.0, limit=20, run=mail),
        Task("purge-deleted-workspaces", every_s=300.0, limit=20, run=deleted_workspaces),
        # A round removes at most BATCH of each kind: when one of them was full, the sum is BATCH or more.
        Task("sweep-accounts", every_s=3600.0, limit=BATCH, run=lambda _: sweep(services.database)),
    ]
