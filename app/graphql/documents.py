"""Documents named instead of sent: the manifest of trusted ones, and automatic persisted queries in Redis."""

import hashlib
import json
import logging
import re
from collections import OrderedDict
from collections.abc import Awaitable
from pathlib import Path
from typing import Final, Protocol

from redis.exceptions import RedisError

from app.graphql.failures import DocumentRefused, refused
from app.graphql.operations import Document, Operations

APQ_TTL_S: Final = 7 * 24 * 3_600
"""From the last time it was stored or asked for in Redis."""
MAX_REMEMBERED: Final = 2_000
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_PREFIX: Final = "sha256:"
logger = logging.getLogger(__name__)


class TextStore(Protocol):
    """What persisted queries need of Redis: redis-py's asyncio client, single or cluster."""

    # redis-py's own signatures are wider: any key, bytes or text answered.
    def getex(self, name: str, ex: int) -> Awaitable[bytes | str | None]:
        """The value, which then lives `ex` seconds more."""
        ...

    def set(self, name: str, value: str, ex: int) -> Awaitable[object]:
        """Keep it for `ex` seconds."""
        ...


class UntrustedManifest(ValueError):
    """The manifest cannot be served: it is no JSON map of digests to valid documents."""


class TrustedDocuments:
    """The manifest's documents, validated once and never evicted."""

    def __init__(self, documents: dict[str, Document]) -> None:
        """By digest in hex."""
        self._documents = documents

    @classmethod
    def load(cls, path: Path | None, operations: Operations) -> "TrustedDocuments":
        """Read the file; UntrustedManifest names every entry that will not do. None: no document is trusted."""
        if path is None:
            return cls({})
        try:
            manifest: object = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UntrustedManifest(f"{path}: {error}") from error
        if not isinstance(manifest, dict):
            raise UntrustedManifest(f"{path}: expected one object of digests and documents")
        documents: dict[str, Document] = {}
        problems: list[str] = []
        for name, text in manifest.items():  # pyright: ignore[reportUnknownVariableType] -- parsed JSON, checked next
            digest = str(name).removeprefix(_PREFIX)  # pyright: ignore[reportUnknownArgumentType] -- as above
            if not isinstance(text, str) or digest_of(text) != digest:
                problems.append(f"{digest[:80]} is not the SHA-256 of its document")
                continue
            try:
                documents[digest] = operations.read(text, hide_suggestions=False, keep=False)
            except DocumentRefused as refusal:
                problems.append(f"{digest[:80]}: {refusal}")
        if problems:
            raise UntrustedManifest(f"{path}: " + "; ".join(problems))
        return cls(documents)

    def by_id(self, document_id: str) -> Document | None:
        """For `documentId: "sha256:…"`."""
        return self._documents.get(document_id.removeprefix(_PREFIX))

    def by_text(self, text: str) -> Document | None:
        """A trusted document sent whole is still a trusted document."""
        return self._documents.get(digest_of(text)) if self._documents else None


class PersistedQueries:
    """Texts by their digest, shared by all processes, to save clients sending them. They are trusted with nothing."""

    def __init__(self, store: TextStore | None) -> None:
        """None: the feature answers that nothing is persisted, and clients send the text."""
        self._store = store
        self._remembered: OrderedDict[str, str] = OrderedDict()

    async def text_of(self, digest: str) -> str | None:
        """The text, if it is known. Without Redis it is not, and the client sends it: nothing fails."""
        known = self._remembered.get(digest)
        if known is not None:
            self._remembered.move_to_end(digest)
            return known
        if self._store is None:
            return None
        try:
            found = await self._store.getex(_key(digest), ex=APQ_TTL_S)
        except (RedisError, OSError) as error:
            logger.warning("persisted queries are away: %s", error)
            return None
        if found is None:
            return None
        text = found.decode("utf-8") if isinstance(found, bytes) else found
        if digest_of(text) != digest:
            return None
        self._remember(digest, text)
        return text

    async def keep(self, digest: str, text: str) -> None:
        """Store a valid document under its digest, which the caller has verified."""
        if digest in self._remembered:
            return
        self._remember(digest, text)
        if self._store is None:
            return
        try:
            await self._store.set(_key(digest), text, ex=APQ_TTL_S)
        except (RedisError, OSError) as error:
            logger.warning("persisted queries are away: %s", error)

    def _remember(self, digest: str, text: str) -> None:
        self._remembered[digest] = text
        while len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)


def persisted_digest(extensions: dict[str, object]) -> str | None:
    """The digest in `extensions.persistedQuery`; DocumentRefused when it has another form than version 1's."""
    wanted = extensions.get("persistedQuery")
    if wanted is None:
        return None
    if isinstance(wanted, dict):
        version: object = wanted.get("version")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        digest: object = wanted.get("sha256Hash")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if version == 1 and isinstance(digest, str) and _HASH.fullmatch(digest):
            return digest
    raise refused("`extensions.persistedQuery` must be {version: 1, sha256Hash: 64 hexadecimal digits}")


def not_found() -> DocumentRefused:
    """As Apollo's clients expect it: they send the text then."""
    return refused("PersistedQueryNotFound", "PERSISTED_QUERY_NOT_FOUND")


def digest_of(text: str) -> str:
    """SHA-256 of the text in UTF-8, in hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _key(digest: str) -> str:
    return f"tollgate:apq:{digest}"
