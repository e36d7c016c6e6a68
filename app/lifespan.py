"""The parts of one process, opened in order and closed in reverse: composition happens here and nowhere else."""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import aiohttp

from accounts.access_tokens import AccessTokens
from accounts.audit import noting_for_system
from accounts.invalidation import Change, ChangeKind, Invalidations
from accounts.key_uses import KeyUses
from accounts.mail.mailer import ConsoleMailer, Mailer, SmtpMailer
from accounts.mail.messages import Sender
from accounts.oidc import OidcVerifier
from accounts.passwords import PasswordHasher
from accounts.plans import CatalogPlans
from accounts.principals import Principals
from accounts.services import Accounts
from app.asset_files import AssetFiles
from app.batch_rest import BatchRest
from app.batch_work import BatchWork
from app.credentials import Credentials
from app.exports import Exports
from app.graphql.asking import EdgeSettings
from app.graphql.edge import GraphQLEdge
from app.graphql.sealed_texts import SealedTexts
from app.health import Health
from app.jobs import JobParts, OpenedJobs, open_jobs
from app.model_index import ModelIndex
from app.model_pages import ModelPages
from app.openai_rest import OpenAIRest
from app.otel import OtelTracing
from app.pages import Pages
from app.partner_rest import PartnerRest
from app.payment_pages import PaymentPages
from app.ports import Attempts, PromoAttempts, circuit_terms, provider_specs, stripe_link
from app.provider_webhooks import ProviderWebhooks
from app.rest_admission import RestAdmission
from app.rest_door import RestDoor
from app.sdk_retries import SdkRetries
from app.settings import LimiterPolicy, Settings
from app.throttle import Throttle
from billing.catalog import CatalogHolder
from billing.free_credits import FreeCredits
from billing.payment_port import NoPayments
from billing.published import PublishedModels
from billing.publishing import Publishing
from billing.services import Billing
from billing.stripe_link import StripeLink
from billing.stripe_payments import StripePayments
from billing.webhook_endpoints import WebhookEndpoints
from gateway.answer_cache import AnswerCache
from gateway.batch_lines import BatchLines
from gateway.batches import Batches
from gateway.breakers import Breakers
from gateway.callers import Workspaces
from gateway.calls import Calls
from gateway.files import Files
from gateway.in_flight import InFlight
from gateway.metrics import watch_process
from gateway.offers import Offers
from gateway.outputs import Outputs
from gateway.pauses import Pauses
from gateway.places import Places
from gateway.publishers import POLICY, Publishers
from gateway.repeats import Repeats
from gateway.routing import Router
from gateway.settling import Settling
from gateway.streaming import Streams
from gateway.tracing import NoTracing
from kit.clock import now
from kit.errors import Unavailable
from kit.sealing import Sealer, parse_keys
from kit.tasks import stop
from metering.attempts import RequestAttempts
from metering.journal import Journal
from metering.leases import Leases
from metering.ledger import Ledger
from metering.limiter import DEFAULT_POLICIES, BucketKind, FailurePolicy, Limiter
from metering.live import Announcer
from metering.live_hub import LiveHub
from metering.redis_link import RedisClient, connect, connect_node, script_link
from metering.usage import calls_by_id
from metering.wallets import wallets_by_id
from models.database import Database
from models.enums import GrantKind
from providers.registry import Registry
from resolvers.context import RequestContext
from resolvers.live import Live
from resolvers.services import ResolverServices
from schema.root import build_schema

logger = logging.getLogger(__name__)

