"""A workspace publishes models: a provider of its own or a chain, free or at a price, within what its plan allows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg

from billing.catalog import CatalogHolder, Snapshot
from billing.egress import Egress
from billing.errors import UnknownWorkspace
from billing.plans import plan_in_force, require_feature
from billing.published import Published, PublishedModels, published_of
from billing.published_errors import ChargingNotOffered, SlugTaken, StepRefused, TooManyModels
from billing.rules.chains import MAX_DEPTH, Chain
from billing.rules.egress import Network
from billing.rules.publishing import PublishedTerms, check_key, check_terms
from billing.services import Note
from billing.views import ModelView, PlanView
from billing.webhook_errors import UrlRefused
from kit.clock import now
from kit.errors import InvalidInput, NotFound, Unavailable
from kit.ids import uuid7
from kit.sealing import Sealer, row_context
from metering.rules.conditions import conditions_json
from models.database import Database, transaction
from models.enums import Modality
from models.pool import PoolConnection

MAX_PUBLISHED: Final = 10_000
"""Of one workspace, where its plan names no lower number: unlimited for people, a bound for scripts run wild."""
MAX_TRIES: Final = 10
"""Of one change, each undone by another that came first: of changes sent at once, one is always done."""


@dataclass(frozen=True, slots=True)
class Publishing:
    """The services that publishing needs; one per process. `allowed`: TOLLGATE_EGRESS_ALLOW."""

    database: Database
    catalog: CatalogHolder
    models: PublishedModels
    sealer: Sealer
    allowed: Sequence[Network]

    async def publish(self, note: Note, workspace_id: UUID, terms: PublishedTerms, api_key: str | None) -> Published:
        """Publish a model. InvalidInput, NotInPlan, ChargingNotOffered, StepRefused, TooManyModels, SlugTaken, UrlRefused."""
        plan = await self._checked(workspace_id, None, terms, api_key)
        most = min(MAX_PUBLISHED, plan.entitlements.published_models_limit or MAX_PUBLISHED)
        model_id, at = uuid7(), now()
        async with transaction(self.database) as conn:
            slug = await conn.fetchval(
                "SELECT slug FROM workspaces WHERE id = $1 AND deleted_at IS NULL FOR UPDATE", workspace_id
            )
            if slug is None:
                raise UnknownWorkspace
            count = await conn.fetchval(
                "SELECT count(*) FROM published_models WHERE workspace_id = $1 AND unpublished_at IS NULL", workspace_id
            )
            if count >= most:
                raise TooManyModels(most)
            full = f"{slug}/{terms.slug}"
            try:
                async with conn.transaction():
                    await conn.execute(_INSERT_MODEL, model_id, full, *_model_values(terms, at), workspace_id)
            except asyncpg.UniqueViolationError as error:
                raise SlugTaken(full) from error
            await conn.execute(
                _INSERT, model_id, workspace_id, *_own_values(terms), *self._sealed(model_id, api_key), at
            )
            await _write_prices(conn, model_id, terms, at)
            await note(conn, "model.publish", "model", model_id, {"slug": full})
            found = await published_of(conn, model_id)
        self.models.forget(workspace_id)
        assert found is not None, "inserted above"
        return found

    async def update(
        self,
        note: Note,
        model_id: UUID,
        change: Callable[[PublishedTerms], PublishedTerms],
        api_key: str | None,
        *,
        keep_key: bool,
    ) -> Published:
        """Change a model; calls in flight keep their terms. As `publish`, NotFound, and Unavailable where others change it
        all the while. `keep_key`: `api_key` was not given.

        The checks ask the network and other tables, so they are made before the row is locked; what they were made of
        must still stand under the lock, else all is done again. So no change is undone by one sent beside it.
        """
        for _ in range(MAX_TRIES):
            before = await self.models.get(model_id)
            if before is None:
                raise NotFound("there is no such model")
            terms = change(before.terms())
            if keep_key and before.sealed_key and _origin(before.base_url) != _origin(terms.base_url):
                raise InvalidInput("give the key again for another address", field=["provider", "apiKey"])
            await self._checked(before.workspace_id, before.slug, terms, api_key)
            sealed = None if keep_key else self._sealed(model_id, api_key)
            found = await self._replace(note, before, terms, sealed)
            if found is not None:
                self.models.forget(before.workspace_id)
                return found
        raise Unavailable("others are changing this model; send the change again")

    async def _replace(
        self, note: Note, before: Published, terms: PublishedTerms, sealed: tuple[bytes, int] | None
    ) -> Published | None:
        """Write the terms over `before`; None, and nothing written, where that is no longer how the model stands.

        `sealed` None: the key stays.
        """
        model_id, at = before.model.id, now()
        async with transaction(self.database) as conn:
            row = await conn.fetchrow(
                "SELECT api_key_encrypted, key_version FROM published_models"
                " WHERE model_id = $1 AND unpublished_at IS NULL FOR UPDATE",
                model_id,
            )
            current = await published_of(conn, model_id)
            if row is None or current is None:
                raise NotFound("there is no such model")
            if (current.terms(), current.sealed_key) != (before.terms(), before.sealed_key):
                return None
            kept = (row["api_key_encrypted"], row["key_version"])
            await conn.execute(_UPDATE_MODEL, model_id, *_model_values(terms, at))
            await conn.execute(_UPDATE, model_id, *_own_values(terms), *(kept if sealed is None else sealed), at)
            if terms.prices != current.terms().prices:
                await conn.execute(_RETIRE_PRICES, model_id, at)
                await _write_prices(conn, model_id, terms, at)
            await note(conn, "model.update", "model", model_id, {"slug": before.slug})
            return await published_of(conn, model_id)

    async def unpublish(self, note: Note, model_id: UUID) -> None:
        """Take a model back: its name is free, its key gone; what it earned stays. NotFound."""
        at = now()
        async with transaction(self.database) as conn:
            workspace_id = await conn.fetchval(
                "UPDATE published_models SET unpublished_at = $2, api_key_encrypted = '' WHERE model_id = $1"
                " AND unpublished_at IS NULL RETURNING workspace_id",
                model_id,
                at,
            )
            if workspace_id is None:
                raise NotFound("there is no such model")
            await conn.execute("UPDATE models SET retired_at = $2, updated_at = $2 WHERE id = $1", model_id, at)
            await conn.execute(_RETIRE_PRICES, model_id, at)
            await note(conn, "model.unpublish", "model", model_id, {})
        self.models.forget(workspace_id)

    async def _checked(
        self, workspace_id: UUID, own_slug: str | None, terms: PublishedTerms, api_key: str | None
    ) -> PlanView:
        """The workspace's plan, which allows all of it."""
        chain = check_terms(terms)
        check_key(api_key)
        plan = await plan_in_force(self.database, self.catalog, workspace_id, now())
        snapshot = self.catalog.current
        if terms.is_priced:
            if snapshot.settings.publishing is None:
                raise ChargingNotOffered
            require_feature(snapshot, plan, "monetization")
        if terms.is_branded:
            require_feature(snapshot, plan, "branding")
        if chain is not None:
            require_feature(snapshot, plan, "chained_models")
            await self._check_chain(snapshot, plan, workspace_id, own_slug, terms, chain)
        if terms.base_url is not None:
            try:
                await Egress(self.allowed).check(terms.base_url)
            except UrlRefused as error:
                message = error.message.replace("url", "baseUrl", 1).replace(
                    "webhooks are sent", "providers are reached"
                )
                raise InvalidInput(message, field=["provider", "baseUrl"]) from error
        return plan

    async def _check_chain(
        self,
        snapshot: Snapshot,
        plan: PlanView,
        workspace_id: UUID,
        own_slug: str | None,
        terms: PublishedTerms,
        chain: Chain,
    ) -> None:
        models = {
            step.name: await self._model_of_step(snapshot, plan, workspace_id, step.model) for step in chain.steps
        }
        for step in chain.steps:
            model = models[step.name]
            wanted = terms.modality if step.name in chain.outputs else Modality.TEXT
            if model.modality is not wanted:
                raise StepRefused(step.model, f"makes {model.modality}, and its step {step.name!r} needs {wanted}")
        await self._check_depth(chain, own_slug, workspace_id, 1)

    async def _model_of_step(self, snapshot: Snapshot, plan: PlanView, workspace_id: UUID, slug: str) -> ModelView:
        model = snapshot.models_by_slug.get(slug)
        if model is not None:
            if not snapshot.allowed(plan, model):
                raise StepRefused(slug, f"is not part of the plan {plan.name}")
            return model
        found = await self.models.find(slug)
        if found is None or not found.visible_to([workspace_id]):
            raise StepRefused(slug, "does not exist")
        return found.model

    async def _check_depth(self, chain: Chain, own_slug: str | None, workspace_id: UUID, depth: int) -> None:
        """No chain leads back to itself; one that another becomes later is refused when it is called."""
        for slug in dict.fromkeys(step.model for step in chain.steps):
            if slug == own_slug:
                raise StepRefused(slug, "would call itself")
            model = self.catalog.current.models_by_slug.get(slug)
            if model is None:
                found = await self.models.find(slug)
                model = None if found is None else found.model
            if model is not None and model.chain is not None:
                if depth >= MAX_DEPTH:
                    raise StepRefused(slug, f"is a chain more than {MAX_DEPTH} deep")
                await self._check_depth(model.chain, own_slug, workspace_id, depth + 1)

    def _sealed(self, model_id: UUID, api_key: str | None) -> tuple[bytes, int]:
        if api_key is None:
            return b"", 0
        context = row_context("published_models", "api_key_encrypted", model_id)
        return self.sealer.seal(api_key.encode("ascii"), context), self.sealer.current_version


