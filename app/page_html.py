"""The HTML of the few pages that mails link to: self-contained, without scripts, readable by everyone."""

import base64
import hashlib
from dataclasses import dataclass
from html import escape
from typing import Final

STYLE: Final = (
    "body{margin:0;padding:3rem 1.25rem;font:1.0625rem/1.55 system-ui,sans-serif;color:#1b1d21;background:#fbfbfa}"
    "main{max-width:30rem;margin:0 auto}h1{font-size:1.4rem;margin:0 0 1rem}form{margin:1.5rem 0 0}"
    "label{display:block;margin:0 0 1rem;font-weight:600}"
    "input{display:block;box-sizing:border-box;width:100%;margin:.3rem 0 0;padding:.55rem .7rem;font:inherit;"
    "color:inherit;background:#fff;border:1px solid #8a8f98;border-radius:.4rem}"
    "button{padding:.6rem 1.1rem;font:inherit;font-weight:600;color:#fff;background:#1f4fd8;border:0;"
    "border-radius:.4rem;cursor:pointer}"
    "input:focus-visible,button:focus-visible{outline:3px solid #7aa2ff;outline-offset:1px}"
    ".problem{padding:.7rem .9rem;color:#8c1d18;background:#fdecea;border-radius:.4rem}"
    "h2{font-size:1.1rem;margin:2.5rem 0 0}.note{color:#565b66}"
    "@media(prefers-color-scheme:dark){body{color:#e8e9ec;background:#16181d}input{background:#1e2128;border-color:#6b717d}"
    ".problem{color:#ffd9d6;background:#4a1f1c}.note{color:#a9aeb8}}"
)
_STYLE_DIGEST: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY: Final = f"default-src 'none'; style-src 'sha256-{_STYLE_DIGEST}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
"""The Content-Security-Policy of every page: its own style, forms to ourselves, nothing else."""


@dataclass(frozen=True, slots=True)
class Field:
    """One input of a form. `autocomplete` in HTML's words, so that password programs help."""

    name: str
    label: str
    kind: str = "text"
    autocomplete: str = "off"
    required: bool = True
    minlength: int | None = None


@dataclass(frozen=True, slots=True)
class Form:
    """What a person can send, to the page it stands on. `hidden` travels with it; `title` tells two forms apart."""

    button: str
    fields: tuple[Field, ...] = ()
    hidden: tuple[tuple[str, str], ...] = ()
    title: str | None = None


def page(product: str, title: str, *paragraphs: str, forms: tuple[Form, ...] = (), problem: str | None = None) -> bytes:
    """A whole document; every text is escaped."""
    parts = [f"<p>{escape(text)}</p>" for text in paragraphs]
    if problem is not None:
        parts.insert(0, f'<p class="problem" role="alert">{escape(problem)}</p>')
    parts += [_form(form) for form in forms]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="robots" content="noindex">'
        f"<title>{escape(title)} – {escape(product)}</title><style>{STYLE}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{''.join(parts)}</main></body></html>\n"
    ).encode("utf-8", "replace")


def _form(form: Form) -> str:
    title = "" if form.title is None else f"<h2>{escape(form.title)}</h2>"
    hidden = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' for name, value in form.hidden
    )
    fields = "".join(_field(field) for field in form.fields)
    return f'{title}<form method="post">{hidden}{fields}<button>{escape(form.button)}</button></form>'


def _field(field: Field) -> str:
    required = " required" if field.required else ""
    length = "" if field.minlength is None else f' minlength="{field.minlength}"'
    return (
        f'<label>{escape(field.label)}<input name="{escape(field.name)}" type="{escape(field.kind)}"'
        f' autocomplete="{escape(field.autocomplete)}"{required}{length}></label>'
    )
