"""The main job through GraphQL: who am I, what is on offer, what would it cost, call it, and what is left."""

from dataclasses import replace
from decimal import Decimal

from accounts.rules.roles import ApiScope, Role
from kit.ids import encode_id, uuid7
from tests.schema.conftest import CREDITS_MICRO, House

CALL = """
mutation Call($input: ModelCallInput!) {
  callModel(input: $input) {
    call {
      id model status error { code }
      output { ... on ChatOutput { content finishReason } ... on EmbeddingOutput { embeddings } }
      usage { credits usd estimated meters { meter quantity } charges { credits grant { kind } } }
    }
    wallet { available held balance }
    userErrors { code message field }
  }
}
"""


def chat(text: str = "Say hello.", **more: object) -> dict:
    payload = {"chat": {"messages": [{"role": "USER", "content": text}], "maxOutputTokens": 50}}
    return {"model": "sandbox-chat", "payload": payload, **more}


async def test_a_call_is_answered_settled_and_paid_to_the_micro_credit(house: House) -> None:
    answer = (await house.read(CALL, house.key(), input=chat()))["callModel"]
    call = answer["call"]
    assert answer["userErrors"] == []
    assert call["status"] == "SUCCEEDED"
    assert call["output"]["content"]
    charged = Decimal(call["usage"]["credits"])
    model = house.services.catalog.current.models_by_slug["sandbox-chat"]
    prices = {price.meter: Decimal(price.credits_micro) / price.per for price in model.prices}
    used = {reading["meter"]: int(reading["quantity"]) for reading in call["usage"]["meters"]}
    cost = used["INPUT_TOKENS"] * prices["INPUT_TOKENS"] + used["OUTPUT_TOKENS"] * prices["OUTPUT_TOKENS"]
    assert charged * 1_000_000 == cost.to_integral_value(rounding="ROUND_CEILING")
    assert [charge["credits"] for charge in call["usage"]["charges"]] == [call["usage"]["credits"]]
    assert call["usage"]["charges"][0]["grant"]["kind"] == "TOP_UP"
    assert Decimal(answer["wallet"]["available"]) == Decimal(CREDITS_MICRO) / 1_000_000 - charged
    assert answer["wallet"]["held"] == "0"


async def test_a_repeat_with_the_same_key_is_answered_again_and_charged_once(house: House) -> None:
    first = (await house.read(CALL, house.key(), input=chat(idempotencyKey="once")))["callModel"]
    again = (await house.read(CALL, house.key(), input=chat(idempotencyKey="once")))["callModel"]
    assert again == first
    other = (await house.read(CALL, house.key(), input=chat("Something else", idempotencyKey="once")))["callModel"]
    assert [error["code"] for error in other["userErrors"]] == ["IDEMPOTENCY_KEY_REUSED"]
    assert other["call"] is None


async def test_refusals_name_the_field_of_the_input(house: House) -> None:
    cases = [
        (chat(model="no-such-model"), "MODEL_NOT_FOUND", ["model"]),
        (chat(maxCredits="0"), "INVALID_INPUT", ["maxCredits"]),
        (chat(idempotencyKey=""), "INVALID_INPUT", ["idempotencyKey"]),
        (
            {"model": "sandbox-chat", "payload": {"chat": {"messages": []}}},
            "INVALID_INPUT",
            ["payload", "chat", "messages"],
        ),
        (
            {
                "model": "sandbox-chat",
                "payload": {"chat": {"messages": [{"role": "USER", "content": "a"}], "maxOutputTokens": -1}},
            },
            "INVALID_INPUT",
            ["payload", "chat", "maxOutputTokens"],
        ),
        (
            {"model": "sandbox-chat", "payload": {"chat": {"messages": [{"role": "USER"}]}}},
            "INVALID_INPUT",
            ["payload", "chat", "messages", "0", "content"],
        ),
        ({"model": "sandbox-chat", "payload": {"video": {"prompt": "a cat"}}}, "INVALID_INPUT", ["model"]),
        ({"model": "sandbox-chat", "payload": {"custom": [1]}}, "INVALID_INPUT", ["payload", "custom"]),
        ({"model": "sandbox-chat", "payload": {"embedding": {"texts": ["a"]}}}, "INVALID_INPUT", ["model"]),
    ]
    for given, code, field in cases:
        answer = (await house.read(CALL, house.key(), input=given))["callModel"]
        assert [(error["code"], error["field"]) for error in answer["userErrors"]] == [(code, field)], answer
        assert answer["call"] is None
        assert answer["wallet"] is None
    estimate = await house.read(
        "query($input: ModelCallInput!) { estimateCall(input: $input) { affordable userErrors { code } } }",
        house.key(),
        input=chat(model="no-such-model"),
    )
    assert estimate["estimateCall"] == {"affordable": False, "userErrors": [{"code": "MODEL_NOT_FOUND"}]}


