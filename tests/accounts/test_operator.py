"""What the operator does, and the rotation of the secret key."""

from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from accounts import operator, two_factor
from accounts.api_keys import create_key
from accounts.errors import NotFoundHere, NotInPlan
from accounts.invitations import invite
from accounts.mail.kinds import MailKind
from accounts.mail.messages import password_changed
from accounts.mail.outbox import deliver_mail, enqueue
from accounts.plans import CatalogPlans
from accounts.rules.key_terms import KeyTerms
from accounts.secret_rotation import rotate_secrets
from accounts.sign_in import sign_in
from accounts.views import ApiScope, Role
from billing.catalog import CatalogHolder
from billing.catalog_apply import apply
from billing.catalog_file import read_catalog
from billing.errors import UnknownPlan
from kit import clock
from kit.errors import InvalidInput, Unauthenticated
from kit.ids import encode_id
from kit.sealing import Sealer, row_context
from metering.errors import AmountRefused
from models.database import transaction
from tests.accounts.conftest import PASSWORD, SECRET, SENDER, VISITOR, Mailbox, acting


async def test_an_operator_makes_a_user_who_can_sign_in_at_once_and_never_changes_one(room):
    made = await operator.make_user(room.accounts, "Ada@Example.com", "Ada", PASSWORD)
    assert made.email_verified
    tokens = await sign_in(room.accounts, VISITOR, "ada@example.com", PASSWORD)
    assert (await room.workspace_of(made.id)).slug == "ada"
    again = await operator.make_user(room.accounts, "ada@example.com", "Eve", "another password")
    assert again.id == made.id
    assert (await sign_in(room.accounts, VISITOR, "ada@example.com", PASSWORD)).user.name == tokens.user.name
    with pytest.raises(InvalidInput):
        await operator.make_user(room.accounts, "bob@example.com", "Bob", "short")


async def test_credits_are_adjusted_once_per_reference_with_a_reason_in_the_audit_log(room, ledger):
    person = await room.person("ada@example.com")
    workspace = await room.workspace_of(person.user.id)
    for _ in range(2):
        outcome = await operator.adjust_credits(
            room.accounts, ledger, workspace.id, 5_000_000, "goodwill", reference="ticket-1"
        )
        assert outcome.wallet.balance_micro == 5_000_000
    await operator.adjust_credits(room.accounts, ledger, workspace.id, -2_000_000, "typo")
    rows = await room.pg.fetch("SELECT actor_kind, facts FROM audit_events WHERE action = 'credits.adjust' ORDER BY id")
    assert len(rows) == 2
    assert {row["actor_kind"] for row in rows} == {"OPERATOR"}
    assert '"goodwill"' in rows[0]["facts"]
    before = await room.pg.fetchval("SELECT count(*) FROM audit_events")
    for amount, reason in ((0, "x"), (1, "  ")):
        with pytest.raises(InvalidInput):
            await operator.adjust_credits(room.accounts, ledger, workspace.id, amount, reason)
    with pytest.raises(AmountRefused):
        await operator.adjust_credits(room.accounts, ledger, workspace.id, 2**63 - 1, "too much")
    assert await room.pg.fetchval("SELECT count(*) FROM audit_events") == before
    with pytest.raises(NotFoundHere):
        await operator.adjust_credits(room.accounts, ledger, uuid4(), 1, "x")
    outcome = await operator.adjust_credits(room.accounts, ledger, workspace.id, -9_000_000, "more than there is")
    assert (outcome.amount_micro, outcome.wallet.balance_micro) == (3_000_000, 0)
    facts = await room.pg.fetchval("SELECT facts ->> 'moved_micro' FROM audit_events ORDER BY id DESC LIMIT 1")
    assert facts == "-3000000"


