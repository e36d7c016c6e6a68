"""graphql-transport-ws over a real WebSocket: its messages, its close codes, back-pressure, revocation, shutdown."""

import asyncio
import contextlib
import json

import pytest
import websockets
from websockets.asyncio.client import connect

from tests.graphql.conftest import USER

PROTOCOL = ["graphql-transport-ws"]


class Speaker:
    """A client of the protocol."""

    def __init__(self, socket) -> None:
        self.socket = socket

    async def say(self, message) -> None:
        await self.socket.send(message if isinstance(message, str | bytes) else json.dumps(message))

    async def hear(self) -> dict:
        return json.loads(await asyncio.wait_for(self.socket.recv(), 30))

    async def init(self, token: str | None = "key") -> dict:
        await self.say({"type": "connection_init", "payload": {"Authorization": f"Bearer {token}"} if token else None})
        return await self.hear()

    async def subscribe(self, query: str, operation_id: str = "1", **more) -> None:
        await self.say({"id": operation_id, "type": "subscribe", "payload": {"query": query, **more}})

    async def closed(self) -> int:
        """The code, once everything before it is read."""
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                await asyncio.wait_for(self.socket.recv(), 30)
        return self.socket.close_code


@contextlib.asynccontextmanager
async def speaking(edge, token: str | None = "key", *, init: bool = True, **more):
    async with connect(edge.socket_url, subprotocols=more.pop("subprotocols", PROTOCOL), **more) as socket:
        speaker = Speaker(socket)
        if init:
            assert await speaker.init(token) == {"type": "connection_ack"}
        yield speaker


async def test_a_subscription_answers_each_event_and_completes(edge):
    async with speaking(edge) as client:
        await client.subscribe("subscription { count(to: 3) }")
        heard = [await client.hear() for _ in range(4)]
        assert [message.get("payload") for message in heard] == [{"data": {"count": n}} for n in range(3)] + [None]
        assert heard[-1] == {"id": "1", "type": "complete"}
    assert edge.happenings.closed == 1


async def test_queries_and_mutations_are_answered_too(edge):
    async with speaking(edge, "user") as client:
        await client.subscribe("{ whoami }", "a")
        assert (await client.hear())["payload"]["data"] == {"whoami": "USER 127.0.0.1"}
        assert await client.hear() == {"id": "a", "type": "complete"}
        await client.subscribe('mutation { write(text: "s") { text } }', "a")
        assert (await client.hear())["payload"]["data"] == {"write": {"text": "s"}}
    assert edge.happenings.mutations == ["s"]


async def test_each_event_has_a_context_of_its_own(edge):
    async with speaking(edge) as client:
        await client.subscribe("subscription { count(to: 3) }")
        while (await client.hear())["type"] != "complete":
            pass
    assert edge.happenings.contexts == 4


async def test_the_credential_may_come_in_the_header_or_be_missing(edge):
    async with speaking(edge, None, additional_headers={"authorization": "Bearer key"}) as client:
        await client.subscribe("{ whoami }")
        assert (await client.hear())["payload"]["data"] == {"whoami": "API_KEY 127.0.0.1"}
    async with speaking(edge, None) as client:
        await client.subscribe("{ whoami }")
        assert (await client.hear())["payload"]["data"] == {"whoami": "ANONYMOUS 127.0.0.1"}


async def test_a_wrong_credential_closes_with_4401(edge):
    async with speaking(edge, init=False) as client:
        await client.say({"type": "connection_init", "payload": {"authorization": "Bearer wrong"}})
        assert await client.closed() == 4401


@pytest.mark.parametrize("message", [
    "no json", "null", "[]", '"x"', "{}", '{"type":"start","id":"1"}', '{"type":7}', b"bytes",
    '{"type":"connection_init","payload":7}', '{"type":"connection_init","payload":[1]}',
    '{"type":"complete","id":7}', "[" * 3_000,
])  # fmt: skip
async def test_a_message_that_is_none_closes_with_4400(edge, message):
    async with speaking(edge, init=False) as client:
        await client.say(message)
        assert await client.closed() == 4400


@pytest.mark.parametrize(
    "message", [{"id": 7}, {"id": ""}, {"id": "x" * 101}, {}, {"id": "1", "payload": None}, {"id": "1", "payload": []}]
)
async def test_a_subscribe_of_another_form_closes_with_4400(edge, message):
    async with speaking(edge) as client:
        await client.say({"type": "subscribe", "payload": {"query": "{ __typename }"}, **message})
        assert await client.closed() == 4400


