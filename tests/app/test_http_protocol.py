"""Our HTTP protocol on a real socket: what uvicorn's own did, with whole responses in one piece."""

import asyncio
import contextlib
import time

import pytest
import uvicorn

from app.http_protocol import BEFORE_BODY, HttpProtocol, ResponseStarted

BIG = b"0123456789abcdef" * 262_144


async def read_all(receive):
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message["body"]
        if not message["more_body"]:
            return body


async def answer(send, body, *, status=200, headers=(), length=None):
    stated = len(body) if length is None else length
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(b"Content-Length", str(stated).encode()), *headers],
        }
    )
    await send({"type": "http.response.body", "body": body})


class App:
    """Does what the path says."""

    def __init__(self):
        self.may_go_on = asyncio.Event()
        self.seen = []
        self.refused = None

    async def __call__(self, scope, receive, send):
        assert scope["type"] == "http"
        path = scope["path"]
        self.seen.append(path)
        match path.split("/")[1:]:
            case ["echo"]:
                await answer(send, await read_all(receive) or b"nothing")
            case ["number", number]:
                await asyncio.sleep(0.02 if number == "1" else 0)
                await answer(send, number.encode())
            case ["stream"]:
                headers = [(b"content-type", b"text/event-stream")]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                await self.may_go_on.wait()
                for part in (b"one", b"", b"two"):
                    await send({"type": "http.response.body", "body": part, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
            case ["stream-soon"]:
                await send({"type": "http.response.start", "status": 200, BEFORE_BODY: True, "headers": []})
                for part in (b"one", b"two"):
                    await send({"type": "http.response.body", "body": part, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
            case ["parts"]:
                await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"6")]})
                await send({"type": "http.response.body", "body": b"abc", "more_body": True})
                await send({"type": "http.response.body", "body": b"def"})
            case ["big"]:
                await answer(send, BIG)
            case ["none"]:
                await send({"type": "http.response.start", "status": 204, "headers": []})
                await send({"type": "http.response.body", "body": b""})
            case ["empty"]:
                await answer(send, b"")
            case ["close"]:
                await answer(send, b"bye", headers=[(b"connection", b"close")])
            case ["long"]:
                await answer(send, b"too long", length=3)
            case ["short"]:
                await answer(send, b"short", length=30)
            case ["injected"]:
                await answer(send, b"x", headers=[(b"x-told", b"a\r\nset-cookie: b")])
            case ["misnamed"]:
                await answer(send, b"x", headers=[(b"x told", b"a")])
            case ["twice"]:
                await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
                try:
                    await answer(send, b"another")
                except ResponseStarted as error:
                    self.refused = error
                await send({"type": "http.response.body", "body": b"one"})
            case ["silent"]:
                return
            case ["wait"]:
                await self.may_go_on.wait()
                await answer(send, b"done")
            case _:
                await answer(send, path.encode(), status=404)


@pytest.fixture
async def app():
    return App()


@pytest.fixture
def keep_alive_s():
    """Long, but for those who wait for its end: a slow machine must not make a connection in use an idle one."""
    return 60


@pytest.fixture
async def server(app, keep_alive_s):
    config = uvicorn.Config(
        app, port=0, http=HttpProtocol, lifespan="off", log_config=None, access_log=False, server_header=False,
        timeout_keep_alive=keep_alive_s,
    )  # fmt: skip
    running = uvicorn.Server(config)
    running.capture_signals = contextlib.nullcontext
    task = asyncio.create_task(running.serve())
    while not running.started:
        await asyncio.sleep(0.005)
    yield running
    app.may_go_on.set()
    running.should_exit = True
    await task


class Client:
    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def response(self, *, body=True):
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 30)
        status, *lines = head[:-4].decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        content = await self.reader.readexactly(int(headers.get("content-length", 0))) if body else b""
        return int(status.split()[1]), headers, content

    async def ask(self, path, *, method="GET", body=b"", headers=""):
        self.writer.write(
            f"{method} {path} HTTP/1.1\r\nHost: t\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body
        )
        return await self.response(body=method != "HEAD")

    async def ended(self):
        return await asyncio.wait_for(self.reader.read(), 30)


@pytest.fixture
async def client(server):
    port = server.servers[0].sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    yield Client(reader, writer)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_requests_of_one_connection_are_answered_one_after_the_other(client):
    for number in range(3):
        status, headers, body = await client.ask("/echo", method="POST", body=b"%d" % number)
        assert (status, body) == (200, b"%d" % number)
        assert "connection" not in headers
        assert "date" in headers


@contextlib.asynccontextmanager
async def writes_seen(server):
    """A client, and what the server writes to it, write by write."""
    written = []

    class Watched(HttpProtocol):
        def connection_made(self, transport):
            super().connection_made(transport)
            write = transport.write

            class Transport:
                def write(self, data):
                    written.append(data)
                    write(data)

                def __getattr__(self, name):
                    return getattr(transport, name)

            self.transport = Transport()

    loop = asyncio.get_running_loop()
    listening = await loop.create_server(
        lambda: Watched(config=server.config, server_state=server.server_state, app_state={}), "127.0.0.1", 0
    )
    reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
    yield Client(reader, writer), written
    writer.close()
    await writer.wait_closed()
    listening.close()


async def test_a_whole_response_is_one_piece(server):
    async with writes_seen(server) as (client, written):
        assert (await client.ask("/echo", method="POST", body=b"hello"))[2] == b"hello"
        assert len(written) == 1


