"""`tollgate run` as people start it: what it prints works, what it keeps survives, and it ends without leftovers."""

import asyncio
import contextlib
import os
import re
import shlex
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import orjson
import pytest

from tests.processes import ROOT, Running, free_port, start

EVERYTHING_STARTS_WITHIN_S = 120
EVERYTHING_ENDS_WITHIN_S = 60
pytestmark = pytest.mark.timeout(600)
"""Each start takes several seconds of two processors, which it shares."""


async def start_run(directory: Path, port: int | None = None, **environment: str) -> Running:
    """`tollgate run` on a free port, once it has printed how to use it."""
    port = port or free_port()
    running = await start(
        *(sys.executable, "-m", "app", "run", "--port", str(port)),
        env={"TOLLGATE_DATA_DIR": str(directory), "TOLLGATE_LOG_LEVEL": "warning", **environment},
    )
    running.url = f"http://localhost:{port}"
    async with asyncio.timeout(EVERYTHING_STARTS_WITHIN_S):
        while not any("-d '" in line for line in running.lines):
            assert running.process.returncode is None, running.lines
            await asyncio.sleep(0.02)
    return running


def printed_command(running: Running) -> str:
    """The curl line as it stands in the terminal, to be pasted into a shell."""
    text = "\n".join(running.lines)
    return re.search(r"^  (curl .*?\}')$", text, re.MULTILINE | re.DOTALL)[1]


def printed_key(running: Running) -> str:
    return re.search(r"API key +(tg_live_\w+)", "\n".join(running.lines))[1]


