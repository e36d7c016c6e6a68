"""Time to the first content byte of a streamed chat call, beside the same upstream called directly, and beside one hold's commit.

One gateway process (`tollgate serve`), embedded PostgreSQL (durable) and Valkey, and the stand-alone sandbox provider as
upstream; the client and the ledger of the hold are in this process. Each round measures, one after the other, the upstream
directly, through the gateway, and holds placed alone against the same database, as many at once as there are connections.
Figures are the best sample and the median of all rounds' samples: on a busy machine each of the dozen changes of process
on a call's way waits for a core, which the best sample has least of. `added` is through less direct, `own` is that less the
hold: the gateway's share. Then a gateway that notes when each step begins (bench.stamped) serves one connection: where the
time goes, and what one hold's commit takes of it in the place where the stream waits for it, which is taken from that
stream. The upstream is asked directly in turns with it, a stream through the gateway and one directly: else what the
database and the others have in the caches of its core meanwhile would count as the gateway's share. The goal, 0.5 ms besides
that commit, was set on another machine: bench.anchors tells how much slower this one is. Last, a stream with pauses between
its chunks shows that each is forwarded when it comes.

With `--own-core` the gateway is alone on one core. What passes to it and from it passes between cores then, what passes
between upstream and client does not: that counts as its share.
"""

import argparse
import asyncio
import json
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import uvloop

from app.collector import calm_collector
from bench import anchors
from bench.gateway import CREDITS_MICRO, house, port_of
from bench.load import http_request
from bench.stamped import STEPS
from kit import clock
from kit.ids import uuid7
from metering.ledger import Ledger
from metering.operations import PlaceHold
from metering.views import HoldPlaced
from models.database import Database
from tests.processes import Running
from tests.seeding import Seeded, seed_workspace

PATH = "/v1/chat/completions"
WORDS = 8
BODY = {
    "model": "sandbox-chat",
    "messages": [{"role": "user", "content": "Hello, how are you today?"}],
    "max_tokens": 16,
    "stream": True,
    "metadata": {"sandbox_output_tokens": str(WORDS)},
}
HOLD_MICRO = 1_000
CONTENT = re.compile(rb'"content":"[^"]')
END = b"data: [DONE]\n\n"
LAST = b"0\r\n\r\n"
WARM_UP_S = 1.0
GOAL_MS = 0.5


class Reader(asyncio.Protocol):
    """Sends the request, notes when each content chunk comes, and sends it again once the stream has ended."""

    def __init__(self, request: bytes, times: int | None, *, begins: bool) -> None:
        """`times` it is sent; None until `stopped`. `begins`: as soon as it is connected, else by `send`."""
        self.request = request
        self.begins = begins
        self.left = times
        self.next: Callable[[], None] = self.send
        """Called once a stream has ended."""
        self.stopped = False
        self.first_s: list[float] = []
        self.arrivals_s: list[list[float]] = []
        """Of each stream, when its content chunks came, from the request on; chunks that come together count one by one."""
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport) -> None:
        self.transport = transport
        if self.begins:
            self.send()

    def send(self) -> None:
        if self.stopped or self.left == 0:
            self.transport.close()
            return
        if self.left is not None:
            self.left -= 1
        self.head, self.tail, self.ended, self.arrived = b"", b"", False, []
        self.sent_at = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        at = time.perf_counter() - self.sent_at
        if not self.head:
            assert data.startswith(b"HTTP/1.1 200 "), data
            self.head = data
        self.arrived += [at] * len(CONTENT.findall(data))
        self.tail = (self.tail + data)[-64:]
        self.ended = self.ended or END in self.tail
        if self.ended and self.tail.endswith(LAST):
            self.first_s.append(self.arrived[0])
            self.arrivals_s.append(self.arrived)
            self.next()

    def connection_lost(self, error) -> None:
        if not self.closed.done():
            self.closed.set_result(None)

    @property
    def first_ms(self) -> list[float]:
        return [each * 1000 for each in self.first_s]


@dataclass(frozen=True)
class Target:
    port: int
    key: str = ""

    async def connected(self, reader: Reader) -> Reader:
        await asyncio.get_running_loop().create_connection(lambda: reader, "127.0.0.1", self.port)
        return reader

    def reader(self, body: dict, times: int | None = None, *, begins: bool = True) -> Reader:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        request = http_request("127.0.0.1", self.port, PATH, json.dumps(body).encode(), headers)
        return Reader(request, times, begins=begins)

    async def read(self, body: dict, connections: int, seconds: float | None, times: int | None = None) -> list[Reader]:
        """Streams over so many connections, for so long or so often."""
        readers = [await self.connected(self.reader(body, times)) for _ in range(connections)]
        if seconds is not None:
            await asyncio.sleep(seconds)
        for reader in readers:
            reader.stopped = seconds is not None
        await asyncio.wait_for(asyncio.gather(*(reader.closed for reader in readers)), 60)
        return readers

    async def first_ms(self, connections: int, seconds: float) -> list[float]:
        return [each for reader in await self.read(BODY, connections, seconds) for each in reader.first_ms]


