"""Signing up, in and out: what strangers may learn, and what a token is good for."""

import asyncio

import pytest

from accounts import erasure, housekeeping
from accounts.errors import LastOwner, NotFoundHere, PasswordRefused, SignInRefused, TokenRefused
from accounts.passwords import PasswordHasher
from accounts.services import AttemptKind
from accounts.sign_in import sign_in
from accounts.users import (
    change_password,
    complete_password_reset,
    rename_user,
    request_password_reset,
    sign_up,
    verify_email,
)
from accounts.views import Actor, ActorKind, Role
from accounts.workspace_deletion import delete_workspace
from kit.errors import InvalidInput, RateLimited, Unauthenticated
from tests.accounts.conftest import PASSWORD, VISITOR, acting, cheap_hasher, later, token_in


async def test_a_confirmed_sign_up_opens_an_account_with_a_workspace_of_its_own(room):
    tokens = await room.person("Ada@Example.com", "Ada")
    assert (tokens.user.email, tokens.user.name, tokens.user.email_verified) == ("Ada@example.com", "Ada", True)
    workspace = await room.workspace_of(tokens.user.id)
    assert (workspace.name, workspace.slug, workspace.viewer_role) == ("Ada", "ada", Role.OWNER)
    assert await room.pg.fetchval("SELECT count(*) FROM wallets WHERE workspace_id = $1", workspace.id) == 1
    principal = await room.principals.resolve(tokens.access_token)
    assert principal.user_id == tokens.user.id


async def test_signing_up_again_answers_the_same_and_the_mail_tells_the_owner_only(room):
    await room.person("ada@example.com")
    assert await sign_up(room.accounts, VISITOR, " ADA@example.com ", "another password", "Eve") is None
    (mail,) = await room.mails()
    assert "already" in mail["Subject"]
    assert "token=" not in mail.as_string()
    assert await room.pg.fetchval("SELECT count(*) FROM users") == 1
    await sign_in(room.accounts, VISITOR, "ada@example.com", PASSWORD)


async def test_of_several_sign_ups_only_the_confirmed_one_sets_the_password(room):
    await sign_up(room.accounts, VISITOR, "ada@example.com", "the stranger's one", "Eve")
    await sign_up(room.accounts, VISITOR, "ada@example.com", PASSWORD, "Ada")
    first, second = await room.mails()
    tokens = await verify_email(room.accounts, VISITOR, token_in(second))
    assert tokens.user.name == "Ada"
    with pytest.raises(TokenRefused):
        await verify_email(room.accounts, VISITOR, token_in(first))
    with pytest.raises(SignInRefused):
        await sign_in(room.accounts, VISITOR, "ada@example.com", "the stranger's one")
    await sign_in(room.accounts, VISITOR, "ada@example.com", PASSWORD)


async def test_a_token_is_good_once_and_for_a_day_also_when_used_twice_at_once(room, time):
    await sign_up(room.accounts, VISITOR, "ada@example.com", PASSWORD, "Ada")
    await sign_up(room.accounts, VISITOR, "bob@example.com", PASSWORD, "Bob")
    ada, bob = [token_in(mail) for mail in await room.mails()]
    await room.warm()
    answers = await asyncio.gather(
        *(verify_email(room.accounts, VISITOR, ada) for _ in range(4)), return_exceptions=True
    )
    assert sum(not isinstance(answer, Exception) for answer in answers) == 1
    assert all(isinstance(answer, TokenRefused) for answer in answers if isinstance(answer, Exception))
    later(time, hours=25)
    with pytest.raises(TokenRefused):
        await verify_email(room.accounts, VISITOR, bob)


@pytest.mark.parametrize("token", ["", "x", "\ud800", "é", "a" * 100_000, "a.b", "\x00"])
async def test_tokens_that_are_none_are_refused(room, token):
    with pytest.raises(TokenRefused):
        await verify_email(room.accounts, VISITOR, token)
    with pytest.raises(TokenRefused):
        await complete_password_reset(room.accounts, VISITOR, token, PASSWORD)


@pytest.mark.parametrize(
    ("email", "password", "name"),
    [
        ("ada", PASSWORD, "Ada"),
        ("ada@example.com", "short", "Ada"),
        ("ada@example.com", "x" * 300, "Ada"),
        ("ada@example.com", "aaaaaaaaaaaaaa", "Ada"),
        ("ada@example.com", "\ud800" * 12, "Ada"),
        ("ada.lovelace@example.com", "ada.lovelace@example.com", "Ada"),
        ("ada@example.com", PASSWORD, "\u200b"),
    ],
)
async def test_sign_ups_that_cannot_be_are_refused_with_the_reason(room, email, password, name):
    with pytest.raises(InvalidInput) as refused:
        await sign_up(room.accounts, VISITOR, email, password, name)
    assert refused.value.field


