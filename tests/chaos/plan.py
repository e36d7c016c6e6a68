"""What a run does, as pure functions of its seed: which calls are made, and who is killed after how many of them."""

import random
from dataclasses import dataclass
from enum import StrEnum

LEAST_PAUSE_S, LONGEST_PAUSE_S = 0.02, 0.6
OUTAGE_S = (6.0, 8.0)
"""Longer than a settlement waits for the database (5 s) and than a hold lives (5 s here): answers are journalled."""
OUTAGE_SHARE = 0.25
KILLS_WITH_OUTAGES = 20


class Victim(StrEnum):
    GATEWAY = "gateway"
    WORKER = "worker"
    POSTGRES = "postgres"
    VALKEY = "valkey"


WEIGHTS = {Victim.GATEWAY: 50, Victim.POSTGRES: 20, Victim.VALKEY: 20, Victim.WORKER: 10}


@dataclass(frozen=True)
class Kill:
    """After so many ended calls `victim` (`index` among its kind) is killed, and is started again `pause_s` later."""

    after_calls: int
    victim: Victim
    index: int
    pause_s: float


def kills_of(seed: int, calls: int, kills: int, gateways: int) -> list[Kill]:
    """The schedule: every kind comes once before any is left to chance."""
    chance = random.Random(f"kills:{seed}")
    kinds = list(WEIGHTS)
    chance.shuffle(kinds)
    victims = (kinds + chance.choices(list(WEIGHTS), list(WEIGHTS.values()), k=kills))[:kills]
    moments = sorted(chance.sample(range(calls // 50, calls * 9 // 10), kills))
    schedule = []
    for moment, victim in zip(moments, victims, strict=True):
        pause_s = chance.uniform(LEAST_PAUSE_S, LONGEST_PAUSE_S)
        if victim is Victim.POSTGRES and kills >= KILLS_WITH_OUTAGES and chance.random() < OUTAGE_SHARE:
            pause_s = chance.uniform(*OUTAGE_S)
        schedule.append(Kill(moment, victim, chance.randrange(gateways), pause_s))
    return schedule


class Kind(StrEnum):
    CHAT = "chat"
    STREAM = "stream"
    EMBEDDING = "embedding"


@dataclass(frozen=True)
class PlannedCall:
    """One call. `key`: its Idempotency-Key, under which it is tried again. `leave_after_s`: when its client goes away."""

    number: int
    kind: Kind
    wallet: int
    gateway: int
    key: str | None
    leave_after_s: float | None
    words: int
    output_tokens: int
    metadata: dict[str, str]

    def body(self) -> dict[str, object]:
        text = f"{self.number} " + "word " * self.words
        if self.kind is Kind.EMBEDDING:
            return {"model": "chaos-embedding", "input": text}
        body: dict[str, object] = {
            "model": "chaos-chat",
            "messages": [{"role": "user", "content": text}],
            "max_tokens": 200,
            "metadata": {"sandbox_output_tokens": str(self.output_tokens), **self.metadata},
        }
        if self.kind is Kind.STREAM:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return body


def call_of(seed: int, number: int, wallets: int, gateways: int) -> PlannedCall:
    """The call of this number: mostly quick and plain, some streamed, slow, failing upstream, or left by the client."""
    chance = random.Random(f"call:{seed}:{number}")
    kind = chance.choices(list(Kind), (60, 25, 15))[0]
    metadata: dict[str, str] = {}
    output_tokens = chance.randint(1, 12)
    leave_after_s = None
    odd = chance.random()
    if odd < 0.03:
        metadata["sandbox_delay_ms"] = str(chance.randint(5, 400))
    elif odd < 0.05:
        metadata["sandbox_status"] = chance.choice(["500", "503", "400"])
    elif odd < 0.07:
        metadata["sandbox_fault"] = chance.choice(["half", "close", "reset", "garbage", "error_event"])
    elif odd < 0.08:
        metadata["sandbox_usage"] = chance.choice(["none", "negative", "huge", "inconsistent"])
    elif odd < 0.10 and kind is Kind.STREAM:  # long enough for a checkpoint
        metadata["sandbox_chunk_delay_ms"] = "60"
        output_tokens = chance.randint(20, 60)
    elif odd < 0.14 and kind is not Kind.EMBEDDING:
        metadata["sandbox_delay_ms"] = "20"
        metadata["sandbox_chunk_delay_ms"] = "20"
        output_tokens = chance.randint(5, 40)
        leave_after_s = chance.uniform(0, 0.3)
    if kind is Kind.EMBEDDING:
        metadata = {}
    key = f"key-{seed}-{number}" if chance.random() < 0.3 and leave_after_s is None else None
    return PlannedCall(
        number, kind, chance.randrange(wallets), chance.randrange(gateways), key, leave_after_s, chance.randint(1, 30),
        output_tokens, metadata,
    )  # fmt: skip


def leaver_of(seed: int, number: int, wallets: int, gateways: int) -> PlannedCall:
    """A call whose client goes away at a random moment of it."""
    chance = random.Random(f"leaver:{seed}:{number}")
    kind = chance.choice([Kind.CHAT, Kind.STREAM])
    delays = {"sandbox_delay_ms": str(chance.randint(0, 200)), "sandbox_chunk_delay_ms": "15"}
    leave_after_s = chance.uniform(0, 0.35)
    return PlannedCall(
        number, kind, chance.randrange(wallets), chance.randrange(gateways), None, leave_after_s, 5, 30, delays
    )


def plain_of(number: int, wallets: int, gateways: int) -> PlannedCall:
    """A call that must succeed."""
    return PlannedCall(number, Kind.CHAT, number % wallets, number % gateways, None, None, 3, 3, {})
