"""Says what counts as one origin of new workspaces, so that free credits are limited by it."""

import hashlib
import hmac
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

IPV4_BITS: Final = 24
IPV6_BITS: Final = 64
"""How much of an address tells a line or a site; the rest is at its holder's pleasure."""

_CONTEXT: Final = "tollgate free credits 1"
_SECOND_LEVEL: Final = frozenset({"ac", "co", "com", "edu", "gob", "gov", "go", "mil", "ne", "net", "nom", "or", "org"})
"""Below a country's code these are the registry's, as in example.co.uk."""

PUBLIC_DOMAINS: Final = frozenset(
    [
        "126.com",
        "139.com",
        "163.com",
        "aim.com",
        "aol.com",
        "att.net",
        "bigpond.com",
        "bluewin.ch",
        "bol.com.br",
        "btinternet.com",
        "charter.net",
        "comcast.net",
        "cox.net",
        "daum.net",
        "duck.com",
        "earthlink.net",
        "email.cz",
        "fastmail.com",
        "fastmail.fm",
        "foxmail.com",
        "free.fr",
        "freemail.hu",
        "freenet.de",
        "gmail.com",
        "gmx.at",
        "gmx.ch",
        "gmx.com",
        "gmx.de",
        "gmx.net",
        "googlemail.com",
        "hanmail.net",
        "hey.com",
        "hotmail.co.uk",
        "hotmail.com",
        "hotmail.de",
        "hotmail.es",
        "hotmail.fr",
        "hotmail.it",
        "icloud.com",
        "inbox.lv",
        "inbox.ru",
        "interia.pl",
        "kakao.com",
        "laposte.net",
        "libero.it",
        "list.ru",
        "live.co.uk",
        "live.com",
        "live.de",
        "live.fr",
        "live.nl",
        "mac.com",
        "mail.com",
        "mail.de",
        "mail.ee",
        "mail.ru",
        "mailbox.org",
        "me.com",
        "msn.com",
        "naver.com",
        "o2.pl",
        "onet.pl",
        "optonline.net",
        "orange.fr",
        "outlook.com",
        "outlook.de",
        "outlook.es",
        "outlook.fr",
        "pm.me",
        "posteo.de",
        "proton.me",
        "protonmail.com",
        "qq.com",
        "rambler.ru",
        "rediffmail.com",
        "rocketmail.com",
        "sapo.pt",
        "sbcglobal.net",
        "seznam.cz",
        "sfr.fr",
        "shaw.ca",
        "sina.com",
        "sky.com",
        "sohu.com",
        "sympatico.ca",
        "t-online.de",
        "telenet.be",
        "terra.com.br",
        "tiscali.it",
        "tuta.io",
        "tutanota.com",
        "ukr.net",
        "uol.com.br",
        "verizon.net",
        "virgilio.it",
        "wanadoo.fr",
        "web.de",
        "wp.pl",
        "yahoo.ca",
        "yahoo.co.in",
        "yahoo.co.jp",
        "yahoo.co.uk",
        "yahoo.com",
        "yahoo.com.au",
        "yahoo.com.br",
        "yahoo.de",
        "yahoo.es",
        "yahoo.fr",
        "yahoo.in",
        "yahoo.it",
        "yandex.com",
        "yandex.ru",
        "ymail.com",
        "zoho.com",
    ]
)
"""Mail providers whose addresses are anybody's: one domain is not one origin there."""


def address_range(address: str | None) -> str | None:
    """The /24 or /64 that an address lies in; None where there is no address. A mapped IPv4 address counts as such."""
    if address is None:
        return None
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    bits = IPV6_BITS if isinstance(parsed, IPv6Address) else IPV4_BITS
    return str(ip_network((parsed, bits), strict=False))


def counted_domain(email_key: str, public_domains: tuple[str, ...] = ()) -> str | None:
    """The domain that an address's owner has registered; None for a public mail provider's.

    Subdomains count as their parent, as anybody makes as many as they like.
    """
    domain = email_key.rpartition("@")[2].lower()
    labels = domain.split(".")
    kept = 3 if len(labels) > 2 and len(labels[-1]) == 2 and labels[-2] in _SECOND_LEVEL else 2
    registered = ".".join(labels[-kept:])
    public = PUBLIC_DOMAINS | {name.lower() for name in public_domains}
    return None if {domain, registered} & public else registered


def origin_digest(secret_key: bytes, kind: str, text: str) -> bytes:
    """What is kept of an origin: keyed, as addresses and domains are few enough to be guessed."""
    return hmac.new(secret_key, f"{_CONTEXT}\0{kind}\0{text}".encode(), hashlib.sha256).digest()


def fingerprint_digest(secret_key: bytes, fingerprint: str) -> bytes:
    """What `payment_methods.fingerprint_digest` keeps of a payment provider's fingerprint of a card or account."""
    return origin_digest(secret_key, "PAYMENT_FINGERPRINT", fingerprint)
