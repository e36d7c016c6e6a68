"""Where the embedded servers live: the lock on the data directory, and directories short enough for their sockets."""

import fcntl
import os
import re
import shutil
import socket
import tempfile
import time
from pathlib import Path

from app.child import Account, EmbeddedError, make_private

_SOCKET_PATH_LIMIT_BYTES = 103
"""sun_path holds 108 bytes on Linux and 104 on macOS, with the closing zero."""
_LONGEST_SOCKET_NAME = ".s.PGSQL.5432"
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._-]+\Z")
"""PostgreSQL's lists of socket directories and hosts have commas and spaces of their own."""
_TEMPORARY_PREFIX = "tollgate-sockets-"
_STOPPING_PATIENCE_S = 30.0


def lock_data_directory(directory: Path) -> int:
    """Take the data directory for this process; answers the open file that holds the lock.

    The servers inherit it, so that it stays taken until the last of them is gone, however their parent ended.
    """
    path = directory / "lock"
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _STOPPING_PATIENCE_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            owner = os.pread(file, 32, 0).decode("ascii", "replace").strip()
            if owner.isdigit() and _lives(int(owner)):
                os.close(file)
                raise EmbeddedError(
                    f"another tollgate run (process {owner}) uses the data directory {directory}; stop it, or set"
                    " TOLLGATE_DATA_DIR to another"
                ) from None
            if time.monotonic() > deadline:
                os.close(file)
                raise EmbeddedError(
                    f"the servers of a previous run still use the data directory {directory}; see its logs/"
                ) from None
            time.sleep(0.1)
    os.ftruncate(file, 0)
    os.pwrite(file, f"{os.getpid()}\n".encode("ascii"), 0)
    return file


def socket_directory(data: Path, name: str, account: Account | None) -> Path:
    """A private directory for the server's socket: below the data directory where that works, else in /tmp.

    The second case leaves a symbolic link behind, by which the next start finds and removes what a killed run left.
    """
    parent = data / "sockets"
    parent.mkdir(exist_ok=True)
    parent.chmod(0o711 if account else 0o700)
    place = parent / name
    remove_socket_directory(place)
    if _PLAIN_PATH.match(str(place)) and len(os.fsencode(place / _LONGEST_SOCKET_NAME)) <= _SOCKET_PATH_LIMIT_BYTES:
        make_private(place, account)
        if _carries_sockets(place):
            return place
        place.rmdir()
    # Not tempfile's own choice, which may be as long as what it replaces.
    elsewhere = Path(tempfile.mkdtemp(prefix=_TEMPORARY_PREFIX, dir="/tmp"))
    place.symlink_to(elsewhere)
    make_private(elsewhere, account)
    return elsewhere


def remove_socket_directory(place: Path) -> None:
    """Remove what `socket_directory` made: the directory below the data directory, or the link and its target."""
    if place.is_symlink():
        target = place.readlink()
        if target.name.startswith(_TEMPORARY_PREFIX):
            shutil.rmtree(target, ignore_errors=True)
        place.unlink()
    elif place.exists():
        shutil.rmtree(place)


def _carries_sockets(directory: Path) -> bool:
    """Some mounted file systems hold no sockets."""
    probe = directory / "probe"
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            listener.bind(str(probe))
        except OSError:
            return False
    probe.unlink()
    return True


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
