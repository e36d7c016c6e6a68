"""Runs one embedded server as a child process that stops with this process, also when this process is killed."""

import json
import os
import pwd
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app import child_launch

_LOG_LIMIT_BYTES = 10_000_000
_TAIL_LINES = 15
_OVERFLOW_UID = 65534
_ENVIRONMENT_PASSED_ON = ("PATH", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""Nothing else: the gateway's environment holds secrets, and PG* variables would redirect the server."""


class EmbeddedError(Exception):
    """An embedded server cannot be started or has stopped; the message says why, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who a server runs as when we are root; PostgreSQL refuses to run as root."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Order:
    """What to run: the command, the directories it must reach, the signal that ends it when its parent is gone."""

    name: str
    command: Sequence[str | Path]
    directories: Sequence[Path]
    death_signal: signal.Signals
    account: Account | None
    log: Path
    kept_fd: int | None
    """Held open by the server as long as it lives: the lock on the data directory, where it keeps data there."""
    watch: bool = False
    """Use a watching process even where the kernel can signal the death of a parent; for tests."""


class Child:
    """A running child process. Its own session, so that Ctrl-C reaches the gateway alone and the gateway can drain first."""

    def __init__(self, order: Order) -> None:
        """Start the process; raises EmbeddedError when it cannot be started at all."""
        self._order = order
        self._process: subprocess.Popen[bytes] | None = None
        self._problem: OSError | None = None
        self._log_start = 0
        self._launched = threading.Event()
        self._ended = threading.Event()
        # The parent-death signal belongs to the thread that created the child, so the thread that starts it also waits for it.
        threading.Thread(target=self._keep, name=f"keeps {order.name}", daemon=True).start()
        self._launched.wait()
        if self._problem is not None:
            raise EmbeddedError(f"{order.name} could not be started: {self._problem}")

    @property
    def pid(self) -> int:
        """Its process id (the watcher's where the system has no parent-death signal)."""
        assert self._process is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the number of the signal that ended it."""
        return self._process.returncode if self._process is not None and self._ended.is_set() else None

    def wait(self, timeout_s: float) -> bool:
        """Whether it ended within the time."""
        return self._ended.wait(timeout_s)

    def stop(self, *ladder: tuple[signal.Signals, float]) -> None:
        """Send each signal in turn, giving it so many seconds; then kill."""
        for number, patience_s in ladder:
            if self.exit_code is not None:
                return
            self._signal(number)
            if self.wait(patience_s):
                return
        self._signal(signal.SIGKILL)
        self.wait(5)

    def log_tail(self) -> str:
        """The last lines it wrote in this run, for an error message."""
        try:
            with self._order.log.open(encoding="utf-8", errors="replace") as log:
                log.seek(self._log_start)
                lines = log.read().splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-_TAIL_LINES:])

    def _signal(self, number: signal.Signals) -> None:
        try:
            # A kill goes to the whole group: a watcher cannot pass it on.
            if number is signal.SIGKILL:
                os.killpg(self.pid, number)
            else:
                os.kill(self.pid, number)
        except ProcessLookupError:
            return

    def _keep(self) -> None:
        try:
            process = self._launch()
        except OSError as problem:
            self._problem = problem
            self._launched.set()
            return
        self._process = process
        self._launched.set()
        process.wait()
        self._ended.set()

    def _launch(self) -> subprocess.Popen[bytes]:
        order = self._order
        told = {
            "parent": os.getpid(),
            "death_signal": int(order.death_signal),
            "uid": order.account.uid if order.account else None,
            "gid": order.account.gid if order.account else None,
            "directories": [str(directory) for directory in order.directories],
            "command": [str(part) for part in order.command],
            "watch": order.watch,
        }
        environment = {name: os.environ[name] for name in _ENVIRONMENT_PASSED_ON if name in os.environ}
        if order.log.exists() and order.log.stat().st_size > _LOG_LIMIT_BYTES:
            order.log.unlink()
        with order.log.open("ab") as log:
            self._log_start = log.tell()
            return subprocess.Popen(  # noqa: S603 - our own launcher with our own arguments
                [sys.executable, "-I", "-S", child_launch.__file__, json.dumps(told)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**environment, "LC_ALL": "C", "TZ": "UTC"},
                start_new_session=True,
                pass_fds=() if order.kept_fd is None else (order.kept_fd,),
            )


def account_for(directory: Path) -> Account | None:
    """Who a server owning `directory` runs as: None means as we are; as root its present owner, else `nobody`."""
    if os.geteuid() != 0:
        return None
    if directory.exists() and (owner := directory.stat()).st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        return Account(_OVERFLOW_UID, _OVERFLOW_UID)
    return Account(nobody.pw_uid, nobody.pw_gid)


def make_private(directory: Path, account: Account | None) -> None:
    """Make `directory` (mode 0700) and all in it the account's. Only ever called for directories below the data directory."""
    directory.mkdir(mode=0o700, parents=False, exist_ok=True)
    if account is None or directory.stat().st_uid == account.uid:
        return
    try:
        os.chown(directory, account.uid, account.gid)
        for folder, folders, files in os.walk(directory, followlinks=False):
            for name in (*folders, *files):
                os.chown(Path(folder, name), account.uid, account.gid, follow_symlinks=False)
    except OSError as problem:
        raise EmbeddedError(
            f"{directory} cannot be given to uid {account.uid}, under which the server has to run: {problem}; run Tollgate"
            " as an ordinary user, or set TOLLGATE_DATABASE_URL and TOLLGATE_REDIS_URL"
        ) from None