async def test_an_operator_revokes_any_key_and_finds_any_workspace(room):
    person = await room.person("ada@example.com", "Ada")
    workspace = await room.workspace_of(person.user.id)
    key = await create_key(room.accounts, acting(person), workspace.id, KeyTerms("k", (ApiScope.CALLS_WRITE,)))
    await room.principals.resolve(key.secret)
    await operator.revoke_key(room.accounts, key.key.id)
    with pytest.raises(Unauthenticated):
        await room.principals.resolve(key.secret)
    for text in ("ada", "ADA", encode_id("ws", workspace.id)):
        assert (await operator.find_workspace(room.accounts, text)).id == workspace.id
    for text in ("nobody", encode_id("ws", uuid4()), "", "\x00"):
        with pytest.raises(NotFoundHere):
            await operator.find_workspace(room.accounts, text)


async def test_D11_support_turns_a_kind_of_mail_off(room):
    await operator.turn_off_mail(room.accounts, "Ada@example.com", MailKind.PRODUCT_NEWS)
    row = await room.pg.fetchrow("SELECT email_key, kind, source FROM mail_preferences")
    assert tuple(row) == ("ada@example.com", "PRODUCT_NEWS", "SUPPORT")


async def test_an_operator_helps_someone_who_lost_the_second_factor(room):
    person = await room.person("ada@example.com")
    await two_factor.enrol(room.accounts, acting(person), person.user.id)
    await room.pg.execute("UPDATE users SET totp_confirmed_at = now()")
    await operator.reset_two_factor(room.accounts, person.user.id)
    await sign_in(room.accounts, VISITOR, "ada@example.com", PASSWORD)


async def test_rotation_seals_everything_anew_and_says_what_it_could_not_read(room):
    person = await room.person("ada@example.com")
    workspace = await room.workspace_of(person.user.id)
    database, old = room.accounts.database, room.accounts.sealer
    await two_factor.enrol(room.accounts, acting(person), person.user.id)
    call_id, lost, endpoint = uuid4(), uuid4(), uuid4()
    await room.pg.executemany(
        "INSERT INTO call_outputs (call_id, workspace_id, key_version, sealed, created_at) VALUES ($1, $2, $3, $4, now())",
        [
            (call_id, workspace.id, 1, old.seal(b"output", row_context("call_outputs", "sealed", call_id))),
            (lost, workspace.id, 7, b"\x07 sealed under a key that is gone"),
        ],
    )
    await room.pg.execute(
        "INSERT INTO webhook_endpoints (id, workspace_id, url, event_kinds, secret_encrypted, previous_secret_encrypted,"
        " key_version, created_at) VALUES ($1, $2, 'https://x.test', '{}', $3, $4, 1, now())",
        endpoint,
        workspace.id,
        old.seal(b"whsec", row_context("webhook_endpoints", "secret_encrypted", endpoint)),
        old.seal(b"whsec before", row_context("webhook_endpoints", "previous_secret_encrypted", endpoint)),
    )
    file, batch, line = uuid4(), uuid4(), uuid4()
    await room.pg.execute(
        "INSERT INTO files (id, workspace_id, api_key_id, purpose, filename, size_bytes, key_version, sealed, created_at,"
        " expires_at) VALUES ($1, $1, $1, 'BATCH', 'x', 1, 1, $2, now(), now())",
        file,
        old.seal(b"lines", row_context("files", "sealed", file)),
    )
    await room.pg.execute(
        "INSERT INTO batches (id, workspace_id, api_key_id, endpoint, input_file_id, status, metadata, created_at,"
        " expires_at) VALUES ($1, $1, $1, 'x', $1, 'IN_PROGRESS', '{}', now(), now())",
        batch,
    )
    await room.pg.execute(
        "INSERT INTO batch_lines (id, batch_id, number, state, due_at, key_version, sealed)"
        " VALUES ($1, $2, 1, 'PENDING', now(), 1, $3)",
        line,
        batch,
        old.seal(b"line", row_context("batch_lines", "sealed", line)),
    )
    await room.pg.execute(
        "INSERT INTO jobs (call_id, workspace_id, wallet_id, model_slug, operation, request_id, terms, request, due_at,"
        " deadline_at, created_at) VALUES ($1, $2, $3, 'm', 'VIDEO', 'r', '{}', $4, now(), now(), now())",
        call_id,
        workspace.id,
        workspace.wallet_id,
        old.seal(b"prompt", row_context("jobs", "request", call_id)),
    )
    async with transaction(database) as conn:
        await enqueue(conn, old, password_changed("ada@example.com", "Tollgate"))
    both = Sealer({2: b"a new secret key, also long enough", 1: SECRET}, 2)
    new = Sealer({2: b"a new secret key, also long enough"}, 2)
    done = {rotated.column: (rotated.renewed, rotated.unreadable) for rotated in await rotate_secrets(database, both)}
    assert done == {
        "users.totp_secret_encrypted": (1, 0),
        "webhook_endpoints.secret_encrypted": (1, 0),
        "webhook_endpoints.previous_secret_encrypted": (1, 0),
        "published_models.api_key_encrypted": (0, 0),
        "call_outputs.sealed": (1, 1),
        "files.sealed": (1, 0),
        "batch_lines.sealed": (1, 0),
        "jobs.request": (1, 0),
        "outbox_events.payload": (1, 0),
    }
    row = await room.pg.fetchrow("SELECT sealed, key_version FROM call_outputs WHERE call_id = $1", call_id)
    assert new.open(row["sealed"], row_context("call_outputs", "sealed", call_id)) == b"output"
    assert row["key_version"] == 2
    sealed = await room.pg.fetchval("SELECT sealed FROM batch_lines WHERE key_version = 2")
    assert new.open(sealed, row_context("batch_lines", "sealed", line)) == b"line"
    request = await room.pg.fetchval("SELECT request FROM jobs")
    assert new.open(request, row_context("jobs", "request", call_id)) == b"prompt"
    secret = await room.pg.fetchval("SELECT totp_secret_encrypted FROM users")
    assert len(new.open(secret, row_context("users", "totp_secret_encrypted", person.user.id))) == 20
    mailbox = Mailbox()
    assert (await deliver_mail(database, new, mailbox, SENDER)).sent == 1
    assert all(rotated.renewed == 0 for rotated in await rotate_secrets(database, both))


