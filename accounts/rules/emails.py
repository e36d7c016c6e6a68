"""E-mail addresses: the form to send to, and the key by which two spellings are one account."""

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

import idna

from kit.errors import InvalidInput

MAX_LENGTH: Final = 254
MAX_LOCAL_LENGTH: Final = 64
_LOCAL: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_MIXABLE: Final = (
    frozenset({"CJK", "HIRAGANA", "KATAKANA", "LATIN"}),
    frozenset({"CJK", "HANGUL", "LATIN"}),
)


@dataclass(frozen=True, slots=True)
class EmailAddress:
    """`text` is sent to and shown, `key` is compared: folded case, and the domain in its ASCII form."""

    text: str
    key: str


def parse_email(text: str, *, field: str = "email") -> EmailAddress:
    """The address in a text; InvalidInput where it is none that mail can be sent to.

    The local part is ASCII after NFKC (not every relay speaks SMTPUTF8, and so no homograph passes); an international
    domain is kept in punycode, so a look-alike is another key and looks like another, and a label of mixed scripts
    is refused. Dots and +tags are left alone: they mean different mailboxes at most providers.
    """
    if len(text) > 4 * MAX_LENGTH:
        raise InvalidInput(f"An e-mail address may have at most {MAX_LENGTH} characters.", field=[field])
    plain = unicodedata.normalize("NFKC", text).strip()
    local, at, domain = plain.rpartition("@")
    if not at or not _LOCAL.fullmatch(local) or len(local) > MAX_LOCAL_LENGTH:
        raise InvalidInput("This is not an e-mail address that mail can be sent to.", field=[field])
    ascii_domain = _ascii_domain(domain, field)
    address = f"{local}@{ascii_domain}"
    if len(address) > MAX_LENGTH:
        raise InvalidInput(f"An e-mail address may have at most {MAX_LENGTH} characters.", field=[field])
    return EmailAddress(text=address, key=f"{local.casefold()}@{ascii_domain}")


def masked(address: str) -> str:
    """The address as a screen may show it to someone who need not know it: j…@example.com."""
    local, _, domain = address.rpartition("@")
    return f"{local[:1]}…@{domain}"


def _ascii_domain(domain: str, field: str) -> str:
    refused = InvalidInput("This domain is not one that mail can be sent to.", field=[field])
    for label in domain.split("."):
        if _mixes_scripts(label):
            raise refused
    try:
        ascii_domain = idna.encode(domain.lower(), uts46=True).decode() if not domain.isascii() else domain.lower()
    except (idna.IDNAError, UnicodeError) as error:
        raise refused from error
    labels = ascii_domain.split(".")
    if len(labels) < 2 or labels[-1].isdigit() or len(ascii_domain) > 253:
        raise refused
    for label in labels:
        if not _LABEL.fullmatch(label):
            raise refused
        if label.startswith("xn--"):
            _check_punycode(label, refused)
    return ascii_domain


def _check_punycode(label: str, refused: InvalidInput) -> None:
    try:
        shown = idna.decode(label)
    except (idna.IDNAError, UnicodeError) as error:
        raise refused from error
    if _mixes_scripts(shown):
        raise refused


def _mixes_scripts(label: str) -> bool:
    scripts = {
        unicodedata.name(character, "UNKNOWN").split()[0].split("-")[0] for character in label if character.isalpha()
    }
    return len(scripts) > 1 and not any(scripts <= allowed for allowed in _MIXABLE)
