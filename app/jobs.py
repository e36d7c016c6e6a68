"""Fits together the parts of jobs and assets of one process."""

import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from app.settings import Settings
from billing.catalog import CatalogHolder
from gateway.asset_store import AssetStore
from gateway.asset_urls import AssetUrls
from gateway.assets import Assets
from gateway.job_ending import JobEnding
from gateway.job_placing import JobPlacing
from gateway.job_runner import JobRunner
from gateway.jobs import Jobs
from gateway.kept_files import KeptFiles
from gateway.output_files import OutputFiles
from gateway.outputs import Outputs
from gateway.routing import Router
from gateway.tracing import Tracing
from kit.sealing import Sealer
from metering.ledger import Ledger
from models.database import Database
from providers.job_registry import JobProviders
from providers.registry import ProviderSpec, Registry


@dataclass(frozen=True, slots=True)
class JobParts:
    """What they are made of."""

    database: Database
    catalog: CatalogHolder
    ledger: Ledger
    sealer: Sealer
    outputs: Outputs
    providers: Registry
    settings: Settings
    router: Router
    tracing: Tracing


@dataclass(frozen=True, slots=True)
class OpenedJobs:
    """The parts: jobs begun here, those worked on here, assets, and the files of calls that are answered whole."""

    jobs: Jobs
    runner: JobRunner
    assets: Assets
    urls: AssetUrls
    kept: KeptFiles
    providers: JobProviders


async def open_jobs(parts: JobParts, specs: Sequence[ProviderSpec], stack: AsyncExitStack) -> OpenedJobs:
    """Open them; `stack` closes them."""
    settings, database = parts.settings, parts.database
    urls = AssetUrls(parts.sealer, settings.assets_url)
    store = AssetStore.open(settings.assets_store, parts.sealer, settings.data_dir)
    assets = Assets(database, store, urls)
    files = OutputFiles(settings.egress_allow)
    providers = await JobProviders.open(specs, os.environ, parts.providers)
    stack.push_async_callback(providers.aclose)
    ending = JobEnding(database, parts.ledger, assets, parts.outputs, files, parts.tracing)
    placing = JobPlacing(database, parts.router, providers, parts.tracing, settings.public_url)
    runner = JobRunner(database, parts.ledger, parts.sealer, providers, placing, ending)
    stack.push_async_callback(runner.close)
    return OpenedJobs(
        jobs=Jobs(database, parts.catalog, parts.ledger, parts.sealer, assets, parts.tracing),
        runner=runner,
        assets=assets,
        urls=urls,
        kept=KeptFiles(database, assets, files, parts.providers),
        providers=providers,
    )
