"""From a request's headers to the principal behind it, and the address it came from.

A credential not yet proven costs a token of its address's bucket before the database is asked, so that guessing keys
is slow and cannot load the database; a proven one is cached and costs nothing here.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from accounts.principals import Principals
from accounts.views import ANONYMOUS, Principal
from app.asgi import Scope, header, header_lines
from app.throttle import Throttle
from kit.errors import Unauthenticated

Network = IPv4Network | IPv6Network


class Credentials:
    """Reads `Authorization: Bearer …` (an API key or an access token) and, for REST, `x-api-key`."""

    def __init__(self, principals: Principals, throttle: Throttle, trusted_proxies: Sequence[Network]) -> None:
        """`trusted_proxies`: networks whose X-Forwarded-For is believed."""
        self._principals = principals
        self._throttle = throttle
        self._trusted = tuple(trusted_proxies)

    async def principal_of(self, scope: Scope) -> Principal:
        """The principal; ANONYMOUS without a credential, Unauthenticated with a wrong one."""
        given = header(scope, b"authorization")
        if given is None:
            return ANONYMOUS
        return await self.principal_of_text(given, self.address_of(scope))

    async def principal_of_text(self, authorization: str, address: str) -> Principal:
        """The same for an Authorization value that came another way, such as in connection_init."""
        kind, _, token = authorization.partition(" ")
        token = token.strip()
        if kind.lower() != "bearer" or not token:
            raise Unauthenticated("the Authorization header must read: Bearer, a blank, and an API key or access token")
        principal = self._principals.proven(token, address)
        if principal is not None:
            return principal
        await self._throttle.take_address(address)
        return await self._principals.resolve(token, address)

    async def of_api_key(self, scope: Scope) -> Principal:
        """The principal of an API key, which the REST paths need; `x-api-key` holds one as well (Anthropic's SDKs)."""
        given = header(scope, b"authorization")
        if given is None:
            key = header(scope, b"x-api-key")
            given = None if key is None else f"Bearer {key}"
        principal = ANONYMOUS if given is None else await self.principal_of_text(given, self.address_of(scope))
        if principal.api_key_id is None:
            raise Unauthenticated("this path needs an API key: Authorization: Bearer tg_…, or x-api-key: tg_…")
        return principal

    def address_of(self, scope: Scope) -> str:
        """The client's address: the peer's, or the last untrusted one of X-Forwarded-For behind trusted proxies.

        All its lines count: some proxies add one of their own after what the client sent.
        """
        client = scope.get("client")
        peer: str = client[0] if client else "unknown"
        if not self._trusted or not self._is_trusted(peer):
            return peer
        forwarded = header_lines(scope, b"x-forwarded-for")
        if forwarded is None:
            return peer
        for hop in reversed([part.strip() for part in forwarded.split(",")][-32:]):
            parsed = _parse(hop)
            if parsed is None:
                return peer
            if not any(parsed in network for network in self._trusted):
                return str(parsed)
        return peer

    def _is_trusted(self, text: str) -> bool:
        parsed = _parse(text)
        return parsed is not None and any(parsed in network for network in self._trusted)


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