async def test_subscribing_before_the_acknowledgement_closes_with_4401(edge):
    async with speaking(edge, init=False) as client:
        await client.subscribe("{ __typename }")
        assert await client.closed() == 4401


async def test_a_second_connection_init_closes_with_4429(edge):
    async with speaking(edge) as client:
        await client.say({"type": "connection_init"})
        assert await client.closed() == 4429


async def test_an_id_in_use_closes_with_4409_and_may_be_used_again_after_its_end(edge):
    async with speaking(edge) as client:
        for _ in range(2):
            await client.subscribe("{ __typename }", "same")
            assert [(await client.hear())["type"] for _ in range(2)] == ["next", "complete"]
        await client.subscribe("subscription { count(pauseS: 10) }", "same")
        await client.hear()
        await client.subscribe("{ __typename }", "same")
        assert await client.closed() == 4409


async def test_silence_after_opening_closes_with_4408(serve):
    async with serve(init_timeout_s=0.05) as edge, speaking(edge, init=False) as client:
        assert await client.closed() == 4408


async def test_the_legacy_subprotocol_and_none_are_refused_with_4406(edge):
    for subprotocols in (["graphql-ws"], None):
        async with speaking(edge, init=False, subprotocols=subprotocols) as client:
            assert await client.closed() == 4406


async def test_ping_is_answered_with_its_payload_and_the_server_pings_too(serve):
    async with serve(heartbeat_s=0.05) as edge, speaking(edge) as client:
        assert await client.hear() == {"type": "ping"}
        await client.say({"type": "pong"})
        await client.say({"type": "ping", "payload": {"a": 1}})
        heard = await client.hear()
        while heard == {"type": "ping"}:
            heard = await client.hear()
        assert heard == {"type": "pong", "payload": {"a": 1}}


async def test_refusals_of_one_operation_leave_the_socket_open(edge, caplog):
    async with speaking(edge) as client:
        for query, code in (("{ nothing }", "BAD_REQUEST"), ("{", "BAD_REQUEST")):
            await client.subscribe(query)
            heard = await client.hear()
            assert (heard["type"], heard["payload"][0]["extensions"]["code"]) == ("error", code)
        await client.subscribe("x", variables=7)
        assert (await client.hear())["type"] == "error"
        await client.subscribe("subscription { refused }")
        heard = await client.hear()
        assert heard["payload"]["errors"][0]["extensions"]["code"] == "FORBIDDEN"
        assert (await client.hear())["type"] == "complete"
        await client.subscribe("subscription { failing }", "2")
        assert (await client.hear())["payload"] == {"data": {"failing": 1}}
        heard = await client.hear()
        assert (heard["payload"]["errors"][0]["extensions"]["code"], "secret" in str(heard)) == ("INTERNAL", False)


async def test_complete_ends_the_source(edge):
    async with speaking(edge) as client:
        await client.subscribe("subscription { count(to: 100, pauseS: 10) }")
        await client.hear()
        await client.say({"id": "1", "type": "complete"})
        await until(lambda: edge.happenings.closed == 1)
        await client.subscribe("{ __typename }")
        assert (await client.hear())["payload"]["data"] == {"__typename": "Query"}


async def test_leaving_ends_subscriptions_but_no_mutation(edge):
    async with speaking(edge) as client:
        await client.subscribe("subscription { count(to: 100, pauseS: 10) }", "s")
        await client.hear()
        await client.subscribe('mutation { write(text: "kept", waitS: 0.1) { id } }', "m")
        await until(lambda: edge.happenings.started == 1)
    await until(lambda: edge.happenings.closed == 1)
    await until(lambda: edge.happenings.mutations == ["kept"])


async def test_a_slow_reader_slows_its_source_and_nothing_piles_up(edge):
    async with speaking(edge, max_queue=1, compression=None, close_timeout=0.1) as client:
        await client.subscribe("subscription { large }")
        await client.hear()
        await stands_still(edge)
        for _ in range(20):
            await client.hear()
        client.socket.transport.abort()
    await until(lambda: edge.happenings.closed == 1)


