"""The connection over which one process runs its scripts: the calls of an event-loop tick share their writes."""

import asyncio
import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final, Protocol

import hiredis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

CALL_TIMEOUT_S: Final = 0.25
RETRY_PAUSE_S: Final = 1.0
"""After a failure nothing is sent for this long; then one call tries whether the server is back."""

MAX_OUTSTANDING: Final = 20_000
"""Calls without an answer; beyond it the server is as good as away."""

BATCH: Final = 16
"""Calls of one tick that are written without waiting for its end, so that the server works while more are packed."""

MAX_REPEATS: Final = 2
"""How often one call is sent again because the server did not know its script."""

GRACE_S: Final = 0.01
"""An event loop that stood still finds its timers due before it reads the answers that came meanwhile."""

_NEED_MORE: Final = object()


class LinkDown(Exception):
    """Redis did not answer, or answered with an error; whether the script ran is unknown."""


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua source with the digest that EVALSHA names it by."""

    source: bytes
    sha: bytes

    @classmethod
    def named(cls, name: str) -> "Script":
        """The script in metering/lua/<name>.lua."""
        source = resources.files("metering.lua").joinpath(f"{name}.lua").read_bytes()
        return cls(source, hashlib.sha1(source, usedforsecurity=False).hexdigest().encode())


Argument = bytes | int
"""What a script is given: numbers arrive as decimal text."""


@dataclass(slots=True, eq=False)
class _Call:
    """One command on its way; `script` is None for the loading of one, whose digest `loads` is."""

    command: bytes
    answered: asyncio.Future[list[int]]
    script: Script | None
    due_at: float
    repeats: int = 0
    loads: bytes | None = None


class ScriptLink(Protocol):
    """Runs scripts whose keys share one slot."""

    async def run(self, script: Script, keys: Sequence[bytes], arguments: Sequence[Argument]) -> list[int]:
        """The script's answer; LinkDown when there is none in time."""
        ...

    async def aclose(self) -> None:
        """Give back what it holds open."""
        ...


class Circuit:
    """Whether a server that failed may be tried again: one call each RETRY_PAUSE_S, the others fail at once."""

    __slots__ = ("_pause_s", "_retry_at")

    def __init__(self, pause_s: float = RETRY_PAUSE_S) -> None:
        """Starts closed: calls pass."""
        self._pause_s = pause_s
        self._retry_at: float | None = None

    def admit(self, now_s: float) -> None:
        """Let a call pass, or raise LinkDown. The call let through after the pause is the only one for another."""
        if self._retry_at is None:
            return
        if now_s < self._retry_at:
            raise LinkDown("Redis was away a moment ago")
        self._retry_at = now_s + self._pause_s

    def fail(self, now_s: float) -> None:
        """The server is away."""
        self._retry_at = now_s + self._pause_s

    def succeed(self) -> None:
        """The server answers."""
        self._retry_at = None


