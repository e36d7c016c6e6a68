"""Delivers events to endpoints, signed as Stripe signs; may drop, repeat, shuffle and delay them when told to."""

import asyncio
import contextlib
import hashlib
import hmac
import random
import time
from dataclasses import asdict, dataclass, field

import aiohttp

from stripe_double.errors import invalid
from stripe_double.values import Json, part
from stripe_double.world import Happened, World

_TIMEOUT_S = 30.0
_RETRY_AFTER_S = (0.2, 1.0, 5.0, 30.0)


@dataclass
class Policy:
    """How deliveries go wrong. `drop` and `repeat` are shares from 0 to 1."""

    drop: float = 0.0
    repeat: float = 0.0
    shuffle: bool = False
    delay_ms: int = 0
    """Each delivery waits for a random time up to this."""
    seed: int | None = None
    paused: bool = False
    """Keep events until a flush."""
    retries: int = len(_RETRY_AFTER_S)


@dataclass
class Target:
    """Where events go."""

    url: str
    secret: str
    events: list[str] = field(default_factory=lambda: ["*"])
    key: str | None = None
    """The id of the webhook endpoint object, where one was made over the API."""

    def takes(self, happened: Happened) -> bool:
        """Whether this kind of event was asked for."""
        return "*" in self.events or happened.kind in self.events


@dataclass
class Counts:
    """What became of deliveries since the last reset."""

    delivered: int = 0
    repeated: int = 0
    dropped: int = 0
    failed: int = 0


@dataclass
class Deliveries:
    """Queue and policy; everything runs in the server's event loop."""

    world: World
    targets: list[Target] = field(default_factory=list[Target])
    policy: Policy = field(default_factory=Policy)
    counts: Counts = field(default_factory=Counts)
    _waiting: list[tuple[Target, Happened]] = field(default_factory=list[tuple[Target, Happened]])
    _running: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])
    _random: random.Random = field(default_factory=random.Random)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _session: aiohttp.ClientSession | None = None

    def configure(self, wanted: Json) -> None:
        """Set endpoint and policy from the control endpoint's words; those not named stay as they are."""
        if "url" in wanted:
            self.targets = [t for t in self.targets if t.key is not None]
            if wanted["url"]:
                events = wanted.get("events") or ["*"]
                self.targets.append(Target(str(wanted["url"]), str(wanted.get("secret", "")), list(events)))
        policy: Json = part(wanted, "policy")
        for name, value in policy.items():
            if not hasattr(self.policy, name):
                raise invalid(f"Unknown policy: {name}", param=name)
            setattr(self.policy, name, value)
        if "seed" in policy:
            self._random = random.Random(self.policy.seed)  # noqa: S311 - a repeatable disorder, no secret

    def pump(self) -> None:
        """Take what happened since the last time; without a pause send it on its way."""
        for happened in self.world.unsent:
            for target in self.targets:
                if target.takes(happened):
                    self._waiting.append((target, happened))
        self.world.unsent.clear()
        if self._waiting and not self.policy.paused:
            self._send(self._batch())

    async def flush(self, order: list[str] | None = None) -> Json:
        """Send what waits, also in a pause, and wait until nothing is on its way.

        `order`: send exactly these events, in this order and as often as they are named; what else waits goes on waiting.
        ApiError 400 where one is unknown.
        """
        self.pump()
        if order is not None:
            self._spawn(self._ordered(order), 0.0)
        elif self._waiting:
            self._send(self._batch())
        while self._running:
            await asyncio.gather(*self._running, return_exceptions=True)
        return self.state()

    def _ordered(self, order: list[str]) -> list[tuple[Target, Happened]]:
        known = {happened.id: happened for happened in self.world.events}
        for key in order:
            if key not in known:
                raise invalid(f"No such event: '{key}'", param="order")
        self._waiting = [delivery for delivery in self._waiting if delivery[1].id not in order]
        return [(target, known[key]) for key in order for target in self.targets if target.takes(known[key])]

    def state(self) -> Json:
        """Counts, policy, targets, and what waits."""
        return {
            **asdict(self.counts),
            "waiting": [{"id": happened.id, "type": happened.kind} for _, happened in self._waiting],
            "running": len(self._running),
            "policy": asdict(self.policy),
            "urls": [target.url for target in self.targets],
        }

    def forget(self) -> None:
        """What waits is dropped, the policy is the plain one, endpoints made over the API are gone."""
        self._waiting.clear()
        self.world.unsent.clear()
        self.policy, self.counts = Policy(), Counts()
        self.targets = [t for t in self.targets if t.key is None]
        for task in self._running:
            task.cancel()

    async def close(self) -> None:
        """Stop at once."""
        for task in self._running:
            task.cancel()
        if self._session is not None:
            await self._session.close()

    def _batch(self) -> list[tuple[Target, Happened]]:
        """What goes out now, after the policy."""
        kept: list[tuple[Target, Happened]] = []
        for delivery in self._waiting:
            if self._random.random() < self.policy.drop:
                self.counts.dropped += 1
                continue
            kept.append(delivery)
            if self._random.random() < self.policy.repeat:
                self.counts.repeated += 1
                kept.append(delivery)
        self._waiting.clear()
        if self.policy.shuffle:
            self._random.shuffle(kept)
        return kept

    def _send(self, batch: list[tuple[Target, Happened]]) -> None:
        if self.policy.delay_ms:
            for delivery in batch:
                self._spawn([delivery], self._random.random() * self.policy.delay_ms / 1000)
        elif batch:
            self._spawn(batch, 0.0)

    def _spawn(self, batch: list[tuple[Target, Happened]], wait_s: float) -> None:
        task = asyncio.get_running_loop().create_task(self._deliver(batch, wait_s))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _deliver(self, batch: list[tuple[Target, Happened]], wait_s: float) -> None:
        if wait_s:
            await asyncio.sleep(wait_s)
            await self._each(batch)
            return
        async with self._turn:  # batches of requests that follow one another arrive in that order
            await self._each(batch)

    async def _each(self, batch: list[tuple[Target, Happened]]) -> None:
        for target, happened in batch:
            if await self._post(target, happened):
                self.counts.delivered += 1
            elif self.policy.retries > 0:
                self._retry(target, happened)
            else:
                self.counts.failed += 1

    def _retry(self, target: Target, happened: Happened) -> None:
        async def again() -> None:
            for wait_s in _RETRY_AFTER_S[: self.policy.retries]:
                await asyncio.sleep(wait_s)
                if await self._post(target, happened):
                    self.counts.delivered += 1
                    return
            self.counts.failed += 1

        task = asyncio.get_running_loop().create_task(again())
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _post(self, target: Target, happened: Happened) -> bool:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S))
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "Stripe-Signature": signature(happened.body, target.secret, int(time.time())),
            "User-Agent": "Stripe/1.0 (+double)",
        }
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with self._session.post(target.url, data=happened.body, headers=headers) as response:
                await response.read()
                if 200 <= response.status < 300:
                    self.world.delivered.add(happened.id)
                    return True
        return False


def signature(body: bytes, secret: str, at: int) -> str:
    """The Stripe-Signature header of a body; `at` is the real time, by which the SDK judges its age."""
    mac = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256)
    return f"t={at},v1={mac.hexdigest()}"
