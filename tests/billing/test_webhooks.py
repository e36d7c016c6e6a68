"""Outgoing webhooks over real HTTP: signed, tried again, replayed, given up, and never sent where they must not go."""

import asyncio
import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import orjson
import pytest
from aiohttp import web

from billing.event_kinds import EventKind
from billing.events import dispatch_events, emit
from billing.rules.standard_webhooks import is_genuine, secret_bytes, signed_headers
from billing.rules.webhook_retries import GIVE_UP_AFTER, PAUSES, DisabledReason, judge
from billing.webhook_endpoints import MAX_ENDPOINTS, WebhookEndpoints
from billing.webhook_errors import EndpointDisabled, TooManyEndpoints, UnknownEventKind, UrlRefused
from billing.webhooks import deliver_webhooks
from kit import clock
from kit.errors import InvalidInput, NotFound
from kit.ids import uuid7
from kit.pages import PageRequest
from kit.sealing import Sealer
from models.database import transaction

LOOPBACK = (ip_network("127.0.0.0/8"),)
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
SEALER = Sealer({1: b"a secret key for the tests of webhooks"}, 1)


class Receiver:
    """A customer's server: keeps what it gets and answers `status`."""

    def __init__(self):
        self.got, self.status, self.headers = [], 200, {}

    async def take(self, request):
        self.got.append((dict(request.headers), await request.read(), request.path))
        return web.Response(status=self.status, headers=self.headers, text="ignored")


@pytest.fixture
async def receiver():
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/{tail:.*}", receiver.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hooks"
    yield receiver
    await runner.cleanup()


class House:
    def __init__(self, database, workspace_id, at):
        self.database, self.workspace_id, self.clock = database, workspace_id, at
        self.endpoints = WebhookEndpoints(database, SEALER, LOOPBACK)
        self.told = []

    async def emit(self, kind=EventKind.BALANCE_LOW, **facts):
        async with transaction(self.database) as conn:
            return await emit(conn, kind, self.workspace_id, facts or {"balance": "1", "figure": "5"})

    async def dispatch(self):
        async def notify(_, event):
            self.told.append(event)

        return await dispatch_events(self.database, notify, limit=100)

    async def deliver(self, allowed=LOOPBACK):
        return await deliver_webhooks(self.database, SEALER, allowed, limit=20)

    async def log(self, endpoint_id):
        return (await self.endpoints.deliveries(endpoint_id, PageRequest(100))).items


@pytest.fixture
async def house(database):
    workspace_id = uuid7()
    await database.pool.execute(
        "INSERT INTO workspaces (id, name, slug, created_at, updated_at) VALUES ($1, 'w', $2, now(), now())",
        workspace_id,
        workspace_id.hex,
    )
    at = clock.VirtualClock(START)
    with clock.installed(at):
        yield House(database, workspace_id, at)