async def test_unknown_wrong_and_unconfirmed_are_one_answer(room):
    await room.person("ada@example.com")
    await sign_up(room.accounts, VISITOR, "bob@example.com", PASSWORD, "Bob")
    answers = set()
    for email, password in (
        ("ada@example.com", "wrong password"),
        ("nobody@example.com", PASSWORD),
        ("bob@example.com", PASSWORD),
        ("no address", PASSWORD),
        ("ada@example.com", "\ud800"),
        ("ada@example.com", "x" * 100_000),
    ):
        with pytest.raises(SignInRefused) as refused:
            await sign_in(room.accounts, VISITOR, email, password)
        answers.add((refused.value.message, refused.value.field))
    assert len(answers) == 1


async def test_the_same_hashing_is_done_for_an_unknown_address(room, monkeypatch):
    await room.person("ada@example.com")
    work = []
    do = PasswordHasher._work
    monkeypatch.setattr(PasswordHasher, "_work", lambda self, *given: work.append(given) or do(self, *given))
    await room.accounts.hasher.verify(None, "to have the decoy made")
    counts = []
    for email in ("ada@example.com", "nobody@example.com"):
        work.clear()
        with pytest.raises(SignInRefused):
            await sign_in(room.accounts, VISITOR, email, "wrong password")
        counts.append(len(work))
    assert counts == [1, 1]


async def test_composed_and_decomposed_passwords_are_one(room):
    await sign_up(room.accounts, VISITOR, "ada@example.com", "Motörhead é ﬁne", "Ada")
    await verify_email(room.accounts, VISITOR, await room.mailed_token())
    await sign_in(room.accounts, VISITOR, "ada@example.com", "Motörhead é fine")


async def test_attempts_are_limited_per_account_and_per_address(room):
    await room.person("ada@example.com")
    room.buckets.limits[AttemptKind.SIGN_IN_ACCOUNT] = 5
    for attempt in range(100):
        visitor = Actor(ActorKind.ANONYMOUS, None, f"203.0.113.{attempt}")
        with pytest.raises(RateLimited if attempt >= 5 else SignInRefused):
            await sign_in(room.accounts, visitor, "ADA@example.com", "wrong password")
    room.buckets.limits[AttemptKind.SIGN_IN_ADDRESS] = 3
    refusals = []
    for attempt in range(5):
        with pytest.raises((RateLimited, SignInRefused)) as refused:
            await sign_in(
                room.accounts, Actor(ActorKind.ANONYMOUS, None, "198.51.100.1"), f"x{attempt}@example.com", "no"
            )
        refusals.append(type(refused.value))
    assert refusals == [SignInRefused] * 3 + [RateLimited] * 2


async def test_mails_to_one_address_are_limited(room):
    room.buckets.limits[AttemptKind.MAIL_ACCOUNT] = 2
    await sign_up(room.accounts, VISITOR, "ada@example.com", PASSWORD, "Ada")
    await request_password_reset(room.accounts, VISITOR, "Ada@example.com")
    with pytest.raises(RateLimited):
        await request_password_reset(room.accounts, VISITOR, "ada@example.com")


async def test_too_many_hashes_at_once_are_refused_rather_than_queued(room, monkeypatch):
    monkeypatch.setattr("accounts.passwords.MAX_WAITING", 2)
    await room.accounts.hasher.verify(None, "x")
    answers = await asyncio.gather(*(room.accounts.hasher.verify(None, "x") for _ in range(9)), return_exceptions=True)
    assert sum(isinstance(answer, RateLimited) for answer in answers) == 7


async def test_a_digest_of_older_parameters_is_renewed_at_sign_in(room):
    tokens = await room.person("ada@example.com")
    old = await room.pg.fetchval("SELECT password_digest FROM users WHERE id = $1", tokens.user.id)
    stronger = cheap_hasher(time_cost=2)
    object.__setattr__(room.accounts, "hasher", stronger)
    await sign_in(room.accounts, VISITOR, "ada@example.com", PASSWORD)
    new = await room.pg.fetchval("SELECT password_digest FROM users WHERE id = $1", tokens.user.id)
    assert new != old
    assert "t=2" in new
    await sign_in(room.accounts, VISITOR, "ada@example.com", PASSWORD)
    stronger.close()


async def test_a_password_reset_ends_every_session_and_its_token_is_good_once(room):
    tokens = await room.person("ada@example.com")
    await room.principals.resolve(tokens.access_token)
    await request_password_reset(room.accounts, VISITOR, "ada@example.com")
    token = await room.mailed_token()
    with pytest.raises(InvalidInput):
        await complete_password_reset(room.accounts, VISITOR, token, "short")
    await complete_password_reset(room.accounts, VISITOR, token, "a new password")
    with pytest.raises(TokenRefused):
        await complete_password_reset(room.accounts, VISITOR, token, "yet another one")
    with pytest.raises(Unauthenticated):
        await room.principals.resolve(tokens.access_token)
    with pytest.raises(SignInRefused):
        await sign_in(room.accounts, VISITOR, "ada@example.com", PASSWORD)
    await sign_in(room.accounts, VISITOR, "ada@example.com", "a new password")


