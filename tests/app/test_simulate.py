"""`tollgate simulate` plays each pricing model through the real code, says what happens, and leaves nothing behind."""

import asyncio
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import asyncpg
import pytest
from click.testing import CliRunner, Result

from app.cli import cli
from app.variables import VARIABLES

CATALOGS = Path(__file__).resolve().parents[2] / "catalogs"
LINE = re.compile(r"^(\d{4}-\d\d-\d\d) \d\d:\d\d +(\w+(?: back)?)  +(.*)$")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable.name, raising=False)


async def simulate(server, catalog: str, *words: str) -> Result:
    command = ["simulate", str(CATALOGS / f"{catalog}.toml"), "--start", "2027-01-31", *words]
    environment = {} if server is None else {"TOLLGATE_DATABASE_URL": server.database_url}
    return await asyncio.to_thread(CliRunner().invoke, cli, command, env=environment, catch_exceptions=False)


def lines(result: Result, *kinds: str) -> list[tuple[str, str]]:
    """(day, the line's first figure) of the kinds asked for."""
    assert result.exit_code == 0, result.output
    found = [match.groups() for line in result.output.splitlines() if (match := LINE.match(line))]
    return [(day, rest.split()[0]) for day, kind, rest in found if kind in kinds]


async def test_A6_a_yearly_plan_is_charged_once_a_year_and_its_credits_are_reset_every_month(postgres_server):
    words = ("--plan", "team", "--price", "yearly", "--usage", "steady:50/day", "--calls-per-day", "1")
    result = await simulate(postgres_server, "team-workspaces", *words)
    months = ["2027-01-31", "2027-02-28", "2027-03-31", "2027-04-30", "2027-05-31", "2027-06-30", "2027-07-31",
              "2027-08-31", "2027-09-30", "2027-10-31", "2027-11-30", "2027-12-31", "2028-01-31", "2028-02-29"]  # fmt: skip
    assert lines(result, "grant") == [(day, "+2000") for day in months]
    assert [day for day, _ in lines(result, "reset")] == months[1:]
    assert [day for day, _ in lines(result, "charge")] == ["2027-01-31", "2028-01-31"]
    assert "charged $576.00; credits granted 28000" in result.output


async def test_A7_a_lifetime_is_charged_once_and_granted_every_month(postgres_server):
    words = ("--plan", "team", "--price", "lifetime", "--usage", "none", "--months", "14")
    result = await simulate(postgres_server, "team-workspaces", *words)
    assert len(lines(result, "grant")) == 14
    assert [day for day, _ in lines(result, "charge")] == ["2027-01-31"]
    assert "charged $899.00" in result.output


async def test_A8_A9_add_on_credits_are_used_last_and_frozen_when_the_plan_is_cancelled(postgres_server):
    words = (
        "--plan",
        "team",
        "--usage",
        "steady:60/day",
        "--months",
        "3",
        "--pack",
        "addon-1000@5",
        "--cancel-after",
        "2",
    )
    result = await simulate(postgres_server, "team-workspaces", *words)
    assert "TRIALING until 2027-02-07" in result.output
    assert "then it ends" in result.output
    assert lines(result, "expiry") == [("2027-04-08", "-200")]
    assert lines(result, "frozen") == [("2027-04-08", "1000")]
    assert "no subscription; plan none" in result.output
    assert lines(result, "refused")[0][0] == "2027-04-08"


async def test_B4_auto_recharge_buys_below_the_threshold_and_declines_end_a_paid_plan(postgres_server):
    words = ("--plan", "pro", "--usage", "steady:1/day", "--recharge", "5:20", "--decline-after", "3", "--months", "4")
    result = await simulate(postgres_server, "usd-balance", *words)
    assert len(lines(result, "recharge")) == 5
    assert "pro.monthly PAST_DUE" in result.output
    assert "personal.free ACTIVE" in result.output
    assert "SUBSCRIPTION: card_declined" in result.output
    assert lines(result, "refused")


