"""Webhook endpoints, alerts, narrowed lists and a wallet's past over GraphQL."""

import asyncio

import asyncpg

from accounts.rules.roles import Role
from kit import clock
from tests.metering.money import waiting_for_lock
from tests.schema.conftest import House
from tests.schema.test_access import CALL

ENDPOINT = "{ id url events disabledReason deliveries(first: 5) { nodes { id event attempts statusCode messageId nextAttemptAt } } }"


async def _changed(house: House, name: str, shown: str, **given: object) -> dict:
    kind = name[0].upper() + name[1:] + "Input"
    document = (
        f"mutation($input: {kind}!) {{ {name}(input: $input) {{ {shown} userErrors {{ code field message }} }} }}"
    )
    return (await house.read(document, await house.person(Role.ADMIN), input=given))[name]


async def test_an_endpoint_is_made_tried_replayed_rotated_changed_and_deleted(house: House) -> None:
    made = await _changed(
        house, "createWebhookEndpoint", f"secret webhookEndpoint {ENDPOINT}",
        workspaceId=house.workspace_id, url="https://1.1.1.1/hooks", events=["CREDITS_USED", "BALANCE_LOW"],
    )  # fmt: skip
    assert made["userErrors"] == []
    assert made["secret"].startswith("whsec_")
    endpoint = made["webhookEndpoint"]
    assert endpoint["events"] == ["BALANCE_LOW", "CREDITS_USED"]
    tried = await _changed(
        house, "sendTestWebhook", "webhookDelivery { id event messageId }", webhookEndpointId=endpoint["id"]
    )
    delivery = tried["webhookDelivery"]
    assert delivery["event"] == "WEBHOOK_TEST"
    shown = await house.read(
        f"query($id: ID!) {{ workspace(id: $id) {{ webhookEndpoints {ENDPOINT} }} }}",
        house.key(),
        id=house.workspace_id,
    )
    (found,) = shown["workspace"]["webhookEndpoints"]
    (line,) = found["deliveries"]["nodes"]
    assert (line["id"], line["messageId"], line["attempts"]) == (delivery["id"], delivery["messageId"], 0)
    assert line["nextAttemptAt"] is not None
    replayed = await _changed(
        house, "replayWebhookDelivery", "webhookDelivery { id }", webhookDeliveryId=delivery["id"]
    )
    assert replayed["webhookDelivery"]["id"] == delivery["id"]
    rotated = await _changed(house, "rotateWebhookSecret", "secret", webhookEndpointId=endpoint["id"])
    assert rotated["secret"] != made["secret"]
    off = await _changed(
        house, "updateWebhookEndpoint", f"webhookEndpoint {ENDPOINT}", webhookEndpointId=endpoint["id"], enabled=False
    )
    assert off["webhookEndpoint"]["disabledReason"] == "BY_HAND"
    assert off["webhookEndpoint"]["deliveries"]["nodes"][0]["nextAttemptAt"] is None
    refused = await _changed(house, "sendTestWebhook", "webhookDelivery { id }", webhookEndpointId=endpoint["id"])
    assert refused["userErrors"][0]["code"] == "CONFLICT"
    gone = await _changed(house, "deleteWebhookEndpoint", "deletedId", webhookEndpointId=endpoint["id"])
    assert gone["deletedId"] == endpoint["id"]
    again = await _changed(house, "deleteWebhookEndpoint", "deletedId", webhookEndpointId=endpoint["id"])
    assert again["userErrors"][0]["code"] == "NOT_FOUND"


async def test_what_is_done_to_endpoints_and_alerts_stands_in_the_audit_log(house: House) -> None:
    made = await _changed(
        house, "createWebhookEndpoint", "webhookEndpoint { id } secret",
        workspaceId=house.workspace_id, url="https://1.1.1.1/hooks?token=hidden", events=["BALANCE_LOW"],
    )  # fmt: skip
    endpoint = {"webhookEndpointId": made["webhookEndpoint"]["id"]}
    tried = await _changed(house, "sendTestWebhook", "webhookDelivery { id }", **endpoint)
    await _changed(
        house, "replayWebhookDelivery", "webhookDelivery { id }", webhookDeliveryId=tried["webhookDelivery"]["id"]
    )
    rotated = await _changed(house, "rotateWebhookSecret", "secret", **endpoint)
    await _changed(
        house, "updateWebhookEndpoint", "webhookEndpoint { id }", **endpoint, enabled=False, events=["CREDITS_USED"]
    )
    await _changed(house, "deleteWebhookEndpoint", "deletedId", **endpoint)
    await _changed(house, "deleteWebhookEndpoint", "deletedId", **endpoint)  # refused, so not done and not noted
    await _changed(
        house, "updateAlertSettings", "userErrors { code }", workspaceId=house.workspace_id, lowBalance="2.5"
    )
    await _changed(house, "updateAlertSettings", "userErrors { code }", workspaceId=house.workspace_id, lowBalance="-1")
    shown = await house.read(
        "query($id: ID!) { workspace(id: $id) { auditLog(first: 50) { nodes"
        " { action actorKind actorId subjectKind facts } } } }",
        await house.person(Role.ADMIN),
        id=house.workspace_id,
    )
    nodes = shown["workspace"]["auditLog"]["nodes"]
    noted = [node for node in nodes if node["action"].partition(".")[0] in {"webhook", "alert_settings"}]
    assert [node["action"] for node in reversed(noted)] == [
        "webhook.create", "webhook.send_test", "webhook.replay", "webhook.rotate_secret", "webhook.update",
        "webhook.delete", "alert_settings.update",
    ]  # fmt: skip
    assert {node["actorKind"] for node in noted} == {"USER"}
    assert all(node["actorId"] for node in noted)
    by_action = {node["action"]: str(node["facts"]) for node in noted}
    assert "1.1.1.1" in by_action["webhook.create"]
    assert "false" in by_action["webhook.update"]
    assert "credits.used" in by_action["webhook.update"]
    assert "2.5" in by_action["alert_settings.update"]
    everything = str(noted)
    assert not any(secret in everything for secret in ("hidden", made["secret"], rotated["secret"]))