class _Wire(asyncio.Protocol):
    """Reads the answers of one connection in order, for the link that owns it."""

    def __init__(self, link: "PipelineLink", stream: asyncio.StreamWriter) -> None:
        self.transport = stream.transport
        self.sent: deque[_Call] = deque()
        self.loading: set[bytes] = set()  # scripts on their way to the server, by digest
        self._link = link
        self._stream = stream  # kept: a stream that is collected closes its transport
        self._reader = hiredis.Reader(notEnoughData=_NEED_MORE)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        gets, sent = self._reader.gets, self.sent
        try:
            while (reply := gets()) is not _NEED_MORE:
                self._link.answer(self, sent.popleft(), reply)
        except (hiredis.ProtocolError, IndexError) as error:
            self._link.lose(self, f"the answers make no sense: {error!r}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.lose(self, f"the connection was lost: {exc!r}")


class PipelineLink:
    """Runs scripts over one connection of its own, opened with the client's settings.

    The first call goes out at once, and those of one tick of the event loop together while others are awaited. A script
    that the server does not know (it restarted) is loaded and the call repeated in the same breath.
    """

    def __init__(self, client: Redis, *, timeout_s: float = CALL_TIMEOUT_S, pause_s: float = RETRY_PAUSE_S) -> None:
        """`timeout_s` bounds a call from its asking to its answer, connecting included."""
        self._pool = client.connection_pool
        self._timeout_s = timeout_s
        self._circuit = Circuit(pause_s)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wire: _Wire | None = None
        self._waiting: list[_Call] = []
        self._flush_due = False
        self._connecting: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, script: Script, keys: Sequence[bytes], arguments: Sequence[Argument]) -> list[int]:
        """The script's answer; LinkDown when there is none within the timeout."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._adopt(loop)
        now_s = loop.time()
        if self._wire is None:
            self._circuit.admit(now_s)
        command = _packed(b"EVALSHA", script.sha, len(keys), *keys, *arguments)
        call = _Call(command, loop.create_future(), script, now_s + self._timeout_s)
        self._enqueue(loop, call)
        return await call.answered

    async def aclose(self) -> None:
        """Close the connection; calls under way end in LinkDown."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        self._fail("the limiter's link was closed")
        await asyncio.sleep(0)

    def answer(self, wire: _Wire, call: _Call, reply: list[int] | hiredis.ReplyError) -> None:
        """Hand a reply to its call, or send the call again where the server did not know its script."""
        if call.loads is not None:
            wire.loading.discard(call.loads)
        if not isinstance(reply, hiredis.ReplyError):
            if not call.answered.done():
                call.answered.set_result(reply)
            return
        if call.script is not None and call.repeats < MAX_REPEATS and str(reply).startswith("NOSCRIPT"):
            self._repeat(wire, call, call.script)
            return
        _fail_call(call, f"Redis answered {reply}")
        if str(reply).startswith(("READONLY", "MASTERDOWN")):
            self.lose(wire, "the server is a replica now")

    def lose(self, wire: _Wire, reason: str) -> None:
        """The connection is gone: what it owed an answer fails, what has not left waits for the next one."""
        if wire is self._wire:
            self._wire = None
            if self._waiting:
                self._schedule_flush()
        for call in wire.sent:
            _fail_call(call, reason)
        wire.sent.clear()
        wire.transport.abort()

    def _adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start anew in this event loop; the connection belonged to another, which has ended."""
        self._loop, self._wire, self._connecting, self._timer = loop, None, None, None
        self._waiting, self._flush_due = [], False
        self._circuit.succeed()

    def _enqueue(self, loop: asyncio.AbstractEventLoop, call: _Call) -> None:
        outstanding = len(self._waiting) + (len(self._wire.sent) if self._wire else 0)
        if outstanding >= MAX_OUTSTANDING:
            raise LinkDown("too many calls wait for Redis")
        self._waiting.append(call)
        if self._wire is not None and (outstanding == 0 or len(self._waiting) >= BATCH):
            self._write(self._wire)  # where nothing is under way, nothing is won by waiting for the others of this tick
        elif not self._flush_due:
            self._flush_due = True
            loop.call_soon(self._flush)
        if self._timer is None:
            self._timer = loop.call_at(call.due_at, self._check)

    def _schedule_flush(self) -> None:
        if not self._flush_due and self._loop is not None:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Write everything that waits; without a connection, open one first."""
        self._flush_due = False
        wire = self._wire
        if wire is None:
            if self._connecting is None and self._waiting and self._loop is not None:
                self._connecting = self._loop.create_task(self._connect())
            return
        if self._waiting:
            self._write(wire)

    def _write(self, wire: _Wire) -> None:
        calls, self._waiting = self._waiting, []
        wire.sent.extend(calls)
        wire.transport.write(calls[0].command if len(calls) == 1 else b"".join([call.command for call in calls]))

    def _repeat(self, wire: _Wire, call: _Call, script: Script) -> None:
        """Load the script, unless its loading is under way, and send the call behind it."""
        if script.sha not in wire.loading:
            wire.loading.add(script.sha)
            load = _packed(b"SCRIPT", b"LOAD", script.source)
            nobody = call.answered.get_loop().create_future()
            self._waiting.append(_Call(load, nobody, None, call.due_at, loads=script.sha))
        call.repeats += 1
        self._waiting.append(call)
        self._schedule_flush()

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                self._wire = await self._open()
        except (RedisError, OSError, TimeoutError) as error:
            self._fail(f"cannot connect: {error}")
            return
        finally:
            self._connecting = None
        self._circuit.succeed()
        self._flush()

    async def _open(self) -> _Wire:
        """A connection that has said its credentials and database, with our reader in place of its own."""
        settings = dict(self._pool.connection_kwargs)
        for name in [name for name in settings if name.startswith(("maint", "oss_cluster"))]:
            del settings[name]
        settings |= {"protocol": 2, "retry": Retry(NoBackoff(), 0), "socket_connect_timeout": self._timeout_s}
        connection = self._pool.connection_class(**settings)
        try:
            await connection.connect()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        # redis-py has no public way to its transport, and its reader costs more than the script does.
        stream = connection._writer  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        connection._reader = connection._writer = None  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        assert stream is not None, "a connected connection has a stream"
        wire = _Wire(self, stream)
        stream.transport.set_protocol(wire)
        return wire

    def _check(self) -> None:
        """The timer: fail when the oldest call is overdue, else wait for it."""
        self._timer = None
        oldest = self._oldest()
        loop = self._loop
        if oldest is None or loop is None:
            return
        if loop.time() < oldest.due_at:
            self._timer = loop.call_at(oldest.due_at, self._check)
        else:
            self._timer = loop.call_later(GRACE_S, self._expire, oldest)

    def _expire(self, overdue: _Call) -> None:
        if self._oldest() is overdue:
            self._timer = None
            self._fail("no answer in time")
        else:
            self._check()

    def _oldest(self) -> _Call | None:
        if self._wire is not None and self._wire.sent:
            return self._wire.sent[0]
        return self._waiting[0] if self._waiting else None

    def _fail(self, reason: str) -> None:
        """Redis is away: everything under way fails, and calls do so at once for a while."""
        if self._loop is not None:
            self._circuit.fail(self._loop.time())
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            _fail_call(call, reason)
        if self._wire is not None:
            self.lose(self._wire, reason)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _packed(*parts: Argument) -> bytes:
    """A command in the server's protocol."""
    # Its stub declares a tuple of one, and no answer.
    return hiredis.pack_command(parts)  # pyright: ignore[reportArgumentType, reportUnknownVariableType]


def _fail_call(call: _Call, reason: str) -> None:
    """End a call in LinkDown; a script's loading, which nobody awaits, is only dropped."""
    if call.answered.done():
        return
    if call.script is None:
        call.answered.cancel()
    else:
        call.answered.set_exception(LinkDown(reason))
