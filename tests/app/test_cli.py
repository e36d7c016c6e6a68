"""The command line: it helps, does what it says, and says what is wrong in a sentence instead of a traceback."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from app.cli import cli
from app.variables import VARIABLES
from tests.processes import free_port

ROOT = Path(__file__).resolve().parents[2]
CATALOGS = sorted((ROOT / "catalogs").glob("*.toml"))
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


def commands(group: click.Command = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


EVERY_COMMAND = dict(commands())


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable.name, raising=False)


def invoke(*words: str | Path, **environment: str) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words], env=environment, catch_exceptions=False)


async def invoke_beside_a_loop(*words: str | Path, **environment: str) -> Result:
    """For commands that run an event loop of their own."""
    return await asyncio.to_thread(invoke, *words, **environment)


def run(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """As a shell would: exit code and streams of a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "app", *map(str, words)],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("path", EVERY_COMMAND, ids=lambda path: " ".join(path) or "tollgate")
def test_every_command_helps_and_says_what_its_options_are_for(path: tuple[str, ...]) -> None:
    command = EVERY_COMMAND[path]
    shown = invoke(*path, "--help")
    assert shown.exit_code == 0
    assert shown.output.startswith("Usage: ")
    assert command.help, path
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, (path, parameter.name)
    assert invoke(*path, "-h").output == shown.output


def test_the_commands_of_the_documentation_exist() -> None:
    assert {("run",), ("serve",), ("worker",), ("migrate",), ("settings",)} <= EVERY_COMMAND.keys()
    assert {("catalog", "check"), ("catalog", "apply"), ("catalog", "show")} <= EVERY_COMMAND.keys()


def test_settings_lists_every_variable_with_default_and_meaning() -> None:
    shown = invoke("settings").output
    for variable in VARIABLES:
        assert f"{variable.name}  (default: {variable.default or 'unset'})\n    {variable.meaning}\n" in shown


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nope"], "No such command 'nope'"),
        (["catalog", "nope"], "No such command 'nope'"),
        (["run", "--nope"], "No such option"),
        (["run", "--port", "99999"], "not in the range"),
        (["run", "--port", "http"], "not a valid integer"),
        (["catalog", "check"], "Missing argument 'FILE'"),
        (["run", "--catalog", "nowhere.toml"], "does not exist"),
    ],
)
def test_a_wrong_word_is_told_and_ends_with_2(words: list[str], told: str) -> None:
    ended = run(*words)
    assert ended.returncode == 2
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("command", ["run", "serve", "worker"])
def test_wrong_settings_are_told_all_at_once_without_secrets(command: str) -> None:
    ended = run(
        command,
        TOLLGATE_PORT="http",
        TOLLGATE_WORKERS="0",
        TOLLGATE_SECRET_KEY="hunter2",
        TOLLGATE_DATABASE_URL="mysql://me:hunter2@db/x",
    )
    assert ended.returncode == 1
    told = ended.stderr.splitlines()
    assert told[0] == "tollgate: The environment is not usable:"
    assert {line.split(":")[0] for line in told[1:]} == {
        "  - TOLLGATE_DATABASE_URL",
        "  - TOLLGATE_SECRET_KEY",
        "  - TOLLGATE_PORT",
        "  - TOLLGATE_WORKERS",
    }
    assert len(told) == 5
    assert "hunter2" not in ended.stdout + ended.stderr


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_what_only_run_can_do_without_is_named(command: str) -> None:
    ended = run(command)
    assert ended.returncode == 1
    for name in ("TOLLGATE_DATABASE_URL", "TOLLGATE_REDIS_URL", "TOLLGATE_SECRET_KEY"):
        assert f"{name} is not set" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_gateway_that_cannot_start_says_why_and_ends(tmp_path: Path) -> None:
    ended = run(
        "serve",
        TOLLGATE_DATABASE_URL=NOWHERE,
        TOLLGATE_REDIS_URL="redis://127.0.0.1:1",
        TOLLGATE_SECRET_KEY="a secret key of more than thirty-two characters",
        TOLLGATE_DATA_DIR=str(tmp_path),
        TOLLGATE_PORT=str(free_port()),
    )
    assert ended.returncode == 1
    assert "could not start: The database is away" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("words", [["migrate"], ["catalog", "apply", "catalogs/usd-balance.toml"], ["catalog", "show"]])
