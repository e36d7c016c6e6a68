"""The HTML of a published model's page: what it is, what it costs, a form of its input, and the answer of a try."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from html import escape
from typing import Final
from urllib.parse import urlsplit

from app.page_html import STYLE
from billing.published import Published
from billing.rules.catalog_words import conditions_words
from billing.rules.input_schema import InputField, fields_of
from billing.rules.publishing import is_logo
from billing.views import MeterPriceView
from kit.money import format_micro, usd_text
from models.enums import Meter, Modality, Visibility

LONG_TEXT: Final = 120
"""A text that may be longer than this gets an area instead of a line."""
_MORE_STYLE: Final = (
    "main{max-width:40rem}header img{max-height:4rem;max-width:100%;margin:0 0 1rem}"
    "textarea,select{display:block;box-sizing:border-box;width:100%;margin:.3rem 0 0;padding:.55rem .7rem;font:inherit;"
    "color:inherit;background:#fff;border:1px solid #8a8f98;border-radius:.4rem}textarea{min-height:7rem}"
    'input[type="checkbox"]{display:inline-block;width:auto;margin:0 .5rem 0 0}small{display:block;font-weight:400}'
    "table{border-collapse:collapse;width:100%}td,th{padding:.4rem .6rem;text-align:left;border-bottom:1px solid #d5d8dd}"
    "pre{white-space:pre-wrap;overflow-wrap:anywhere;padding:.9rem 1rem;border:1px solid #d5d8dd;border-radius:.4rem}"
    "pre img,.answer img{max-width:100%}"
    "@media(prefers-color-scheme:dark){textarea,select{background:#1e2128;border-color:#6b717d}td,th,pre{border-color:#3a3f49}}"
)
_COLOUR: Final = re.compile(r"#[0-9a-fA-F]{6}")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/=]+")
_METERS: Final[Mapping[Meter, str]] = {
    Meter.INPUT_TOKENS: "input tokens",
    Meter.CACHED_INPUT_TOKENS: "cached input tokens",
    Meter.CACHE_WRITE_INPUT_TOKENS: "input tokens written to a cache",
    Meter.LONG_CACHE_WRITE_INPUT_TOKENS: "input tokens written to a cache for longer",
    Meter.OUTPUT_TOKENS: "output tokens",
    Meter.REASONING_TOKENS: "reasoning tokens",
    Meter.REQUESTS: "calls",
    Meter.IMAGES: "pictures",
    Meter.SECONDS: "seconds",
    Meter.CHARACTERS: "characters",
}
PLAIN_FIELD: Final = InputField("prompt", "string", "Prompt", "", True, None, None, 1, 20_000)
"""The form of a model that states no input schema."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a try gave, and what it cost."""

    texts: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    charged: str = ""


@dataclass(frozen=True, slots=True)
class Visit:
    """Who looks, and what was typed. `csrf` and `workspaces` (slug, name) are set for a signed-in visitor.

    `not_served`: why the model cannot be called now; then there is no form to try it.
    """

    once: str
    csrf: str | None = None
    workspaces: tuple[tuple[str, str], ...] = ()
    typed: Mapping[str, str] = field(default_factory=dict[str, str])
    problem: str | None = None
    answer: Answer | None = None
    not_served: str | None = None


@dataclass(frozen=True, slots=True)
class ModelPage:
    """A page and its Content-Security-Policy."""

    html: bytes
    policy: str


def input_fields(published: Published) -> tuple[InputField, ...]:
    """The fields of the model's form."""
    return (PLAIN_FIELD,) if published.input_schema is None else fields_of(published.input_schema)


def model_page(
    product: str, published: Published, visit: Visit, *, branded: bool, credits_per_usd: Decimal
) -> ModelPage:
    """The page. `branded`: its publisher's plan lets it show its logo and colour (B15)."""
    colour = published.colour if branded and published.colour and _COLOUR.fullmatch(published.colour) else None
    logo = published.logo_url if branded and published.logo_url and is_logo(published.logo_url) else None
    style = STYLE + _MORE_STYLE + (f"button{{background:{colour}}}h1{{color:{colour}}}" if colour else "")
    model, publisher = published.model, published.model.publisher
    assert publisher is not None, "a published model has one"
    robots = (
        ""
        if published.visibility is Visibility.PUBLIC and visit.not_served is None
        else '<meta name="robots" content="noindex">'
    )
    image = (
        ""
        if logo is None
        else f'<img src="{escape(logo)}" alt="{escape(publisher.name)}" referrerpolicy="no-referrer">'
    )
    description = "".join(f"<p>{escape(text)}</p>" for text in (model.description or "").split("\n") if text.strip())
    problem = "" if visit.problem is None else f'<p class="problem" role="alert">{escape(visit.problem)}</p>'
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1">{robots}'
        f"<title>{escape(model.name)} – {escape(product)}</title><style>{style}</style></head><body><main>"
        f"<header>{image}<h1>{escape(model.name)}</h1>"
        f'<p class="note">by {escape(publisher.name)} · <code>{escape(published.slug)}</code></p></header>'
        f"{description}{_prices(published, credits_per_usd)}{problem}{_answer(visit.answer)}{_trying(published, visit)}"
        f"{_session_form(visit)}</main></body></html>\n"
    ).encode("utf-8", "replace")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    images = "data:" if logo is None else f"data: {_origin(logo)}"
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src {images}; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )
    return ModelPage(html, policy)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _prices(published: Published, credits_per_usd: Decimal) -> str:
    more = (
        "" if published.chain is None else '<p class="note">It runs other models, whose use costs their own prices.</p>'
    )
    texts = price_texts(published.model.prices, credits_per_usd)
    if not texts:
        return f"<h2>Price</h2><p>{'Free.' if published.chain is None else 'No price of its own.'}</p>{more}"
    rows = "".join(f"<tr><td>{cost}</td><td>{escape(units)}</td></tr>" for cost, units in texts)
    return f"<h2>Price</h2><table>{rows}</table>{more}"


