"""All that the server knows: objects by kind, events, what is due when, the answers given under idempotency keys."""

import heapq
import secrets
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import takewhile

import orjson

from stripe_double.clock import Clock
from stripe_double.errors import missing
from stripe_double.values import API_VERSION, LIVEMODE, Json

_EVENTS_KEPT_S = 30 * 86_400
_ID_BYTES = 12
_CALLS_KEPT = 20_000


@dataclass(frozen=True, slots=True)
class Happened:
    """One event with its object as it was then."""

    id: str
    kind: str
    created: int
    account: str | None
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered under an idempotency key, and to what."""

    at: int
    request: str
    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Called:
    """One request of the API and how it ended. `fault`: what was ordered to go wrong with it."""

    at: int
    method: str
    path: str
    key: str | None
    account: str | None
    status: int
    replayed: bool
    fault: str | None


@dataclass
class Asked:
    """The request being answered; events name it."""

    id: str | None = None
    idempotency_key: str | None = None


@dataclass
class World:
    """One Stripe account with its connected accounts. Everything happens in one thread, one request after the other."""

    base_url: str = ""
    """Where its pages are reached; no slash at the end."""
    invoice_delay_s: int = 3600
    """Between a renewal's draft invoice and its finalization; Stripe waits about an hour."""
    clock: Clock = field(default_factory=Clock)
    kinds: dict[str, dict[str, Json]] = field(default_factory=dict[str, dict[str, Json]])
    kind_of: dict[str, str] = field(default_factory=dict[str, str])
    account_of: dict[str, str] = field(default_factory=dict[str, str])
    """The connected account of each object that is not the platform's."""
    notes: dict[str, Json] = field(default_factory=dict[str, Json])
    """What the server knows of an object and never answers: a test card's behaviour, an intent's invoice."""
    events: list[Happened] = field(default_factory=list[Happened])
    delivered: set[str] = field(default_factory=set[str])
    """The events that an endpoint has taken."""
    unsent: list[Happened] = field(default_factory=list[Happened])
    answers: dict[str, Answer] = field(default_factory=dict[str, Answer])
    agenda: list[tuple[int, int, str, str]] = field(default_factory=list[tuple[int, int, str, str]])
    asked: Asked = field(default_factory=Asked)
    calls: deque[Called] = field(default_factory=lambda: deque[Called](maxlen=_CALLS_KEPT))
    sequence: int = 0
    changes: int = 0
    """Requests that may have changed something."""

    @property
    def now(self) -> int:
        """The present second."""
        return self.clock.now()

    def new_id(self, prefix: str) -> str:
        """An id as Stripe's: unique for ever, also after a reset."""
        return f"{prefix}_{secrets.token_hex(_ID_BYTES)}"

    def count(self) -> int:
        """A number that grows."""
        self.sequence += 1
        return self.sequence

    def add(self, made: Json, *, account: str | None = None) -> Json:
        """Keep a new object; it has `object` and `id`."""
        kind, key = made["object"], made["id"]
        self.kinds.setdefault(kind, {})[key] = made
        self.kind_of[key] = kind
        if account is not None:
            self.account_of[key] = account
        return made

    def all(self, kind: str, *, account: str | None = None) -> list[Json]:
        """The objects of a kind, oldest first, of the platform or of one connected account."""
        return [o for o in self.kinds.get(kind, {}).values() if self.account_of.get(o["id"]) == account]

    def find(self, key: str) -> Json | None:
        """Any object by its id."""
        kind = self.kind_of.get(key)
        return self.kinds[kind].get(key) if kind is not None else None

    def get(self, kind: str, key: str, *, account: str | None = None, param: str | None = None) -> Json:
        """One object; ApiError 404, or 400 where `param` names it in the request."""
        found = self.kinds.get(kind, {}).get(key)
        if found is None or self.account_of.get(key) != account:
            word = kind.replace("_", "").replace("checkout.", "checkout.") if kind == "payment_method" else kind
            raise missing(
                {"paymentmethod": "PaymentMethod"}.get(word, word),
                key,
                param=param or "id",
                status=404 if param is None else 400,
            )
        return found

    def forget(self, key: str) -> None:
        """Remove an object."""
        kind = self.kind_of.pop(key)
        self.kinds[kind].pop(key)

    def note(self, key: str) -> Json:
        """What is known of an object beside what is answered."""
        return self.notes.setdefault(key, {})

    def plan(self, at: int, what: str, key: str) -> None:
        """Let `what` happen to the object at an instant (at once where that is past); see due.py."""
        heapq.heappush(self.agenda, (at, self.count(), what, key))

    def emit(self, kind: str, subject: Json, *, previous: Json | None = None, account: str | None = None) -> None:
        """Record an event; its webhooks go out after the request."""
        data: Json = {"object": shown(subject)}
        if previous is not None:
            data["previous_attributes"] = previous
        account = account or self.account_of.get(subject.get("id", ""))
        event: Json = {
            "id": self.new_id("evt"),
            "object": "event",
            "api_version": API_VERSION,
            "created": self.now,
            "data": data,
            "livemode": LIVEMODE,
            "pending_webhooks": 1,
            "request": {"id": self.asked.id, "idempotency_key": self.asked.idempotency_key},
            "type": kind,
        }
        if account is not None:
            event["account"] = account
        happened = Happened(event["id"], kind, event["created"], account, orjson.dumps(event))
        self.events.append(happened)
        self.unsent.append(happened)

    @contextmanager
    def changing(self, subject: Json, event: str | None) -> Generator[Json]:
        """Within the block the object changes; then the event is recorded, if anything did change."""
        before = orjson.loads(orjson.dumps(subject))
        yield subject
        previous = {name: value for name, value in before.items() if subject.get(name) != value}
        previous.update({name: None for name in subject if name not in before})
        if previous and event is not None:
            if "updated" in subject and subject["object"] == "product":
                subject["updated"] = self.now
            self.emit(event, subject, previous=previous)

    @contextmanager
    def tentative(self, customer: Json) -> Generator["Tentative"]:
        """Within the block `undo()` takes back what was added and told; of what was there, the customer's balance."""
        yield Tentative(self, customer)

    def clear(self) -> None:
        """Forget everything; ids stay unique."""
        for kept in (self.kinds, self.kind_of, self.account_of, self.notes, self.answers):
            kept.clear()
        self.delivered.clear()
        for told in (self.events, self.unsent, self.agenda):
            told.clear()
        self.calls.clear()
        self.clock = Clock()

    def forget_old(self) -> None:
        """Events are kept thirty days, as Stripe does."""
        oldest = self.now - _EVENTS_KEPT_S
        while self.events and self.events[0].created < oldest:
            del self.events[: max(1, sum(1 for e in self.events[:1000] if e.created < oldest))]


