"""Puts the server together: API, pages, control, deliveries, and the clock's ticking."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

from starlette.applications import Starlette
from starlette.routing import Route

from stripe_double import pages
from stripe_double.api import Api
from stripe_double.control import Control
from stripe_double.due import run_due
from stripe_double.faults import Faults
from stripe_double.routes import endpoints
from stripe_double.snapshot import save
from stripe_double.webhooks import Deliveries
from stripe_double.world import World

_TICK_S = 1.0


def application(world: World, deliveries: Deliveries, state: Path | None = None) -> Starlette:
    """The ASGI application of one world, kept in the file `state`."""
    saved = 0
    faults = Faults()
    api = Api(world, endpoints(deliveries), faults, before=lambda: run_due(world), after=deliveries.pump)

    async def tick() -> None:
        nonlocal saved
        while True:
            await asyncio.sleep(_TICK_S)
            run_due(world)
            deliveries.pump()
            if state is not None and saved != world.changes:
                try:
                    save(world, state)
                except OSError as error:  # its clock goes on all the same
                    sys.stderr.write(f"stripe double: its state cannot be kept in {state}: {error}\n")
                else:
                    saved = world.changes

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        ticking = asyncio.create_task(tick())
        try:
            yield
        finally:
            ticking.cancel()
            if state is not None:
                save(world, state)
            await deliveries.close()

    return Starlette(
        routes=[
            Route("/v1/{path:path}", api),
            *Control(world, deliveries, faults).routes(),
            *pages.routes(world, deliveries),
        ],
        lifespan=lifespan,
    )