async def test_C5_an_annual_plan_brings_the_whole_year_at_its_start_and_resets_it_at_the_renewal(postgres_server):
    words = ("--plan", "pro", "--price", "annual", "--usage", "bursty:100/day", "--seed", "7")
    result = await simulate(postgres_server, "creator-tiers", *words)
    assert lines(result, "grant") == [("2027-01-31", "+48000"), ("2028-01-31", "+48000")]
    assert [day for day, _ in lines(result, "reset")] == ["2028-01-31"]
    again = await simulate(postgres_server, "creator-tiers", *words)
    assert again.output == result.output


async def test_C1_the_free_plan_begins_by_itself_and_runs_out(postgres_server):
    result = await simulate(
        postgres_server, "creator-tiers", "--plan", "free", "--usage", "weekday:6/day", "--months", "2"
    )
    assert lines(result, "grant") == [("2027-01-31", "+50"), ("2027-02-28", "+50")]
    assert lines(result, "refused")
    assert "charged $0.00" in result.output


async def test_D3_D4_prepaid_needs_no_subscription_and_recharges_when_little_is_left(postgres_server, tmp_path):
    days = tmp_path / "days.csv"
    days.write_text("date,credits\n2027-02-01,8000000\n2027-02-10,100000000\n2027-02-11,1\n")
    words = ("--plan", "pay-as-you-go", "--usage", str(days), "--months", "1", "--top-up", "60", "--recharge", "2:50")
    result = await simulate(postgres_server, "pay-as-you-go", *words)
    assert "no subscription; plan pay-as-you-go" in result.output
    assert [day for day, _ in lines(result, "recharge")] == ["2027-01-31"]
    assert lines(result, "charge") == [("2027-01-31", "100000000")]
    assert "credits granted 220000000, used 108000001" in result.output


async def test_the_picture_is_written_and_the_scratch_database_is_gone(postgres_server, tmp_path):
    picture = tmp_path / "story.svg"
    words = ("--plan", "starter", "--usage", "steady:20/day", "--months", "2", "--svg", str(picture))
    result = await simulate(postgres_server, "creator-tiers", *words)
    assert f"drawn into {picture}" in result.output
    marks = [mark.get("class") for mark in ET.parse(picture).iter("{http://www.w3.org/2000/svg}circle")]
    assert marks.count("grant") == 2
    connection = await asyncpg.connect(postgres_server.database_url)
    left = await connection.fetchval("SELECT count(*) FROM pg_database WHERE datname LIKE 'tollgate_scratch%'")
    await connection.close()
    assert left == 0


async def test_without_a_server_an_embedded_one_is_started_and_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    tmp_path.chmod(0o755)
    result = await simulate(None, "creator-tiers", "--plan", "free", "--usage", "none", "--months", "1")
    assert lines(result, "grant") == [("2027-01-31", "+50")]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--plan", "gold", "--usage", "none"), "there is no plan 'gold'; the catalog has free, starter, pro"),
        (("--plan", "pro", "--price", "weekly", "--usage", "none"), "it has monthly, annual"),
        (("--plan", "pro", "--usage", "often"), "is no usage pattern"),
        (("--plan", "pro", "--usage", "none", "--pack", "huge"), "the catalog has small, large"),
        (("--plan", "pro", "--usage", "none", "--recharge", "20"), "THRESHOLD:AMOUNT"),
        (("--plan", "pro", "--usage", "none", "--top-up", "x"), "expected a decimal number"),
        (("--plan", "pro", "--usage", "none", "--pack", "small@soon"), "a number of days"),
        (("--plan", "pro", "--usage", "/nowhere/days.csv"), "days.csv"),
    ],
)
async def test_what_cannot_be_played_is_said_before_a_database_is_made(words, said):
    result = await simulate(None, "creator-tiers", *words)
    assert result.exit_code == 2
    assert said in result.output
    assert "scratch database" not in result.output
