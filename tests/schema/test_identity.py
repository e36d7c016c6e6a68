"""Signing up and in, workspaces, members and keys through GraphQL."""

import asyncio

import asyncpg
import pytest

from accounts.rules.roles import ApiScope, Role
from accounts.views import Principal
from kit.ids import encode_id, uuid7
from tests.metering.money import waiting_for_lock
from tests.schema.conftest import House

ERRORS = "userErrors { code message field }"


async def test_a_workspace_is_made_renamed_and_listed_by_role(house: House) -> None:
    owner = await house.person(None)
    made = await house.read(
        f'mutation {{ createWorkspace(input: {{name: "Ärger & Co"}}) {{ workspace {{ id slug viewerRole }} {ERRORS} }} }}',
        owner,
    )
    workspace = made["createWorkspace"]["workspace"]
    assert workspace["viewerRole"] == "OWNER"
    changed = await house.read(
        f'mutation($id: ID!) {{ updateWorkspace(input: {{workspaceId: $id, slug: "new-slug"}})'
        f" {{ workspace {{ name slug viewerRole }} {ERRORS} }} }}",
        owner,
        id=workspace["id"],
    )
    assert changed["updateWorkspace"]["workspace"] == {"name": "Ärger & Co", "slug": "new-slug", "viewerRole": "OWNER"}
    by_slug = await house.read('{ workspace(slug: "new-slug") { id } }', owner)
    assert by_slug["workspace"]["id"] == workspace["id"]
    listed = "query($roles: [Role!]) { viewer { user { email } workspaces(roles: $roles) { nodes { id } } } }"
    for roles, expected in ((None, 1), (["OWNER", "ADMIN"], 1), (["BILLING"], 0)):
        shown = await house.read(listed, owner, roles=roles)
        assert len(shown["viewer"]["workspaces"]["nodes"]) == expected
    taken = await house.read(
        f'mutation($id: ID!) {{ updateWorkspace(input: {{workspaceId: $id, slug: "new-slug"}}) {{ {ERRORS} }} }}',
        await house.person(Role.OWNER),
        id=house.workspace_id,
    )
    assert [(error["code"], error["field"]) for error in taken["updateWorkspace"]["userErrors"]] == [
        ("ALREADY_EXISTS", ["slug"])
    ]
    gone = await house.read(
        f"mutation($id: ID!) {{ deleteWorkspace(input: {{workspaceId: $id}}) {{ deletedId {ERRORS} }} }}",
        owner,
        id=workspace["id"],
    )
    assert gone["deleteWorkspace"] == {"deletedId": workspace["id"], "userErrors": []}
    assert (await house.read('{ workspace(slug: "new-slug") { id } }', owner))["workspace"] is None


async def made_workspace(house: House, owner: Principal, name: str) -> str:
    document = (
        f"mutation($name: String!) {{ createWorkspace(input: {{name: $name}}) {{ workspace {{ id }} {ERRORS} }} }}"
    )
    made = (await house.read(document, owner, name=name))["createWorkspace"]
    assert made["userErrors"] == []
    return made["workspace"]["id"]


async def test_A2_one_person_makes_and_manages_several_workspaces(house: House) -> None:
    owner = await house.person(None)
    made = {name: await made_workspace(house, owner, name) for name in ("One", "Two", "Three")}
    change = f"mutation($id: ID!, $name: String!) {{ updateWorkspace(input: {{workspaceId: $id, name: $name}}) {{ {ERRORS} }} }}"
    for name, key in made.items():
        assert await house.read(change, owner, id=key, name=f"{name} renamed") == {
            "updateWorkspace": {"userErrors": []}
        }
    listed = await house.read("{ viewer { workspaces { nodes { id name viewerRole } } } }", owner)
    assert {each["id"]: (each["name"], each["viewerRole"]) for each in listed["viewer"]["workspaces"]["nodes"]} == {
        key: (f"{name} renamed", "OWNER") for name, key in made.items()
    }
    gone = await house.read(
        f"mutation($id: ID!) {{ deleteWorkspace(input: {{workspaceId: $id}}) {{ deletedId {ERRORS} }} }}",
        owner,
        id=made["Two"],
    )
    assert gone["deleteWorkspace"] == {"deletedId": made["Two"], "userErrors": []}
    left = await house.read("{ viewer { workspaces { nodes { name } } } }", owner)
    assert {each["name"] for each in left["viewer"]["workspaces"]["nodes"]} == {"One renamed", "Three renamed"}