async def test_a_person_says_which_workspace_pays(house: House) -> None:
    owner = await house.person(Role.OWNER)
    (error,) = (await house.read(CALL, owner, input=chat()))["callModel"]["userErrors"]
    assert (error["code"], error["field"]) == ("INVALID_INPUT", ["workspaceId"])
    assert "workspaceId is needed for people" in error["message"]
    for unknown in (encode_id("ws", uuid7()), "nonsense"):
        (error,) = (await house.read(CALL, owner, input=chat(workspaceId=unknown)))["callModel"]["userErrors"]
        assert (error["code"], error["field"]) == ("NOT_FOUND", ["workspaceId"])
    paid = (await house.read(CALL, owner, input=chat(workspaceId=house.workspace_id)))["callModel"]
    assert paid["userErrors"] == []


async def test_embeddings_pass_through_whole(house: House) -> None:
    slug = next(model.slug for model in house.services.catalog.current.models if model.slug.startswith("sandbox-embed"))
    given = {"model": slug, "payload": {"embedding": {"texts": ["a", "b"]}}}
    call = (await house.read(CALL, house.key(), input=given))["callModel"]["call"]
    assert len(call["output"]["embeddings"]) == 2
    assert all(isinstance(number, float) for number in call["output"]["embeddings"][0])


async def test_an_estimate_bounds_the_charge_and_changes_nothing(house: House) -> None:
    estimate = (
        await house.read(
            "query($input: ModelCallInput!) { estimateCall(input: $input)"
            " { maxCredits maxUsd affordable userErrors { code } } }",
            house.key(),
            input=chat(),
        )
    )["estimateCall"]
    assert estimate["affordable"] is True
    assert estimate["userErrors"] == []
    answer = (await house.read(CALL, house.key(), input=chat(maxCredits=estimate["maxCredits"])))["callModel"]
    assert Decimal(answer["call"]["usage"]["credits"]) <= Decimal(estimate["maxCredits"])


async def test_the_wallet_shows_its_grants_and_what_the_call_moved(house: House) -> None:
    made = (await house.read(CALL, house.key(), input=chat()))["callModel"]["call"]
    shown = (
        await house.read(
            """{ workspace { name wallet { balance balanceUsd transferable frozen
                 grants { nodes { kind amount remaining expiresAt frozenReason } pageInfo { hasNextPage } }
                 entries(first: 1) { edges { cursor node { kind amount balanceAfter grant { kind } call { id model } } }
                                     pageInfo { hasNextPage endCursor } } }
               plan { code entitlements { requestsPerHour } } calls { nodes { id status } } } }""",
            house.key(),
        )
    )["workspace"]
    entry = shown["wallet"]["entries"]["edges"][0]["node"]
    assert entry["kind"] == "USAGE"
    assert entry["amount"] == f"-{made['usage']['credits']}"
    assert entry["call"] == {"id": made["id"], "model": "sandbox-chat"}
    assert entry["balanceAfter"] == shown["wallet"]["balance"] == shown["wallet"]["grants"]["nodes"][0]["remaining"]
    assert shown["wallet"]["entries"]["pageInfo"]["hasNextPage"] is True
    assert shown["plan"]["entitlements"]["requestsPerHour"] == 18_000
    assert [call["id"] for call in shown["calls"]["nodes"]] == [made["id"]]
    second = await house.read(
        "query($after: String) { workspace { wallet { entries(after: $after) { nodes { kind } pageInfo { hasPreviousPage } } } } }",
        house.key(),
        after=shown["wallet"]["entries"]["pageInfo"]["endCursor"],
    )
    assert second["workspace"]["wallet"]["entries"]["nodes"] == [{"kind": "GRANT"}]


