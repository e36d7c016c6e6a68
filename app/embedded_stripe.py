"""Starts the Stripe double for `tollgate run --stripe-double`: payments to try without an account, and without a network.

It is a program of its own, started by its name and spoken with over HTTP like Stripe itself; nothing of it is imported.
"""

import re
import secrets
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.child import Child, EmbeddedError, Order

_START_PATIENCE_S: Final = 20.0
_POLL_S: Final = 0.02
_READY: Final = re.compile(r"stripe double on (http://\S+)")
_API_KEY: Final = "sk_test_double"


@dataclass(frozen=True, slots=True)
class EmbeddedStripe:
    """A running double, and the variables by which the gateway finds it."""

    child: Child
    url: str
    webhook_secret: str

    def variables(self) -> dict[str, str]:
        """As an operator would set them for Stripe."""
        return {
            "STRIPE_API_KEY": _API_KEY,
            "STRIPE_WEBHOOK_SECRET": self.webhook_secret,
            "STRIPE_API_BASE": self.url,
        }

    def stop(self) -> None:
        """Stop it; waits."""
        self.child.stop((signal.SIGTERM, 5.0))


def start_stripe_double(data: Path, webhook_url: str) -> EmbeddedStripe:
    """Start it on a free port of the loopback; returns when it answers. Blocking. What it knows is kept in `data`.

    Its clock runs with the real one, and can be moved on: see stripe_double/README.md. Raises EmbeddedError.
    """
    secret = f"whsec_{secrets.token_hex(16)}"
    data = data.resolve()  # a child runs in another directory
    log = data / "logs" / "stripe-double.log"
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    child = Child(
        Order(
            name="Stripe double",
            command=[
                sys.executable, "-m", "stripe_double", "--host", "127.0.0.1", "--port", "0",
                "--state", str(data / "stripe-double.state"), "--webhook-url", webhook_url, "--webhook-secret", secret,
            ],
            directories=[],
            death_signal=signal.SIGTERM,
            account=None,
            log=log,
            kept_fd=None,
        )
    )  # fmt: skip
    deadline = time.monotonic() + _START_PATIENCE_S
    while (ready := _READY.search(log.read_text(errors="replace") if log.exists() else "")) is None:
        if child.wait(_POLL_S) or time.monotonic() > deadline:
            child.stop((signal.SIGTERM, 1.0))
            raise EmbeddedError(f"the Stripe double did not start:\n{child.log_tail()}")
    return EmbeddedStripe(child, ready[1], secret)