async def test_a_given_plan_holds_at_once_and_is_seen_by_the_checks_of_this_room(room, ledger):
    catalog = Path(__file__).parents[2] / "catalogs" / "creator-tiers.toml"
    await apply(room.accounts.database, read_catalog(catalog), now=clock.now())
    holder = CatalogHolder(room.accounts.database)
    await holder.reload()
    accounts = replace(room.accounts, plans=CatalogPlans(room.accounts.database, holder))
    person = await room.person("ada@example.com")
    workspace = await room.workspace_of(person.user.id)
    terms = KeyTerms("k", (ApiScope.CALLS_WRITE,))
    with pytest.raises(NotInPlan):
        await create_key(accounts, acting(person), workspace.id, terms)
    with pytest.raises(NotInPlan):
        await invite(accounts, acting(person), workspace.id, "bob@example.com", Role.MEMBER)
    given = await operator.give_workspace_plan(accounts, holder.current, workspace.id, "pro", "partner")
    await create_key(accounts, acting(person), workspace.id, terms)
    await invite(accounts, acting(person), workspace.id, "bob@example.com", Role.MEMBER)
    await operator.adjust_credits(accounts, ledger, workspace.id, 7, "start")
    report = await operator.show_workspace(accounts, holder.current, workspace.id)
    assert (report.plan.code, report.owners, report.members, report.live_keys) == (
        given.code,
        ("ada@example.com",),
        1,
        1,
    )
    assert (report.balance_micro, report.held_micro) == (7, 0)
    assert await room.pg.fetchval("SELECT count(*) FROM audit_events WHERE action = 'workspace.give_plan'") == 1
    with pytest.raises(UnknownPlan):
        await operator.give_workspace_plan(accounts, holder.current, workspace.id, "no such plan", "x")
