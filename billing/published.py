"""Published models as they can be called: read by slug and by workspace, the ones called lately kept in memory."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from time import monotonic
from typing import Final
from uuid import UUID

from asyncpg import Record

from billing.catalog import CatalogHolder, Snapshot
from billing.catalog_rows import chain_of, model_views
from billing.plans import plans_of
from billing.rules.publishing import PUBLISHED_NAME, MeterPrice, PublishedTerms
from billing.rules.templates import Template, parse_template
from billing.views import ModelView, PlanView, PublisherView, RouteView
from kit.clock import now
from kit.json_values import JsonObject
from kit.pages import MAX_PAGE_SIZE, Page, PageRequest, decode_cursor, encode_cursor
from models.database import Database, connection
from models.enums import Modality, Visibility
from models.pool import PoolConnection

MAX_KEPT: Final = 5_000
FRESH_S: Final = 10.0
"""Age at which a model is read anew: the bound on staleness when an invalidation is missed."""
ROUTE_PREFIX: Final = "published:"
"""Before the id of a model, where a route names its publisher's own provider: no name in a catalog has a colon."""

_SELECT: Final = """
    SELECT m.*, p.visibility, p.base_url, p.upstream_model, p.api_key_encrypted, p.chain, p.input_schema, p.prompt,
        p.logo_url, p.colour, p.updated_at AS changed_at, w.slug AS workspace_slug, w.name AS workspace_name
    FROM published_models p JOIN models m ON m.id = p.model_id JOIN workspaces w ON w.id = p.workspace_id
    WHERE p.unpublished_at IS NULL AND w.deleted_at IS NULL"""
_IS_PRICED: Final = """EXISTS (SELECT FROM model_prices x WHERE x.model_id = p.model_id AND x.retired_at IS NULL
        AND x.credits_micro > 0)"""
_PUBLIC: Final = f"""{_SELECT} AND p.visibility = 'PUBLIC' AND m.enabled AND ($1::text IS NULL OR m.modality = $1)
    AND NOT (p.workspace_id = ANY ($5) AND {_IS_PRICED}) AND NOT (p.workspace_id = ANY ($6) AND p.chain IS NOT NULL)
    AND ($2::timestamptz IS NULL OR (p.created_at, p.model_id) < ($2, $3))
    ORDER BY p.created_at DESC, p.model_id DESC LIMIT $4"""
_PUBLISHERS: Final = """
    SELECT DISTINCT workspace_id FROM published_models WHERE unpublished_at IS NULL AND visibility = 'PUBLIC'"""
_PRICES: Final = "SELECT * FROM model_prices WHERE model_id = ANY ($1) AND retired_at IS NULL ORDER BY id"


@dataclass(frozen=True, slots=True)
class MayOffer:
    """What a publisher may offer now: models with a price, chains. Others need no plan."""

    priced: bool
    chains: bool

    @staticmethod
    def of(snapshot: Snapshot, plan: PlanView) -> "MayOffer":
        """By its plan (B12, B14), where the catalog lets anybody charge."""
        allowed = plan.entitlements
        return MayOffer(snapshot.settings.publishing is not None and allowed.monetization, allowed.chained_models)


class Withheld(StrEnum):
    """Why a published model is not served now."""

    DISABLED = "disabled"
    PRICED = "priced"
    CHAIN = "chain"


