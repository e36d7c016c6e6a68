"""Usage reports over GraphQL: what was charged, by whom, and who may know."""

from accounts.rules.roles import ApiScope, Role
from kit.ids import encode_id
from tests.schema.conftest import House
from tests.schema.test_access import CALL

REPORT = """
query($id: ID!, $from: DateTime!, $to: DateTime!, $interval: UsageInterval! = DAY, $groupBy: [UsageDimension!], $zone: String,
      $first: Int, $after: String) {
  workspace(id: $id) {
    usage(from: $from, to: $to, interval: $interval, groupBy: $groupBy, timeZone: $zone) {
      calls credits usd
      buckets(first: $first, after: $after) {
        nodes { start model modality userId apiKeyId member { email } apiKey { name } calls credits usd inputTokens outputTokens }
        pageInfo { hasNextPage endCursor }
      }
    }
  }
}
"""
RANGE = {"from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z", "interval": "MONTH"}


async def _call(house: House, principal) -> str:
    asked = await house.read(
        "mutation($input: ModelCallInput!) { callModel(input: $input) { call { usage { credits usd } } userErrors { code } } }",
        principal,
        input={**CALL, "workspaceId": house.workspace_id},
    )
    return asked["callModel"]["call"]["usage"]["credits"]


async def test_a_report_tells_models_people_and_keys_apart(house: House) -> None:
    owner = await house.person(Role.OWNER)
    await _call(house, owner)
    await _call(house, house.key())
    found = await house.read(
        REPORT, owner, id=house.workspace_id, groupBy=["MODEL", "MEMBER", "API_KEY", "MODALITY"], **RANGE
    )
    report = found["workspace"]["usage"]
    assert report["calls"] == "2"
    mine, keys = sorted(report["buckets"]["nodes"], key=lambda each: each["userId"] is None)
    assert mine["userId"] == encode_id("user", owner.user_id)
    assert mine["member"]["email"].startswith(owner.user_id.hex)
    assert mine["apiKeyId"] is None
    assert keys["apiKey"] == {"name": "test"}
    assert {mine["model"], keys["model"]} == {"sandbox-chat"}
    assert mine["modality"] == "TEXT"
    paid = await house.services.database.pool.fetchval(
        "SELECT -sum(amount_micro) FROM ledger_entries WHERE kind = 'USAGE'"
    )
    assert round(float(report["credits"]) * 1_000_000) == paid
    whole = (await house.read(REPORT, owner, id=house.workspace_id, **RANGE))["workspace"]["usage"]
    assert [(each["model"], each["calls"], each["member"]) for each in whole["buckets"]["nodes"]] == [(None, "2", None)]
    assert whole["usd"] == whole["buckets"]["nodes"][0]["usd"] == report["usd"]


async def test_D2_statistics_can_be_read_in_usd_at_the_catalogs_rate(house: House) -> None:
    await _call(house, house.key())
    found = await house.read(REPORT, house.key(), id=house.workspace_id, **RANGE)
    document = "query($id: ID!) { workspace(id: $id) { calls { nodes { usage { usd credits } } } } }"
    (call,) = (await house.read(document, house.key(), id=house.workspace_id))["workspace"]["calls"]["nodes"]
    charged = call["usage"]
    report = found["workspace"]["usage"]
    assert (report["usd"], report["credits"]) == (charged["usd"], charged["credits"])


async def test_who_may_read_usage_only_sees_ids_and_no_people_or_keys(house: House) -> None:
    owner = await house.person(Role.OWNER)
    await _call(house, owner)
    await _call(house, house.key())
    member = await house.person(Role.MEMBER)
    found = await house.read(REPORT, member, id=house.workspace_id, groupBy=["MEMBER", "API_KEY"], **RANGE)
    nodes = found["workspace"]["usage"]["buckets"]["nodes"]
    assert [each["apiKey"] for each in nodes] == [None, None]
    assert sum(each["apiKeyId"] is not None for each in nodes) == 1
    assert sum(each["member"] is not None for each in nodes) == 1
    key = house.key(ApiScope.USAGE_READ, ApiScope.WORKSPACE_READ)
    assert (await house.read(REPORT, key, id=house.workspace_id, **RANGE))["workspace"]["usage"]["calls"] == "2"


async def test_the_workspaces_own_zone_is_the_default_and_pages_go_on(house: House) -> None:
    pool = house.services.database.pool
    await pool.execute("UPDATE workspaces SET time_zone = 'Asia/Tokyo'")
    for day in range(3):
        await pool.execute(
            "INSERT INTO usage_events (call_id, workspace_id, wallet_id, model_slug, modality, created_at, cost_micro,"
            " charged_micro, estimated, provider) VALUES (gen_random_uuid(), $1, $2, 'm', 'TEXT',"
            " timestamptz '2026-05-01T15:00Z' + make_interval(days => $3), 5, 5, false, 'p')",
            house.seeded.workspace_id,
            house.seeded.wallet_id,
            day,
        )
    asked = {"id": house.workspace_id, "from": "2026-04-01T00:00:00Z", "to": "2026-06-01T00:00:00Z", "first": 2}
    one = (await house.read(REPORT, house.key(), **asked))["workspace"]["usage"]["buckets"]
    assert [each["start"] for each in one["nodes"]] == ["2026-05-01T15:00:00Z", "2026-05-02T15:00:00Z"]
    two = await house.read(REPORT, house.key(), **asked, after=one["pageInfo"]["endCursor"])
    rest = two["workspace"]["usage"]["buckets"]
    assert [each["start"] for each in rest["nodes"]] == ["2026-05-03T15:00:00Z"]
    assert not rest["pageInfo"]["hasNextPage"]
    utc = await house.read(REPORT, house.key(), **asked, zone="UTC")
    assert utc["workspace"]["usage"]["buckets"]["nodes"][0]["start"] == "2026-05-01T00:00:00Z"


async def test_a_range_that_is_none_or_too_long_is_a_bad_request(house: House) -> None:
    for wrong in (
        {"from": "2026-02-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"},
        {"from": "2000-01-01T00:00:00Z", "to": "2030-01-01T00:00:00Z", "interval": "HOUR"},
        {"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z", "zone": "Nowhere"},
        {"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z", "after": "nonsense"},
        {"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z", "first": 101},
    ):
        assert await house.code(REPORT, house.key(), id=house.workspace_id, **wrong) == "BAD_REQUEST"
