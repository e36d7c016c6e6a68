"""Who asks the GraphQL edge, and what the edge is told about its ways: the types its parts share."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from uuid import UUID

from accounts.views import Principal
from app.asgi import Scope
from app.graphql.document_mode import DocumentMode
from app.graphql.limits import DocumentLimits


@dataclass(frozen=True, slots=True)
class EdgeSettings:
    """What an operator decides about the edge. `trusted_documents`: a JSON file {"sha256 in hex": "document"}."""

    graphiql: bool = True
    introspection: bool = True
    allowed_origins: tuple[str, ...] = ()
    """Origins besides the server's own whose pages may ask; their scheme, host and port, or `*`."""
    trusted_documents: Path | None = None
    document_mode: DocumentMode = DocumentMode.ANY
    trusted_only_keys: frozenset[UUID] = frozenset()
    """API keys that may run documents of the manifest only, such as one built into an app."""
    limits: DocumentLimits = field(default_factory=DocumentLimits)
    max_cost: int = 2_000
    """Points of one operation."""
    points: int = 20_000
    points_per_hour: int = 360_000
    stranger_points: int = 4_000
    stranger_points_per_hour: int = 36_000
    documents: int = 300
    """New documents at once; known ones are free."""
    documents_per_hour: int = 3_600
    stranger_documents: int = 60
    stranger_documents_per_hour: int = 600
    max_body_bytes: int = 8 * 1024 * 1024
    """Room for a few pictures in a model call."""
    stranger_max_body_bytes: int = 256 * 1024
    query_timeout_s: float = 30.0
    init_timeout_s: float = 10.0
    """From opening a socket to connection_init."""
    heartbeat_s: float = 15.0
    recheck_s: float = 1.0
    """How often the credential of an open socket or stream is looked at again."""
    operations_per_socket: int = 20
    sockets: int = 5_000
    sockets_per_address: int = 100


class CredentialReader(Protocol):
    """From what a client shows to who it is: app.credentials.Credentials."""

    async def principal_of(self, scope: Scope) -> Principal:
        """ANONYMOUS without a credential, a RequestFailure with a wrong one."""
        ...

    async def principal_of_text(self, authorization: str, address: str) -> Principal:
        """The same for an Authorization value that came another way."""
        ...

    def address_of(self, scope: Scope) -> str:
        """The client's address."""
        ...


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, in one request."""

    principal: Principal
    request_id: str
    address: str

    @property
    def is_stranger(self) -> bool:
        """No credential was shown."""
        return self.principal.is_anonymous


MakeContext = Callable[[Principal, str, str], object]
"""The resolvers' context for a principal, a request id and an address."""