@dataclass(frozen=True, slots=True)
class Published:
    """A published model: what is called, by whom it may be, and what its publisher gave. `sealed_key` empty: no key.

    `epoch` counts what this process had heard of when the reading began: of two, that with the lower may be the older.
    """

    model: ModelView
    workspace_id: UUID
    visibility: Visibility
    base_url: str | None
    upstream_model: str | None
    sealed_key: bytes
    chain: JsonObject | None
    input_schema: JsonObject | None
    prompt_text: str | None
    prompt: Template | None
    logo_url: str | None
    colour: str | None
    created_at: datetime
    updated_at: datetime
    epoch: int = field(default=0, compare=False)

    @property
    def slug(self) -> str:
        """The name by which it is called: workspace-slug/model-slug."""
        return self.model.slug

    @property
    def is_priced(self) -> bool:
        """Whether its use costs anything."""
        return any(price.credits_micro for price in self.model.prices)

    def withheld(self, may: MayOffer) -> Withheld | None:
        """Why nobody may call it now; None where it is served. The list of public models says the same in SQL (_PUBLIC)."""
        if not self.model.enabled:
            return Withheld.DISABLED
        if self.is_priced and not may.priced:
            return Withheld.PRICED
        return Withheld.CHAIN if self.model.chain is not None and not may.chains else None

    def visible_to(self, workspace_ids: Iterable[UUID]) -> bool:
        """Whether it exists for these workspaces."""
        return self.visibility is Visibility.PUBLIC or self.workspace_id in workspace_ids

    def terms(self) -> PublishedTerms:
        """As its publisher states it."""
        return PublishedTerms(
            slug=self.slug.rpartition("/")[2],
            name=self.model.name,
            modality=Modality(self.model.modality),
            description=self.model.description,
            visibility=self.visibility,
            enabled=self.model.enabled,
            prices=tuple(
                MeterPrice(price.meter, price.credits_micro, price.per, price.when) for price in self.model.prices
            ),
            context_tokens=self.model.context_tokens,
            max_output_tokens=self.model.max_output_tokens,
            base_url=self.base_url,
            upstream_model=self.upstream_model,
            chain=self.chain,
            input_schema=self.input_schema,
            prompt=self.prompt_text,
            logo_url=self.logo_url,
            colour=self.colour,
        )


class PublishedModels:
    """Reads published models. `find` keeps what it read for FRESH_S; `forget` drops it at once."""

    def __init__(self, database: Database, catalog: CatalogHolder) -> None:
        """One per process. `catalog` says what publishers' plans allow."""
        self._database = database
        self._catalog = catalog
        self._barred: tuple[float, tuple[list[UUID], list[UUID]]] | None = None
        """Since when which publishers may have no models with a price, and which no chains."""
        self._kept: OrderedDict[str, tuple[float, Published]] = OrderedDict()
        self._own: OrderedDict[UUID, tuple[float, tuple[Published, ...]]] = OrderedDict()
        self._epoch = 0
        """Counts what was forgotten: what was being read meanwhile may be older, and is not kept."""

    async def find(self, slug: str) -> Published | None:
        """The live model of this slug, whoever may see it; None where there is none."""
        if not PUBLISHED_NAME.fullmatch(slug):  # nor would PostgreSQL take a NUL
            return None
        kept = self._kept.get(slug)
        if kept is not None and monotonic() - kept[0] < FRESH_S:
            return kept[1]
        epoch = self._epoch
        read = await self._one(f"{_SELECT} AND m.slug = $1", slug)
        found = None if read is None else replace(read, epoch=epoch)
        if epoch != self._epoch:
            return found
        if found is None:
            self._kept.pop(slug, None)
            return None
        self._kept[slug] = (monotonic(), found)
        self._kept.move_to_end(slug)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return found

    def forget(self, workspace_id: UUID) -> None:
        """A workspace changed what it publishes."""
        self._epoch += 1
        for slug in [slug for slug, (_, found) in self._kept.items() if found.workspace_id == workspace_id]:
            del self._kept[slug]
        self._own.pop(workspace_id, None)
        self._barred = None

    def forget_all(self) -> None:
        """After invalidations may have been missed."""
        self._epoch += 1
        self._kept.clear()
        self._own.clear()
        self._barred = None

    async def own(self, workspace_id: UUID) -> tuple[Published, ...]:
        """The first hundred models that a workspace publishes, kept as long."""
        kept = self._own.get(workspace_id)
        if kept is not None and monotonic() - kept[0] < FRESH_S:
            return kept[1]
        epoch = self._epoch
        found = (await self.page_of_workspace(workspace_id, PageRequest(MAX_PAGE_SIZE))).items
        if epoch != self._epoch:
            return found
        self._own[workspace_id] = (monotonic(), found)
        self._own.move_to_end(workspace_id)
        while len(self._own) > MAX_KEPT:
            self._own.popitem(last=False)
        return found

    async def get(self, model_id: UUID) -> Published | None:
        """The live model of this id, read anew."""
        return await self._one(f"{_SELECT} AND m.id = $1", model_id)

    async def page_of_workspace(self, workspace_id: UUID, request: PageRequest) -> Page[Published]:
        """What a workspace publishes, the oldest first."""
        at, key = _position(request)
        async with connection(self._database) as conn:
            found = await published_rows(
                conn,
                f"{_SELECT} AND p.workspace_id = $1 AND ($2::timestamptz IS NULL OR (p.created_at, p.model_id) > ($2, $3))"
                " ORDER BY p.created_at, p.model_id LIMIT $4",
                workspace_id,
                at,
                key,
                request.first + 1,
            )
        return _page(found, request)

    async def page_of_public(self, request: PageRequest, modality: str | None = None) -> Page[Published]:
        """What everybody may call, of all workspaces, the newest first.

        What is private or withheld is not among it; plans are read anew after FRESH_S.
        """
        at, key = _position(request)
        not_priced, no_chains = await self._barred_publishers()
        async with connection(self._database) as conn:
            found = await published_rows(conn, _PUBLIC, modality, at, key, request.first + 1, not_priced, no_chains)
        return _page(found, request)

    async def _barred_publishers(self) -> tuple[list[UUID], list[UUID]]:
        kept = self._barred
        if kept is not None and monotonic() - kept[0] < FRESH_S:
            return kept[1]
        epoch = self._epoch
        async with connection(self._database) as conn:
            publishers = [row[0] for row in await conn.fetch(_PUBLISHERS)]
        snapshot = self._catalog.current
        plans = await plans_of(self._database, snapshot, publishers, now())
        may = {key: MayOffer.of(snapshot, plan) for key, plan in plans.items()}
        barred = [key for key in may if not may[key].priced], [key for key in may if not may[key].chains]
        if epoch == self._epoch:
            self._barred = monotonic(), barred
        return barred

    async def _one(self, query: str, key: object) -> Published | None:
        async with connection(self._database) as conn:
            found = await published_rows(conn, query, key)
        return found[0] if found else None


