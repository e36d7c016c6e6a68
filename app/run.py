"""The processes behind the commands: `run` with everything, `serve` with the gateway, `worker` with what is due."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Generator, Mapping
from typing import Final

import click
import uvicorn

from app.catalog_commands import apply_at_start
from app.embedded import EmbeddedServers
from app.embedded_sandbox import SANDBOX_URL, start_sandbox
from app.embedded_stripe import start_stripe_double
from app.http_protocol import HttpProtocol
from app.lifespan import open_services
from app.main import Tollgate
from app.seed import Demo, seed_demo
from app.settings import Settings
from app.tasks import worker_tasks
from app.worker import TasksFailed, Worker
from app.worker_page import worker_page
from models.migrate import migrate

GRACE_S: Final = 30
"""Seconds that requests under way may take after a signal to stop."""
_WATCH_S: Final = 1.0


async def run_everything(settings: Settings, *, stripe_double: bool = False) -> None:
    """`tollgate run`: embedded servers where none are named, migrations, catalog, demo, gateway and worker.

    `stripe_double`: payments go to a local double of Stripe. EmbeddedError where it cannot be started.
    """
    settings = settings.with_kept_secret_key()
    with contextlib.closing(_bind(settings)) as listening:
        await _run_everything(settings, listening, stripe_double=stripe_double)


async def _run_everything(settings: Settings, listening: socket.socket, *, stripe_double: bool) -> None:
    needs_postgres, needs_valkey = settings.database_url is None, settings.redis_url is None
    servers: EmbeddedServers | None = None
    if needs_postgres or needs_valkey:
        click.echo(f"starting the embedded servers in {settings.data_dir} …", err=True)
        servers = await EmbeddedServers.start(settings.data_dir, postgres=needs_postgres, valkey=needs_valkey)
    try:
        settings = settings.with_servers(
            database_url=servers.database_url if servers and needs_postgres else None,
            redis_url=servers.redis_url if servers and needs_valkey else None,
        )
        await _prepare(settings)
        with _sandbox(settings), _stripe(settings, wanted=stripe_double) as settings_with_stripe:
            await _serve_with_worker(settings_with_stripe, listening, servers)
    finally:
        if servers is not None:
            await servers.stop()
            click.echo("stopped; your data is kept", err=True)


@contextlib.contextmanager
def _sandbox(settings: Settings) -> Generator[None]:
    """The simulated provider as a server of its own, so that the demo's calls go over real HTTP."""
    if os.environ.get(SANDBOX_URL):
        yield
        return
    sandbox = start_sandbox(settings.data_dir)
    os.environ[SANDBOX_URL] = sandbox.url
    try:
        yield
    finally:
        del os.environ[SANDBOX_URL]
        sandbox.stop()


@contextlib.contextmanager
def _stripe(settings: Settings, *, wanted: bool) -> Generator[Settings]:
    """The settings, with the account of a local double where one is wanted."""
    if not wanted:
        yield settings
        return
    own = f"http://{'localhost' if settings.host in {'0.0.0.0', '::'} else settings.host}:{settings.port}"  # noqa: S104
    double = start_stripe_double(settings.data_dir, f"{own}/webhooks/stripe")
    try:
        click.echo(f"payments go to the Stripe double at {double.url}: no money moves", err=True)
        yield settings.with_stripe(double.variables())
    finally:
        double.stop()


