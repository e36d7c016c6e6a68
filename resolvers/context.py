"""What one request carries to its resolvers."""

from dataclasses import dataclass, field
from uuid import UUID

from accounts.rules.roles import Role
from accounts.views import Actor, Principal
from resolvers.loaders import Loaders
from resolvers.services import ResolverServices


@dataclass(slots=True)
class RequestContext:
    """Who asks, from where, and the services that answer. Made by the edge, one for each operation."""

    principal: Principal
    services: ResolverServices
    request_id: str
    address: str | None = None
    user_agent: str | None = None
    loaders: Loaders = field(init=False)
    roles: dict[UUID, Role] = field(init=False)
    """The viewer's roles by workspace, as this request has read them along with the workspaces."""

    def __post_init__(self) -> None:
        """Begins with nothing remembered."""
        self.renew()

    def renew(self) -> None:
        """Forget what was read: after a mutation, and before each event of a subscription."""
        self.loaders = Loaders(self.services, self.principal)
        self.roles = {}

    @property
    def actor(self) -> Actor:
        """The principal as the audit log knows it."""
        return Actor.of(self.principal, address=self.address, request_id=self.request_id, user_agent=self.user_agent)