async def test_every_model_call_field_takes_one_request(house: House) -> None:
    status = "{ rateLimit { limit remaining resetAt } }"
    assert (await house.read(status, house.key()))["rateLimit"]["limit"] == 18_000
    key = replace(house.key(), requests_per_hour=20)  # its bucket refills once in three minutes
    before = (await house.read(status, key))["rateLimit"]
    assert before["limit"] == 20
    fields = " ".join(f"a{index}: callModel(input: $input) {{ userErrors {{ code }} }}" for index in range(5))
    await house.read(f"mutation($input: ModelCallInput!) {{ {fields} }}", key, input=chat())
    after = (await house.read(status, key))["rateLimit"]
    assert before["remaining"] - after["remaining"] == 5


async def test_the_catalog_needs_no_credential(house: House) -> None:
    shown = await house.read(
        """{ viewer { user { id } } rateLimit { limit }
             plans { code prices { amount plan { code } } models(first: 2) { nodes { slug plans { code } } } }
             creditPacks { code } model(slug: "sandbox-chat") { name prices { meter credits per usd } }
             none: model(slug: "no-such-model") { name }
             models(first: 3) { edges { cursor node { slug } } pageInfo { hasNextPage endCursor } } }"""
    )
    assert shown["viewer"] is None
    assert shown["rateLimit"] is None
    assert shown["none"] is None
    assert shown["plans"]
    slugs = [edge["node"]["slug"] for edge in shown["models"]["edges"]]
    assert slugs == sorted(slugs)
    page = await house.read(
        "query($after: String) { models(first: 100, after: $after) { nodes { slug } pageInfo { hasNextPage } } }",
        after=shown["models"]["pageInfo"]["endCursor"],
    )
    offered = [model.slug for model in house.services.catalog.current.models if model.enabled]
    assert slugs + [node["slug"] for node in page["models"]["nodes"]] == sorted(offered)


async def test_a_page_has_one_to_a_hundred_items(house: House) -> None:
    for document in ("{ models(first: 0) { nodes { slug } } }", "{ models(first: 101) { nodes { slug } } }",
                     '{ models(after: "?") { nodes { slug } } }'):  # fmt: skip
        assert await house.code(document) == "BAD_REQUEST"
    for document in ("{ workspace { calls(first: 101) { nodes { id } } } }",
                     '{ workspace { wallet { entries(after: "x") { nodes { id } } } } }'):  # fmt: skip
        assert await house.code(document, house.key()) == "BAD_REQUEST"


async def test_nodes_are_read_by_their_ids(house: House) -> None:
    made = (await house.read(CALL, house.key(), input=chat()))["callModel"]["call"]
    grants = await house.read(
        "{ workspace { wallet { id grants { nodes { id } } entries { nodes { id } } } } }", house.key()
    )
    wallet = grants["workspace"]["wallet"]
    snapshot = house.services.catalog.current
    ids = [
        house.workspace_id,
        made["id"],
        wallet["id"],
        wallet["grants"]["nodes"][0]["id"],
        wallet["entries"]["nodes"][0]["id"],
        encode_id("plan", snapshot.default_plan.id),
        encode_id("model", snapshot.models[0].id),
        encode_id("key", house.seeded.api_key_id),
    ]
    found = await house.read("query($ids: [ID!]!) { nodes(ids: $ids) { __typename id } }", house.key(), ids=[*ids, "x"])
    assert [node and node["id"] for node in found["nodes"]] == [*ids, None]
    kinds = [node["__typename"] for node in found["nodes"][:-1]]
    assert kinds == ["Workspace", "ModelCall", "Wallet", "CreditGrant", "LedgerEntry", "Plan", "Model", "ApiKey"]


