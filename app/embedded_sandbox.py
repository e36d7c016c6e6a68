"""Starts the stand-alone sandbox provider, so that a demo's calls go over real HTTP."""

import re
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.child import Child, EmbeddedError, Order

SANDBOX_URL: Final = "TOLLGATE_SANDBOX_URL"
"""The variable by which the example catalogs find a sandbox server; without it the sandbox answers in the process."""

_START_PATIENCE_S: Final = 20.0
_POLL_S: Final = 0.02
_READY: Final = re.compile(r"sandbox provider on (http://\S+)")


@dataclass(frozen=True, slots=True)
class EmbeddedSandbox:
    """A running server."""

    child: Child
    url: str

    def stop(self) -> None:
        """Stop it; waits."""
        self.child.stop((signal.SIGTERM, 5.0))


def start_sandbox(data: Path) -> EmbeddedSandbox:
    """Start it on a free port of the loopback; returns when it answers. Blocking."""
    log = data / "logs" / "sandbox.log"
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    child = Child(
        Order(
            name="sandbox provider",
            command=[sys.executable, "-m", "providers.sandbox_server", "--host", "127.0.0.1", "--port", "0"],
            directories=[],
            death_signal=signal.SIGTERM,
            account=None,
            log=log,
            kept_fd=None,
        )
    )
    deadline = time.monotonic() + _START_PATIENCE_S
    while (ready := _READY.search(log.read_text(errors="replace") if log.exists() else "")) is None:
        if child.wait(_POLL_S) or time.monotonic() > deadline:
            child.stop((signal.SIGTERM, 1.0))
            raise EmbeddedError(f"the sandbox provider did not start:\n{child.log_tail()}")
    return EmbeddedSandbox(child, ready[1])
