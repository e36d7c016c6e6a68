"""The worker's own little server: /healthz, /readyz and /metrics, for a process that answers nothing else."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncGenerator, Generator

import click
import uvicorn

from app.asgi import Receive, Scope, Send, send_json
from app.health import PATHS, Health


class WorkerPage:
    """An ASGI application of Health's paths alone."""

    def __init__(self, health: Health) -> None:
        """`health` answers."""
        self._health = health

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 -- ASGI's form
        """One request."""
        if scope["path"] in PATHS:
            await self._health(scope, send)
        else:
            await send_json(send, 404, {"error": "not found"}, [])


class _Server(uvicorn.Server):
    """Leaves signals to the worker."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """None."""
        yield


@contextlib.asynccontextmanager
async def worker_page(health: Health, host: str, port: int | None) -> AsyncGenerator[None]:
    """Serve it within the block; nothing where `port` is None. Ends the command where the port is taken."""
    if port is None:
        yield
        return
    with contextlib.closing(_bound(host, port)) as listening:
        server = _Server(
            uvicorn.Config(
                WorkerPage(health),  # pyright: ignore[reportArgumentType] -- our own names for ASGI's parts
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                ws="none",
            )
        )
        serving = asyncio.create_task(server.serve(sockets=[listening]), name="worker-page")
        click.echo(f"figures at http://{host}:{port}/metrics", err=True)
        try:
            yield
        finally:
            server.should_exit = True
            await serving


def _bound(host: str, port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise click.ClickException(
            f"cannot listen on {host}:{port} ({os.strerror(error.errno or 0)}); name another with --metrics-port"
        ) from error
    return listening
