"""`tollgate admin` against a real database: what it does, what it writes down, and how it says no."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest
from click.testing import CliRunner, Result

from accounts.rules.key_form import digest_of
from app.cli import cli
from app.variables import VARIABLES
from kit.ids import encode_id, uuid7
from kit.sealing import Sealer, parse_keys, row_context
from metering.ledger import Ledger
from metering.operations import PlaceHold, Settle, UsageFacts
from models.database import Database
from tests.seeding import Seeded, apply_catalog, seed_workspace

OLD, NEW = "an old secret key of thirty-two characters", "a new secret key of thirty-two characters"
CUSTOM = """
[plans.acme]
name = "Acme"
rank = 1
models = ["*"]
[plans.acme.entitlements]
requests_per_hour = 100_000
api_access = true
support_level = "PRIORITY"
[[plans.acme.prices]]
code = "month"
amount = "20"
period = "MONTH"
"""


@dataclass
class Desk:
    environment: dict[str, str]
    pg: asyncpg.Connection
    seeded: Seeded

    async def run(self, *words: str, given: str | None = None, **environment: str) -> Result:
        return await asyncio.to_thread(
            CliRunner().invoke, cli, ["admin", *words], given, {**self.environment, **environment}
        )

    async def done(self, *words: str, given: str | None = None, **environment: str) -> str:
        result = await self.run(*words, given=given, **environment)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output

    async def refused(self, *words: str, given: str | None = None) -> str:
        """What it says on its way out: a sentence, no traceback."""
        result = await self.run(*words, given=given)
        assert result.exit_code in {1, 2}, result.output
        assert isinstance(result.exception, SystemExit), result.exception
        return result.output

    async def actions(self) -> list[str]:
        return [row["action"] for row in await self.pg.fetch("SELECT action FROM audit_events ORDER BY id")]

    @property
    def workspace(self) -> str:
        return encode_id("ws", self.seeded.workspace_id)

    async def balance(self) -> int:
        return await self.pg.fetchval("SELECT balance_micro FROM wallets WHERE id = $1", self.seeded.wallet_id)


@pytest.fixture
async def desk(
    database_url: str, redis_url: str, pg: asyncpg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Desk:
    for variable in VARIABLES:
        monkeypatch.delenv(variable.name, raising=False)
    database = await Database.open(database_url, max_size=2)
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(Path("catalogs/pay-as-you-go.toml").read_text(encoding="utf-8") + CUSTOM, encoding="utf-8")
    await apply_catalog(database, catalog)
    seeded = await seed_workspace(database, 5_000_000)
    await database.close()
    environment = {
        "TOLLGATE_DATABASE_URL": database_url,
        "TOLLGATE_REDIS_URL": redis_url,
        "TOLLGATE_SECRET_KEY": OLD,
        "TOLLGATE_DATA_DIR": str(tmp_path),
    }
    return Desk(environment, pg, seeded)


async def test_a_person_is_made_with_a_workspace_and_left_alone_the_second_time(desk: Desk) -> None:
    said = await desk.done("make-user", "Ada@Example.com", "--name", "Ada", "--password-stdin", given="correct horse\n")
    assert "user_" in said
    assert "ws_" in said
    assert await desk.done("make-user", "ada@example.com") == said
    assert await desk.pg.fetchval("SELECT password_digest FROM users") is not None
    assert "at least 10 characters" in await desk.refused("make-user", "b@example.com", "--password-stdin", given="x\n")
    assert "address" in await desk.refused("make-user", "nothing")


async def test_credits_are_given_and_taken_with_a_reason(desk: Desk) -> None:
    said = await desk.done("grant", desk.workspace, "2.5", "--reason", "sorry", "--reference", "ticket-1")
    assert "gave 2.5 credits" in said
    assert "the balance is 7.5 credits" in said
    again = await desk.done("grant", desk.workspace, "2.5", "--reason", "sorry", "--reference", "ticket-1")
    assert "nothing changed" in again
    assert await desk.balance() == 7_500_000
    assert "took 7.5 credits" in await desk.done("adjust", desk.workspace, "-100", "--reason", "a mistake", "--yes")
    assert await desk.balance() == 0
    facts = await desk.pg.fetch(
        "SELECT actor_kind, facts FROM audit_events WHERE action = 'credits.adjust' ORDER BY id"
    )
    assert [row["actor_kind"] for row in facts] == ["OPERATOR", "OPERATOR"]
    assert "a mistake" in facts[1]["facts"]


@pytest.mark.parametrize("amount", ["0", "-1", "x", "1e3", "0.0000001", "99999999999999999999", "nan"])
async def test_an_amount_that_is_none_is_refused_before_anything_is_opened(desk: Desk, amount: str) -> None:
    said = await desk.refused("grant", desk.workspace, amount, "--reason", "x")
    assert "Error: " in said
    assert await desk.balance() == 5_000_000


async def test_what_takes_something_away_asks_first(desk: Desk) -> None:
    key = encode_id("key", desk.seeded.api_key_id)
    for words in (
        ("adjust", desk.workspace, "-1", "--reason", "x"),
        ("revoke-key", key),
        ("reset-two-factor", "ada@example.com"),
        ("erase-person", "ada@example.com"),
    ):
        assert "Aborted" in await desk.refused(*words, given="n\n")
    assert await desk.actions() == []


async def test_a_custom_plan_is_given_and_taken_back(desk: Desk) -> None:
    assert "the plan acme (Acme)" in await desk.done("give-plan", desk.workspace, "acme", "--reason", "a contract")
    assert "acme (Acme)" in await desk.done("show", desk.workspace)
    assert "the plan pay-as-you-go" in await desk.done("give-plan", desk.workspace, "--default", "--reason", "over")
    assert await desk.actions() == ["workspace.give_plan"] * 2
    assert "nothing" in await desk.refused("give-plan", desk.workspace, "nothing", "--reason", "x")
    assert "Usage" in await desk.refused("give-plan", desk.workspace, "--reason", "x")


async def test_a_key_is_revoked_by_its_id_or_by_its_secret(desk: Desk) -> None:
    said = await desk.done("revoke-key", "-", "--yes", given=f"{desk.seeded.api_key}\n")
    assert "is revoked" in said
    assert desk.seeded.api_key not in said
    revoked = "SELECT revoked_at IS NOT NULL FROM api_keys WHERE digest = $1"
    assert await desk.pg.fetchval(revoked, digest_of(desk.seeded.api_key))
    assert "is revoked" in await desk.done("revoke-key", encode_id("key", desk.seeded.api_key_id), "--yes")
    assert await desk.actions() == ["api_key.revoke"]
    assert "no such API key" in await desk.refused("revoke-key", "tg_live_nothing", "--yes")


async def test_a_workspace_is_shown_and_found(desk: Desk) -> None:
    slug = await desk.pg.fetchval("SELECT slug FROM workspaces")
    for name in (desk.workspace, slug):
        shown = await desk.done("show", name)
        assert "5 credits" in shown
        assert desk.workspace in shown
    await desk.done("make-user", "ada@example.com")
    assert (await desk.done("list-workspaces")).count("ws_") == 2
    for part in ("ADA@", "ada"):
        assert (await desk.done("list-workspaces", "--search", part)).count("ws_") == 1
    assert (await desk.done("list-workspaces", "--limit", "1")).count("ws_") == 1
    assert "no workspace matches" in await desk.done("list-workspaces", "--search", "%")
    for name in ("nothing", "ws_nothing", ""):
        assert "no such workspace" in await desk.refused("show", name)


async def test_a_call_is_shown_with_its_route(desk: Desk) -> None:
    call_id = await settled_call(desk, details={"route": [["alpha", "timed_out"], ["beta", "answered"]]})
    shown = await desk.done("show-call", encode_id("call", call_id))
    assert '[["alpha","timed_out"],["beta","answered"]]' in shown
    assert "7 in (0 cached), 3 out" in shown
    assert "charged       2 credits" in shown
    for name in ("call_nothing", "x", encode_id("call", uuid7())):
        assert "no such call" in await desk.refused("show-call", name)


async def settled_call(desk: Desk, details: dict) -> UUID:
    call_id, seeded = uuid7(), desk.seeded
    of_call = {"call_id": call_id, "wallet_id": seeded.wallet_id, "workspace_id": seeded.workspace_id}
    database = await Database.open(desk.environment["TOLLGATE_DATABASE_URL"], max_size=2)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(database.close)
        ledger = await Ledger.open(database)
        hold = PlaceHold(
            **of_call, amount_micro=4_000_000, model_slug="m", user_id=None, api_key_id=None, request_id="r",
            expires_at=datetime.now(UTC) + timedelta(minutes=1), terms={},
        )  # fmt: skip
        await ledger.submit(hold)
        usage = UsageFacts(input_tokens=7, output_tokens=3, provider="beta", details=details)
        await ledger.submit(Settle(**of_call, cost_micro=2_000_000, usage=usage))
        await ledger.close()
    return call_id


async def test_two_factor_mail_and_person_are_cleared_at_a_customers_wish(desk: Desk) -> None:
    user = (await desk.done("make-user", "ada@example.com")).split()[0]
    assert "does not use" in await desk.done("reset-two-factor", user, "--yes")
    await desk.pg.execute("UPDATE users SET totp_secret_encrypted = 'x', totp_confirmed_at = now()")
    assert "is off" in await desk.done("reset-two-factor", "ADA@example.com", "--yes")
    assert await desk.pg.fetchval("SELECT totp_confirmed_at FROM users") is None
    await desk.done("unsubscribe", "ada@example.com", "product_news")
    row = await desk.pg.fetchrow("SELECT kind, source FROM mail_preferences")
    assert tuple(row) == ("PRODUCT_NEWS", "SUPPORT")
    assert "Invalid value" in await desk.refused("unsubscribe", "ada@example.com", "TRANSACTIONAL")
    assert "at least one owner" in await desk.refused("erase-person", user, "--yes")
    await desk.pg.execute("UPDATE workspaces SET deleted_at = now() WHERE created_by IS NOT NULL")
    assert "is erased" in await desk.done("erase-person", user, "--yes")
    assert await desk.pg.fetchval("SELECT count(*) FROM users WHERE email LIKE 'ada%'") == 0
    assert "no such person" in await desk.refused("erase-person", user, "--yes")


async def test_secrets_are_sealed_anew_under_the_new_key(desk: Desk) -> None:
    await desk.done("make-user", "ada@example.com")
    user_id = await desk.pg.fetchval("SELECT id FROM users")
    context = row_context("users", "totp_secret_encrypted", user_id)
    sealed = Sealer(*parse_keys(OLD)).seal(b"secret", context)
    await desk.pg.execute("UPDATE users SET totp_secret_encrypted = $1", sealed)
    both = f"2:{NEW},1:{OLD}"
    said = await desk.done("rotate-secrets", TOLLGATE_SECRET_KEY=both)
    assert "users.totp_secret_encrypted: 1 sealed anew, 0 cannot be opened" in said
    assert "version 2" in said
    renewed = await desk.pg.fetchval("SELECT totp_secret_encrypted FROM users")
    assert Sealer(*parse_keys(f"2:{NEW}")).open(renewed, context) == b"secret"
    alone = await desk.run("rotate-secrets", TOLLGATE_SECRET_KEY=f"3:{OLD}")
    assert alone.exit_code == 1
    assert "1 cannot be opened" in alone.output


async def test_a_change_is_told_to_running_gateways_or_said_not_to_be(desk: Desk) -> None:
    key = encode_id("key", desk.seeded.api_key_id)
    result = await desk.run("revoke-key", key, "--yes", TOLLGATE_REDIS_URL="redis://127.0.0.1:1")
    assert result.exit_code == 0
    assert "Redis is away" in result.output


async def test_workspaces_refused_free_credits_are_listed_and_allowed(desk: Desk) -> None:
    assert "no workspace was refused" in await desk.done("list-refused")
    await desk.pg.execute(
        "INSERT INTO free_credit_verdicts (workspace_id, allowed, refusal, decided_at)"
        " VALUES ($1, false, 'MAIL_DOMAIN', '2027-01-31T10:00Z')",
        desk.seeded.workspace_id,
    )
    workspace = encode_id("ws", desk.seeded.workspace_id)
    listed = await desk.done("list-refused")
    assert workspace in listed
    assert "MAIL_DOMAIN  2027-01-31T10:00:00+00:00" in listed
    await desk.refused("allow-free-credits", workspace)  # no reason
    assert "from its next cycle on" in await desk.done("allow-free-credits", workspace, "--reason", "a school")
    assert "no workspace was refused" in await desk.done("list-refused")
    assert "free_credits.allow" in await desk.actions()
    assert "was not refused" in await desk.refused("allow-free-credits", workspace, "--reason", "again")


async def test_payments_without_a_place_are_listed(desk: Desk) -> None:
    assert "every payment that came has had its effect" in await desk.done("list-unapplied")
    payment = await desk.pg.fetchval(
        "INSERT INTO payments (id, workspace_id, purpose, amount_usd_micro, status, created_at, updated_at)"
        " VALUES (gen_random_uuid(), $1, 'SUBSCRIPTION', 15000000, 'SUCCEEDED', now(), now()) RETURNING id",
        desk.seeded.workspace_id,
    )
    listed = await desk.done("list-unapplied")
    assert encode_id("pay", payment) in listed
    assert "SUBSCRIPTION  $15.00" in listed
    assert "kept" in listed


async def test_usage_is_computed_anew_from_its_events(desk: Desk) -> None:
    await desk.pg.execute(
        "INSERT INTO usage_events (call_id, workspace_id, wallet_id, model_slug, modality, requests, cost_micro,"
        " charged_micro, estimated, provider, created_at)"
        " SELECT gen_random_uuid(), $1, $1, 'm', 'TEXT', 1, 5, 5, false, 'p', timestamptz '2026-01-01' + n * interval '20 min'"
        " FROM generate_series(1, 3) n",
        desk.seeded.workspace_id,
    )
    assert "3 quarters" in await desk.done("rebuild-usage")
    await desk.pg.execute("DELETE FROM usage_rollups")
    assert "3 quarters" in await desk.done("rebuild-usage", desk.workspace)
    assert await desk.pg.fetchval("SELECT sum(charged_micro) FROM usage_rollups") == 15
    assert "no such workspace" in await desk.refused("rebuild-usage", "nothing")
