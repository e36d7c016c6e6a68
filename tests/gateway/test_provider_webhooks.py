"""Webhooks of providers: genuine ones make their job due, once or twice, and nothing that they say is believed."""

import asyncio
import base64
import hmac
from datetime import timedelta
from uuid import UUID

import orjson
import pytest

from kit.clock import now
from tests.gateway.job_shop import WEBHOOK_SECRET, Shop

KEY = base64.b64decode(WEBHOOK_SECRET.removeprefix("whsec_"))


def signed(body: bytes, *, key: bytes = KEY, at: int | None = None) -> dict[str, str]:
    stamp = str(int(now().timestamp()) if at is None else at)
    mac = hmac.digest(key, f"msg_1.{stamp}.".encode() + body, "sha256")
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,bm90aGluZw== v1,{base64.b64encode(mac).decode()}",
    }


async def post(shop: Shop, name: str, body: bytes, headers: dict[str, str], method: str = "POST") -> int:
    sent: list[dict] = []

    async def receive() -> dict:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": f"/webhooks/providers/{name}",
        "headers": [(key.encode(), value.encode()) for key, value in headers.items()],
    }
    await shop.services.provider_webhooks(scope, receive, send)
    return sent[0]["status"]


async def running(shop: Shop, **body: object) -> tuple[UUID, str]:
    """A job that a provider has, due in an hour."""
    call_id = await shop.start(**{"sandbox_delay_ms": 300, **body})
    await shop.round()
    await asyncio.sleep(0.4)
    await shop.pg.execute("UPDATE jobs SET due_at = now() + interval '1 hour'")
    return call_id, (await shop.row(call_id))["prediction_id"]


async def test_a_genuine_webhook_makes_its_job_due_and_two_of_them_settle_it_once(shop: Shop) -> None:
    call_id, prediction_id = await running(shop)
    assert await shop.round() == 0
    body = orjson.dumps({"id": prediction_id, "status": "failed", "usage": {"seconds": 99}})
    for _ in range(2):
        assert await post(shop, "prints", body, signed(body)) == 204
    assert await shop.round() == 1
    ended = await shop.call(call_id)
    assert (ended.status, ended.usage.seconds) == ("SUCCEEDED", 3)  # as it was fetched, not as it was told
    assert await post(shop, "prints", body, signed(body)) == 204
    assert await shop.round() == 0
    assert await shop.spent() == 7


async def test_a_webhook_that_comes_while_a_worker_looks_is_not_lost(shop: Shop) -> None:
    from gateway import job_rows

    call_id, prediction_id = await running(shop, sandbox_delay_ms=60_000)
    await shop.hurry()
    (job,) = await job_rows.claim(shop.services.database, now(), 10)
    body = orjson.dumps({"data": {"id": prediction_id}})
    assert await post(shop, "prints", body, signed(body)) == 204
    before = now()
    await job_rows.put_off(shop.services.database, job, before + timedelta(days=365))
    row = await shop.row(call_id)
    assert row["due_at"] <= before


@pytest.mark.parametrize(
    "forge",
    [
        lambda body: signed(body, key=b"another"),
        lambda body: signed(b"another body"),
        lambda body: signed(body, at=int(now().timestamp()) - 330),
        lambda body: signed(body, at=int(now().timestamp()) + 330),
        lambda body: {**signed(body), "webhook-id": "msg_2"},
        lambda body: {**signed(body), "webhook-timestamp": "soon"},
        lambda body: {**signed(body), "webhook-signature": "é"},
        lambda body: {},
    ],
)
async def test_a_webhook_that_is_not_genuine_changes_nothing(shop: Shop, forge) -> None:
    call_id, prediction_id = await running(shop)
    body = orjson.dumps({"id": prediction_id})
    headers = forge(body)
    assert await post(shop, "prints", body, headers) == 401
    assert await shop.round() == 0
    assert (await shop.row(call_id))["poked_at"] is None


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[]", b'{"id": ""}', b'{"id": {}}', b'{"id": "a\\u0000"}'])
async def test_a_signed_body_that_names_no_prediction_is_refused(shop: Shop, body: bytes) -> None:
    assert await post(shop, "prints", body, signed(body)) == 401


async def test_a_prediction_that_nobody_waits_for_is_fine(shop: Shop) -> None:
    body = b'{"id": "unknown"}'
    assert await post(shop, "prints", body, signed(body)) == 204


async def test_providers_without_a_secret_take_no_webhooks(shop: Shop) -> None:
    body = b'{"id": "x"}'
    assert await post(shop, "once", body, signed(body)) == 401
    assert await post(shop, "rest", body, signed(body)) == 401
    assert await post(shop, "nobody", body, signed(body)) == 404
    assert await post(shop, "prints", b"", {}, method="GET") == 405
