"""Runs the double: `python -m stripe_double`."""

import argparse
import asyncio
import ctypes
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from stripe_double.server import application
from stripe_double.snapshot import load
from stripe_double.webhooks import Deliveries
from stripe_double.world import World

_PR_SET_PDEATHSIG = 1
_WATCH_INTERVAL_S = 0.2


def _die_with_parent() -> None:
    """Let this process end with the one that started it: by the kernel's signal, where it has none by looking now and then."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it died before the signal was set
            sys.exit(0)
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_INTERVAL_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


class _Server(uvicorn.Server):
    """Prints the address when it can be reached."""

    def __init__(self, config: uvicorn.Config, url: str) -> None:
        super().__init__(config)
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        sys.stdout.write(f"stripe double on {self._url}\n")
        sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m stripe_double", description="A local Stripe for tests and demos.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one; the address is printed when ready")
    parser.add_argument("--webhook-url", default=None, help="deliver events there")
    parser.add_argument("--webhook-secret", default="whsec_double", help="sign deliveries with it")
    parser.add_argument("--base-url", default=None, help="where pages are reached, if not at the listening address")
    parser.add_argument(
        "--invoice-delay", type=int, default=3600, metavar="SECONDS", help="from a renewal's draft to its payment"
    )
    parser.add_argument("--state", type=Path, default=None, metavar="FILE", help="keep everything there over restarts")
    parser.add_argument("--detached", action="store_true", help="go on when the process that started this one ends")
    options = parser.parse_args(arguments)
    if not options.detached:
        _die_with_parent()
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    # The protocol is named: else asyncio leaves Nagle's algorithm on, and each answer takes 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((options.host, options.port))
    name = f"[{options.host}]" if ":" in options.host else options.host
    url = f"http://{name}:{listener.getsockname()[1]}"
    world = (load(options.state) if options.state is not None else None) or World()
    world.base_url, world.invoice_delay_s = (options.base_url or url).rstrip("/"), options.invoice_delay
    deliveries = Deliveries(world)
    if options.webhook_url is not None:
        deliveries.configure({"url": options.webhook_url, "secret": options.webhook_secret})
    config = uvicorn.Config(
        application(world, deliveries, options.state),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=2,
        lifespan="on",
    )
    asyncio.run(_Server(config, url).serve(sockets=[listener]))


if __name__ == "__main__":
    main()