async def test_B1_a_person_picks_among_the_accounts_they_administer_and_what_is_shown_is_of_the_picked_one(
    house: House,
) -> None:
    person = await house.person(Role.ADMIN)
    own = await made_workspace(house, person, "Own")
    await made_workspace(house, await house.person(None), "Somebody else's")
    choice = "{ viewer { workspaces(roles: [OWNER, ADMIN]) { nodes { id } } } }"
    picked = [each["id"] for each in (await house.read(choice, person))["viewer"]["workspaces"]["nodes"]]
    assert set(picked) == {own, house.workspace_id}
    shown = "query($id: ID!) { workspace(id: $id) { id wallet { id available entries { nodes { id } } } members { nodes { role } } } }"
    of = {key: (await house.read(shown, person, id=key))["workspace"] for key in picked}
    assert of[house.workspace_id]["wallet"]["id"] == house.wallet_id
    assert [float(of[key]["wallet"]["available"]) > 0 for key in (house.workspace_id, own)] == [True, False]
    assert [len(of[key]["wallet"]["entries"]["nodes"]) > 0 for key in (house.workspace_id, own)] == [True, False]
    assert [each["role"] for each in of[own]["members"]["nodes"]] == ["OWNER"]


async def test_a_key_is_made_changed_rotated_and_revoked(house: House) -> None:
    owner = await house.person(Role.OWNER)
    made = (
        await house.read(
            f"""mutation($id: ID!) {{ createApiKey(input: {{workspaceId: $id, name: "ci", scopes: [CALLS_WRITE],
                models: ["sandbox-chat"], requestsPerHour: 10, monthlyCreditLimit: "2.5"}}) {{
                secret apiKey {{ id prefix scopes models requestsPerHour monthlyCreditLimit environment }} {ERRORS} }} }}""",
            owner,
            id=house.workspace_id,
        )
    )["createApiKey"]
    assert made["userErrors"] == []
    key = made["apiKey"]
    assert made["secret"].startswith(key["prefix"])
    assert key["monthlyCreditLimit"] == "2.5"
    assert key["environment"] == "LIVE"
    update = f"""mutation($input: UpdateApiKeyInput!) {{ updateApiKey(input: $input)
        {{ apiKey {{ name models requestsPerHour monthlyCreditLimit scopes }} {ERRORS} }} }}"""
    changed = (await house.read(update, owner, input={"apiKeyId": key["id"], "name": "other", "models": None}))[
        "updateApiKey"
    ]
    assert changed["apiKey"] == {
        "name": "other",
        "models": None,
        "requestsPerHour": 10,
        "monthlyCreditLimit": "2.5",
        "scopes": ["CALLS_WRITE"],
    }
    refused = (await house.read(update, owner, input={"apiKeyId": key["id"], "scopes": None}))["updateApiKey"]
    assert refused["apiKey"] is None
    assert [(error["code"], error["field"]) for error in refused["userErrors"]] == [("INVALID_INPUT", ["scopes"])]
    rotated = (
        await house.read(
            f"mutation($id: ID!) {{ rotateApiKey(input: {{apiKeyId: $id}}) {{ secret apiKey {{ id name }} {ERRORS} }} }}",
            owner,
            id=key["id"],
        )
    )["rotateApiKey"]
    assert rotated["secret"] != made["secret"]
    assert rotated["apiKey"]["name"] == "other"
    revoke = f"mutation($id: ID!) {{ revokeApiKey(input: {{apiKeyId: $id}}) {{ apiKey {{ revokedAt }} {ERRORS} }} }}"
    ended = (await house.read(revoke, owner, id=rotated["apiKey"]["id"]))["revokeApiKey"]
    assert ended["apiKey"]["revokedAt"]
    log = await house.read(
        "query($id: ID!) { workspace(id: $id) { auditLog { nodes { action actorKind actorId } } } }",
        owner,
        id=house.workspace_id,
    )
    entries = log["workspace"]["auditLog"]["nodes"]
    assert [entry["action"] for entry in entries[:4]] == [
        "api_key.revoke",
        "api_key.rotate",
        "api_key.update",
        "api_key.create",
    ]
    assert {entry["actorId"] for entry in entries[:4]} == {encode_id("user", owner.user_id)}


