"""Slugs: the short name of a workspace in addresses."""

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

from kit.errors import InvalidInput

MAX_SLUG_LENGTH: Final = 63
MAX_DERIVED_LENGTH: Final = 48
_RESERVED_WORDS: Final = (
    "about admin api app assets auth billing blog catalog dashboard demo docs graphql graphiql health healthz help "
    "invite legal login logout mail me metrics new oauth operator plans pricing privacy public readyz root settings "
    "sign-in sign-out sign-up signin signout signup static status stripe support system team teams terms tollgate user "
    "users v1 webhooks workspace workspaces www"
)
RESERVED: Final = frozenset(_RESERVED_WORDS.split())
"""Words that an address of ours means, or might mean one day."""
_FORM: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LETTERS: Final = str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ð": "d", "þ": "th", "ł": "l", "ı": "i"}
)
_COUNTED: Final = 5


def parse_slug(text: str) -> str:
    """The slug a person chose; InvalidInput where it is not one or is a reserved word."""
    slug = unicodedata.normalize("NFKC", text[:1000]).strip().lower()
    if not _FORM.fullmatch(slug):
        raise InvalidInput(
            f"A slug has 1 to {MAX_SLUG_LENGTH} letters a to z, digits and inner hyphens.",
            field=["slug"],
        )
    if slug in RESERVED or slug.startswith("xn--"):
        raise InvalidInput(f"The slug {slug!r} is reserved.", field=["slug"])
    return slug


def derive_slug(name: str) -> str:
    """A slug for any name: Latin letters lose their accents, other scripts leave "workspace"."""
    folded = unicodedata.normalize("NFKD", name.casefold().translate(_LETTERS))
    words = re.sub(
        r"[^a-z0-9]+", "-", "".join(character for character in folded if not unicodedata.combining(character))
    )
    slug = words.strip("-")[:MAX_DERIVED_LENGTH].strip("-")
    return slug if slug and not slug.startswith("xn--") else "workspace"


def candidates(name: str, random_tails: Iterator[str]) -> Iterator[str]:
    """Slugs to try for a name, in order: the plain one unless reserved, then -2 to -5, then random tails."""
    slug = derive_slug(name)
    if slug not in RESERVED:
        yield slug
    for number in range(2, _COUNTED + 1):
        yield f"{slug}-{number}"
    for tail in random_tails:
        yield f"{slug}-{tail}"