CATALOG_POLL_S: Final = 2.0
_CANCEL_AGAIN_S: Final = 0.5
DRAIN_S: Final = 30.0
"""How long calls in flight may go on after a signal to stop."""


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a process needs to answer requests."""

    settings: Settings
    database: Database
    redis: RedisClient
    limiter: Limiter
    catalog: CatalogHolder
    ledger: Ledger
    sealer: Sealer
    mailer: Mailer
    sender: Sender
    accounts: Accounts
    billing: Billing
    payment_link: StripeLink | None
    principals: Principals
    credentials: Credentials
    workspaces: Workspaces
    throttle: Throttle
    calls: Calls
    streams: Streams
    resolver_services: ResolverServices
    batches: Batches
    batch_work: BatchWork
    batch_rest: BatchRest
    rest: OpenAIRest
    retries: SdkRetries
    exports: Exports
    partner_rest: PartnerRest
    graphql: GraphQLEdge
    pages: Pages
    payment_pages: PaymentPages
    model_pages: ModelPages
    model_index: ModelIndex
    health: Health
    otel: OtelTracing | None
    """Where traces are exported."""
    jobs: OpenedJobs
    asset_files: AssetFiles
    provider_webhooks: ProviderWebhooks


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncGenerator[Services]:
    """Open every part; on leaving, calls in flight are waited for, batches committed and connections closed."""
    assert settings.database_url is not None, "see Settings.check_complete"
    assert settings.redis_url is not None, "see Settings.check_complete"
    assert settings.secret_key is not None, "see Settings.check_complete"
    async with AsyncExitStack() as stack:
        database = await Database.open(settings.database_url.reveal())
        stack.push_async_callback(database.close)
        redis = connect(settings.redis_url.reveal())
        stack.push_async_callback(redis.aclose)
        link = script_link(redis)
        stack.push_async_callback(link.aclose)
        limiter = Limiter(link, _policies(settings.limiter_policy))
        catalog = CatalogHolder(database)
        snapshot = await catalog.reload()
        journal = await Journal.open(settings.data_dir / "journal")
        listening = connect_node(settings.redis_url.reveal())
        stack.push_async_callback(listening.aclose)
        announcer = Announcer(listening)
        announcer.start()
        stack.push_async_callback(announcer.close)
        ledger = await Ledger.open(database, earnings_rank=snapshot.burn_ranks[GrantKind.EARNINGS])
        ledger.on_committed = announcer.announce
        stack.push_async_callback(ledger.close)
        await journal.replay(ledger)
        stack.push_async_callback(journal.close)
        providers = Registry.from_specs(provider_specs(snapshot), os.environ)
        stack.push_async_callback(providers.aclose)
        for name, reason in providers.unconfigured().items():
            logger.info("provider %s is not configured: %s", name, reason)

        sealer = Sealer(*parse_keys(settings.secret_key.reveal()))
        invalidations = Invalidations(listening)
        key_uses = KeyUses(database)
        stack.push_async_callback(_flush, key_uses)
        principals = Principals(database, AccessTokens(sealer), invalidations, key_uses)
        workspaces = Workspaces(database, catalog)
        invalidations.listen(_forgetting(workspaces))
        throttle = Throttle(limiter)
        credentials = Credentials(principals, throttle, settings.trusted_proxies)
        payment_link = stripe_link(settings, database, catalog)
        if payment_link is not None:
            stack.push_async_callback(payment_link.stripe.aclose)
        billing = Billing(
            database=database,
            ledger=ledger,
            catalog=catalog,
            payments=NoPayments() if payment_link is None else StripePayments(payment_link),
            attempts=PromoAttempts(limiter),
            secret_key=settings.secret_key.reveal().encode(),
            note_for=noting_for_system,
        )
        accounts = Accounts(
            database=database,
            sealer=sealer,
            hasher=PasswordHasher(),
            invalidations=invalidations,
            attempts=Attempts(limiter),
            plans=CatalogPlans(database, catalog),
            public_url=settings.public_url,
            free_credits=FreeCredits(billing),
        )
        identity = await _identity_verifier(settings, stack)

        lease_policy = FailurePolicy.CLOSED if settings.limiter_policy is LimiterPolicy.CLOSED else FailurePolicy.OPEN
        places = Places(Leases(link, lease_policy), settings.hold_ttl_s)
        stack.push_async_callback(places.close)
        in_flight = InFlight(ledger, timedelta(seconds=settings.hold_ttl_s), places)
        settling = Settling(ledger, journal, in_flight)
        outputs = Outputs(database, sealer)
        repeats = Repeats(database, ledger, outputs)
        breakers = Breakers(link, circuit_terms(providers))
        stack.push_async_callback(breakers.close)
        pauses = Pauses(link)
        stack.push_async_callback(pauses.close)
        router = Router(providers, breakers, pauses)
        published = PublishedModels(database, catalog)
        publishers = Publishers(sealer, settings.egress_allow)
        stack.push_async_callback(publishers.aclose)
        providers.others, providers.others_policy = publishers.get, POLICY
        offers = Offers(catalog, published, workspaces, publishers, router)
        otel = _otel(settings, stack)
        tracing = otel or NoTracing()
        cache = AnswerCache(redis, sealer)
        specs = provider_specs(snapshot)
        parts = JobParts(database, catalog, ledger, sealer, outputs, providers, settings, router, tracing)
        jobs = await open_jobs(parts, specs, stack)
        calls = Calls(
            database,
            catalog,
            router,
            settling,
            in_flight,
            outputs,
            repeats,
            places,
            offers,
            tracing,
            cache,
            jobs.kept,
        )
        streams = Streams(calls, router, settling, in_flight, repeats, places)
        hub = LiveHub(announcer, listening)
        live = Live(hub, lambda ids: wallets_by_id(database, ids, now()), lambda ids: calls_by_id(database, ids))
        invalidations.listen(live.hear)
        invalidations.listen(_forgetting(published))
        in_flight.start()
        watch_process(lambda: in_flight.count, lambda: providers.open_connections)
        stack.push_async_callback(in_flight.drain, DRAIN_S)
        for name, work in (
            ("invalidations", invalidations.run()),
            ("key-uses", key_uses.run()),
            ("live-updates", hub.run()),
            ("catalog-refresh", _follow(catalog)),
            ("circuits", breakers.run()),
            ("pauses", pauses.run()),
        ):
            stack.push_async_callback(stop, asyncio.create_task(work, name=name))
        resolver_services = ResolverServices(
            database=database,
            ledger=ledger,
            catalog=catalog,
            principals=principals,
            accounts=accounts,
            calls=calls,
            streams=streams,
            outputs=outputs,
            jobs=jobs.jobs,
            assets=jobs.assets,
            workspaces=workspaces,
            webhooks=WebhookEndpoints(database, sealer, settings.egress_allow),
            billing=billing,
            publishing=Publishing(database, catalog, published, sealer, settings.egress_allow),
            throttle=throttle,
            identity=identity,
            live=live,
        )
        admission = RestAdmission(credentials, workspaces, throttle)
        files = Files(database, sealer)
        batches = Batches(database, sealer, files)
        retries = SdkRetries(RequestAttempts(link))
        stack.push_async_callback(retries.aclose)
        graphql = GraphQLEdge(
            build_schema(),
            credentials,
            limiter,
            lambda principal, request_id, address: RequestContext(principal, resolver_services, request_id, address),
            EdgeSettings(
                graphiql=settings.graphiql,
                introspection=settings.introspection,
                allowed_origins=settings.allowed_origins,
                trusted_documents=settings.trusted_documents,
                document_mode=settings.document_mode,
            ),
            SealedTexts(
                redis, sealer
            ),  # model calls take their requests in their resolvers, so the edge is given no workspaces to do it again
        )
        stack.push_async_callback(graphql.close)
        yield Services(
            settings=settings,
            database=database,
            redis=redis,
            limiter=limiter,
            catalog=catalog,
            ledger=ledger,
            sealer=sealer,
            mailer=SmtpMailer(settings.smtp_url.reveal()) if settings.smtp_url else ConsoleMailer(),
            sender=Sender(settings.mail_from, accounts.product_name, settings.public_url),
            accounts=accounts,
            billing=billing,
            payment_link=payment_link,
            principals=principals,
            credentials=credentials,
            workspaces=workspaces,
            throttle=throttle,
            calls=calls,
            streams=streams,
            resolver_services=resolver_services,
            graphql=graphql,
            batches=batches,
            batch_work=BatchWork(BatchLines(database, sealer), principals, workspaces, throttle, calls),
            batch_rest=BatchRest(files, batches, admission),
            retries=retries,
            rest=OpenAIRest(RestDoor(credentials, workspaces, throttle, calls, streams, retries)),
            exports=Exports(database, catalog, admission),
            partner_rest=PartnerRest(database, catalog, admission),
            pages=Pages(accounts, credentials),
            payment_pages=PaymentPages(
                accounts.product_name,
                database,
                billing,
                payment_link,
                settings.stripe_webhook_secret.reveal() if settings.stripe_webhook_secret else None,
            ),
            model_pages=ModelPages(accounts, credentials, principals, published, workspaces, throttle, calls),
            model_index=ModelIndex(accounts.product_name, credentials, throttle, published, catalog),
            health=Health(database, redis),
            otel=otel,
            jobs=jobs,
            asset_files=AssetFiles(jobs.assets, jobs.urls),
            provider_webhooks=ProviderWebhooks(jobs.providers, jobs.jobs),
        )


def _otel(settings: Settings, stack: AsyncExitStack) -> OtelTracing | None:
    if settings.otel_endpoint is None:
        return None
    otel = OtelTracing(settings.otel_endpoint, settings.otel_service_name)
    stack.push_async_callback(otel.aclose)
    return otel


def _policies(policy: LimiterPolicy) -> dict[BucketKind, FailurePolicy]:
    chosen = FailurePolicy.CLOSED if policy is LimiterPolicy.CLOSED else FailurePolicy.OPEN
    return {kind: FailurePolicy.CLOSED if kind is BucketKind.ATTEMPTS else chosen for kind in DEFAULT_POLICIES}


def _forgetting(workspaces: Workspaces | PublishedModels):  # noqa: ANN202 -- a listener
    def forget(change: Change) -> None:
        if change.kind is ChangeKind.WORKSPACE and change.id is not None:
            workspaces.forget(change.id)
        elif change.kind is ChangeKind.EVERYTHING:
            workspaces.forget_all()

    return forget


async def _follow(catalog: CatalogHolder) -> None:
    """Take up catalogs that another process applies, within CATALOG_POLL_S."""
    while True:
        await asyncio.sleep(CATALOG_POLL_S)
        try:
            if await catalog.refresh_if_changed():
                logger.info("the catalog changed: version %s is in force", catalog.current.number)
        except Unavailable as error:
            logger.warning("the catalog could not be looked at: %s", error.message)


async def _identity_verifier(settings: Settings, stack: AsyncExitStack) -> OidcVerifier | None:
    """The verifier of the configured issuer's tokens; None where none is configured."""
    if settings.oidc_issuer is None or settings.oidc_audience is None:
        return None
    http = await stack.enter_async_context(aiohttp.ClientSession())
    return OidcVerifier(settings.oidc_issuer, settings.oidc_audience, http)


async def _flush(key_uses: KeyUses) -> None:
    """The last uses of API keys, at the end; a database that is away loses them, and nothing else."""
    try:
        await key_uses.flush()
    except Unavailable as error:
        logger.warning("the last uses of API keys were not written: %s", error.message)