async def test_changes_of_a_key_sent_at_once_do_not_undo_each_other(
    house: House, pg: asyncpg.Connection, database_url: str
) -> None:
    """All of them read the key before any has written: the lock is held until each of them waits for it."""
    owner = await house.person(Role.OWNER)
    create = "mutation($input: CreateApiKeyInput!) { createApiKey(input: $input) { apiKey { id } } }"
    given = {"workspaceId": house.workspace_id, "name": "ci", "scopes": ["CALLS_WRITE", "BILLING_WRITE"]}
    key_id = (await house.read(create, owner, input=given))["createApiKey"]["apiKey"]["id"]
    changes = {
        "scopes": ["CALLS_WRITE"],
        "models": ["sandbox-chat"],
        "addresses": ["203.0.113.0/24"],
        "monthlyCreditLimit": "9",
        "name": "renamed",
    }
    update = f"mutation($input: UpdateApiKeyInput!) {{ updateApiKey(input: $input) {{ {ERRORS} }} }}"
    async with pg.transaction():
        await pg.execute("SELECT 1 FROM api_keys FOR UPDATE")
        sent = asyncio.gather(
            *(house.read(update, owner, input={"apiKeyId": key_id, field: value}) for field, value in changes.items())
        )
        await waiting_for_lock(database_url, len(changes))
    assert [answer["updateApiKey"]["userErrors"] for answer in await sent] == [[]] * len(changes)
    document = f"query($id: ID!) {{ node(id: $id) {{ ... on ApiKey {{ {' '.join(changes)} }} }} }}"
    assert (await house.read(document, owner, id=key_id))["node"] == changes


async def test_a_key_is_for_models_that_may_be(house: House) -> None:
    owner = await house.person(Role.OWNER)
    create = f"mutation($input: CreateApiKeyInput!) {{ createApiKey(input: $input) {{ apiKey {{ id }} {ERRORS} }} }}"
    update = (
        f"mutation($input: UpdateApiKeyInput!) {{ updateApiKey(input: $input) {{ apiKey {{ models }} {ERRORS} }} }}"
    )
    given = {"workspaceId": house.workspace_id, "name": "ci", "scopes": ["CALLS_WRITE"]}
    for slug in ("nope", "no such/model", "/x", "a/b/c"):
        refused = (await house.read(create, owner, input={**given, "models": ["sandbox-chat", slug]}))["createApiKey"]
        assert refused["apiKey"] is None
        (error,) = refused["userErrors"]
        assert (error["code"], error["field"]) == ("INVALID_INPUT", ["models"])
        assert repr(slug) in error["message"]
    models = ["sandbox-chat", "some-workspace/their-model.v1"]
    made = (await house.read(create, owner, input={**given, "models": models}))["createApiKey"]
    assert made["userErrors"] == []
    await house.services.database.pool.execute("UPDATE api_keys SET models = array_append(models, 'gone')")
    for more, kept in (([], True), (["nope"], False)):
        asked = {"apiKeyId": made["apiKey"]["id"], "models": [*models, "gone", *more]}
        changed = (await house.read(update, owner, input=asked))["updateApiKey"]
        assert (changed["userErrors"] == []) is kept


async def test_an_id_that_is_nothing_is_named_by_its_field(house: House) -> None:
    owner = await house.person(Role.OWNER)
    for name, given, field in (
        ("updateMember", {"memberId": encode_id("mem", uuid7()), "role": "ADMIN"}, "memberId"),
        ("updateMember", {"memberId": "nonsense", "role": "ADMIN"}, "memberId"),
        ("createApiKey", {"workspaceId": encode_id("ws", uuid7()), "name": "k", "scopes": []}, "workspaceId"),
        ("revokeApiKey", {"apiKeyId": encode_id("key", uuid7())}, "apiKeyId"),
        ("cancelCall", {"callId": encode_id("call", uuid7())}, "callId"),
        ("deleteAsset", {"assetId": encode_id("asset", uuid7())}, "assetId"),
        ("deleteWebhookEndpoint", {"webhookEndpointId": encode_id("hook", uuid7())}, "webhookEndpointId"),
        ("unpublishModel", {"publishedModelId": encode_id("pub", uuid7())}, "publishedModelId"),
        ("revokeInvitation", {"invitationId": encode_id("inv", uuid7())}, "invitationId"),
    ):
        kind = name[0].upper() + name[1:]
        document = f"mutation($input: {kind}Input!) {{ it: {name}(input: $input) {{ {ERRORS} }} }}"
        (error,) = (await house.read(document, owner, input=given))["it"]["userErrors"]
        assert (error["code"], error["field"]) == ("NOT_FOUND", [field]), name