async def paste(command: str) -> dict:
    """What the command answers when it is pasted into a shell; asked by ourselves where curl is missing."""
    if shutil.which("curl"):
        shell = await asyncio.create_subprocess_shell(
            f"{command} --silent --show-error", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        answer, problem = await shell.communicate()
        assert shell.returncode == 0, problem
        return orjson.loads(answer)
    words = shlex.split(command)
    assert words[0] == "curl"
    headers = dict(words[at + 1].split(": ", 1) for at, word in enumerate(words) if word == "-H")
    body = words[words.index("-d") + 1]
    async with aiohttp.ClientSession() as session, session.post(words[1], data=body, headers=headers) as answer:
        return await answer.json()


async def available(running: Running) -> float:
    query = {"query": "{ viewer { workspaces(first: 1) { edges { node { wallet { available held } } } } } }"}
    headers = {"Authorization": f"Bearer {printed_key(running)}"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{running.url}/graphql", json=query, headers=headers) as answer,
    ):
        found = await answer.json()
    wallet = found["data"]["viewer"]["workspaces"]["edges"][0]["node"]["wallet"]
    assert float(wallet["held"]) == 0
    return float(wallet["available"])


def started_by(process: int) -> set[int]:
    """All descendants of a process."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in found | {process}} - found:
        found |= more
    return found


def lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def all_gone(processes: set[int]) -> None:
    async with asyncio.timeout(EVERYTHING_ENDS_WITHIN_S):
        while any(lives(process) for process in processes):
            await asyncio.sleep(0.02)


async def end(running: Running) -> None:
    """For cleaning up after a failed test too."""
    if running.process.returncode is None:
        children = started_by(running.pid)
        running.process.send_signal(signal.SIGKILL)
        await running.process.wait()
        await all_gone(children)


@pytest.fixture
async def first(short_directory: Path) -> AsyncIterator[Running]:
    running = await start_run(short_directory / "data")
    yield running
    await end(running)


@pytest.mark.slow
async def test_what_run_prints_works_its_data_survives_and_signals_end_it_well(
    first: Running, short_directory: Path
) -> None:
    printed = "\n".join(first.lines)
    for address in (f"{first.url}/graphql", f"{first.url}/v1"):
        assert address in printed
    answer = await paste(printed_command(first))
    assert answer["choices"][0]["message"]["content"]
    charged = float(answer["usage"]["credits"])
    assert charged > 0
    before = await available(first)
    assert before == 20_000_000 - charged

    await refuses_the_same_data_directory(short_directory / "data")
    await refuses_a_taken_port(first, short_directory / "other")

    children = started_by(first.pid)
    assert len(children) >= 3, "PostgreSQL, Valkey and the sandbox provider"
    first.process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(first.process.wait(), EVERYTHING_ENDS_WITHIN_S) == 0
    await asyncio.gather(*first.reading)
    assert first.lines[-1] == "stopped; your data is kept"
    assert not any("Traceback" in line for line in first.lines), first.lines
    assert not {child for child in children if lives(child)}

    again = await start_run(short_directory / "data")
    try:
        assert printed_key(again) == printed_key(first)
        assert await available(again) == before
        answer = await paste(printed_command(again))
        assert await available(again) == before - float(answer["usage"]["credits"])
        children = started_by(again.pid)
        assert await again.stop() == 0, again.lines
        assert not {child for child in children if lives(child)}
        assert not any("Traceback" in line for line in again.lines), again.lines
    finally:
        await end(again)


async def test_the_documented_variables_lead_commands_to_a_running_demo(first: Running, short_directory: Path) -> None:
    page = (ROOT / "docs" / "operators.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```sh\n(export TOLLGATE_DATA_DIR=.*?)^```", page, re.MULTILINE | re.DOTALL)
    (short_directory / ".tollgate").symlink_to(short_directory / "data")
    commands = block.replace(".venv/bin/tollgate", f"{shlex.quote(sys.executable)} -m app")
    shell = await start("sh", "-e", "-c", f"cd {short_directory}\n{commands}", env={"PYTHONPATH": str(ROOT)})
    assert await asyncio.wait_for(shell.process.wait(), 2 * EVERYTHING_STARTS_WITHIN_S) == 0, shell.lines
    await asyncio.gather(*shell.reading)
    assert "every promise holds" in shell.lines
    assert any("Pay as you go" in line for line in shell.lines)
    assert any("demo@example.com" in line for line in shell.lines)


async def refuses_the_same_data_directory(directory: Path) -> None:
    second = await start(
        *(sys.executable, "-m", "app", "run", "--port", str(free_port())), env={"TOLLGATE_DATA_DIR": str(directory)}
    )
    assert await asyncio.wait_for(second.process.wait(), EVERYTHING_STARTS_WITHIN_S) == 1
    await asyncio.gather(*second.reading)
    assert "another tollgate run" in second.lines[-1]
    assert "TOLLGATE_DATA_DIR" in second.lines[-1]
    assert not any("Traceback" in line for line in second.lines)


async def refuses_a_taken_port(first: Running, directory: Path) -> None:
    port = first.url.rpartition(":")[2]
    second = await start(
        *(sys.executable, "-m", "app", "run", "--port", port), env={"TOLLGATE_DATA_DIR": str(directory)}
    )
    assert await asyncio.wait_for(second.process.wait(), EVERYTHING_STARTS_WITHIN_S) == 1
    await asyncio.gather(*second.reading)
    assert f"cannot listen on 127.0.0.1:{port}" in second.lines[-1]
    assert "--port" in second.lines[-1]
    assert not any("Traceback" in line for line in second.lines)
    assert not (directory / "postgres").exists(), "nothing was started"


async def test_a_run_that_cannot_keep_a_journal_says_so_and_stops_what_it_started(short_directory: Path) -> None:
    (short_directory / "data").mkdir(mode=0o755)
    (short_directory / "data" / "journal").write_text("in the way")
    refused = await start(
        *(sys.executable, "-m", "app", "run", "--port", str(free_port())),
        env={"TOLLGATE_DATA_DIR": str(short_directory / "data"), "TOLLGATE_LOG_LEVEL": "warning"},
    )
    assert await asyncio.wait_for(refused.process.wait(), EVERYTHING_STARTS_WITHIN_S) == 1
    await asyncio.gather(*refused.reading)
    assert any("journal" in line and "cannot be written" in line for line in refused.lines), refused.lines
    assert not any("Traceback" in line for line in refused.lines), refused.lines
    assert "stopped; your data is kept" in refused.lines


async def test_the_servers_die_with_a_run_that_is_killed_and_what_was_settled_is_there_at_the_next(
    first: Running, short_directory: Path
) -> None:
    answer = await paste(printed_command(first))
    left = 20_000_000 - float(answer["usage"]["credits"])
    children = started_by(first.pid)
    assert len(children) >= 3
    os.kill(first.pid, signal.SIGKILL)
    await first.process.wait()
    await all_gone(children)

    again = await start_run(short_directory / "data")
    try:
        assert await available(again) == left
    finally:
        await end(again)