def test_commands_on_the_database_say_when_none_is_named_and_when_it_is_away(words: list[str]) -> None:
    unnamed = run(*words)
    assert unnamed.returncode == 1
    assert "TOLLGATE_DATABASE_URL" in unnamed.stderr
    away = run(*words, TOLLGATE_DATABASE_URL=NOWHERE)
    assert away.returncode == 1
    assert "database is away" in away.stderr
    assert "Traceback" not in unnamed.stderr + away.stderr


def test_a_misspelt_variable_is_warned_of() -> None:
    warned = run("migrate", TOLLGATE_DATABASE_ULR=NOWHERE)
    assert "TOLLGATE_DATABASE_ULR is not a variable of Tollgate; is TOLLGATE_DATABASE_URL meant?" in warned.stderr


@pytest.mark.parametrize("path", CATALOGS, ids=lambda path: path.stem)
def test_the_shipped_catalogs_are_checked_without_a_finding_and_shown(path: Path) -> None:
    checked = invoke("catalog", "check", path)
    assert checked.exit_code == 0
    assert "errors 0" in checked.output
    shown = invoke("catalog", "show", path)
    assert shown.exit_code == 0
    assert "sandbox-chat" in shown.output


BROKEN = {
    "not TOML": ("plans = [", "broken.toml: line 1: "),
    "not text": (b"\xff\xfe\x00", "broken.toml", "broken.toml"),
    "empty": ("", "broken.toml", "is missing"),
    "a wrong word": (
        (ROOT / "catalogs" / "usd-balance.toml").read_text().replace('period = "MONTH"', 'period = "weekly"', 1),
        "unknown value 'weekly', expected one of",
        "period",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_catalog_is_told_by_file_and_key(name: str, tmp_path: Path) -> None:
    content, *told = BROKEN[name]
    path = tmp_path / "broken.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for command in ("check", "show"):
        ended = invoke("catalog", command, path)
        assert ended.exit_code == 1
        for each in told:
            assert each in ended.output, ended.output


def test_a_catalog_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    assert "No such file" in invoke("catalog", "check", tmp_path / "nowhere.toml").output
    assert invoke("catalog", "check", tmp_path).exit_code == 1


async def test_migrating_twice_does_nothing_the_second_time(database_url: str) -> None:
    again = await invoke_beside_a_loop("migrate", TOLLGATE_DATABASE_URL=database_url)
    assert again.exit_code == 0
    assert "nothing to apply" in again.output


async def test_a_catalog_is_shown_as_a_difference_asked_for_applied_once_and_shown_as_sold(database_url: str) -> None:
    path = ROOT / "catalogs" / "usd-balance.toml"
    env = {"TOLLGATE_DATABASE_URL": database_url}

    missing = await invoke_beside_a_loop("catalog", "show", **env)
    assert missing.exit_code == 1

    dry = await invoke_beside_a_loop("catalog", "apply", "--dry-run", path, **env)
    assert dry.exit_code == 0
    assert "personal" in dry.output
    assert "applied" not in dry.output

    unasked = await invoke_beside_a_loop("catalog", "apply", path, **env)
    assert unasked.exit_code == 1
    assert "Apply this?" in unasked.output

    applied = await invoke_beside_a_loop("catalog", "apply", "--yes", path, **env)
    assert applied.exit_code == 0, applied.output
    assert "applied" in applied.output
    again = await invoke_beside_a_loop("catalog", "apply", path, **env)
    assert again.exit_code == 0
    assert "Apply this?" not in again.output

    sold = await invoke_beside_a_loop("catalog", "show", **env)
    assert sold.output == invoke("catalog", "show", path).output


async def test_a_broken_catalog_is_not_applied(database_url: str, tmp_path: Path, pg) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("name = 7")
    ended = await invoke_beside_a_loop("catalog", "apply", "--yes", path, TOLLGATE_DATABASE_URL=database_url)
    assert ended.exit_code == 1
    assert await pg.fetchval("SELECT count(*) FROM catalog_versions") == 0
