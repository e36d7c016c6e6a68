"""A visitor signed in on the pages of published models: one short access token in a cookie, and proof that a form is ours.

The cookie goes to these pages only, is read by no script, is sent by no other site, and ends with the access token; the
session is ended by signing out. A form that spends a session's credits carries a token made of it, too.
"""

import hashlib
import hmac
from datetime import datetime
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import urlsplit

from app.asgi import Scope, header
from kit.errors import Forbidden
from kit.sealing import Sealer

COOKIE: Final = "tollgate_page"
PATH: Final = "/m/"
_MAX_COOKIE: Final = 8_192


def token_in_cookie(scope: Scope) -> str | None:
    """The access token that the visitor's cookie holds."""
    text = header(scope, b"cookie")
    if text is None or len(text) > _MAX_COOKIE:
        return None
    try:
        found = SimpleCookie(text).get(COOKIE)
    except CookieError:
        return None
    return None if found is None or not found.value.isascii() else found.value


def cookie_of(token: str, expires_at: datetime, at: datetime, *, secure: bool) -> bytes:
    """Set-Cookie for an access token, as long as it lives."""
    life_s = max(0, int((expires_at - at).total_seconds()))
    return _cookie(token, life_s, secure=secure)


def no_cookie(*, secure: bool) -> bytes:
    """Set-Cookie that forgets it."""
    return _cookie("", 0, secure=secure)


def form_token(sealer: Sealer, access_token: str, path: str) -> str:
    """What a form of this session on this page carries."""
    key = sealer.derive("page-forms")
    return hmac.new(key, f"{path}|{access_token}".encode("ascii", "replace"), hashlib.sha256).hexdigest()


def is_form_token(sealer: Sealer, access_token: str, path: str, given: str) -> bool:
    """Whether the form is of this session and page."""
    return hmac.compare_digest(form_token(sealer, access_token, path).encode(), given.encode("utf-8", "replace"))


def check_same_site(scope: Scope, public_url: str) -> None:
    """Forbidden for a form that another site has sent; browsers say so themselves."""
    fetch_site = header(scope, b"sec-fetch-site")
    if fetch_site is not None and fetch_site not in {"same-origin", "none"}:
        raise Forbidden("this form was sent from another site")
    origin = header(scope, b"origin")
    if origin is not None and urlsplit(origin).netloc not in {urlsplit(public_url).netloc, header(scope, b"host")}:
        raise Forbidden("this form was sent from another site")


def _cookie(value: str, life_s: int, *, secure: bool) -> bytes:
    flags = "; Secure" if secure else ""
    return f"{COOKIE}={value}; Path={PATH}; Max-Age={life_s}; HttpOnly; SameSite=Strict{flags}".encode("ascii")
