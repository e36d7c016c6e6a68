"""Server-sent events, one connection for each operation."""

import asyncio
import json
from urllib.parse import urlencode

from tests.graphql.test_sockets import stands_still, until

EVENTS = "text/event-stream"


async def parsed(response) -> list[tuple[str, object]]:
    """All events up to the stream's end."""
    return [event async for event in events_of(response)]


async def events_of(response):
    name = ""
    async for line in response.content:
        text = line.decode().rstrip("\n")
        if text == ":":
            yield ("heartbeat", None)
        elif text.startswith("event: "):
            name = text.removeprefix("event: ")
        elif text.startswith("data:"):
            data = text.removeprefix("data:").strip()
            yield (name, json.loads(data) if data else None)


async def test_a_subscription_answers_each_event_and_completes(edge):
    async with edge.post(
        {"query": "subscription { count(to: 2) }"}, EVENTS, headers={"authorization": "Bearer key"}
    ) as response:
        assert (response.status, response.content_type) == (200, EVENTS)
        assert "x-request-id" in response.headers
        assert await parsed(response) == [
            ("next", {"data": {"count": 0}}),
            ("next", {"data": {"count": 1}}),
            ("complete", None),
        ]
    assert edge.happenings.closed == 1


async def test_a_browsers_event_source_asks_by_get(edge):
    url = f"{edge.url}?{urlencode({'query': 'subscription { count(to: 1) }'})}"
    async with edge.client.get(url, headers={"accept": EVENTS}) as response:
        assert response.status == 200, await response.text()
        assert (await parsed(response))[-1] == ("complete", None)


async def test_a_query_is_answered_as_one_event_when_only_events_are_accepted(edge):
    async with edge.post({"query": "{ __typename }"}, EVENTS) as response:
        events = await parsed(response)
    assert [name for name, _ in events] == ["next", "complete"]
    assert events[0][1]["data"] == {"__typename": "Query"}
    async with edge.post({"query": "{ __typename }"}, f"application/json, {EVENTS}") as response:
        assert response.content_type == "application/json"


async def test_a_subscription_without_events_accepted_is_406(edge):
    async with edge.post({"query": "subscription { count }"}) as response:
        assert response.status == 406


async def test_refusals_before_the_stream_have_their_status(edge):
    for body, status in (({"query": "subscription { nothing }"}, 200), ({"query": 7}, 400)):
        async with edge.post(body, EVENTS) as response:
            assert (response.status, response.content_type) == (status, "application/json")
            assert (await response.json())["errors"]


async def test_a_failure_in_the_stream_is_its_last_event_and_masked(edge, caplog):
    async with edge.post({"query": "subscription { failing }"}, EVENTS) as response:
        events = await parsed(response)
    assert [name for name, _ in events] == ["next", "next", "complete"]
    assert events[1][1]["errors"][0]["extensions"]["code"] == "INTERNAL"
    assert "secret" not in str(events)


async def test_a_client_that_leaves_ends_the_source(edge):
    async with edge.post({"query": "subscription { count(pauseS: 30) }"}, EVENTS) as response:
        await response.content.readline()
    await until(lambda: edge.happenings.closed == 1)


async def test_a_quiet_stream_has_a_heartbeat(serve):
    query = {"query": "subscription { count(to: 1, pauseS: 0.2) }"}
    async with serve(heartbeat_s=0.03) as edge, edge.post(query, EVENTS) as response:
        names = [name for name, _ in await parsed(response)]
    assert names[0] == "next"
    assert "heartbeat" in names
    assert names[-1] == "complete"


async def test_a_slow_reader_slows_its_source(edge):
    async with edge.post({"query": "subscription { large }"}, EVENTS) as response:
        await response.content.readline()
        await stands_still(edge)
        response.close()
    await until(lambda: edge.happenings.closed == 1)


async def test_a_revoked_credential_ends_the_stream_and_says_so(serve):
    async with serve(recheck_s=0.02) as edge:
        headers = {"authorization": "Bearer key"}
        async with edge.post({"query": "subscription { count(pauseS: 30) }"}, EVENTS, headers=headers) as response:
            await response.content.readline()
            del edge.tokens.principals["Bearer key"]
            events = await parsed(response)
        assert events[-2][1]["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
        assert events[-1] == ("complete", None)


async def test_shutdown_completes_streams(serve):
    async with serve() as edge:
        async with edge.post({"query": "subscription { count(pauseS: 30) }"}, EVENTS) as response:
            await response.content.readline()
            closing = asyncio.create_task(edge.edge.close())
            assert (await parsed(response))[-1] == ("complete", None)
            await closing
        assert edge.happenings.closed == 1
