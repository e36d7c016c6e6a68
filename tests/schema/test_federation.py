"""This schema as a subgraph: entities by reference, under the same rules as nodes."""

import pytest
from graphql import parse

from accounts.rules.roles import Role
from kit.ids import encode_id, uuid7
from tests.schema.conftest import House

ENTITIES = """query($of: [_Any!]!) { _entities(representations: $of) { __typename
    ... on Workspace { id slug } ... on Plan { id code } ... on Model { id slug } ... on User { id email } } }"""


async def test_the_service_tells_its_keys_and_imports_them(house: House) -> None:
    sdl = (await house.read("{ _service { sdl } }"))["_service"]["sdl"]
    parse(sdl)
    assert sdl.startswith("extend schema @link(")
    assert sdl.count('@key(fields: "id")') == 4
    assert "directive @key" not in sdl


async def test_entities_are_given_to_those_who_may_see_them_and_null_to_others(house: House) -> None:
    snapshot = house.services.catalog.current
    owner = await house.person(Role.OWNER)
    references = [
        {"__typename": "Workspace", "id": house.workspace_id},
        {"__typename": "User", "id": encode_id("user", owner.user_id)},
        {"__typename": "Plan", "id": encode_id("plan", snapshot.default_plan.id)},
        {"__typename": "Model", "id": encode_id("model", snapshot.models[0].id), "slug": "ignored"},
        {"__typename": "Model", "id": house.workspace_id},
        {"__typename": "Workspace", "id": encode_id("ws", uuid7())},
    ]
    kinds = {}
    for who, principal in (("owner", owner), ("stranger", await house.person(None)), ("key", house.key())):
        found = await house.read(ENTITIES, principal, of=references)
        kinds[who] = [entity and entity["__typename"] for entity in found["_entities"]]
    assert kinds["owner"] == ["Workspace", "User", "Plan", "Model", None, None]
    assert kinds["stranger"] == [None, None, "Plan", "Model", None, None]
    assert kinds["key"] == ["Workspace", "User", "Plan", "Model", None, None], "it may read the members"


@pytest.mark.parametrize(
    "reference",
    [{}, {"__typename": "Workspace"}, {"__typename": "Wallet", "id": "x"}, {"__typename": 1, "id": "x"}, "x", 1, None],
)
async def test_a_reference_that_is_none_is_the_callers_mistake(house: House, reference: object) -> None:
    result = await house.ask(ENTITIES, of=[reference])
    assert result.data is None
    assert result.errors
    assert len(str(result.errors[0])) < 500


async def test_a_hundred_entities_at_a_time(house: House) -> None:
    assert await house.code(ENTITIES, of=[{"__typename": "Plan", "id": "x"}] * 101) == "BAD_REQUEST"
