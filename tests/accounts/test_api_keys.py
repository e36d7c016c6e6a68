"""API keys and cached principals: what a key may, and how fast it ends everywhere."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
import redis.asyncio

from accounts import api_keys
from accounts.access_tokens import AccessTokens
from accounts.bounded_cache import BoundedCache
from accounts.errors import KeyEnded, NotFoundHere, NotInPlan, TooMany
from accounts.invalidation import CHANNEL, Change, ChangeKind, Invalidations
from accounts.key_uses import KeyUses
from accounts.principals import Principals
from accounts.rules import key_form
from accounts.rules.key_terms import KeyTerms
from accounts.sessions import sign_out
from accounts.views import Actor, ActorKind, ApiScope, Environment, PrincipalKind, Role
from accounts.workspace_deletion import delete_workspace
from kit.errors import Forbidden, InvalidInput, Unauthenticated
from kit.pages import PageRequest
from tests.accounts.conftest import acting, later, until

TERMS = KeyTerms(name="CI", scopes=(ApiScope.CALLS_WRITE, ApiScope.CALLS_READ))


@pytest.fixture
async def owner(room):
    return await room.person("ada@example.com", "Ada")


@pytest.fixture
async def workspace(room, owner):
    return await room.workspace_of(owner.user.id)


async def made(room, owner, workspace, **changes):
    return await api_keys.create_key(room.accounts, acting(owner), workspace.id, replace(TERMS, **changes))


class Counting:
    """Counts what is asked of the database."""

    def __init__(self, monkeypatch):
        self.asked = 0
        import accounts.principals as module

        real = module.connection

        def counted(database):
            self.asked += 1
            return real(database)

        monkeypatch.setattr(module, "connection", counted)


async def test_a_new_key_is_shown_once_and_stored_as_a_digest(room, owner, workspace):
    key = await made(
        room, owner, workspace, monthly_limit_micro=5_000_000, requests_per_hour=60, models=("a", "b", "a")
    )
    assert key_form.is_key(key.secret)
    assert key.secret.startswith("tg_live_")
    assert key.key.prefix == key.secret[:12]
    row = await room.pg.fetchrow("SELECT * FROM api_keys")
    assert key.secret not in str(dict(row))
    assert row["digest"] == key_form.digest_of(key.secret)
    principal = await room.principals.resolve(key.secret)
    assert principal.kind is PrincipalKind.API_KEY
    assert (principal.api_key_id, principal.workspace_id) == (key.key.id, workspace.id)
    assert principal.scopes == {ApiScope.CALLS_WRITE, ApiScope.CALLS_READ}
    assert (principal.allowed_models, principal.requests_per_hour) == (frozenset("ab"), 60)
    page = await api_keys.keys_of_workspace(room.accounts, workspace.id, PageRequest(first=10))
    assert [(item.id, item.monthly_limit_micro) for item in page.items] == [(key.key.id, 5_000_000)]
    assert page.items[0] == key.key


async def test_a_test_key_says_so(room, owner, workspace):
    key = await api_keys.create_key(room.accounts, acting(owner), workspace.id, TERMS, Environment.TEST)
    assert key.secret.startswith("tg_test_")
    assert (await room.principals.resolve(key.secret)).environment is Environment.TEST


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": "\ud800"},
        {"scopes": ()},
        {"models": ()},
        {"models": ("x" * 300,)},
        {"models": ("\x00",)},
        {"models": ("a",) * 201},
        {"addresses": ("everywhere",)},
        {"addresses": ()},
        {"requests_per_hour": 0},
        {"requests_per_hour": 2**40},
        {"monthly_limit_micro": -1},
        {"monthly_limit_micro": 2**63},
    ],
)
async def test_terms_that_cannot_be_are_refused(room, owner, workspace, changes):
    with pytest.raises(InvalidInput) as refused:
        await made(room, owner, workspace, **changes)
    assert refused.value.field


async def test_keys_need_api_access_in_the_plan_and_are_bounded_by_it(room, owner, workspace):
    room.plans.downgrade(api_access=False)
    with pytest.raises(NotInPlan):
        await made(room, owner, workspace)
    room.plans.downgrade(api_access=True, api_keys_limit=2)
    await room.warm()
    answers = await asyncio.gather(*(made(room, owner, workspace) for _ in range(4)), return_exceptions=True)
    assert sum(isinstance(answer, TooMany) for answer in answers) == 2


async def test_a_wrong_key_is_refused_whatever_it_looks_like(room, monkeypatch):
    asked = Counting(monkeypatch)
    for credential in ("tg_live_", "tg_live_" + "0" * 38, "tg_" + "x" * 3000, "tg_live_\ud800", "", "Basic x", "x.y.z"):
        with pytest.raises(Unauthenticated):
            await room.principals.resolve(credential)
    assert asked.asked == 0
    unknown = key_form.compose("live", bytes(32))
    for _ in range(5):
        with pytest.raises(Unauthenticated):
            await room.principals.resolve(unknown)
    assert asked.asked == 1


async def test_junk_credentials_take_bounded_memory_and_push_out_no_good_one(room, owner, workspace, monkeypatch):
    key = await made(room, owner, workspace)
    await room.principals.resolve(key.secret)
    room.principals._unknown = BoundedCache(10)
    for number in range(50):
        with pytest.raises(Unauthenticated):
            await room.principals.resolve(key_form.compose("live", number.to_bytes(32)))
    assert len(room.principals._unknown) == 10
    asked = Counting(monkeypatch)
    await room.principals.resolve(key.secret)
    assert asked.asked == 0


async def test_a_warm_cache_asks_the_database_nothing(hearing, owner, workspace, monkeypatch):
    key = await made(hearing, owner, workspace)
    await hearing.principals.resolve(key.secret)
    await hearing.principals.resolve(owner.access_token)
    await hearing.principals.role_of(owner.user.id, workspace.id)
    asked = Counting(monkeypatch)
    for _ in range(20):
        await hearing.principals.resolve(key.secret)
        await hearing.principals.resolve(owner.access_token)
        assert await hearing.principals.role_of(owner.user.id, workspace.id) is Role.OWNER
    assert asked.asked == 0


async def test_no_credential_is_anonymous(room):
    assert (await room.principals.resolve(None)).is_anonymous


async def test_a_key_is_good_from_its_addresses_only(room, owner, workspace):
    key = await made(room, owner, workspace, addresses=("203.0.113.0/24",))
    await room.principals.resolve(key.secret, "203.0.113.9")
    for address in ("198.51.100.1", None, "rubbish"):
        with pytest.raises(Forbidden):
            await room.principals.resolve(key.secret, address)


async def test_a_key_ends_at_its_time_also_in_the_cache(room, owner, workspace, time):
    key = await made(room, owner, workspace, expires_at=time.at + timedelta(minutes=5))
    await room.principals.resolve(key.secret)
    later(time, minutes=5)
    with pytest.raises(Unauthenticated):
        await room.principals.resolve(key.secret)
    with pytest.raises(KeyEnded):
        await api_keys.rotate_key(room.accounts, acting(owner), workspace.id, key.key.id)
    with pytest.raises(InvalidInput):
        await made(room, owner, workspace, expires_at=time.at)


async def test_a_rotated_key_lives_through_its_overlap(room, owner, workspace, time):
    old = await made(room, owner, workspace, monthly_limit_micro=7)
    await room.principals.resolve(old.secret)
    new = await api_keys.rotate_key(room.accounts, acting(owner), workspace.id, old.key.id, overlap_s=60)
    assert replace(api_keys.terms_of(new.key)) == api_keys.terms_of(old.key)
    await room.principals.resolve(old.secret)
    await room.principals.resolve(new.secret)
    with pytest.raises(KeyEnded):
        await api_keys.update_key(room.accounts, acting(owner), workspace.id, old.key.id, lambda _: TERMS)
    later(time, seconds=60)
    with pytest.raises(Unauthenticated):
        await room.principals.resolve(old.secret)
    await room.principals.resolve(new.secret)
    with pytest.raises(KeyEnded):
        await api_keys.rotate_key(room.accounts, acting(owner), workspace.id, old.key.id)


async def test_without_overlap_the_old_key_ends_at_once_and_two_rotations_make_one_key(room, owner, workspace):
    old = await made(room, owner, workspace)
    await room.principals.resolve(old.secret)
    await room.warm()
    answers = await asyncio.gather(
        *(api_keys.rotate_key(room.accounts, acting(owner), workspace.id, old.key.id) for _ in range(3)),
        return_exceptions=True,
    )
    assert sum(isinstance(answer, KeyEnded) for answer in answers) == 2
    with pytest.raises(Unauthenticated):
        await room.principals.resolve(old.secret)
    for overlap in (-1, 31 * 86_400, 10**30):
        with pytest.raises(InvalidInput):
            await api_keys.rotate_key(room.accounts, acting(owner), workspace.id, old.key.id, overlap)


async def test_a_changed_key_is_changed_at_once(room, owner, workspace):
    key = await made(room, owner, workspace)
    await room.principals.resolve(key.secret)
    terms = replace(api_keys.terms_of(key.key), scopes=(ApiScope.USAGE_READ,), monthly_limit_micro=9, name="New")
    changed = await api_keys.update_key(room.accounts, acting(owner), workspace.id, key.key.id, lambda _: terms)
    assert (changed.name, changed.monthly_limit_micro) == ("New", 9)
    assert (await room.principals.resolve(key.secret)).scopes == {ApiScope.USAGE_READ}
    lifted = replace(terms, monthly_limit_micro=None)
    changed = await api_keys.update_key(room.accounts, acting(owner), workspace.id, key.key.id, lambda _: lifted)
    assert changed.monthly_limit_micro is None


async def test_a_key_of_another_workspace_is_not_found(room, owner, workspace):
    key = await made(room, owner, workspace)
    stranger = await room.person("eve@example.com")
    other = await room.workspace_of(stranger.user.id)
    for attempt in (
        api_keys.revoke_key(room.accounts, acting(stranger), other.id, key.key.id),
        api_keys.rotate_key(room.accounts, acting(stranger), other.id, key.key.id),
        api_keys.update_key(room.accounts, acting(stranger), other.id, key.key.id, lambda _: TERMS),
        api_keys.revoke_key(room.accounts, acting(stranger), other.id, uuid4()),
    ):
        with pytest.raises(NotFoundHere):
            await attempt


async def test_a_deleted_workspace_ends_its_keys(room, owner, workspace, ledger):
    key = await made(room, owner, workspace)
    await room.principals.resolve(key.secret)
    await delete_workspace(room.accounts, ledger, acting(owner), workspace.id)
    with pytest.raises(Unauthenticated):
        await room.principals.resolve(key.secret)


async def test_uses_are_written_in_one_statement_and_never_backwards(room, owner, workspace, time):
    keys = [await made(room, owner, workspace) for _ in range(3)]
    for key in keys[:2]:
        await room.principals.resolve(key.secret)
        await room.principals.resolve(key.secret)
    assert await room.pg.fetchval("SELECT count(*) FROM api_keys WHERE last_used_at IS NOT NULL") == 0
    await room.key_uses.flush()
    await room.key_uses.flush()
    rows = await room.pg.fetch("SELECT id, last_used_at FROM api_keys WHERE last_used_at IS NOT NULL")
    assert {row["id"]: row["last_used_at"] for row in rows} == {key.key.id: time.at for key in keys[:2]}
    later(time, hours=-1)
    await room.principals.resolve(keys[0].secret)
    await room.key_uses.flush()
    assert await room.pg.fetchval(
        "SELECT last_used_at FROM api_keys WHERE id = $1", keys[0].key.id
    ) == time.at + timedelta(hours=1)


class Process:
    """A second process: its own cache, hearing of changes through Valkey alone."""

    def __init__(self, room, url):
        self.client = redis.asyncio.from_url(url)
        self.invalidations = Invalidations(self.client)
        tokens = AccessTokens(room.accounts.sealer)
        database = room.accounts.database
        self.principals = Principals(database, tokens, self.invalidations, KeyUses(database))

    async def __aenter__(self):
        self.task = asyncio.create_task(self.invalidations.run())
        await until(lambda: self.invalidations.is_healthy)
        return self

    async def __aexit__(self, *_):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.client.aclose()


async def refused_soon(principals, credential, within_s=10.0):
    """Long before an entry ends by itself, which is after 30 s."""
    async with asyncio.timeout(within_s):
        while True:
            try:
                await principals.resolve(credential)
            except Unauthenticated:
                return
            await asyncio.sleep(0.01)


async def test_revocations_reach_another_process_long_before_its_entries_end(room, owner, workspace, redis_url):
    key = await made(room, owner, workspace)
    async with Process(room, redis_url) as other:
        await other.principals.resolve(key.secret)
        await other.principals.resolve(owner.access_token)
        assert await other.principals.role_of(owner.user.id, workspace.id) is Role.OWNER
        await api_keys.revoke_key(room.accounts, acting(owner), workspace.id, key.key.id)
        await refused_soon(other.principals, key.secret)
        await sign_out(room.accounts, acting(owner), owner.user.id, owner.session_id)
        await refused_soon(other.principals, owner.access_token)
        await room.pg.execute("UPDATE members SET role = 'MEMBER'")
        await room.accounts.invalidations.publish(Change(ChangeKind.ROLE, owner.user.id, workspace.id))
        async with asyncio.timeout(30):
            while await other.principals.role_of(owner.user.id, workspace.id) is not Role.MEMBER:
                await asyncio.sleep(0.01)


async def test_revoking_twice_changes_nothing_the_second_time(room, owner, workspace):
    key = await made(room, owner, workspace)
    first = await api_keys.revoke_key(room.accounts, acting(owner), workspace.id, key.key.id)
    second = await api_keys.revoke_key(room.accounts, Actor(ActorKind.OPERATOR), None, key.key.id)
    assert first == second
    assert await room.pg.fetchval("SELECT count(*) FROM audit_events WHERE action = 'api_key.revoke'") == 1


async def test_without_valkey_entries_are_trusted_for_two_seconds(room, owner, workspace, monkeypatch):
    key = await made(room, owner, workspace)
    assert not room.accounts.invalidations.is_healthy
    await room.principals.resolve(key.secret)
    await room.pg.execute("UPDATE api_keys SET revoked_at = now()")
    await room.principals.resolve(key.secret)
    present = __import__("time").monotonic()
    monkeypatch.setattr("accounts.bounded_cache.monotonic", lambda: present + 2.5)
    with pytest.raises(Unauthenticated):
        await room.principals.resolve(key.secret)


async def test_a_process_that_lost_valkey_forgets_everything_when_it_is_back(room, owner, workspace, redis_url):
    key = await made(room, owner, workspace)
    async with Process(room, redis_url) as other:
        await other.principals.resolve(key.secret)
        # The other process misses this one: its connection is cut before nothing is published.
        await room.pg.execute("UPDATE api_keys SET revoked_at = now()")
        async with redis.asyncio.from_url(redis_url) as client:
            await client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await refused_soon(other.principals, key.secret, within_s=20)


async def test_what_could_not_be_published_is_published_when_valkey_is_back(room, redis_url):
    away = redis.asyncio.from_url("redis://127.0.0.1:1")
    sender = Invalidations(away)
    change = Change(ChangeKind.USER, uuid4())
    heard = []
    sender.listen(heard.append)
    await sender.publish(change)
    assert heard == [change]
    await away.aclose()
    async with redis.asyncio.from_url(redis_url) as client, client.pubsub() as pubsub:
        await pubsub.subscribe(CHANNEL)
        sender._redis = client
        await sender._send_backlog()
        async with asyncio.timeout(30):
            while True:
                message = await pubsub.get_message(timeout=0.1)
                if message and message["type"] == "message":
                    break
    assert Change.of_text(message["data"].decode()) == change


async def test_an_unreadable_message_makes_everything_forgotten(hearing, owner, workspace):
    changes = []
    hearing.accounts.invalidations.listen(changes.append)
    for payload in (b"\xff\xfe", b"nonsense", b"key:zz", b""):
        changes.clear()
        await hearing.accounts.invalidations._redis.publish(CHANNEL, payload)
        await until(lambda: changes)
        assert [change.kind for change in changes] == [ChangeKind.EVERYTHING]


async def test_what_was_read_before_a_revocation_is_not_kept_after_it(room, owner, workspace, monkeypatch):
    key = await made(room, owner, workspace)
    load = Principals._principal_of_key

    async def overtaken(self, digest):
        principal = await load(self, digest)
        await api_keys.revoke_key(room.accounts, acting(owner), workspace.id, key.key.id)
        return principal

    monkeypatch.setattr(Principals, "_principal_of_key", overtaken)
    await room.principals.resolve(key.secret)
    monkeypatch.undo()
    with pytest.raises(Unauthenticated):
        await room.principals.resolve(key.secret)