def _position(request: PageRequest) -> tuple[datetime, UUID] | tuple[None, None]:
    return (None, None) if request.after is None else decode_cursor(request.after)


def _page(found: Sequence[Published], request: PageRequest) -> Page[Published]:
    """Of one more than was asked for."""
    shown = tuple(found[: request.first])
    cursors = tuple(encode_cursor(each.created_at, each.model.id) for each in shown)
    return Page(shown, cursors, len(found) > request.first, request.after is not None)


async def published_of(conn: PoolConnection, model_id: UUID) -> Published | None:
    """The live model of this id, as the caller's transaction sees it."""
    found = await published_rows(conn, f"{_SELECT} AND m.id = $1", model_id)
    return found[0] if found else None


async def published_rows(conn: PoolConnection, query: str, *arguments: object) -> list[Published]:
    """The models of a query that begins with _SELECT."""
    rows = await conn.fetch(query, *arguments)
    prices = await conn.fetch(_PRICES, [row["id"] for row in rows])
    views = model_views(rows, prices, ())
    return [_published(row, view) for row, view in zip(rows, views, strict=True)]


def _published(row: Record, view: ModelView) -> Published:
    prompt: str | None = row["prompt"]
    return Published(
        model=_with_publisher(row, view),
        workspace_id=row["workspace_id"],
        visibility=Visibility(row["visibility"]),
        base_url=row["base_url"],
        upstream_model=row["upstream_model"],
        sealed_key=row["api_key_encrypted"],
        chain=row["chain"],
        input_schema=row["input_schema"],
        prompt_text=prompt,
        prompt=None if prompt is None else parse_template(prompt),
        logo_url=row["logo_url"],
        colour=row["colour"],
        created_at=row["created_at"],
        updated_at=row["changed_at"],
    )


def _with_publisher(row: Record, view: ModelView) -> ModelView:
    upstream: str | None = row["upstream_model"]
    routes = () if upstream is None else (RouteView(f"{ROUTE_PREFIX}{view.id.hex}", upstream, 1, 0),)
    publisher = PublisherView(row["workspace_id"], row["workspace_slug"], row["workspace_name"])
    return replace(view, routes=routes, chain=chain_of(row["chain"]), publisher=publisher)
