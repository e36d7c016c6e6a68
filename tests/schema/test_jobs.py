"""Jobs and assets over GraphQL: begun, followed, cancelled, and seen by those who may see them."""

from accounts.rules.roles import ApiScope, Role
from kit.ids import decode_id
from tests.schema.conftest import House
from tests.schema.test_live import UPDATED, watching

CALL = """call { id status error { code message } usage { credits estimated meters { meter quantity } }
    output { ... on AssetsOutput { assets { id contentType sizeBytes url expiresAt urlExpiresAt } } } }"""
START = f"mutation($input: ModelCallInput!) {{ startCall(input: $input) {{ {CALL} wallet {{ held }} userErrors {{ code message field }} }} }}"
MODEL = (
    f"mutation($input: ModelCallInput!) {{ callModel(input: $input) {{ {CALL} userErrors {{ code field message }} }} }}"
)
CANCEL = f"mutation($id: ID!) {{ cancelCall(input: {{ callId: $id }}) {{ {CALL} userErrors {{ code }} }} }}"
NODE = "query($id: ID!) { node(id: $id) { ... on ModelCall { id } ... on Asset { id url } } }"
SHOWN = """query($id: ID!) { node(id: $id) { ... on ModelCall { status output {
    ... on AssetsOutput { assets { id } } } } } }"""
DELETE = "mutation($id: ID!) { deleteAsset(input: { assetId: $id }) { deletedId userErrors { code } } }"
ROOM = """query($id: ID!) { workspace(id: $id) { storage { usedBytes reservedBytes limitBytes }
    assets { nodes { id } } } }"""
LEAVE = "mutation($id: ID!) { leaveWorkspace(input: { workspaceId: $id }) { userErrors { code } } }"
MINE = "{ viewer { assets { nodes { id contentType } pageInfo { hasNextPage } } } }"


def video(house: House, **body: object) -> dict:
    asked = {"prompt": "a wave", "seconds": 2, "metadata": {"sandbox_delay_ms": "0"}, **body}
    return {"workspaceId": house.workspace_id, "model": "sandbox-video", "payload": {"custom": asked}}


def picture(house: House) -> dict:
    return {"workspaceId": house.workspace_id, "model": "sandbox-image", "payload": {"image": {"prompt": "a wave"}}}


async def work(house: House, rounds: int = 3) -> None:
    for _ in range(rounds):
        await house.services.database.pool.execute("UPDATE jobs SET due_at = now() WHERE ended_at IS NULL")
        await house.services.jobs.runner.advance(limit=20)


async def made_by(house: House, person) -> str:
    """The id of a picture that this person's call made."""
    done = (await house.read(MODEL, person, input=picture(house)))["callModel"]
    assert done["userErrors"] == []
    (asset,) = done["call"]["output"]["assets"]
    return asset["id"]


async def test_a_job_is_answered_at_once_and_followed_to_its_end(house: House) -> None:
    member = await house.person(Role.MEMBER)
    begun = (await house.read(START, member, input=video(house)))["startCall"]
    assert begun["userErrors"] == []
    call = begun["call"]
    assert (call["status"], call["output"], call["usage"]) == ("QUEUED", None, None)
    assert begun["wallet"]["held"] == "210000"
    async with watching(house, UPDATED, member, call["id"]) as events:
        assert (await events.next())["status"] == "QUEUED"
        await work(house, 1)
        await events.until(lambda shown: shown["status"] == "RUNNING")
        await work(house)
        last = await events.until(lambda shown: shown["status"] == "SUCCEEDED")
    assert last["usage"]["credits"] == "210000"
    shown = await house.read(SHOWN, member, id=call["id"])
    (asset,) = shown["node"]["output"]["assets"]
    assert (await house.read(NODE, member, id=asset["id"]))["node"]["url"].startswith("http://localhost:8000/assets/")


async def test_a_typed_input_is_a_job_too_and_its_mistakes_are_told_by_their_place(house: House) -> None:
    member = await house.person(Role.MEMBER)
    asked = {**video(house), "payload": {"video": {"prompt": "a wave", "seconds": 61}}}
    refused = (await house.read(START, member, input=asked))["startCall"]
    assert refused["userErrors"][0]["code"] == "INVALID_INPUT"
    assert refused["userErrors"][0]["field"] == ["payload", "video", "seconds"]
    refused = (await house.read(MODEL, member, input=video(house)))["callModel"]
    assert "startCall" in refused["userErrors"][0]["message"]


async def test_a_job_can_be_estimated(house: House) -> None:
    document = "query($input: ModelCallInput!) { estimateCall(input: $input) { maxCredits affordable } }"
    told = await house.read(document, await house.person(Role.MEMBER), input=video(house))
    assert told["estimateCall"] == {"maxCredits": "210000", "affordable": True}


async def test_repeats_of_a_job_are_the_same_call(house: House) -> None:
    member = await house.person(Role.MEMBER)
    asked = {**video(house), "idempotencyKey": "k"}
    first = (await house.read(START, member, input=asked))["startCall"]["call"]["id"]
    await work(house)
    again = (await house.read(START, member, input=asked))["startCall"]["call"]
    assert (again["id"], again["status"]) == (first, "SUCCEEDED")
    assert len(again["output"]["assets"]) == 1
    other = (await house.read(START, member, input={**asked, **video(house, seconds=3)}))["startCall"]
    assert other["userErrors"][0]["code"] == "IDEMPOTENCY_KEY_REUSED"


