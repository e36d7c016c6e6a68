"""Answers given again through GraphQL: where the call asks for it, or its API key does and the call does not say."""

from dataclasses import replace

from accounts.rules.roles import ApiScope, Role
from accounts.views import Environment
from kit.ids import encode_id
from tests.schema.conftest import CREDITS_MICRO, House
from tests.schema.test_first_call import chat
from tests.seeding import seed_workspace

CALL = """mutation($input: ModelCallInput!) { callModel(input: $input) {
    call { id output { ... on ChatOutput { content } } usage { credits cached } } userErrors { code message } } }"""
READ = "query($id: ID!) { node(id: $id) { ... on ModelCall { usage { cached } } } }"


async def called(house: House, principal, **more: object) -> dict:
    answer = (await house.read(CALL, principal, input=chat(**more)))["callModel"]
    assert answer["userErrors"] == []
    return answer["call"]


async def test_a_call_that_asks_for_it_gets_an_equal_calls_answer(house: House) -> None:
    key = house.key()
    first, second = await called(house, key, cache=True), await called(house, key, cache=True)
    assert (first["usage"]["cached"], second["usage"]["cached"]) == (False, True)
    assert second["output"] == first["output"]
    assert (second["usage"]["credits"], second["id"] != first["id"]) == ("0", True)
    assert (await called(house, key))["usage"]["cached"] is False
    for call in (first, second):
        assert (await house.read(READ, key, id=call["id"]))["node"]["usage"] == {"cached": call["usage"]["cached"]}


async def test_a_keys_setting_holds_where_the_call_does_not_say(house: House) -> None:
    caching = replace(house.key(), cache_answers=True)
    told = [await called(house, caching) for _ in range(2)]
    assert [call["usage"]["cached"] for call in told] == [False, True]
    assert (await called(house, caching, cache=False))["usage"]["cached"] is False
    assert (await called(house, caching, cache=None))["usage"]["cached"] is True
    assert (await called(house, house.key(), cache=True))["usage"]["cached"] is True


async def test_people_are_asked_each_time_unless_their_call_says_otherwise(house: House) -> None:
    member = await house.person(Role.MEMBER)
    workspace = {"workspaceId": house.workspace_id}
    assert not [call for _ in range(2) if (call := await called(house, member, **workspace))["usage"]["cached"]]
    both = [await called(house, member, cache=True, **workspace) for _ in range(2)]
    assert [call["usage"]["cached"] for call in both] == [False, True]


async def test_a_caching_key_of_another_workspace_is_given_nothing_of_ours(house: House) -> None:
    await called(house, replace(house.key(), cache_answers=True))
    other = await seed_workspace(house.services.database, CREDITS_MICRO, name="other")
    theirs = replace(house.key(), workspace_id=other.workspace_id, api_key_id=other.api_key_id, cache_answers=True)
    assert (await called(house, theirs))["usage"]["cached"] is False


async def test_streams_of_a_caching_key_are_made_each_time(house: House) -> None:
    caching = replace(house.key(), cache_answers=True)
    stream = """subscription($input: ModelCallInput!) { streamModel(input: $input) {
        ... on CallCompleted { call { usage { cached credits } } } } }"""
    for _ in range(2):
        events = await house.schema.subscribe(
            stream, variable_values={"input": chat(cache=True)}, context_value=house.context(caching)
        )
        told = [event.data["streamModel"] async for event in events]
        assert told[-1]["call"]["usage"]["cached"] is False
        assert told[-1]["call"]["usage"]["credits"] != "0"
    assert not await house.services.redis.keys("*answers*")


async def test_the_setting_is_shown_changed_kept_by_rotation_and_audited(house: House) -> None:
    owner = await house.person(Role.OWNER)
    made = await house.read(
        """mutation($id: ID!) { createApiKey(input: {workspaceId: $id, name: "k", scopes: [CALLS_WRITE]})
            { apiKey { id cacheAnswers } secret } }""",
        owner,
        id=house.workspace_id,
    )
    key = made["createApiKey"]["apiKey"]
    assert key["cacheAnswers"] is False
    resolve = house.services.principals.resolve
    assert (await resolve(made["createApiKey"]["secret"])).cache_answers is False
    update = "mutation($input: UpdateApiKeyInput!) { updateApiKey(input: $input) { apiKey { cacheAnswers } } }"
    for given, expected in (({"cacheAnswers": True}, True), ({"name": "other"}, True)):
        changed = await house.read(update, owner, input={"apiKeyId": key["id"], **given})
        assert changed["updateApiKey"]["apiKey"]["cacheAnswers"] is expected
        assert (await resolve(made["createApiKey"]["secret"])).cache_answers is expected
    rotated = await house.read(
        "mutation($id: ID!) { rotateApiKey(input: {apiKeyId: $id}) { apiKey { id cacheAnswers } secret } }",
        owner,
        id=key["id"],
    )
    new = rotated["rotateApiKey"]["apiKey"]
    assert new["cacheAnswers"] is True
    cleared = await house.read(update, owner, input={"apiKeyId": new["id"], "cacheAnswers": None})
    assert cleared["updateApiKey"]["apiKey"]["cacheAnswers"] is False
    log = await house.read(
        "query($id: ID!) { workspace(id: $id) { auditLog(first: 10) { nodes { action facts } } } }",
        owner,
        id=house.workspace_id,
    )
    told = [(event["action"], event["facts"].get("cache_answers")) for event in log["workspace"]["auditLog"]["nodes"]]
    assert told == [
        ("api_key.update", False),
        ("api_key.rotate", None),
        ("api_key.update", True),
        ("api_key.update", True),
        ("api_key.create", False),
    ]


async def test_a_key_made_with_it_caches_from_its_first_call(house: House) -> None:
    owner = await house.person(Role.OWNER)
    made = await house.read(
        """mutation($id: ID!) { createApiKey(input: {workspaceId: $id, name: "k", scopes: [CALLS_WRITE],
            cacheAnswers: true}) { secret } }""",
        owner,
        id=house.workspace_id,
    )
    principal = await house.services.principals.resolve(made["createApiKey"]["secret"])
    assert (principal.environment, principal.scopes) == (Environment.LIVE, {ApiScope.CALLS_WRITE})
    told = [await called(house, principal) for _ in range(2)]
    assert [call["usage"]["cached"] for call in told] == [False, True]
    assert encode_id("ws", principal.workspace_id) == house.workspace_id
