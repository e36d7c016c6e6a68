"""A database of its own for one command: on the configured server, or on an embedded one that lives as long as it."""

import shutil
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import click

from app.embedded import EmbeddedServers
from kit.ids import uuid7
from models.migrate import migrate


@asynccontextmanager
async def scratch_database(server_url: str | None) -> AsyncGenerator[str]:
    """The address of a migrated, empty database, which is dropped at the end. `server_url` None: an embedded server.

    Nothing of the server's other databases is read or changed. Ends the command where the server does not let it.
    """
    if server_url is None:
        async with _embedded() as url:
            await migrate(url)
            yield url
        return
    name = f"tollgate_scratch_{uuid7().hex}"
    await _run(server_url, f'CREATE DATABASE "{name}"')
    try:
        url = urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
        await migrate(url)
        yield url
    finally:
        await _run(server_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@asynccontextmanager
async def _embedded() -> AsyncGenerator[str]:
    directory = _directory()
    try:
        servers = await EmbeddedServers.start(directory / "data", postgres=True, valkey=False, durable=False)
        try:
            yield servers.database_url
        finally:
            await servers.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _directory() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="tollgate-scratch-"))
    directory.chmod(0o711)  # as root the server runs as another account, which must be able to walk through
    return directory


async def _run(server_url: str, statement: str) -> None:
    try:
        connection = await asyncpg.connect(server_url)  # pyright: ignore[reportUnknownVariableType] - asyncpg has no types
        try:
            await connection.execute(statement)
        finally:
            await connection.close()
    except (OSError, asyncpg.PostgresError) as problem:
        raise click.ClickException(
            f"no scratch database on the server of TOLLGATE_DATABASE_URL: {problem}; unset it to use an embedded one"
        ) from problem