async def test_a_job_is_cancelled_by_its_caller_and_by_admins_only(house: House) -> None:
    member, fellow = await house.person(Role.MEMBER), await house.person(Role.MEMBER)
    admin = await house.person(Role.ADMIN)
    ids = [(await house.read(START, member, input=video(house)))["startCall"]["call"]["id"] for _ in range(2)]
    assert await house.code(CANCEL, fellow, id=ids[0]) == "FORBIDDEN"
    for person, call_id in zip((member, admin), ids, strict=True):
        done = (await house.read(CANCEL, person, id=call_id))["cancelCall"]
        assert (done["userErrors"], done["call"]["status"]) == ([], "CANCELED")
    finished = (await house.read(MODEL, member, input=picture(house)))["callModel"]["call"]["id"]
    assert (await house.read(CANCEL, member, id=finished))["cancelCall"]["userErrors"] == [{"code": "CONFLICT"}]


async def test_without_room_the_refusal_is_storage_full(house: House) -> None:
    pool = house.services.database.pool
    await pool.execute("UPDATE plans SET entitlements = entitlements || '{\"storage_bytes\": 1000000}'::jsonb")
    await house.services.catalog.reload()
    house.services.workspaces.forget_all()
    member = await house.person(Role.MEMBER)
    for document, asked in ((START, video(house)), (MODEL, picture(house))):
        (answer,) = (await house.read(document, member, input=asked)).values()
        assert (answer["call"], answer["userErrors"][0]["code"]) == (None, "STORAGE_FULL")
    assert await pool.fetchval("SELECT held_micro FROM wallets WHERE id = $1", house.seeded.wallet_id) == 0


async def test_A11_what_a_call_made_is_seen_by_its_maker_and_those_the_workspace_authorises(house: House) -> None:
    maker, fellow = await house.person(Role.MEMBER), await house.person(Role.MEMBER)
    admin, billing = await house.person(Role.ADMIN), await house.person(Role.BILLING)
    stranger = await house.person(None)
    asset = await made_by(house, maker)
    for person, seen in ((maker, True), (admin, True), (fellow, False), (billing, False), (stranger, False)):
        assert bool((await house.read(NODE, person, id=asset))["node"]) is seen
        if not seen:
            refused = (await house.read(DELETE, person, id=asset))["deleteAsset"]
            assert refused == {"deletedId": None, "userErrors": [{"code": "NOT_FOUND"}]}
    for person, count in ((maker, 1), (admin, 1), (fellow, 0), (billing, 0)):
        shown = await house.read(ROOM, person, id=house.workspace_id)
        assert len(shown["workspace"]["assets"]["nodes"]) == count
    assert (await house.read(NODE, house.key(), id=asset))["node"] is None


async def test_A11_an_api_key_sees_what_its_own_calls_made(house: House) -> None:
    key = house.key()
    asset = await made_by(house, key)
    assert (await house.read(NODE, key, id=asset))["node"]["id"] == asset
    assert (await house.read(NODE, house.key(ApiScope.CALLS_READ), id=asset))["node"]["id"] == asset
    assert (await house.read(NODE, await house.person(Role.MEMBER), id=asset))["node"] is None


async def test_C9_who_leaves_a_workspace_keeps_what_they_made_and_sees_nothing_else_of_it(house: House) -> None:
    maker, fellow = await house.person(Role.MEMBER), await house.person(Role.ADMIN)
    mine, others = await made_by(house, maker), await made_by(house, fellow)
    left = await house.read(LEAVE, maker, id=house.workspace_id)
    assert left["leaveWorkspace"]["userErrors"] == []
    assert (await house.read(NODE, maker, id=mine))["node"]["url"]
    assert (await house.read(NODE, maker, id=others))["node"] is None
    assert [node["id"] for node in (await house.read(MINE, maker))["viewer"]["assets"]["nodes"]] == [mine]
    assert (await house.read(ROOM, maker, id=house.workspace_id))["workspace"] is None
    assert (await house.read(DELETE, maker, id=others))["deleteAsset"]["userErrors"] == [{"code": "NOT_FOUND"}]
    assert (await house.read(NODE, fellow, id=mine))["node"]["id"] == mine


async def test_a_deleted_asset_is_gone_everywhere_and_its_room_is_free(house: House) -> None:
    maker = await house.person(Role.MEMBER)
    asset = await made_by(house, maker)
    before = (await house.read(ROOM, maker, id=house.workspace_id))["workspace"]["storage"]
    assert int(before["usedBytes"]) > 0
    assert before["reservedBytes"] == "0"
    assert before["limitBytes"] is None
    assert (await house.read(DELETE, maker, id=asset))["deleteAsset"] == {"deletedId": asset, "userErrors": []}
    assert (await house.read(DELETE, maker, id=asset))["deleteAsset"]["userErrors"] == [{"code": "NOT_FOUND"}]
    after = (await house.read(ROOM, maker, id=house.workspace_id))["workspace"]
    assert (after["storage"]["usedBytes"], after["assets"]["nodes"]) == ("0", [])
    assert decode_id("asset", asset)
