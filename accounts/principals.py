"""From a credential to a Principal, and from a user and a workspace to a role: in memory while warm."""

from ipaddress import ip_network
from typing import Final
from uuid import UUID

from asyncpg import Record

from accounts.access_tokens import AccessTokens
from accounts.bounded_cache import BoundedCache
from accounts.invalidation import Change, ChangeKind, Invalidations
from accounts.key_uses import KeyUses
from accounts.rules import key_form
from accounts.rules.networks import admits
from accounts.rules.roles import ApiScope, Role
from accounts.views import ANONYMOUS, Environment, Principal, PrincipalKind
from kit.clock import now
from kit.errors import Forbidden, Unauthenticated
from models.database import Database, connection

MAX_PRINCIPALS: Final = 50_000
MAX_ROLES: Final = 50_000
MAX_NEGATIVE: Final = 5_000
MAX_CREDENTIAL_LENGTH: Final = 2_048
TTL_S: Final = 30.0
"""While this process hears of revocations."""
DEAF_TTL_S: Final = 2.0
"""While it does not: the bound on how long a revoked credential lives on."""
NEGATIVE_TTL_S: Final = 2.0

_WRONG_KEY: Final = (
    "This API key is unknown, revoked or expired: send one that is live, or make a new one (createApiKey)."
)
"""One text for all three: whether there ever was such a key is not told."""
_OVER: Final = "This session has ended. Sign in again."