async def in_turns(targets: Sequence[Target], seconds: float) -> list[list[float]]:
    """The first tokens of each, asked one after the other over a connection each, over and over for so long."""
    readers = [await each.connected(each.reader(BODY, begins=False)) for each in targets]
    for before, after in zip(readers, [*readers[1:], readers[0]], strict=True):
        before.next = after.send
    readers[0].send()
    await asyncio.sleep(seconds)
    ended = asyncio.get_running_loop().create_future()
    readers[-1].next = lambda: ended.set_result(None)
    await asyncio.wait_for(ended, 60)
    for reader in readers:
        reader.transport.close()
    return [reader.first_ms for reader in readers]


@dataclass(frozen=True)
class Cores:
    """Who runs where. `own`: the core of the gateway alone; None: everybody runs anywhere."""

    own: int | None

    @classmethod
    def shared_out(cls, own: int | None) -> "Cores":
        """This process and whatever it starts stay off `own`: the client, the upstream, PostgreSQL and Valkey."""
        os.sched_setaffinity(0, os.sched_getaffinity(0) - {own})
        return cls(own)

    def give(self, gateway: Running) -> None:
        """The gateway has its core for itself: all its threads run there from now on."""
        if self.own is not None:
            for thread in Path(f"/proc/{gateway.pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), [self.own])


@dataclass(frozen=True)
class Bench:
    direct: Target
    through: Target
    ledger: Ledger
    seeded: Seeded

    async def holds_ms(self, at_once: int, seconds: float) -> list[float]:
        """Holds placed one after the other by each of so many callers."""
        until = time.perf_counter() + seconds
        spent: list[float] = []

        async def place() -> None:
            while (at := time.perf_counter()) < until:
                operation = PlaceHold(
                    uuid7(), self.seeded.wallet_id, self.seeded.workspace_id, HOLD_MICRO, "sandbox-chat", None,
                    self.seeded.api_key_id, "req_bench", clock.now() + timedelta(hours=1),
                    {"discount_percent": 0, "prices": [["INPUT_TOKENS", 3, 1], ["OUTPUT_TOKENS", 15, 1]]},
                )  # fmt: skip
                assert isinstance(await self.ledger.submit(operation), HoldPlaced)
                spent.append((time.perf_counter() - at) * 1000)

        await asyncio.gather(*(place() for _ in range(at_once)))
        return spent


@dataclass
class Samples:
    """Of all rounds, in milliseconds."""

    direct: list[float] = field(default_factory=list)
    through: list[float] = field(default_factory=list)
    hold: list[float] = field(default_factory=list)

    def figures(self, of: Callable[[list[float]], float]) -> list[float]:
        """The columns of the report."""
        direct, through, hold = of(self.direct), of(self.through), of(self.hold)
        return [direct, through, through - direct, hold, through - direct - hold]


@asynccontextmanager
async def opened(cores: Cores, busy_poll_us: int) -> AsyncGenerator[Bench]:
    async with house(TOLLGATE_BUSY_POLL_US=str(busy_poll_us)) as built, AsyncExitStack() as stack:
        database = await Database.open(built.database_url)
        stack.push_async_callback(database.close)
        ledger = await Ledger.open(database)
        stack.push_async_callback(ledger.close)
        own = await seed_workspace(database, CREDITS_MICRO, "holds")
        cores.give(built.gateway)
        through = Target(port_of(built.gateway.url), built.key)
        yield Bench(Target(port_of(built.sandbox.url)), through, ledger, own)


async def run(options: argparse.Namespace) -> None:
    cores = Cores.shared_out(options.own_core)
    async with opened(cores, options.busy_poll_us) as bench:
        for target in (bench.direct, bench.through):
            await target.first_ms(4, WARM_UP_S)
        await bench.holds_ms(4, WARM_UP_S / 2)
        calm_collector()
        found = {connections: Samples() for connections in options.connections}
        for number in range(options.rounds):
            for connections, samples in found.items():
                print(f"round {number + 1}, {connections} connections …", file=sys.stderr)
                samples.direct += await bench.direct.first_ms(connections, options.seconds)
                samples.through += await bench.through.first_ms(connections, options.seconds)
                samples.hold += await bench.holds_ms(connections, options.seconds)
        chunks = await chunk_times(bench, options.chunk_delay_ms)
    report(found)
    report_steps(await in_place(options, cores))
    report_chunks(*chunks, options.chunk_delay_ms)
    if options.json:
        Path(options.json).write_text(json.dumps({str(key): vars(each) for key, each in found.items()}, indent=1))


@dataclass(frozen=True)
class InPlace:
    """One connection to the stamped gateway, in milliseconds: of each stream its steps, as its client saw it, and of one directly."""

    steps: list[list[float]]
    through: list[float]
    direct: list[float]
    paces: list[anchors.Pace]

    @property
    def holds(self) -> list[float]:
        return [steps[list(STEPS).index("hold")] for steps in self.steps]

    def own(self, of: Callable[[list[float]], float]) -> float:
        """The gateway's share: each stream's hold is taken from that stream."""
        rest = [through - hold for through, hold in zip(self.through, self.holds, strict=True)]
        return of(rest) - of(self.direct)


async def in_place(options: argparse.Namespace, cores: Cores) -> InPlace:
    """Where the time of a stream's first token goes."""
    through: list[float] = []
    direct: list[float] = []
    with tempfile.NamedTemporaryFile(suffix=".json") as kept:
        polling = str(options.busy_poll_us)
        async with house(kept.name, "serve", entry="bench.stamped", TOLLGATE_BUSY_POLL_US=polling) as built:
            cores.give(built.gateway)
            targets = Target(port_of(built.gateway.url), built.key), Target(port_of(built.sandbox.url))
            warming = len(await targets[0].first_ms(1, WARM_UP_S))
            paces = [await built.pace()]
            for number in range(options.rounds):
                print(f"round {number + 1}, with stamps …", file=sys.stderr)
                now, directly = await in_turns(targets, options.seconds)
                through += now
                direct += directly
                paces.append(await built.pace())
        stamped = json.loads(Path(kept.name).read_text())[warming:]
    return InPlace([[each * 1000 for each in steps] for steps in stamped], through, direct, paces)


async def chunk_times(bench: Bench, delay_ms: int, streams: int = 10) -> tuple[list[float], list[float]]:
    """The median time of each content chunk since the first one, directly and through the gateway, alternating."""
    body = {**BODY, "metadata": {**BODY["metadata"], "sandbox_chunk_delay_ms": str(delay_ms)}}
    seen: dict[Target, list[list[float]]] = {bench.direct: [], bench.through: []}
    for _ in range(streams):
        for target, arrivals in seen.items():
            (reader,) = await target.read(body, 1, None, 1)
            (arrived,) = reader.arrivals_s
            assert len(arrived) == WORDS, arrived
            arrivals.append([(at - arrived[0]) * 1000 for at in arrived])
    direct, through = ([statistics.median(each) for each in zip(*all_, strict=True)] for all_ in seen.values())
    return direct, through


def report(found: dict[int, Samples]) -> None:
    print(f"machine load {os.getloadavg()[0]:.1f}; milliseconds, best sample (median)\n")
    print("| connections | direct | through | added | one hold's commit | own share | streams |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for connections, samples in found.items():
        pairs = zip(samples.figures(min), samples.figures(statistics.median), strict=True)
        cells = [f"{best:.2f} ({median:.2f})" for best, median in pairs]
        print(f"| {connections} | {' | '.join(cells)} | {len(samples.through):,} |")


def report_steps(found: InPlace) -> None:
    columns = dict(zip(STEPS, zip(*found.steps, strict=True), strict=True))
    print(f"\nThe steps of {len(found.steps):,} streams on one connection, milliseconds\n")
    print("| step | best | median |\n| --- | ---: | ---: |")
    for name, took in columns.items():
        print(f"| {STEPS[name]} | {min(took):.2f} | {statistics.median(took):.2f} |")
    slower = statistics.median(each.slower() for each in found.paces)
    print("\n| | direct | through | one hold's commit in place | own share | at the goals' machine's pace | goal |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, of in (("best", min), ("median", statistics.median)):
        direct, through, hold, own = of(found.direct), of(found.through), of(found.holds), found.own(of)
        print(f"| {name} | {direct:.2f} | {through:.2f} | {hold:.2f} | {own:.2f} | {own / slower:.2f} | {GOAL_MS} |")
    anchors.report(found.paces)


def report_chunks(direct: list[float], through: list[float], delay_ms: int) -> None:
    print(f"\nEach chunk after the first, {delay_ms} ms apart at the provider: milliseconds since the first, medians\n")
    print(f"| chunk | {' | '.join(str(number) for number in range(2, len(direct) + 1))} |")
    print("| --- |" + " ---: |" * (len(direct) - 1))
    for name, times in (("direct", direct), ("through", through)):
        print(f"| {name} | {' | '.join(f'{each:.1f}' for each in times[1:])} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each subject in each round")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--chunk-delay-ms", type=int, default=20)
    parser.add_argument(
        "--own-core", type=int, metavar="N", help="the gateway runs on this core alone, and nothing else does"
    )
    parser.add_argument("--busy-poll-us", type=int, default=0, metavar="N", help="the gateway's TOLLGATE_BUSY_POLL_US")
    parser.add_argument("--json", help="also write every round to this file")
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