@pytest.mark.parametrize(
    ("name", "given"),
    [("createApiKey", {"name": "k", "scopes": ["CALLS_WRITE"]}), ("requestTransfer", {"idempotencyKey": "k"})],
)
async def test_a_key_is_told_what_only_people_can_do(house: House, name: str, given: dict) -> None:
    document = f"mutation($input: {name[0].upper()}{name[1:]}Input!) {{ {name}(input: $input) {{ {ERRORS} }} }}"
    answer = await house.ask(document, house.key(), input={"workspaceId": house.workspace_id, **given})
    assert answer.errors is not None
    assert (
        answer.errors[0].message == "Only people can do this, no API key: sign in (signIn) and send the access token."
    )


async def test_a_key_is_told_the_scope_that_it_lacks(house: House) -> None:
    call = "mutation($input: ModelCallInput!) { callModel(input: $input) { userErrors { code } } }"
    given = {"model": "sandbox-chat", "payload": {"chat": {"messages": [{"role": "USER", "content": "a"}]}}}
    answer = await house.ask(call, house.key(ApiScope.WORKSPACE_READ), input=given)
    assert answer.errors is not None
    assert answer.errors[0].message == "This API key lacks the scope CALLS_WRITE."


async def test_a_key_sees_itself_and_its_workspace(house: House) -> None:
    document = "{ viewer { user { id } apiKey { id scopes } workspaces { nodes { id viewerRole } } } }"
    shown = (await house.read(document, house.key()))["viewer"]
    assert shown["user"] is None
    assert shown["apiKey"]["id"] == encode_id("key", house.seeded.api_key_id)
    assert shown["workspaces"]["nodes"] == [{"id": house.workspace_id, "viewerRole": None}]
    narrow = house.key(ApiScope.CALLS_WRITE)
    assert (await house.read("{ viewer { apiKey { id } } }", narrow))["viewer"]["apiKey"]
    assert await house.code(document, narrow) == "FORBIDDEN"


async def test_signing_up_answers_the_same_for_everyone(house: House) -> None:
    document = f"mutation($input: SignUpInput!) {{ signUp(input: $input) {{ {ERRORS} }} }}"
    given = {"email": "new@example.com", "password": "a long enough password 7!", "name": "New"}
    first = await house.read(document, input=given)
    again = await house.read(document, input=given)
    assert first == again == {"signUp": {"userErrors": []}}
    refused = await house.read(document, input={**given, "email": "nothing"})
    assert refused["signUp"]["userErrors"][0]["field"] == ["email"]


async def test_a_wrong_sign_in_is_a_user_error_without_a_hint(house: House) -> None:
    document = f"mutation($input: SignInInput!) {{ signIn(input: $input) {{ accessToken user {{ id }} {ERRORS} }} }}"
    answers = [
        await house.read(document, input={"email": email, "password": "wrong"})
        for email in ("nobody@example.com", "else@example.com")
    ]
    assert answers[0] == answers[1]
    assert answers[0]["signIn"]["accessToken"] is None
    assert answers[0]["signIn"]["userErrors"][0]["code"] == "INVALID_INPUT"


async def test_the_last_owner_stays(house: House) -> None:
    owner = await house.person(Role.OWNER)
    members = await house.read(
        "query($id: ID!) { workspace(id: $id) { members { nodes { id role } } } }", owner, id=house.workspace_id
    )
    (member,) = members["workspace"]["members"]["nodes"]
    for document in (
        f"mutation($id: ID!) {{ it: removeMember(input: {{memberId: $id}}) {{ deletedId {ERRORS} }} }}",
        f"mutation($id: ID!) {{ it: updateMember(input: {{memberId: $id, role: MEMBER}}) {{ member {{ id }} {ERRORS} }} }}",
    ):
        answer = (await house.read(document, owner, id=member["id"]))["it"]
        assert [error["code"] for error in answer["userErrors"]] == ["LAST_OWNER"]


@pytest.mark.parametrize("field", ["verifyEmail", "refreshSession"])
async def test_a_wrong_token_starts_no_session(house: House, field: str) -> None:
    argument = {"verifyEmail": "token", "refreshSession": "refreshToken"}[field]
    document = f'mutation {{ it: {field}(input: {{{argument}: "nonsense"}}) {{ accessToken {ERRORS} }} }}'
    result = await house.ask(document)
    if result.errors:
        assert await house.code(document) == "UNAUTHENTICATED"
    else:
        assert result.data["it"]["accessToken"] is None
        assert result.data["it"]["userErrors"]
