"""API keys of a workspace."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from accounts import api_keys as keys
from accounts.rules.key_terms import KeyTerms
from accounts.rules.roles import Action, ApiScope
from accounts.views import ApiKeySecret, ApiKeyView, Environment
from billing.rules.publishing import PUBLISHED_NAME
from kit.errors import InvalidInput
from kit.pages import Page
from kit.unchanged import UNCHANGED, Unchanged
from resolvers import nodes
from resolvers.access import key_of, looked_up, require, workspace_for
from resolvers.catalog import snapshot_of
from resolvers.context import RequestContext
from resolvers.pages import page_request

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class KeyChange:
    """What to change of a key's terms; None clears."""

    name: str | Unchanged | None = UNCHANGED
    scopes: tuple[ApiScope, ...] | Unchanged | None = UNCHANGED
    models: tuple[str, ...] | Unchanged | None = UNCHANGED
    addresses: tuple[str, ...] | Unchanged | None = UNCHANGED
    requests_per_hour: int | Unchanged | None = UNCHANGED
    monthly_limit_micro: int | Unchanged | None = UNCHANGED
    expires_at: datetime | Unchanged | None = UNCHANGED
    cache_answers: bool | Unchanged | None = UNCHANGED


async def of_workspace(
    context: RequestContext, workspace_id: UUID, *, first: int | None, after: str | None
) -> Page[ApiKeyView]:
    """The keys, ended ones included, the newest first."""
    await require(context, Action.KEYS_READ, workspace_id)
    return await context.loaders.pages.keys.load(workspace_id, page_request(first, after), None)


async def create(
    context: RequestContext, *, workspace_id: str, terms: KeyTerms, environment: Environment
) -> ApiKeySecret:
    """A new key with its secret. NotInPlan, TooMany, InvalidInput."""
    key = await workspace_for(context, Action.KEYS_WRITE, workspace_id)
    _check_models(context, terms.models or ())
    return await keys.create_key(context.services.accounts, context.actor, key, terms, environment)


async def update(context: RequestContext, *, api_key_id: str, change: KeyChange) -> ApiKeyView:
    """Changes the terms of a live key. KeyEnded, InvalidInput."""
    found = await _writable(context, api_key_id)

    def changed(before: KeyTerms) -> KeyTerms:
        terms = _changed(before, change)
        kept = frozenset(before.models or ())  # the catalog may have lost them since
        _check_models(context, [slug for slug in terms.models or () if slug not in kept])
        return terms

    return await keys.update_key(context.services.accounts, context.actor, found.workspace_id, found.id, changed)


async def rotate(context: RequestContext, *, api_key_id: str, overlap_s: int) -> ApiKeySecret:
    """A new secret on the same terms. KeyEnded, InvalidInput."""
    found = await _writable(context, api_key_id)
    return await keys.rotate_key(context.services.accounts, context.actor, found.workspace_id, found.id, overlap_s)


async def revoke(context: RequestContext, *, api_key_id: str) -> ApiKeyView:
    """Ends a key everywhere."""
    found = await _writable(context, api_key_id)
    return await keys.revoke_key(context.services.accounts, context.actor, found.workspace_id, found.id)


async def _writable(context: RequestContext, api_key_id: str) -> ApiKeyView:
    with looked_up("api_key_id"):
        found = await nodes.api_key(context, key_of(context, "key", api_key_id))
        await require(context, Action.KEYS_WRITE, found.workspace_id)
    return found


def _check_models(context: RequestContext, slugs: Iterable[str]) -> None:
    """InvalidInput for a slug that is neither the catalog's nor of the form of a published model's.

    Whether there is such a published model is not asked: it may be private, and may come later.
    """
    known = snapshot_of(context).models_by_slug
    for slug in slugs:
        if slug not in known and not PUBLISHED_NAME.fullmatch(slug):
            raise InvalidInput(
                f"there is no model {slug[:100]!r}: models must be slugs of the catalog (`models` lists them), or of"
                " published models, as workspace-slug/model-slug",
                field=["models"],
            )


def _changed(terms: KeyTerms, change: KeyChange) -> KeyTerms:
    if change.name is None:
        raise InvalidInput("a key keeps a name", field=["name"])
    if change.scopes is None:
        raise InvalidInput("a key keeps at least one scope", field=["scopes"])
    return replace(
        terms,
        name=_kept(change.name, terms.name),
        scopes=_kept(change.scopes, terms.scopes),
        models=_kept(change.models, terms.models),
        addresses=_kept(change.addresses, terms.addresses),
        requests_per_hour=_kept(change.requests_per_hour, terms.requests_per_hour),
        monthly_limit_micro=_kept(change.monthly_limit_micro, terms.monthly_limit_micro),
        expires_at=_kept(change.expires_at, terms.expires_at),
        cache_answers=_kept(change.cache_answers, terms.cache_answers) or False,
    )


def _kept(given: T | Unchanged, before: T) -> T:
    return before if isinstance(given, Unchanged) else given