async def test_a_verification_token_does_not_reset_a_password_nor_the_other_way_round(room):
    await sign_up(room.accounts, VISITOR, "ada@example.com", PASSWORD, "Ada")
    verification = await room.mailed_token()
    with pytest.raises(TokenRefused):
        await complete_password_reset(room.accounts, VISITOR, verification, "a new password")
    await request_password_reset(room.accounts, VISITOR, "ada@example.com")
    reset = await room.mailed_token()
    with pytest.raises(TokenRefused):
        await verify_email(room.accounts, VISITOR, reset)


async def test_asking_for_a_reset_of_an_unknown_address_answers_the_same_and_mails_nobody(room):
    assert await request_password_reset(room.accounts, VISITOR, "nobody@example.com") is None
    assert await room.mails() == []


async def test_changing_the_password_needs_the_current_one_and_keeps_this_session(room):
    here = await room.person("ada@example.com")
    there = await sign_in(room.accounts, VISITOR, "ada@example.com", PASSWORD)
    with pytest.raises(PasswordRefused):
        await change_password(
            room.accounts, acting(here), here.user.id, "wrong password", "a new password", session_id=here.session_id
        )
    await change_password(
        room.accounts, acting(here), here.user.id, PASSWORD, "a new password", session_id=here.session_id
    )
    await room.principals.resolve(here.access_token)
    with pytest.raises(Unauthenticated):
        await room.principals.resolve(there.access_token)


async def test_no_secret_is_readable_in_the_database(room):
    await sign_up(room.accounts, VISITOR, "ada@example.com", PASSWORD, "Ada")
    rows = await room.pg.fetch("SELECT payload::text FROM outbox_events")
    assert rows
    assert not any("token" in row[0] or "ada" in row[0] for row in rows)
    token = await room.mailed_token()
    assert await room.pg.fetchval("SELECT payload ? 'sealed' FROM outbox_events") is False
    stored = await room.pg.fetchval("SELECT digest FROM user_tokens")
    assert token.encode() not in stored


async def test_two_sign_ups_at_once_make_one_person(room):
    await asyncio.gather(
        *(sign_up(room.accounts, VISITOR, "ada@example.com", PASSWORD, f"Ada {number}") for number in range(5))
    )
    assert await room.pg.fetchval("SELECT count(*) FROM users") == 1
    assert len(await room.mails()) == 5


async def test_an_erased_person_leaves_ids_and_nothing_that_names_them(room, ledger):
    tokens = await room.person("ada@example.com", "Ada Lovelace")
    workspace = await room.workspace_of(tokens.user.id)
    operator = Actor(ActorKind.OPERATOR)
    with pytest.raises(LastOwner):
        await erasure.erase_person(room.accounts, operator, tokens.user.id)
    await delete_workspace(room.accounts, ledger, acting(tokens), workspace.id)
    await erasure.erase_person(room.accounts, operator, tokens.user.id)
    for table in (
        "users",
        "sessions",
        "user_tokens",
        "audit_events",
        "outbox_events",
        "invitations",
        "mail_preferences",
    ):
        text = await room.pg.fetchval(f"SELECT coalesce(string_agg(t::text, ' '), '') FROM {table} t")
        for fact in ("ada@example.com", "Lovelace", "203.0.113.7" if table == "sessions" else "ada@"):
            assert fact not in text, table
    with pytest.raises(Unauthenticated):
        await room.principals.resolve(tokens.access_token)
    with pytest.raises(SignInRefused):
        await sign_in(room.accounts, VISITOR, "ada@example.com", PASSWORD)
    with pytest.raises(NotFoundHere):
        await erasure.erase_person(room.accounts, operator, tokens.user.id)
    assert (await room.person("ada@example.com")).user.id != tokens.user.id


async def test_sign_ups_never_confirmed_and_old_tokens_are_swept(room, time):
    kept = await room.person("ada@example.com")
    await sign_up(room.accounts, VISITOR, "bob@example.com", PASSWORD, "Bob")
    assert await housekeeping.sweep(room.accounts.database) == 0
    later(time, days=61)
    assert await housekeeping.sweep(room.accounts.database) > 0
    assert [row["id"] for row in await room.pg.fetch("SELECT id FROM users")] == [kept.user.id]
    assert await room.pg.fetchval("SELECT count(*) FROM refresh_tokens") == 0


async def test_a_person_can_be_renamed(room):
    tokens = await room.person("ada@example.com")
    assert (await rename_user(room.accounts, acting(tokens), tokens.user.id, " Ada  L. ")).name == "Ada L."