def _origin(url: str | None) -> tuple[str, str | None, int | None] | None:
    if url is None:
        return None
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def _model_values(terms: PublishedTerms, at: datetime) -> tuple[object, ...]:
    return (
        terms.name,
        terms.modality,
        terms.description,
        terms.context_tokens,
        terms.max_output_tokens,
        terms.enabled,
        at,
    )


def _own_values(terms: PublishedTerms) -> tuple[object, ...]:
    return (
        terms.visibility,
        terms.base_url,
        terms.upstream_model,
        terms.chain,
        terms.input_schema,
        terms.prompt,
        terms.logo_url,
        terms.colour,
    )


async def _write_prices(conn: PoolConnection, model_id: UUID, terms: PublishedTerms, at: datetime) -> None:
    await conn.executemany(
        "INSERT INTO model_prices (id, model_id, meter, credits_micro, per, conditions, created_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7)",
        [
            (uuid7(), model_id, price.meter, price.credits_micro, price.per, conditions_json(price.when), at)
            for price in terms.prices
        ],
    )


_INSERT_MODEL: Final = """
    INSERT INTO models (id, slug, name, modality, description, context_tokens, max_output_tokens, routes, limits, enabled,
        created_at, updated_at, workspace_id)
    VALUES ($1, $2, $3, $4, $5, $6, $7, '[]', '{}', $8, $9, $9, $10)"""
_UPDATE_MODEL: Final = """
    UPDATE models SET name = $2, modality = $3, description = $4, context_tokens = $5, max_output_tokens = $6,
        enabled = $7, updated_at = $8
    WHERE id = $1"""
_INSERT: Final = """
    INSERT INTO published_models (model_id, workspace_id, visibility, base_url, upstream_model, chain, input_schema, prompt,
        logo_url, colour, api_key_encrypted, key_version, created_at, updated_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13)"""
_UPDATE: Final = """
    UPDATE published_models SET visibility = $2, base_url = $3, upstream_model = $4, chain = $5, input_schema = $6,
        prompt = $7, logo_url = $8, colour = $9, api_key_encrypted = $10, key_version = $11, updated_at = $12
    WHERE model_id = $1"""
_RETIRE_PRICES: Final = "UPDATE model_prices SET retired_at = $2 WHERE model_id = $1 AND retired_at IS NULL"
