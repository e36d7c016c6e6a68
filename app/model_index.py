"""The page of all public models, `/m/`: what workspaces publish for everybody, each with a link to its own page."""

from decimal import Decimal
from html import escape
from typing import Final
from urllib.parse import parse_qs, quote

from app.asgi import Headers, Scope, Send, request_id_of, send_bytes
from app.credentials import Credentials
from app.model_page_html import price_texts
from app.page_html import POLICY, STYLE, page
from app.throttle import Throttle
from billing.catalog import CatalogHolder
from billing.published import Published, PublishedModels
from kit.errors import RateLimited, Refusal, RequestFailure
from kit.pages import Page, PageRequest

PATHS: Final = frozenset({"/m", "/m/"})
MODELS_A_PAGE: Final = 50
LONGEST_DESCRIPTION: Final = 200
"""Characters of a description; the model's own page has all of it."""


class ModelIndex:
    """The ASGI application of PATHS."""

    def __init__(
        self,
        product_name: str,
        credentials: Credentials,
        throttle: Throttle,
        published: PublishedModels,
        catalog: CatalogHolder,
    ) -> None:
        """The parts of one process."""
        self._product_name = product_name
        self._credentials = credentials
        self._throttle = throttle
        self._published = published
        self._catalog = catalog

    async def __call__(self, scope: Scope, send: Send) -> None:
        """Answers one request with a page; whoever asks is shown the same."""
        headers: Headers = [
            (b"content-security-policy", POLICY.encode("ascii")),
            (b"referrer-policy", b"no-referrer"),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
            (b"x-frame-options", b"DENY"),
            (b"x-request-id", request_id_of(scope).encode("ascii")),
        ]
        if scope["method"] not in {"GET", "HEAD"}:
            await self._plain(send, 405, "This page is read with GET.", [*headers, (b"allow", b"GET, HEAD")])
            return
        try:
            await self._throttle.take_address(self._credentials.address_of(scope))  # each page asks the database
            after = parse_qs(scope["query_string"].decode("latin-1")[:1_000]).get("after", [""])[0]
            shown = await self._published.page_of_public(PageRequest(MODELS_A_PAGE, after or None))
        except Refusal as refusal:
            await self._plain(send, 404, refusal.message, headers)
        except RequestFailure as failure:
            if isinstance(failure, RateLimited):
                headers.append((b"retry-after", str(failure.retry_after_s).encode("ascii")))
            await self._plain(send, failure.http_status, failure.message, headers)
        else:
            html = index_html(self._product_name, shown, self._catalog.current.credits_per_usd)
            await send_bytes(send, 200, html, b"text/html; charset=utf-8", headers)

    async def _plain(self, send: Send, status: int, message: str, headers: Headers) -> None:
        html = page(self._product_name, "Not here", message)
        await send_bytes(send, status, html, b"text/html; charset=utf-8", headers)


def index_html(product: str, shown: Page[Published], credits_per_usd: Decimal) -> bytes:
    """A page of models, and the way to the next; every text is escaped."""
    models = "".join(_entry(found, credits_per_usd) for found in shown.items)
    first = '<p><a href="/m/">To the newest</a></p>' if shown.has_previous else ""
    more = f'<p><a href="/m/?after={quote(shown.cursors[-1])}">More models</a></p>' if shown.has_next else ""
    nothing = "" if shown.items else "<p>There are none here.</p>"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Models – {escape(product)}</title><style>{STYLE}</style></head>"
        f"<body><main><h1>Models</h1>{models}{nothing}{more}{first}</main></body></html>\n"
    ).encode("utf-8", "replace")


def _entry(found: Published, credits_per_usd: Decimal) -> str:
    publisher = found.model.publisher
    assert publisher is not None, "a published model has one"
    description = " ".join((found.model.description or "").split())
    if len(description) > LONGEST_DESCRIPTION:
        description = f"{description[:LONGEST_DESCRIPTION]}…"
    told = f"<p>{escape(description)}</p>" if description else ""
    return (
        f'<article><h2><a href="/m/{escape(found.slug)}">{escape(found.model.name)}</a></h2>'
        f'<p class="note">by {escape(publisher.name)} · <code>{escape(found.slug)}</code></p>{told}'
        f"<p>{escape(_prices(found, credits_per_usd))}</p></article>"
    )


def _prices(found: Published, credits_per_usd: Decimal) -> str:
    texts = [" ".join(each) for each in price_texts(found.model.prices, credits_per_usd)]
    if found.chain is not None:
        texts = [*texts, "the models it runs at their own prices"]
    return "; ".join(texts) if texts else "Free"