async def test_a_source_without_end_gives_way_to_the_news_that_its_client_is_gone(edge):
    """What is written to a client that is gone is taken at once, as a server takes it."""
    given = [
        {"type": "connection_init", "payload": {"Authorization": "Bearer key"}},
        {"id": "1", "type": "subscribe", "payload": {"query": "subscription { large }"}},
    ]
    told = iter([{"type": "websocket.connect"}, *({"type": "websocket.receive", "text": json.dumps(x)} for x in given)])
    came, written = asyncio.Event(), 0

    async def receive() -> dict:
        for message in told:
            return message
        await came.wait()
        return {"type": "websocket.disconnect", "code": 1006}

    async def send(message: dict) -> None:
        nonlocal written
        if '"next"' in message.get("text", ""):
            came.set()
            written += 1
            if written > 1_000:
                raise ConnectionResetError("so that the test ends")

    scope = {"type": "websocket", "path": "/graphql", "client": ("127.0.0.1", 1), "headers": [(b"host", b"x")]}
    await edge.edge.websocket({**scope, "subprotocols": PROTOCOL, "query_string": b"", "scheme": "ws"}, receive, send)
    await until(lambda: edge.happenings.closed == 1)
    assert 1 <= written < 100


async def test_one_socket_runs_so_many_operations_at_a_time(serve):
    async with serve(operations_per_socket=2) as edge, speaking(edge) as client:
        for number in range(3):
            await client.subscribe("subscription { count(pauseS: 10) }", str(number))
        heard = {message["id"]: message for message in [await client.hear() for _ in range(3)]}
        assert [heard[n]["type"] for n in "012"] == ["next", "next", "error"]
        assert heard["2"]["payload"][0]["extensions"]["code"] == "RATE_LIMITED"


async def test_refusals_do_not_pile_up_before_a_client_that_does_not_read(serve):
    """What its client does not read keeps the socket from reading on."""
    more = {"max_queue": 1, "compression": None, "close_timeout": 0.1}
    async with serve(operations_per_socket=1) as edge, speaking(edge, **more) as client:
        await client.subscribe("subscription { large }", "running")
        tasks_before, sent = len(asyncio.all_tasks()), 0

        async def ask_too_much() -> None:
            nonlocal sent
            for number in range(8_000):
                await client.subscribe("{ whoami }" + " " * 2_000, str(number))
                sent += 1

        asking = asyncio.create_task(ask_too_much())
        last = -1
        while sent != last and not asking.done():
            last = sent
            await asyncio.sleep(0.5)
        assert len(asyncio.all_tasks()) - tasks_before < 10
        heard = [await client.hear() for _ in range(100)]
        refused = [message["payload"][0] for message in heard if message["type"] == "error"]
        assert {each["extensions"]["code"] for each in refused} == {"RATE_LIMITED"}
        asking.cancel()
        client.socket.transport.abort()
    await until(lambda: edge.happenings.closed == 1)


async def test_a_revoked_credential_closes_with_4401_and_changed_rights_with_4403(serve):
    async with serve(recheck_s=0.02) as edge:
        async with speaking(edge) as client:
            await client.subscribe("subscription { count(pauseS: 10) }")
            await client.hear()
            del edge.tokens.principals["Bearer key"]
            assert await client.closed() == 4401
        await until(lambda: edge.happenings.closed == 1)
        async with speaking(edge, "user") as client:
            edge.tokens.principals["Bearer user"] = type(USER)(USER.kind, user_id=USER.user_id, requests_per_hour=1)
            assert await client.closed() == 4403


async def test_a_message_above_the_limit_closes_with_1009(serve):
    async with serve(max_body_bytes=1_000) as edge, speaking(edge, init=False) as client:
        await client.say('{"type":"ping","payload":"' + "x" * 2_000 + '"}')
        assert await client.closed() == 1009


async def test_sockets_of_one_address_are_bounded(serve):
    async with serve(sockets_per_address=1) as edge, speaking(edge), speaking(edge, init=False) as client:
        assert await client.closed() == 1013


async def test_shutdown_closes_sockets_with_1001_and_ends_their_sources(serve):
    async with serve() as edge, speaking(edge) as client:
        await client.subscribe("subscription { count(pauseS: 10) }")
        await client.hear()
        closing = asyncio.create_task(edge.edge.close())
        assert await client.closed() == 1001
        await closing
        assert edge.happenings.closed == 1
        with pytest.raises(websockets.InvalidStatus):
            await connect(edge.socket_url, subprotocols=PROTOCOL)


async def stands_still(edge) -> None:
    """The source, which would go on for ever, has stopped: what is between it and its reader is full."""
    produced = -1
    async with asyncio.timeout(30):
        while produced != edge.happenings.produced:
            produced = edge.happenings.produced
            await asyncio.sleep(0.3)


async def until(holds) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.005)
