"""Who watches what, and how those woken together read together: the process's side of live updates."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from uuid import UUID

from accounts.invalidation import Change, ChangeKind
from metering.live_hub import LiveHub
from metering.views import CallView, WalletView
from resolvers.batches import Turns


class Live:
    """One per process. `wallets` and `calls` read what was watched, for all who ask in one turn in one query."""

    def __init__(
        self,
        hub: LiveHub,
        wallets: Callable[[Sequence[UUID]], Awaitable[Mapping[UUID, WalletView]]],
        calls: Callable[[Sequence[UUID]], Awaitable[Mapping[UUID, CallView]]],
    ) -> None:
        """`wallets` and `calls` answer those of the ids that exist, as they stand now."""
        self.watch = hub.watch
        self.wallets = Turns(wallets)
        self.calls = Turns(calls)
        self._hub = hub

    def hear(self, change: Change) -> None:
        """Let those concerned be asked for their right again."""
        if change.kind is ChangeKind.EVERYTHING:
            self._hub.wake_all()
        else:
            self._hub.wake([key for key in (change.id, change.workspace_id) if key is not None])