class Principals:
    """One per process. On a warm cache it asks neither the database nor Redis."""

    def __init__(
        self, database: Database, tokens: AccessTokens, invalidations: Invalidations, key_uses: KeyUses
    ) -> None:
        """Listens to the invalidations from now on; `invalidations.run` must be running to hear of other processes."""
        self._database = database
        self._tokens = tokens
        self._invalidations = invalidations
        self._key_uses = key_uses
        self._principals: BoundedCache[bytes, Principal] = BoundedCache(MAX_PRINCIPALS)
        self._unknown: BoundedCache[bytes, str] = BoundedCache(MAX_NEGATIVE)
        self._roles: BoundedCache[tuple[UUID, UUID], Role] = BoundedCache(MAX_ROLES)
        self._strangers: BoundedCache[tuple[UUID, UUID], bool] = BoundedCache(MAX_NEGATIVE)
        # Counts invalidations: what was read from the database before one of them may be stale, and is not kept.
        self._epoch = 0
        invalidations.listen(self._forget)

    async def resolve(self, credential: str | None, address: str | None = None) -> Principal:
        """Who the credential (without "Bearer") stands for; ANONYMOUS for none. Unauthenticated, or Forbidden from
        an address that the key does not admit; Unavailable while the database is away and the cache is cold.
        """
        if credential is None:
            return ANONYMOUS
        if len(credential) > MAX_CREDENTIAL_LENGTH or not credential.isascii():
            raise Unauthenticated("This is no credential: send an API key, which begins with tg_, or an access token.")
        digest = key_form.digest_of(credential)
        principal = self._principals.get(digest, self._ttl_s())
        if principal is None:
            refusal = self._unknown.get(digest, NEGATIVE_TTL_S)
            if refusal is not None:
                raise Unauthenticated(refusal)
            principal = await self._load(credential, digest)
        return self._admitted(principal, address)

    def proven(self, credential: str, address: str | None = None) -> Principal | None:
        """What `resolve` answers, or raises, where it would answer from memory: a credential proven lately; else None."""
        if len(credential) > MAX_CREDENTIAL_LENGTH or not credential.isascii():
            return None
        principal = self._principals.get(key_form.digest_of(credential), self._ttl_s())
        return None if principal is None else self._admitted(principal, address)

    def _admitted(self, principal: Principal, address: str | None) -> Principal:
        if principal.expires_at is not None and principal.expires_at <= now():
            raise Unauthenticated(_WRONG_KEY if principal.kind is PrincipalKind.API_KEY else _OVER)
        if principal.networks and not admits(principal.networks, address):
            raise Forbidden("This API key may not be used from this address.")
        if principal.api_key_id is not None:
            self._key_uses.note(principal.api_key_id)
        return principal

    async def role_of(self, user_id: UUID, workspace_id: UUID) -> Role | None:
        """The user's role in a live workspace; None for strangers and workspaces that are not there."""
        pair = (user_id, workspace_id)
        role = self._roles.get(pair, self._ttl_s())
        if role is not None:
            return role
        if self._strangers.get(pair, NEGATIVE_TTL_S):
            return None
        epoch = self._epoch
        async with connection(self._database) as conn:
            found = await conn.fetchval(
                "SELECT m.role FROM members m JOIN workspaces w ON w.id = m.workspace_id"
                " WHERE m.user_id = $1 AND m.workspace_id = $2 AND m.removed_at IS NULL AND w.deleted_at IS NULL",
                user_id,
                workspace_id,
            )
        role = None if found is None else Role(found)
        if epoch == self._epoch:
            if role is None:
                self._strangers.put(pair, True)
            else:
                self._roles.put(pair, role)
        return role

    async def _load(self, credential: str, digest: bytes) -> Principal:
        epoch = self._epoch
        if credential.startswith("tg_"):
            if not key_form.is_key(credential):
                raise Unauthenticated(
                    "This is not a whole Tollgate API key: its checksum does not hold. Copy it again."
                )
            principal, refusal = await self._principal_of_key(digest), _WRONG_KEY
        else:
            principal, refusal = await self._principal_of_token(credential), _OVER
        if principal is None:
            if epoch == self._epoch:
                self._unknown.put(digest, refusal)
            raise Unauthenticated(refusal)
        if epoch == self._epoch:
            self._principals.put(digest, principal)
        return principal

    async def _principal_of_key(self, digest: bytes) -> Principal | None:
        async with connection(self._database) as conn:
            row = await conn.fetchrow(
                "SELECT k.* FROM api_keys k JOIN workspaces w ON w.id = k.workspace_id"
                " WHERE k.digest = $1 AND k.revoked_at IS NULL AND w.deleted_at IS NULL",
                digest,
            )
        return None if row is None else _of_key(row)

    async def of_key_id(self, key_id: UUID) -> Principal | None:
        """What a key that was proven before proves now, for work that it began; None where it has ended."""
        async with connection(self._database) as conn:
            row = await conn.fetchrow(
                "SELECT k.* FROM api_keys k JOIN workspaces w ON w.id = k.workspace_id WHERE k.id = $1"
                " AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > $2) AND w.deleted_at IS NULL",
                key_id,
                now(),
            )
        return None if row is None else _of_key(row)

    async def _principal_of_token(self, token: str) -> Principal | None:
        claims = self._tokens.read(token, now())
        async with connection(self._database) as conn:
            row = await conn.fetchrow(
                "SELECT s.expires_at FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.id = $1 AND s.user_id = $2"
                " AND s.revoked_at IS NULL AND u.erased_at IS NULL",
                claims.session_id,
                claims.user_id,
            )
        if row is None:
            return None
        return Principal(
            kind=PrincipalKind.USER,
            user_id=claims.user_id,
            session_id=claims.session_id,
            expires_at=min(claims.expires_at, row["expires_at"]),
        )

    def _ttl_s(self) -> float:
        return TTL_S if self._invalidations.is_healthy else DEAF_TTL_S

    def _forget(self, change: Change) -> None:
        self._epoch += 1
        match change.kind:
            case ChangeKind.API_KEY:
                self._principals.drop_where(lambda _, principal: principal.api_key_id == change.id)
            case ChangeKind.SESSION:
                self._principals.drop_where(lambda _, principal: principal.session_id == change.id)
            case ChangeKind.USER:
                self._principals.drop_where(lambda _, principal: principal.user_id == change.id)
                self._roles.drop_where(lambda pair, _: pair[0] == change.id)
                self._strangers.drop_where(lambda pair, _: pair[0] == change.id)
            case ChangeKind.ROLE:
                pairs = (change.id, change.workspace_id)
                self._roles.drop_where(lambda pair, _: pair == pairs)
                self._strangers.drop_where(lambda pair, _: pair == pairs)
            case ChangeKind.WORKSPACE:
                self._principals.drop_where(lambda _, principal: principal.workspace_id == change.id)
                self._roles.drop_where(lambda pair, _: pair[1] == change.id)
                self._strangers.drop_where(lambda pair, _: pair[1] == change.id)
            case ChangeKind.EVERYTHING:
                self._principals.clear()
                self._unknown.clear()
                self._roles.clear()
                self._strangers.clear()


def _of_key(row: Record) -> Principal:
    return Principal(
        kind=PrincipalKind.API_KEY,
        api_key_id=row["id"],
        workspace_id=row["workspace_id"],
        scopes=frozenset(ApiScope(scope) for scope in row["scopes"]),
        allowed_models=None if row["models"] is None else frozenset(row["models"]),
        requests_per_hour=row["requests_per_hour"],
        environment=Environment(row["environment"]),
        networks=tuple(ip_network(text) for text in row["addresses"] or ()),
        expires_at=row["expires_at"],
        cache_answers=row["cache_answers"],
    )