def price_texts(prices: Sequence[MeterPriceView], credits_per_usd: Decimal) -> list[tuple[str, str]]:
    """What each meter that costs anything costs, for how much of it and of which requests, those of most conditions first.

    Its publisher's words are among them.
    """
    costing = dict.fromkeys(price.meter for price in prices if price.credits_micro)
    varying = {price.meter for price in prices if price.when}
    return [
        _price_text(price, credits_per_usd, otherwise=price.meter in varying and not price.when)
        for meter in costing
        for price in sorted((each for each in prices if each.meter is meter), key=lambda each: -len(each.when))
    ]


def _price_text(price: MeterPriceView, credits_per_usd: Decimal, *, otherwise: bool) -> tuple[str, str]:
    cost = f"{format_micro(price.credits_micro)} credits (${usd_text(price.credits_micro, credits_per_usd)})"
    where = f" where {conditions_words(price.when)}" if price.when else " otherwise" if otherwise else ""
    return cost, f"for {'' if price.per == 1 else f'{price.per:,} '}{_METERS[price.meter]}{where}"


def _answer(answer: Answer | None) -> str:
    if answer is None:
        return ""
    parts = [f"<pre>{escape(text)}</pre>" for text in answer.texts]
    parts += [
        f'<p><img src="data:image/png;base64,{data}" alt="The picture"></p>'
        for data in answer.pictures
        if _BASE64.fullmatch(data)
    ]
    parts += [
        f'<p><a href="{escape(url)}" rel="noopener noreferrer nofollow">The picture</a></p>'
        for url in answer.links
        if url.startswith("https://")
    ]
    return (
        f'<section class="answer"><h2>Answer</h2>{"".join(parts)}<p class="note">{escape(answer.charged)}</p></section>'
    )


def _trying(published: Published, visit: Visit) -> str:
    if visit.not_served is None:
        return _form(published, visit)
    return f'<p class="problem">Not available now: {escape(visit.not_served)}.</p>'


def _form(published: Published, visit: Visit) -> str:
    fields = "".join(_field(each, visit.typed) for each in input_fields(published))
    if visit.csrf is None:
        payer = (
            '<label>API key<input name="key" type="password" autocomplete="off" required>'
            "<small>It pays for the call, and is not kept.</small></label>"
        )
    else:
        options = "".join(f'<option value="{escape(slug)}">{escape(name)}</option>' for slug, name in visit.workspaces)
        payer = (
            f'<label>Workspace that pays<select name="workspace">{options}</select></label>'
            f'<input type="hidden" name="csrf" value="{escape(visit.csrf)}">'
        )
    verb = "Make it" if published.model.modality is Modality.IMAGE else "Run it"
    return (
        f'<h2>Try it</h2><form method="post"><input type="hidden" name="do" value="try">'
        f'<input type="hidden" name="once" value="{escape(visit.once)}">{fields}{payer}<button>{verb}</button></form>'
    )


def _session_form(visit: Visit) -> str:
    if visit.csrf is not None:
        return (
            '<form method="post"><input type="hidden" name="do" value="sign-out">'
            f'<input type="hidden" name="csrf" value="{escape(visit.csrf)}"><button>Sign out</button></form>'
        )
    return (
        '<h2>Or sign in</h2><form method="post"><input type="hidden" name="do" value="sign-in">'
        '<label>E-mail address<input name="email" type="email" autocomplete="username" required></label>'
        '<label>Password<input name="password" type="password" autocomplete="current-password" required></label>'
        '<label>Two-factor code, if you use one<input name="code" autocomplete="one-time-code"></label>'
        "<button>Sign in</button></form>"
    )


def _field(each: InputField, typed: Mapping[str, str]) -> str:
    name = f"in.{each.name}"
    value = typed.get(name, "" if each.default is None else _text(each.default))
    required = " required" if each.required else ""
    hint = f"<small>{escape(each.description)}</small>" if each.description else ""
    if each.kind == "boolean":
        checked = " checked" if value == "true" else ""
        control = f'<input type="checkbox" name="{escape(name)}" value="true"{checked}>'
        return f"<label>{control}{escape(each.title)}{hint}</label>"
    if each.choices is not None:
        control = _choices(each, each.choices, name, value)
    elif each.kind == "string":
        bounds = _bound("minlength", each.least) + _bound("maxlength", each.most)
        if each.most is None or each.most > LONG_TEXT:
            control = f'<textarea name="{escape(name)}"{bounds}{required}>\n{escape(value)}</textarea>'
        else:
            control = f'<input type="text" name="{escape(name)}" value="{escape(value)}"{bounds}{required}>'
    else:
        bounds = _bound("min", each.least) + _bound("max", each.most)
        grain = "1" if each.kind == "integer" else "any"
        control = (
            f'<input type="number" step="{grain}" name="{escape(name)}" value="{escape(value)}"{bounds}{required}>'
        )
    return f"<label>{escape(each.title)}{control}{hint}</label>"


def _choices(each: InputField, choices: Sequence[object], name: str, value: str) -> str:
    empty = "" if each.required else '<option value=""></option>'
    options = "".join(
        f'<option value="{escape(text)}"{" selected" if text == value else ""}>{escape(text)}</option>'
        for text in map(_text, choices)
    )
    return f'<select name="{escape(name)}"{" required" if each.required else ""}>{empty}{options}</select>'


def _bound(name: str, value: float | None) -> str:
    return "" if value is None else f' {name}="{value:g}"' if value != int(value) else f' {name}="{int(value)}"'


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
