"""People and keys with real processes: two gateways, a worker, PostgreSQL, Valkey and an SMTP server."""

import asyncio
import email
import email.policy
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import unquote

import aiohttp
import asyncpg
import pytest
from aiosmtpd.controller import Controller

from kit.ids import decode_id
from models.database import Database
from tests.processes import Running, free_port, gateway_env, start_gateway, start_worker
from tests.seeding import apply_catalog, grant

PASSWORD = "correct horse battery"
WITHIN_S = 10.0
"""Long before what a process knows of a key is read again by itself, which is after 30 s."""
ATTEMPTS = 200


@dataclass
class PostOffice:
    """Takes every mail."""

    mails: list = field(default_factory=list)

    async def handle_DATA(self, server, session, envelope) -> str:
        self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return "250 OK"

    async def token(self, to: str, path: str) -> str:
        """The token in the last mail to someone that links to a path, once it is there."""
        async with asyncio.timeout(60):
            while True:
                for mail in reversed(self.mails):
                    if mail["To"] == to:
                        text = mail.get_body(("plain",)).get_content()
                        if found := re.search(rf"{path}\?token=(\S+)", text):
                            return unquote(found[1])
                await asyncio.sleep(0.05)


@dataclass
class Town:
    first: Running
    second: Running
    worker: Running
    post: PostOffice
    http: aiohttp.ClientSession
    pg: asyncpg.Connection
    database: Database

    async def ask(self, at: Running, document: str, credential: str | None = None, address: str = "203.0.113.7", **variables) -> dict:  # fmt: skip
        headers = {"X-Forwarded-For": address}
        if credential is not None:
            headers["Authorization"] = f"Bearer {credential}"
        body = {"query": document, "variables": variables}
        async with self.http.post(f"{at.url}/graphql", json=body, headers=headers) as answer:
            return await answer.json()

    async def do(self, at: Running, name: str, shown: str, credential: str | None = None, /, **given) -> dict:
        """What a mutation answers, which must be no error."""
        document = f"mutation($i: {name[0].upper()}{name[1:]}Input!) {{ it: {name}(input: $i) {{ {shown} userErrors {{ message }} }} }}"
        answer = await self.ask(at, document, credential, i=given)
        assert "errors" not in answer, answer
        assert answer["data"]["it"]["userErrors"] == [], answer
        return answer["data"]["it"]

    async def person(self, address: str) -> str:
        """Signs up, answers the mail and signs in; the access token."""
        await self.do(self.first, "signUp", "", email=address, password=PASSWORD, name="Ada")
        token = await self.post.token(address, "/verify-email")
        opened = await self.do(self.first, "verifyEmail", "accessToken user { email }", token=token)
        assert opened["user"]["email"] == address
        return (await self.do(self.second, "signIn", "accessToken", email=address, password=PASSWORD))["accessToken"]

    async def call(self, at: Running, key: str) -> int:
        body = {"model": "sandbox-chat", "max_tokens": 3, "messages": [{"role": "user", "content": "Hello"}]}
        headers = {"Authorization": f"Bearer {key}"}
        async with self.http.post(f"{at.url}/v1/chat/completions", json=body, headers=headers) as answer:
            return answer.status


@pytest.fixture(scope="module")
async def town(database_clones, valkey_server, tmp_path_factory) -> AsyncIterator[Town]:
    database_url = database_clones.url_of(await database_clones.take())
    database = await Database.open(database_url)
    await apply_catalog(database)
    post = PostOffice()
    smtp = Controller(post, hostname="127.0.0.1", port=free_port())
    smtp.start()

    def env() -> dict[str, str]:
        return gateway_env(
            database_url,
            valkey_server.redis_url,
            tmp_path_factory.mktemp("process"),
            TOLLGATE_SMTP_URL=f"smtp://{smtp.hostname}:{smtp.port}?starttls=never",
            TOLLGATE_TRUSTED_PROXIES="127.0.0.1",
        )

    first, second, worker = await asyncio.gather(start_gateway(env()), start_gateway(env()), start_worker(env()))
    pg = await asyncpg.connect(database_url)
    async with aiohttp.ClientSession() as http:
        yield Town(first, second, worker, post, http, pg, database)
    await pg.close()
    await database.close()
    ended = [await process.stop() for process in (first, second, worker)]
    smtp.stop()
    lines = [*first.lines, *second.lines, *worker.lines]
    assert ended == [0, 0, 0], lines
    assert not [text for text in lines if "Traceback" in text or "ERROR" in text], lines


async def within(bound_s: float, check) -> None:
    """The check comes true within the bound; polled by what a client would send."""
    began = time.monotonic()
    while not await check():
        assert time.monotonic() - began < bound_s
        await asyncio.sleep(0.02)