def verified(secret, headers, body, now_s):
    """The published algorithm of Standard Webhooks, written a second time: base64(hmac_sha256(key, id.timestamp.body))."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = b".".join([headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body])
    expected = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    fresh = abs(now_s - int(headers["webhook-timestamp"])) <= 300
    return fresh and f"v1,{expected}" in headers["webhook-signature"].split(" ")


def lower(headers):
    return {name.lower(): value for name, value in headers.items()}


def test_the_signature_is_that_of_the_published_example():
    # The example of the specification's reference libraries (standard-webhooks, tests of each language).
    key = secret_bytes("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signed_headers([key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert is_genuine(key, headers, b'{"test": 2432232314}', 1614265330 + 299)
    assert not is_genuine(key, headers, b'{"test": 2432232314}', 1614265330 + 301)
    assert not is_genuine(key, headers, b'{"test": 2432232315}', 1614265330)
    assert not is_genuine(key[1:], headers, b'{"test": 2432232314}', 1614265330)
    assert not is_genuine(key, {}, b"", 0)


def test_attempts_go_on_for_three_days_and_end():
    at, since = START, None
    for attempt in range(1, len(PAUSES) + 1):
        since = since or at
        verdict = judge(500, attempt, since, at)
        assert verdict.retry_at is not None
        assert verdict.retry_at > at
        at = verdict.retry_at
    assert timedelta(days=3) < at - START < GIVE_UP_AFTER
    assert judge(None, len(PAUSES) + 1, since, at).retry_at is None
    assert judge(302, 1, None, at).delivered is False
    assert judge(204, 1, None, at).delivered is True


async def test_an_event_reaches_the_endpoints_that_want_it_signed_and_once(house, receiver):
    made = await house.endpoints.create(house.workspace_id, receiver.url, ["balance.low"], "ours")
    await house.endpoints.create(house.workspace_id, f"{receiver.url}/other", ["credits.used"], "")
    event_id = await house.emit()
    assert [await house.dispatch(), await house.dispatch()] == [1, 0]
    assert [event.id for event in house.told] == [event_id]
    assert [await house.deliver(), await house.deliver()] == [1, 0]
    ((headers, body, path),) = receiver.got
    headers = lower(headers)
    assert path == "/hooks"
    assert verified(made.secret, headers, body, int(START.timestamp()))
    assert headers["webhook-id"] == f"evt_{event_id.hex}"
    assert headers["content-type"] == "application/json"
    told = orjson.loads(body)
    assert told["type"] == "balance.low"
    assert told["timestamp"] == "2026-03-01T12:00:00Z"
    assert told["data"]["figure"] == "5"
    assert told["data"]["workspaceId"].startswith("ws_")
    (line,) = await house.log(made.endpoint.id)
    assert (line.status_code, line.attempts, line.error, line.completed_at) == (200, 1, None, START)


async def test_a_failure_is_tried_again_with_the_same_id_until_it_is_taken(house, receiver):
    made = await house.endpoints.create(house.workspace_id, receiver.url, ["balance.low"], "")
    await house.emit()
    await house.dispatch()
    receiver.status = 500
    await house.deliver()
    assert await house.deliver() == 0  # not before its time
    house.clock.at += PAUSES[0]
    await house.deliver()
    assert (await house.endpoints.get(made.endpoint.id)).failing_since == START
    receiver.status = 200
    house.clock.at += PAUSES[1]
    await house.deliver()
    assert len({lower(headers)["webhook-id"] for headers, _, _ in receiver.got}) == 1
    assert len({body for _, body, _ in receiver.got}) == 1
    (line,) = await house.log(made.endpoint.id)
    assert (line.attempts, line.status_code, line.error) == (3, 200, None)
    assert (await house.endpoints.get(made.endpoint.id)).failing_since is None


async def test_after_the_last_attempt_it_is_over_and_can_be_replayed_by_hand(house, receiver):
    made = await house.endpoints.create(house.workspace_id, receiver.url, ["balance.low"], "")
    await house.emit()
    await house.dispatch()
    receiver.status = 503
    for pause in (*PAUSES, timedelta(days=9)):
        assert await house.deliver() == 1
        house.clock.at += pause
    assert await house.deliver() == 0
    (line,) = await house.log(made.endpoint.id)
    assert (line.attempts, line.status_code, line.error) == (10, 503, "answered 503")
    receiver.status = 200
    replayed = await house.endpoints.replay(line.id)
    assert (replayed.completed_at, replayed.attempts) == (None, 0)
    await house.deliver()
    (line,) = await house.log(made.endpoint.id)
    assert (line.attempts, line.status_code) == (1, 200)


async def test_redirects_are_not_followed(house, receiver):
    made = await house.endpoints.create(house.workspace_id, receiver.url, ["balance.low"], "")
    await house.emit()
    await house.dispatch()
    receiver.status, receiver.headers = 307, {"Location": f"{receiver.url}/elsewhere"}
    await house.deliver()
    assert [path for _, _, path in receiver.got] == ["/hooks"]
    (line,) = await house.log(made.endpoint.id)
    assert (line.status_code, line.completed_at) == (307, None)


async def test_what_may_not_be_reached_any_more_gets_nothing(house, receiver):
    made = await house.endpoints.create(house.workspace_id, receiver.url, ["balance.low"], "")
    await house.emit()
    await house.dispatch()
    await house.deliver(allowed=())
    assert receiver.got == []
    (line,) = await house.log(made.endpoint.id)
    assert "private" in line.error


async def test_an_endpoint_that_fails_for_five_days_is_turned_off_with_notice_and_can_be_turned_on(house, receiver):
    made = await house.endpoints.create(house.workspace_id, receiver.url, ["balance.low"], "")
    receiver.status = 500
    await house.emit()
    await house.dispatch()
    await house.deliver()
    house.clock.at += GIVE_UP_AFTER
    await house.emit()
    await house.dispatch()
    assert await house.deliver() == 2
    off = await house.endpoints.get(made.endpoint.id)
    assert (off.disabled_reason, off.disabled_at) == (DisabledReason.FAILING, house.clock.at)
    await house.emit()
    await house.dispatch()
    assert [event.kind for event in house.told].count(EventKind.WEBHOOK_DISABLED) == 1
    assert await house.deliver() == 0
    log = await house.log(made.endpoint.id)
    assert len(log) == 2
    assert all(line.completed_at is not None for line in log)
    with pytest.raises(EndpointDisabled):
        await house.endpoints.replay(log[0].id)
    with pytest.raises(EndpointDisabled):
        await house.endpoints.send_test(made.endpoint.id)
    receiver.status = 200
    on = await house.endpoints.update(made.endpoint.id, url=None, event_kinds=None, description=None, enabled=True)
    assert (on.disabled_at, on.failing_since) == (None, None)
    await house.endpoints.replay(log[0].id)
    assert await house.deliver() == 1


async def test_an_endpoint_that_says_it_is_gone_is_turned_off_at_once(house, receiver):
    made = await house.endpoints.create(house.workspace_id, receiver.url, ["balance.low"], "")
    receiver.status = 410
    await house.emit()
    await house.dispatch()
    await house.deliver()
    assert (await house.endpoints.get(made.endpoint.id)).disabled_reason == DisabledReason.GONE


async def test_a_rotated_secret_signs_beside_the_old_one_for_a_day(house, receiver):
    made = await house.endpoints.create(house.workspace_id, receiver.url, ["balance.low"], "")
    rotated = await house.endpoints.rotate(made.endpoint.id)
    assert rotated.secret != made.secret
    for hours, known in ((0, [True, True]), (25, [False, True])):
        house.clock.at += timedelta(hours=hours)
        await house.emit()
        await house.dispatch()
        await house.deliver()
        headers, body, _ = receiver.got[-1]
        at = int(house.clock.at.timestamp())
        assert [verified(secret, lower(headers), body, at) for secret in (made.secret, rotated.secret)] == known


async def test_secrets_are_sealed_to_their_row_and_gone_with_it(house, receiver, pg):
    made = await house.endpoints.create(house.workspace_id, receiver.url, ["balance.low"], "")
    raw = base64.b64decode(made.secret.removeprefix("whsec_"))
    sealed = await pg.fetchval("SELECT secret_encrypted FROM webhook_endpoints")
    assert raw not in sealed
    await house.emit()
    await house.dispatch()
    await house.endpoints.delete(made.endpoint.id)
    assert await pg.fetchval("SELECT length(secret_encrypted) FROM webhook_endpoints") == 0
    assert await house.deliver() == 0
    assert await pg.fetchval("SELECT count(*) FROM webhook_deliveries WHERE completed_at IS NULL") == 0
    for ask in (house.endpoints.get, house.endpoints.rotate, house.endpoints.send_test):
        with pytest.raises(NotFound):
            await ask(made.endpoint.id)


async def test_two_workers_send_each_delivery_once(house, receiver):
    await house.endpoints.create(house.workspace_id, receiver.url, ["balance.low"], "")
    for _ in range(12):
        await house.emit()
    counts = await asyncio.gather(house.dispatch(), house.dispatch())
    assert sum(counts) == 12
    assert sum(await asyncio.gather(house.deliver(), house.deliver())) == 12
    assert len({lower(headers)["webhook-id"] for headers, _, _ in receiver.got}) == len(receiver.got) == 12


async def test_a_worker_that_died_while_sending_is_followed_by_another(house, receiver, pg):
    await house.endpoints.create(house.workspace_id, receiver.url, ["balance.low"], "")
    await house.emit()
    await house.dispatch()
    await pg.execute("UPDATE webhook_deliveries SET due_at = $1, attempt = 1", START + timedelta(minutes=2))
    assert await house.deliver() == 0
    house.clock.at += timedelta(minutes=2)
    assert await house.deliver() == 1
    assert len(receiver.got) == 1


async def test_a_test_event_goes_to_its_endpoint_only(house, receiver):
    made = await house.endpoints.create(house.workspace_id, receiver.url, ["credits.used"], "")
    await house.endpoints.create(house.workspace_id, f"{receiver.url}/other", ["credits.used"], "")
    await house.endpoints.send_test(made.endpoint.id)
    await house.dispatch()
    assert await house.deliver() == 1
    assert orjson.loads(receiver.got[0][1])["type"] == "webhook.test"


async def test_nonsense_is_refused(house, receiver):
    for kinds in ([], ["nonsense"], ["webhook.test"]):
        with pytest.raises(UnknownEventKind):
            await house.endpoints.create(house.workspace_id, receiver.url, kinds, "")
    with pytest.raises(UrlRefused):
        await house.endpoints.create(house.workspace_id, "https://10.0.0.1/", ["balance.low"], "")
    with pytest.raises(InvalidInput):
        await house.endpoints.create(house.workspace_id, receiver.url, ["balance.low"], "x" * 201)
    for _ in range(MAX_ENDPOINTS):
        await house.endpoints.create(house.workspace_id, receiver.url, ["balance.low"], "")
    with pytest.raises(TooManyEndpoints):
        await house.endpoints.create(house.workspace_id, receiver.url, ["balance.low"], "")


async def test_pages_of_the_log_hold_each_delivery_once_newest_first(house, receiver):
    made = await house.endpoints.create(house.workspace_id, receiver.url, ["balance.low"], "")
    for _ in range(5):
        await house.emit()
        await house.dispatch()
        house.clock.at += timedelta(seconds=1)
    found, after = [], None
    while True:
        page = await house.endpoints.deliveries(made.endpoint.id, PageRequest(2, after))
        found += page.items
        if not page.has_next:
            break
        after = page.cursors[-1]
    assert len({each.id for each in found}) == 5
    assert [each.created_at for each in found] == sorted((each.created_at for each in found), reverse=True)