async def test_an_address_of_our_own_network_is_refused_at_its_field(house: House) -> None:
    for url in (
        "https://127.0.0.1/",
        "https://169.254.169.254/latest",
        "http://1.1.1.1/",
        "nonsense",
        "https://[::ffff:10.0.0.1]/",
    ):
        made = await _changed(
            house, "createWebhookEndpoint", "secret", workspaceId=house.workspace_id, url=url, events=["BALANCE_LOW"]
        )
        assert made["secret"] is None
        assert made["userErrors"][0]["code"] == "INVALID_INPUT"
        assert made["userErrors"][0]["field"] == ["url"]
    none = await _changed(
        house, "createWebhookEndpoint", "secret", workspaceId=house.workspace_id, url="https://1.1.1.1/", events=[]
    )
    assert none["userErrors"][0]["field"] == ["events"]


async def test_alert_settings_change_by_part(house: House) -> None:
    shown = "alertSettings { cyclePercents expiryDays lowBalance byMail }"
    defaults = {"cyclePercents": [50, 80, 100], "expiryDays": [30, 7, 1], "lowBalance": None, "byMail": True}
    found = await house.read(
        f"query($id: ID!) {{ workspace(id: $id) {{ {shown} }} }}", house.key(), id=house.workspace_id
    )
    assert found["workspace"]["alertSettings"] == defaults
    changed = await _changed(house, "updateAlertSettings", shown, workspaceId=house.workspace_id, lowBalance="2.5")
    assert changed["alertSettings"] == {**defaults, "lowBalance": "2.5", "expiryDays": [1, 7, 30]}
    changed = await _changed(house, "updateAlertSettings", shown, workspaceId=house.workspace_id, cyclePercents=[])
    assert (changed["alertSettings"]["cyclePercents"], changed["alertSettings"]["lowBalance"]) == ([], "2.5")
    changed = await _changed(house, "updateAlertSettings", shown, workspaceId=house.workspace_id, lowBalance=None)
    assert changed["alertSettings"]["lowBalance"] is None
    for wrong in ({"cyclePercents": [101]}, {"expiryDays": [0]}, {"lowBalance": "-1"}, {"lowBalance": "0"}):
        refused = await _changed(house, "updateAlertSettings", shown, workspaceId=house.workspace_id, **wrong)
        assert refused["userErrors"][0]["code"] == "INVALID_INPUT"
        assert refused["userErrors"][0]["field"] == list(wrong)


async def test_alert_settings_changed_at_once_do_not_undo_each_other(
    house: House, pg: asyncpg.Connection, database_url: str
) -> None:
    """All of them are under way before any has written: the lock is held until each of them waits for it."""
    changes = {"byMail": False, "lowBalance": "5", "cyclePercents": [90], "expiryDays": [3]}
    await pg.execute("INSERT INTO workspace_alerts (workspace_id) SELECT id FROM workspaces ON CONFLICT DO NOTHING")
    async with pg.transaction():
        await pg.execute("SELECT 1 FROM workspace_alerts FOR UPDATE")
        sent = asyncio.gather(
            *(
                _changed(house, "updateAlertSettings", "", workspaceId=house.workspace_id, **{field: value})
                for field, value in changes.items()
            )
        )
        await waiting_for_lock(database_url, len(changes))
    assert [answer["userErrors"] for answer in await sent] == [[]] * len(changes)
    document = f"query($id: ID!) {{ workspace(id: $id) {{ alertSettings {{ {' '.join(changes)} }} }} }}"
    found = await house.read(document, house.key(), id=house.workspace_id)
    assert found["workspace"]["alertSettings"] == changes


async def test_entries_and_calls_are_narrowed_and_the_past_balance_is_known(house: House) -> None:
    before = clock.now().isoformat().replace("+00:00", "Z")
    asked = await house.read(
        "mutation($input: ModelCallInput!) { callModel(input: $input) { call { id } wallet { balance } } }",
        house.key(),
        input=CALL,
    )
    document = """query($id: ID!, $kinds: [EntryKind!], $statuses: [CallStatus!], $from: DateTime, $to: DateTime, $at: DateTime!) {
      workspace(id: $id) {
        calls(statuses: $statuses, from: $from, to: $to) { nodes { id } }
        wallet { balance balanceAt(at: $at) entries(kinds: $kinds, from: $from, to: $to) { nodes { kind } } }
      }
    }"""

    async def narrowed(**given: object) -> tuple[list[str], list[str], str]:
        found = await house.read(document, house.key(), **{"id": house.workspace_id, "at": before, **given})
        workspace = found["workspace"]
        kinds = [entry["kind"] for entry in workspace["wallet"]["entries"]["nodes"]]
        return [call["id"] for call in workspace["calls"]["nodes"]], kinds, workspace["wallet"]["balanceAt"]

    call_id = asked["callModel"]["call"]["id"]
    assert await narrowed() == ([call_id], ["USAGE", "GRANT"], "1000000")
    assert await narrowed(kinds=["GRANT"], statuses=["FAILED", "RUNNING"]) == ([], ["GRANT"], "1000000")
    assert await narrowed(**{"from": before}) == ([call_id], ["USAGE"], "1000000")
    assert (await narrowed(to=before))[:2] == ([], ["GRANT"])
    now = clock.now().isoformat().replace("+00:00", "Z")
    assert (await narrowed(at=now))[2] == asked["callModel"]["wallet"]["balance"]
