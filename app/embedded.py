"""Starts and stops the embedded servers of one data directory."""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from app.child import EmbeddedError
from app.data_directory import open_data_directory
from app.embedded_places import lock_data_directory, remove_socket_directory
from app.embedded_postgres import EmbeddedPostgres, start_postgres
from app.embedded_valkey import EmbeddedValkey, start_valkey


@dataclass(slots=True)
class EmbeddedServers:
    """The servers a process has started. They belong to no event loop: start and stop may run in different ones."""

    data_directory: Path
    postgres: EmbeddedPostgres | None
    valkey: EmbeddedValkey | None
    _lock_fd: int | None

    @classmethod
    async def start(
        cls, data_directory: Path, *, postgres: bool, valkey: bool, durable: bool = True, watch: bool = False
    ) -> "EmbeddedServers":
        """Start those asked for; returns when they answer and the database exists. Raises EmbeddedError, SettingsError.

        `durable=False` gives up what survives a crash for speed, for tests. `watch` forces the way of macOS.
        """
        servers = cls(open_data_directory(data_directory), None, None, None)
        starting = asyncio.create_task(asyncio.to_thread(servers._start_blocking, postgres, valkey, durable, watch))
        try:
            await asyncio.shield(starting)
            if servers.postgres is not None:
                await _make_database(servers.postgres)
        except BaseException:
            # A thread cannot be cancelled: what it starts is waited for, then stopped.
            await asyncio.wait([starting])
            servers._stop_blocking()
            raise
        return servers

    @property
    def database_url(self) -> str:
        """For asyncpg and for Tortoise alike: postgresql://user:password@/tollgate?host=/socket/directory."""
        assert self.postgres is not None
        return self.postgres.url

    @property
    def redis_url(self) -> str:
        """For redis-py: unix:///socket?db=0."""
        assert self.valkey is not None
        return self.valkey.url

    def failure(self) -> str | None:
        """A sentence once a server has stopped unasked, else None."""
        for name, server in (("PostgreSQL", self.postgres), ("Valkey", self.valkey)):
            if server is not None and server.child.exit_code is not None:
                return f"{name} stopped (exit code {server.child.exit_code}):\n{server.child.log_tail()}"
        return None

    async def stop(self) -> None:
        """Stop them in good order; waits. May be called twice."""
        await asyncio.shield(asyncio.to_thread(self._stop_blocking))

    def _start_blocking(self, postgres: bool, valkey: bool, durable: bool, watch: bool) -> None:
        if os.name != "posix":
            raise EmbeddedError(
                "the embedded servers run on Linux and macOS; set TOLLGATE_DATABASE_URL and TOLLGATE_REDIS_URL"
            )
        self._lock_fd = lock_data_directory(self.data_directory)
        (self.data_directory / "logs").mkdir(mode=0o700, exist_ok=True)
        if valkey:
            self.valkey = start_valkey(self.data_directory, self._lock_fd, durable=durable, watch=watch)
        if postgres:
            self.postgres = start_postgres(self.data_directory, self._lock_fd, durable=durable, watch=watch)

    def _stop_blocking(self) -> None:
        for name, server in (("valkey", self.valkey), ("postgres", self.postgres)):
            if server is not None:
                server.stop()
            if self._lock_fd is not None:  # also of a server that failed to start
                remove_socket_directory(self.data_directory / "sockets" / name)
        self.valkey = self.postgres = None
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None


async def _make_database(server: EmbeddedPostgres) -> None:
    """The database of our own name, on the first start."""
    connection = await asyncpg.connect(server.maintenance_url)  # pyright: ignore[reportUnknownVariableType] - asyncpg has no types
    try:
        if not await connection.fetchval("SELECT count(*) FROM pg_database WHERE datname = $1", server.database):
            await connection.execute(f'CREATE DATABASE "{server.database}"')
    finally:
        await connection.close()