async def test_the_head_of_a_stream_whose_first_part_follows_goes_with_it(server):
    async with writes_seen(server) as (client, written):
        client.writer.write(b"GET /stream-soon HTTP/1.1\r\nHost: t\r\n\r\n")
        status, headers, _ = await client.response(body=False)
        assert (status, headers["transfer-encoding"]) == (200, "chunked")
        assert await client.reader.readexactly(21) == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
        assert len(written) == 3
        assert written[0].endswith(b"\r\n\r\n3\r\none\r\n")
        assert (await client.ask("/number/7"))[2] == b"7"


async def test_pipelined_requests_are_answered_in_order(client):
    client.writer.write(b"".join(b"GET /number/%d HTTP/1.1\r\nHost: t\r\n\r\n" % number for number in (1, 2, 3)))
    assert [(await client.response())[2] for _ in range(3)] == [b"1", b"2", b"3"]


async def test_a_body_is_asked_for_where_the_client_waits_with_it(client):
    client.writer.write(b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    assert await asyncio.wait_for(client.reader.readuntil(b"\r\n\r\n"), 30) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.writer.write(b"hello")
    assert (await client.response())[2] == b"hello"


async def test_the_head_of_a_stream_does_not_wait_for_its_first_part(client, app):
    client.writer.write(b"GET /stream HTTP/1.1\r\nHost: t\r\n\r\n")
    status, headers, _ = await client.response(body=False)
    assert (status, headers["transfer-encoding"]) == (200, "chunked")
    app.may_go_on.set()
    assert await client.reader.readexactly(21) == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
    assert (await client.ask("/number/7"))[2] == b"7"


async def test_a_response_in_parts_arrives_whole(client):
    assert (await client.ask("/parts"))[2] == b"abcdef"


async def test_a_response_larger_than_the_socket_takes_arrives_whole(client):
    assert (await client.ask("/big"))[2] == BIG
    assert (await client.ask("/number/7"))[2] == b"7"


async def test_a_body_larger_than_the_buffer_is_read_whole(client):
    assert (await client.ask("/echo", method="POST", body=BIG))[2] == BIG


async def test_responses_without_a_body_leave_the_connection_usable(client):
    status, headers, _ = await client.ask("/none")
    assert (status, "transfer-encoding" in headers) == (204, False)
    assert (await client.ask("/empty"))[0] == 200
    assert (await client.ask("/number/5", method="HEAD"))[1]["content-length"] == "1"
    assert (await client.ask("/number/7"))[2] == b"7"


async def test_a_path_is_unquoted_once(client, app):
    await client.ask("/a%2520b?c=d")
    assert app.seen == ["/a%20b"]


async def test_a_connection_is_closed_where_either_side_says_so(client, server):
    status, headers, body = await client.ask("/close")
    assert (status, headers["connection"], body) == (200, "close", b"bye")
    assert await client.ended() == b""
    reader, writer = await asyncio.open_connection(*server.servers[0].sockets[0].getsockname())
    writer.write(b"GET /number/7 HTTP/1.0\r\n\r\n")
    answered = await asyncio.wait_for(reader.read(), 30)
    assert answered.endswith(b"\r\n\r\n7")
    assert b"connection: close" in answered
    writer.close()


@pytest.mark.parametrize("path", ["/injected", "/misnamed", "/silent"])
async def test_a_malformed_or_missing_head_is_an_error_of_the_server(client, path, caplog):
    status, headers, body = await client.ask(path)
    assert (status, body) == (500, b"Internal Server Error")
    assert "set-cookie" not in headers


@pytest.mark.parametrize("path", ["/long", "/short"])
async def test_a_response_of_another_length_than_stated_breaks_the_connection(client, path, caplog):
    client.writer.write(b"GET %b HTTP/1.1\r\nHost: t\r\n\r\n" % path.encode())
    content = await client.ended()
    head, _, body = content.partition(b"\r\n\r\n")
    stated = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]) if head else -1
    assert stated != len(body)


async def test_what_is_no_http_is_refused(client):
    client.writer.write(b"\x16\x03\x01 not http\r\n\r\n")
    assert (await client.ended()).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("keep_alive_s", [1])
async def test_an_idle_connection_is_closed_after_its_time(client):
    assert (await client.ask("/number/7"))[2] == b"7"
    assert await client.ended() == b""


@pytest.mark.parametrize("keep_alive_s", [3])
async def test_a_connection_in_use_outlives_the_time_of_an_idle_one(client):
    began = time.monotonic()
    while time.monotonic() - began < 4.5:
        assert (await client.ask("/number/7"))[0] == 200
        used_at = time.monotonic()
        await asyncio.sleep(0.3)
    await client.ended()
    assert time.monotonic() - used_at > 2.5, "the time counts from the last response"


@pytest.mark.parametrize("keep_alive_s", [1])
async def test_a_request_under_way_is_not_idle(client, app):
    asked = asyncio.create_task(client.ask("/wait"))
    await asyncio.sleep(1.5)
    app.may_go_on.set()
    assert (await asked)[0] == 200
    await client.ended()


async def test_a_second_response_is_refused_and_told_apart(client, app):
    assert (await client.ask("/twice"))[0] == 200
    assert isinstance(app.refused, ResponseStarted)


async def test_a_client_that_leaves_frees_its_request(client, app, server):
    client.writer.write(b"GET /wait HTTP/1.1\r\nHost: t\r\n\r\n")
    while "/wait" not in app.seen:
        await asyncio.sleep(0.001)
    client.writer.transport.abort()
    while server.server_state.connections:
        await asyncio.sleep(0.001)
    app.may_go_on.set()
    while server.server_state.tasks:
        await asyncio.sleep(0.001)