class Tentative:
    """A mark in the world to which it can go back."""

    def __init__(self, world: World, customer: Json) -> None:
        """Marks the present."""
        self._world = world
        self._customer = customer
        self._customer_before = {
            k: v for k, v in customer.items() if k in {"balance", "currency", "next_invoice_sequence"}
        }
        self._last = next(reversed(world.kind_of), None)
        self._events = len(world.events)
        self._unsent = len(world.unsent)

    def undo(self) -> None:
        """Go back."""
        world = self._world
        for key in list(takewhile(lambda key: key != self._last, reversed(world.kind_of))):
            made = world.find(key)
            world.forget(key)
            listing = self._customer["subscriptions"]["data"]
            if made in listing:
                listing.remove(made)
        del world.events[self._events :]
        del world.unsent[self._unsent :]
        self._customer.update(self._customer_before)


INCLUDABLE: dict[str, frozenset[str]] = {
    "invoice": frozenset({"payments", "confirmation_secret"}),
    "checkout.session": frozenset({"line_items"}),
    "customer": frozenset({"subscriptions", "tax_ids", "sources"}),
    "charge": frozenset({"refunds"}),
}
"""Fields that are answered only where the request expands them."""


def shown(subject: Json) -> Json:
    """An object without the fields that have to be asked for."""
    hidden = INCLUDABLE.get(subject.get("object", ""))
    return {k: v for k, v in subject.items() if k not in hidden} if hidden else subject
