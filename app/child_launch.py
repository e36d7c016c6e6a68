"""Becomes an embedded server that dies with the process that started it; run as a script, on the standard library alone.

One argument, a JSON object: `parent` (process id), `death_signal`, `uid` and `gid` (null: stay who you are), `directories`
(which the server must be able to open), `command`, `watch` (force the way of systems without a parent-death signal).
"""

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
from typing import TypedDict

_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_SET_SECUREBITS = 28
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_DAC_OVERRIDE = 1
_CAP_DAC_READ_SEARCH = 2
_WATCH_INTERVAL_S = 0.2
_CANNOT_START = 126

_ON_LINUX = sys.platform == "linux"
_libc = ctypes.CDLL(None, use_errno=True)


class _Order(TypedDict):
    parent: int
    death_signal: int
    uid: int | None
    gid: int | None
    directories: list[str]
    command: list[str]
    watch: bool


class _CapabilityHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _CapabilityHalf(ctypes.Structure):
    _fields_ = [
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    ]


def main() -> None:
    """Drop privileges, tie this process to its parent, become the command."""
    order: _Order = json.loads(sys.argv[1])
    os.umask(0o077)
    os.chdir("/")
    raisable: tuple[int, ...] = ()
    try:
        if order["uid"] is not None and order["gid"] is not None:
            # Nothing may be imported from here on: the account may not be able to read Python's own files.
            raisable = _raisable_capabilities()
            _drop_to(order["uid"], order["gid"])
        if order["watch"] or not _ON_LINUX:
            _watch(order, raisable)
        _become(order, raisable)
    except OSError as problem:
        sys.stderr.write(f"tollgate: cannot start {order['command'][0]}: {problem}\n")
        sys.stderr.flush()
        os._exit(_CANNOT_START)


def _drop_to(uid: int, gid: int) -> None:
    if _ON_LINUX:
        _prctl(_PR_SET_KEEPCAPS, 1)
        # Else access(2), by which PostgreSQL checks its own binaries, would disregard a capability of a user other than root.
        with contextlib.suppress(PermissionError):
            _prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP)
    try:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    except OSError as problem:
        raise OSError(problem.errno, f"this root may not become uid {uid}; run Tollgate as an ordinary user") from None


def _raisable_capabilities() -> tuple[int, ...]:
    """What may help where the account cannot walk (binaries below a 0700 home), the least first; kept only where needed."""
    if not _ON_LINUX:
        return ()
    with open("/proc/self/status", "rb") as status:  # noqa: PTH123 - imports cost start time here
        permitted = next(int(line.split()[1], 16) for line in status if line.startswith(b"CapPrm:"))
    return tuple(bit for bit in (_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE) if permitted & (1 << bit))


def _become(order: _Order, raisable: tuple[int, ...]) -> None:
    """Replace this process with the command, with no capability if that works, else with the first one that helps."""
    denied: PermissionError | None = None
    attempts = [0, *(1 << bit for bit in raisable)]
    dropped = order["uid"] is not None and _ON_LINUX
    for attempt, capabilities in enumerate(attempts):
        if dropped:
            _keep_only(capabilities, reserve=sum(attempts[attempt:]))
        try:
            for directory in order["directories"]:
                os.close(os.open(directory, os.O_RDONLY | os.O_DIRECTORY))
            if _ON_LINUX and not order["watch"]:
                _die_with(order["parent"], order["death_signal"])
            os.execv(order["command"][0], order["command"])  # noqa: S606 - the whole purpose
        except PermissionError as problem:
            denied = problem
    raise PermissionError(
        f"{denied}; as root the server runs as an unprivileged user (uid {os.getuid()}), which must be able to reach its"
        " binaries and the data directory: run Tollgate as an ordinary user, move both below a directory that others may"
        " enter (TOLLGATE_DATA_DIR moves the data), or set TOLLGATE_DATABASE_URL and TOLLGATE_REDIS_URL"
    )


def _keep_only(capabilities: int, *, reserve: int) -> None:
    """`capabilities` are in force and pass through exec; `reserve` may still be raised by a later attempt."""
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    halves = (_CapabilityHalf * 2)()
    halves[0] = _CapabilityHalf(capabilities, capabilities | reserve, capabilities)
    _checked(_libc.capset(ctypes.byref(header), halves), "capset")
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    for bit in (_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE):
        if capabilities & (1 << bit):
            _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, bit)


def _die_with(parent: int, death_signal: int) -> None:
    """Called after every change of credentials, each of which clears the signal."""
    _prctl(_PR_SET_PDEATHSIG, death_signal)
    if os.getppid() != parent:  # it died before the signal was set
        os._exit(0)


def _watch(order: _Order, raisable: tuple[int, ...]) -> None:
    """Without a parent-death signal: stay, run the command below, end it when the parent is gone. Does not return."""
    server = os.fork()
    if server == 0:
        _become({**order, "watch": True}, raisable)

    def pass_on(number: int, _frame: object) -> None:
        _tell(server, number)

    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(name, pass_on)
    orphaned = False
    while True:
        ended, status = os.waitpid(server, os.WNOHANG)
        if ended:
            os._exit(min(abs(os.waitstatus_to_exitcode(status)), 255))
        if not orphaned and os.getppid() != order["parent"]:
            orphaned = True
            _tell(server, order["death_signal"])
        time.sleep(_WATCH_INTERVAL_S)


def _tell(process: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


def _prctl(option: int, *values: int) -> None:
    longs = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    _checked(_libc.prctl(option, *longs), f"prctl {option}")


def _checked(answer: int, call: str) -> None:
    if answer != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


if __name__ == "__main__":
    main()
