"""Which media type an answer has: decided from Accept, and which a body may have, from Content-Type."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

GRAPHQL_RESPONSE: Final = "application/graphql-response+json"
JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"
HTML: Final = "text/html"

MAX_HEADER_LENGTH: Final = 2_000
"""Characters of an Accept or Content-Type that are read; a longer one is not understood."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What the client can read. `json` None: neither of the JSON types; then `events` may still be."""

    json: str | None
    events: bool
    html: bool

    @property
    def legacy(self) -> bool:
        """Whether failures must be told as a client of plain application/json expects them."""
        return self.json != GRAPHQL_RESPONSE


@lru_cache(maxsize=256)
def accepted(accept: str | None) -> Acceptance:
    """Read an Accept header. Of two types wanted alike, application/graphql-response+json wins when it is named;
    wildcards and a missing header mean application/json, as the GraphQL over HTTP specification asks.
    """
    if accept is None or accept == "*/*" or not accept.strip():
        return Acceptance(JSON, events=False, html=False)
    if len(accept) > MAX_HEADER_LENGTH:
        return Acceptance(None, events=False, html=False)
    wanted: dict[str, float] = {}
    for part in accept.split(","):
        media_type, quality = _media_range(part)
        if media_type:
            wanted[media_type] = max(quality, wanted.get(media_type, 0.0))
    anything = wanted.get("application/*", wanted.get("*/*", 0.0))
    as_graphql, as_json = wanted.get(GRAPHQL_RESPONSE, 0.0), wanted.get(JSON, anything)
    json: str | None = None
    if as_graphql > 0 and as_graphql >= as_json:
        json = GRAPHQL_RESPONSE
    elif as_json > 0:
        json = JSON
    elif as_graphql > 0 or (anything > 0 and GRAPHQL_RESPONSE not in wanted):
        json = GRAPHQL_RESPONSE
    return Acceptance(json, events=wanted.get(EVENTS, 0.0) > 0, html=wanted.get(HTML, 0.0) > 0)


@lru_cache(maxsize=256)
def is_json_body(content_type: str | None) -> bool:
    """Whether a body is application/json in UTF-8. Anything a browser would send from another site without asking
    first (forms, text/plain) is not, which is what keeps requests from being forged.
    """
    if content_type is None or len(content_type) > MAX_HEADER_LENGTH:
        return False
    media_type, _, rest = content_type.partition(";")
    if media_type.strip().lower() != JSON:
        return False
    for parameter in rest.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in {"utf-8", "utf8"}:
            return False
    return True


def _media_range(part: str) -> tuple[str, float]:
    """The type in lower case and its quality; 0 for one in another charset than UTF-8."""
    media_type, *parameters = part.split(";")
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        name, value = name.strip().lower(), value.strip().strip('"').lower()
        if name == "q":
            quality = _quality(value)
        elif name == "charset" and value not in {"utf-8", "utf8"}:
            return media_type.strip().lower(), 0.0
    return media_type.strip().lower(), quality


def _quality(text: str) -> float:
    try:
        quality = float(text)
    except ValueError:
        return 0.0
    return quality if 0.0 <= quality <= 1.0 else 0.0