async def test_from_sign_up_to_a_revoked_key_heard_by_another_process(town: Town) -> None:
    ada = await town.person("ada@example.com")
    made = await town.do(town.first, "createWorkspace", "workspace { id slug }", ada, name="Ada's works")
    workspace_id = made["workspace"]["id"]
    made = await town.do(
        town.first,
        "createApiKey",
        "secret apiKey { id }",
        ada,
        workspaceId=workspace_id,
        name="k",
        scopes=["CALLS_WRITE"],
    )
    key, key_id = made["secret"], made["apiKey"]["id"]
    assert await town.call(town.second, key) == 402
    wallet_id = await town.pg.fetchval("SELECT id FROM wallets WHERE workspace_id = $1", decode_id("ws", workspace_id))
    await grant(town.database, wallet_id, 1_000_000_000)
    assert await town.call(town.second, key) == 200
    assert await town.call(town.first, key) == 200
    await town.do(town.first, "revokeApiKey", "apiKey { id }", ada, apiKeyId=key_id)
    assert await town.call(town.first, key) == 401

    async def is_refused() -> bool:
        return await town.call(town.second, key) == 401

    await within(WITHIN_S, is_refused)


async def test_a_call_through_graphql_takes_one_request_of_its_keys_limit(town: Town) -> None:
    ada = await town.person("limited@example.com")
    found = await town.ask(town.first, "{ viewer { workspaces { nodes { id } } } }", ada)
    workspace_id = found["data"]["viewer"]["workspaces"]["nodes"][0]["id"]
    made = await town.do(
        town.first,
        "createApiKey",
        "secret",
        ada,
        workspaceId=workspace_id,
        name="k",
        scopes=["CALLS_WRITE"],
        environment="TEST",
        requestsPerHour=2,
    )
    document = (
        "mutation($i: ModelCallInput!) { callModel(input: $i) { call { usage { credits } } userErrors { code } } }"
    )
    given = {"model": "sandbox-chat", "payload": {"chat": {"messages": [{"role": "USER", "content": "a"}]}}}
    answers = [await town.ask(town.first, document, made["secret"], i=given) for _ in range(3)]
    for answer in answers[:2]:
        assert answer["data"]["callModel"] == {"call": {"usage": {"credits": "0"}}, "userErrors": []}
    assert answers[2]["errors"][0]["extensions"]["code"] == "RATE_LIMITED"


async def test_a_removed_member_is_shut_out_of_every_process(town: Town) -> None:
    owner = await town.person("owner@example.com")
    made = await town.do(town.first, "createWorkspace", "workspace { id }", owner, name="Team")
    workspace_id = made["workspace"]["id"]
    await town.do(
        town.first, "inviteMember", "invitation { id }", owner, workspaceId=workspace_id, email="new@example.com"
    )
    token = await town.post.token("new@example.com", "/invite")
    joined = await town.do(
        town.second, "joinWorkspace", "accessToken member { id }", token=token, name="New", password=PASSWORD
    )
    seen = "query($id: ID!) { workspace(id: $id) { viewerRole } viewer { user { email } } }"
    member = joined["accessToken"]
    for at in (town.first, town.second):
        answer = await town.ask(at, seen, member, id=workspace_id)
        assert answer["data"]["workspace"] == {"viewerRole": "MEMBER"}, answer
    await town.do(town.first, "removeMember", "deletedId", owner, memberId=joined["member"]["id"])
    assert (await town.ask(town.first, seen, member, id=workspace_id))["data"]["workspace"] is None

    async def is_out() -> bool:
        return (await town.ask(town.second, seen, member, id=workspace_id))["data"]["workspace"] is None

    await within(WITHIN_S, is_out)
    answer = await town.ask(town.second, seen, member, id=workspace_id)
    assert answer["data"]["viewer"]["user"] == {"email": "new@example.com"}, "the account stays"


async def test_guessing_a_password_is_refused_after_a_few_attempts_and_not_even_checked(town: Town) -> None:
    await town.person("target@example.com")
    document = "mutation($i: SignInInput!) { signIn(input: $i) { accessToken userErrors { code } } }"
    before = await town.pg.fetchval("SELECT count(*) FROM audit_events WHERE action = 'session.refuse'")

    async def attempt(number: int) -> str:
        given = {"email": "target@example.com", "password": f"guess {number}"}
        at = town.first if number % 2 else town.second
        answer = await town.ask(at, document, address=f"198.51.100.{number % 250}", i=given)
        if answer.get("errors"):
            return answer["errors"][0]["extensions"]["code"]
        assert answer["data"]["signIn"]["accessToken"] is None
        return "checked"

    outcomes = await asyncio.gather(*(attempt(number) for number in range(ATTEMPTS)))
    checked = outcomes.count("checked")
    # 10 at once and 30 an hour for one account; its owner's own sign-in took one of them
    assert checked in {9, 10}
    assert outcomes.count("RATE_LIMITED") == ATTEMPTS - checked
    after = await town.pg.fetchval("SELECT count(*) FROM audit_events WHERE action = 'session.refuse'")
    assert after - before == checked, "a refused attempt costs no hash and no row"


async def test_the_last_use_of_a_key_is_written_when_a_gateway_stops(town: Town) -> None:
    ada = await town.person("last@example.com")
    made = await town.do(town.first, "createWorkspace", "workspace { id }", ada, name="Last")
    terms = {"workspaceId": made["workspace"]["id"], "name": "used last", "scopes": ["CALLS_WRITE"]}
    made = await town.do(town.first, "createApiKey", "secret", ada, **terms)
    assert await town.call(town.second, made["secret"]) == 402
    assert await town.second.stop() == 0
    assert await town.pg.fetchval("SELECT last_used_at FROM api_keys WHERE name = 'used last'") is not None
