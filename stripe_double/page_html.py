"""The words of pages: plain HTML without scripts, under a strict content security policy."""

from collections.abc import Iterable, Mapping
from html import escape
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from stripe_double.cards import BY_TOKEN, TestMethod
from stripe_double.values import Json

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { margin: 3rem auto; max-width: 40rem; padding: 0 1rem }
table { border-collapse: collapse; width: 100% }
td, th { border-bottom: 1px solid #8884; padding: .4rem .2rem; text-align: left; vertical-align: top }
td:last-child, th:last-child { text-align: right }
form { margin: .8rem 0 }
td form { display: inline; margin: 0 }
label { display: block; margin: .6rem 0 }
select, input { font: inherit; padding: .3rem; width: 100%; box-sizing: border-box }
button { font: inherit; padding: .4rem 1rem }
.error { border: 1px solid #c33; padding: .5rem 1rem }
.note { opacity: .7 }
"""


def page(title: str, *parts: str, leads_to: Iterable[str | None] = (), status: int = 200) -> Response:
    """A page. `leads_to`: addresses that its forms may end at, which the policy has to name."""
    origins = {
        f"{u.scheme}://{u.netloc}" for u in map(urlsplit, filter(None, leads_to)) if u.scheme in {"http", "https"}
    }
    policy = f"default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self' {' '.join(sorted(origins))}"
    html = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/style.css">'
        f"<body><main><h1>{escape(title)}</h1>{''.join(parts)}</main>"
        '<p class="note">This is a local stand-in for Stripe. No money moves.</p></body></html>'
    )
    headers = {
        "Content-Security-Policy": policy.strip(),
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
    return Response(html, status, headers, media_type="text/html")


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a posted form."""
    return dict(parse_qsl((await request.body()).decode("utf-8", "replace"), keep_blank_values=True))


def from_elsewhere(request: Request) -> bool:
    """Whether another site's page sent this form."""
    origin = request.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != request.headers.get("host")


def see(url: str) -> RedirectResponse:
    """Go there."""
    return RedirectResponse(url, 303)


def money(cents: int, currency: str = "usd") -> str:
    """An amount for people."""
    sign = "-" if cents < 0 else ""
    return (
        f"{sign}${abs(cents) / 100:,.2f}" if currency == "usd" else f"{sign}{abs(cents) / 100:,.2f} {currency.upper()}"
    )


def error(message: str | None) -> str:
    """What went wrong, if anything."""
    return f'<p class="error" role="alert">{escape(message)}</p>' if message else ""


def table(rows: Iterable[tuple[str, str]]) -> str:
    """Two columns, already escaped."""
    return "<table>" + "".join(f"<tr><td>{left}</td><td>{right}</td></tr>" for left, right in rows) + "</table>"


def button(label: str, fields: Mapping[str, str], *, primary: bool = False) -> str:
    """A form with hidden fields and one button."""
    hidden = "".join(f'<input type="hidden" name="{escape(k)}" value="{escape(v)}">' for k, v in fields.items())
    name = ' id="submit"' if primary else ""
    return f'<form method="post">{hidden}<button{name}>{escape(label)}</button></form>'


def card_chooser(saved: list[Json]) -> str:
    """A choice of the customer's methods and of Stripe's test cards."""
    own = "".join(f'<option value="{escape(m["id"])}">{escape(describe(m))}</option>' for m in saved)
    test = "".join(f'<option value="{escape(m.token)}">{escape(_label(m))}</option>' for m in BY_TOKEN.values())
    groups = f'<optgroup label="Saved">{own}</optgroup>' if own else ""
    return f'<label>Payment method<select name="card">{groups}<optgroup label="Test methods">{test}</optgroup></select></label>'


def tax_id_fields() -> str:
    """Kind and number of a tax id."""
    kinds = "".join(f"<option>{kind}</option>" for kind in ("eu_vat", "gb_vat", "us_ein", "ch_vat"))
    return f'<label>Tax id<select name="tax_type">{kinds}</select></label><label>Number<input name="tax_value"></label>'


def describe(method: Json) -> str:
    """A saved method in few words."""
    if method["type"] != "card":
        return str(method["type"])
    card = method["card"]
    return f"{card['brand']} •••• {card['last4']} ({card['funding']}), {card['exp_month']:02d}/{card['exp_year']}"


def _label(method: TestMethod) -> str:
    number = f" {method.number}" if method.kind == "card" else ""
    return f"{method.token.removeprefix('pm_')}{number}"