class _Server(uvicorn.Server):
    """Stops in good order on SIGINT and SIGTERM, and then goes on: uvicorn's own would end the process at once."""

    def __init__(self, settings: Settings, application: Tollgate) -> None:
        """One server for one application."""
        super().__init__(uvicorn.Config(application, **_options(settings)))  # pyright: ignore[reportArgumentType] -- see _options
        self.application = application

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """A start that fails is told as such, where uvicorn's own ends the process from inside its task."""
        try:
            await super().startup(sockets)
        except SystemExit as ended:
            raise click.ClickException("the gateway could not start; the log above says why") from ended

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Sockets and event streams are told first and end in order; uvicorn then waits for requests under way."""
        await self.application.end_streams()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """A second signal does not wait for requests under way."""
        loop = asyncio.get_running_loop()
        stopping = (signal.SIGINT, signal.SIGTERM)

        def stop() -> None:
            self.force_exit = self.should_exit
            self.should_exit = True

        for number in stopping:
            loop.add_signal_handler(number, stop)
        try:
            yield
        finally:
            for number in stopping:
                loop.remove_signal_handler(number)


async def _prepare(settings: Settings) -> None:
    assert settings.database_url is not None, "set just before"
    for name in await migrate(settings.database_url.reveal()):
        click.echo(f"applied migration {name}", err=True)
    await apply_at_start(settings)


async def _serve_with_worker(settings: Settings, listening: socket.socket, servers: EmbeddedServers | None) -> None:
    application = Tollgate(settings)
    server = _Server(settings, application)
    serving = asyncio.create_task(server.serve([listening]), name="gateway")
    while not server.started and not serving.done():  # noqa: ASYNC110 -- uvicorn tells it by a flag only
        await asyncio.sleep(0.02)
    if serving.done():
        await serving
        raise click.ClickException("the gateway could not start; the log above says why")
    services = application.services
    worker = Worker(worker_tasks(services))
    working: asyncio.Task[None] | None = None
    try:
        demo = await seed_demo(services)
        working = asyncio.create_task(worker.run(), name="worker")
        _say_hello(settings, demo)
        await _until_stopped(serving, servers)
    finally:
        worker.stop()
        server.should_exit = True
        await asyncio.wait({serving} if working is None else {working, serving})
    await serving


async def _until_stopped(serving: "asyncio.Task[None]", servers: EmbeddedServers | None) -> None:
    while not serving.done():
        await asyncio.wait({serving}, timeout=_WATCH_S)
        if servers is not None and (failure := servers.failure()) is not None and not serving.done():
            raise click.ClickException(failure)


def serve_gateway(settings: Settings) -> None:
    """`tollgate serve`: one process, or a supervisor with TOLLGATE_WORKERS of them."""
    listening = _bind(settings)
    if settings.workers == 1:
        _Server(settings, Tollgate(settings)).run([listening])
        return
    listening.close()
    uvicorn.run(
        "app.main:create_app",
        factory=True,
        workers=settings.workers,
        **_options(settings),  # pyright: ignore[reportArgumentType] -- one table of options for both ways
    )


async def run_worker(settings: Settings, *, once: bool, metrics_port: int | None = None) -> None:
    """`tollgate worker`: until a signal, or with `once` until nothing is due; its figures at `metrics_port`."""
    async with open_services(settings) as services:
        worker = Worker(worker_tasks(services))
        if once:
            await _once(worker)
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, worker.stop)
        async with worker_page(services.health, settings.host, metrics_port):
            click.echo("the worker runs; Ctrl-C stops it", err=True)
            await worker.run()


async def _once(worker: Worker) -> None:
    try:
        done = await worker.run_once()
    except TasksFailed as failure:
        _say_done(failure.done)
        raise click.ClickException(str(failure)) from failure
    _say_done(done)


def _say_done(done: Mapping[str, int]) -> None:
    for name, count in done.items():
        click.echo(f"{name}: {count}")


def _options(settings: Settings) -> dict[str, object]:
    return {
        "host": settings.host,
        "port": settings.port,
        "lifespan": "on",
        "loop": "uvloop",
        "http": HttpProtocol,
        "ws": "websockets-sansio",
        "ws_max_size": 256 * 1024,
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "date_header": True,
        "proxy_headers": False,
        "backlog": 2048,
        "timeout_keep_alive": 75,
        "timeout_graceful_shutdown": GRACE_S,
    }


def _bind(settings: Settings) -> socket.socket:
    """The port is ours from the first moment: found taken before anything starts, and kept while the rest does."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((settings.host, settings.port))
    except OSError as error:
        bound.close()
        raise click.ClickException(
            f"cannot listen on {settings.host}:{settings.port} ({os.strerror(error.errno or 0)}); "
            "name another with --port or TOLLGATE_PORT"
        ) from error
    return bound


def _say_hello(settings: Settings, demo: Demo) -> None:
    url = settings.public_url
    key = (
        demo.api_key or "none: the plan of this workspace has no API access; give it one with tollgate admin give-plan"
    )
    click.echo(
        f"""
Tollgate runs.  Ctrl-C stops it; what it keeps is in {settings.data_dir}

  GraphiQL      {url}/graphql
  OpenAI form   {url}/v1
  API key       {key}     (workspace "{demo.workspace_name}", {demo.available} credits)
"""
    )
    if demo.api_key is not None:
        click.echo(
            f"""Try it:

  curl {url}/v1/chat/completions \\
    -H 'Authorization: Bearer {demo.api_key}' \\
    -H 'Content-Type: application/json' \\
    -d '{{"model": "sandbox-chat", "messages": [{{"role": "user", "content": "Hello"}}]}}'
"""
        )