async def test_the_wallet_of_a_payload_is_null_for_a_key_that_may_not_read_it(house: House) -> None:
    answer = (await house.read(CALL, house.key(ApiScope.CALLS_WRITE), input=chat()))["callModel"]
    assert answer["wallet"] is None
    assert answer["call"]["output"]["content"]
    assert answer["call"]["usage"]["charges"][0]["grant"] is None


async def test_a_stream_ends_with_its_call_its_charge_and_its_whole_output(house: House) -> None:
    document = """subscription($input: ModelCallInput!) { streamModel(input: $input) { __typename
        ... on CallDelta { callId index content }
        ... on CallCompleted { call { id status output { ... on ChatOutput { content } } usage { credits } } wallet { held } }
        ... on CallFailed { failed: callId userErrors { code } } } }"""
    events = await _events(house, document, chat())
    deltas = [event for event in events if event["__typename"] == "CallDelta"]
    assert len(deltas) > 1
    last = events[-1]
    assert last["__typename"] == "CallCompleted"
    assert last["call"]["output"]["content"] == "".join(delta["content"] or "" for delta in deltas)
    assert {delta["callId"] for delta in deltas} == {last["call"]["id"]}
    assert last["wallet"]["held"] == "0"
    refused = await _events(house, document, chat(model="no-such-model"))
    assert refused == [{"__typename": "CallFailed", "failed": None, "userErrors": [{"code": "MODEL_NOT_FOUND"}]}]


async def _events(house: House, document: str, given: dict) -> list[dict]:
    source = await house.schema.subscribe(
        document, variable_values={"input": given}, context_value=house.context(house.key())
    )
    found = []
    async for result in source:
        assert result.errors is None, result.errors
        found.append(result.data["streamModel"])
    return found


async def test_pictures_are_assets_with_addresses(house: House) -> None:
    document = """mutation($input: ModelCallInput!) { callModel(input: $input) { userErrors { code message } call {
        usage { meters { meter quantity } }
        output { ... on AssetsOutput { assets { id contentType sizeBytes url expiresAt } } } } } }"""
    given = {"model": "sandbox-image", "payload": {"image": {"prompt": "a cat", "count": 2}}}
    answer = (await house.read(document, house.key(), input=given))["callModel"]
    assert answer["userErrors"] == []
    assets = answer["call"]["output"]["assets"]
    assert len({asset["id"] for asset in assets}) == 2
    assert all(asset["url"] and asset["contentType"].startswith("image/") for asset in assets)
    assert {"meter": "IMAGES", "quantity": "2"} in answer["call"]["usage"]["meters"]


async def test_a_failed_call_charges_nothing_and_has_a_record(house: House) -> None:
    body = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 5, "metadata": {"sandbox_status": "500"}}
    before = await house.read("{ workspace { wallet { available held } } }", house.key())
    given = {"model": "sandbox-chat", "payload": {"custom": body}}
    answer = (await house.read(CALL, house.key(), input=given))["callModel"]
    assert [error["code"] for error in answer["userErrors"]] == ["UPSTREAM_ERROR"]
    assert answer["wallet"] is None
    assert await house.read("{ workspace { wallet { available held } } }", house.key()) == before
    calls = await house.read(
        "{ workspace { calls { nodes { id status error { code } usage { credits } } } } }", house.key()
    )
    (record,) = calls["workspace"]["calls"]["nodes"]
    assert answer["call"]["id"] == record["id"]
    assert record["status"] == "FAILED"
    assert record["error"] == {"code": "UPSTREAM_ERROR"}
    assert record["usage"] is None
