"""Connections are reused, bounded, and never left in a state that mixes up two answers."""

import asyncio
import contextlib
import datetime as dt
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

import providers.http_client
from providers.base import Timeouts
from providers.errors import ProviderError, UpstreamUnavailable
from providers.http_client import KeepAliveTransport
from providers.openai_compatible import OpenAICompatibleProvider
from providers.transport import EndpointError, endpoint_of
from tests.providers.upstreams import KEY, STREAM_HEAD, WHOLE, answer, call, chunk, closing, hang, scripted, word


async def test_calls_one_after_the_other_share_one_connection(provider_at):
    async with scripted(answer(WHOLE)) as upstream:
        provider = provider_at(upstream.url)
        for _ in range(20):
            await provider.complete(call())
        assert upstream.connections == 1


async def test_an_error_answer_leaves_its_connection_to_the_next_call(provider_at):
    async with scripted(answer(b'{"error":{"message":"x"}}', "500 X")) as upstream:
        provider = provider_at(upstream.url)
        for _ in range(5):
            with pytest.raises(UpstreamUnavailable):
                await provider.complete(call())
        assert upstream.connections == 1


async def test_calls_at_once_have_a_connection_each_and_keep_their_answers_apart(provider_at):
    async def echo(reader, writer):
        number = upstream.requests[-1].json["user"]
        await asyncio.sleep(0.01)
        writer.write(answer(b'{"choices":[],"user":"%b"}' % number.encode()))

    async with scripted(echo) as upstream:
        provider = provider_at(upstream.url)
        for _ in range(3):
            got = await asyncio.gather(*(provider.complete(call(user=str(number))) for number in range(30)))
            assert [each.body["user"] for each in got] == [str(number) for number in range(30)]
        assert upstream.connections == 30


async def test_hundreds_of_cancelled_calls_leave_no_connection_and_a_usable_pool(provider_at, transport):
    async def slow_or_not(reader, writer):
        if upstream.requests[-1].json.get("user") == "slow":
            await reader.read()
        else:
            writer.write(answer(WHOLE))

    async with scripted(slow_or_not) as upstream:
        provider = provider_at(upstream.url)
        for batch in range(5):
            tasks = [asyncio.create_task(provider.complete(call(user="slow"))) for _ in range(60)]
            await asyncio.sleep(0.002 * batch)  # some while connecting, some while waiting
            for task in tasks:
                task.cancel()
            gone = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(each, asyncio.CancelledError) for each in gone)
        await asyncio.wait_for(_until(lambda: transport.open_connections == 0), 30)
        for _ in range(3):
            assert (await provider.complete(call())).raw == WHOLE
        assert transport.open_connections == 1


async def test_a_kept_connection_that_the_provider_closed_is_not_used_again(provider_at):
    """`closing` sends no Connection: close, so that the client keeps what is about to be closed."""
    async with scripted(closing(answer(WHOLE))) as upstream:
        provider = provider_at(upstream.url)
        for _ in range(5):
            await provider.complete(call())
            await _turns()
        assert upstream.connections == 5
        assert len(upstream.requests) == 5


@pytest.mark.parametrize("text", [answer(WHOLE, headers="Connection: close\r\n"), answer(WHOLE, "200 OK", "X: y\r\n")])
async def test_an_answer_that_says_close_is_taken_at_its_word(provider_at, text):
    async with scripted(text) as upstream:
        provider = provider_at(upstream.url)
        await provider.complete(call())
        await provider.complete(call())
        assert upstream.connections == (2 if b"close" in text else 1)


async def test_a_second_answer_to_one_request_never_reaches_the_next_call():
    """A provider that speaks out of turn loses its connection (aiohttp drops the excess in its own way)."""
    transport = KeepAliveTransport()
    evil = answer(b'{"choices":[],"whose":"nobody"}')
    for pause in (0, 0.01):

        async def script(reader, writer, pause=pause):
            writer.write(answer(WHOLE) + (evil if not pause else b""))
            if pause:
                await asyncio.sleep(pause)
                writer.write(evil)

        async with scripted(script) as upstream:
            provider = OpenAICompatibleProvider("up", base_url=upstream.url, api_key=None, transport=transport)
            for _ in range(3):
                assert "whose" not in (await provider.complete(call())).body
                await _turns()
            assert upstream.connections == 3
    await transport.aclose()


async def test_idle_connections_are_closed_when_they_are_old(monkeypatch):
    monkeypatch.setattr(providers.http_client, "IDLE_KEPT_S", 0.05)
    transport = KeepAliveTransport()
    async with scripted(answer(WHOLE)) as upstream:
        provider = OpenAICompatibleProvider("up", base_url=upstream.url, api_key=None, transport=transport)
        await provider.complete(call())
        assert transport.open_connections == 1
        await asyncio.sleep(0.08)
        await provider.complete(call())
        assert upstream.connections == 2
        await asyncio.wait_for(_until(lambda: transport.open_connections == 0), 30)
    await transport.aclose()


async def test_the_providers_own_keep_alive_time_is_kept():
    transport = KeepAliveTransport()
    async with scripted(answer(WHOLE, headers="Keep-Alive: timeout=1, max=5\r\n")) as upstream:
        provider = OpenAICompatibleProvider("up", base_url=upstream.url, api_key=None, transport=transport)
        await provider.complete(call())
        await provider.complete(call())
        assert upstream.connections == 2
    await transport.aclose()


async def test_there_is_a_bound_to_connections(monkeypatch):
    monkeypatch.setattr(providers.http_client, "MAX_CONNECTIONS", 2)
    transport = KeepAliveTransport()
    async with scripted(hang) as upstream:
        provider = OpenAICompatibleProvider("up", base_url=upstream.url, api_key=None, transport=transport)
        tasks = [asyncio.create_task(provider.complete(call())) for _ in range(2)]
        await asyncio.wait_for(_until(lambda: len(upstream.requests) == 2), 30)
        with pytest.raises(UpstreamUnavailable, match="too many"):
            await provider.complete(call())
        await transport.aclose()
        for task in tasks:
            with pytest.raises(UpstreamUnavailable, match="closed its connections"):
                await task


async def test_after_closing_calls_are_refused(provider_at, transport):
    async with scripted(answer(WHOLE)) as upstream:
        provider = provider_at(upstream.url)
        await provider.complete(call())
        await transport.aclose()
        with pytest.raises(UpstreamUnavailable):
            await provider.complete(call())


async def test_tls_is_spoken_and_a_certificate_that_nobody_vouches_for_is_refused(tmp_path):
    key_path, certificate_path = _certificate(tmp_path)
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_tls.load_cert_chain(certificate_path, key_path)
    trusting, wary = KeepAliveTransport(ssl.create_default_context(cafile=certificate_path)), KeepAliveTransport()
    async with scripted(answer(WHOLE), tls=server_tls) as upstream:
        provider = OpenAICompatibleProvider("up", base_url=upstream.url, api_key=KEY, transport=trusting)
        for _ in range(3):
            assert (await provider.complete(call())).raw == WHOLE
        assert upstream.connections == 1
        provider = OpenAICompatibleProvider("up", base_url=upstream.url, api_key=KEY, transport=wary)
        with pytest.raises(ProviderError, match="SSLCertVerificationError"):
            await provider.complete(call())
        await trusting.aclose()
        await wary.aclose()
    assert len(upstream.requests) == 3


def test_a_process_that_got_no_core_takes_no_silence_of_its_own_for_the_providers():
    """What came meanwhile is read before it is judged, on the loop that the gateway runs on too."""
    idle_s = 0.3
    listening = socket.create_server(("127.0.0.1", 0))
    all_said, may_go_on = threading.Event(), threading.Event()

    def provide() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(STREAM_HEAD + chunk(word("a")))
            may_go_on.wait(30)
            connection.sendall(chunk(word("b", "stop")) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
            all_said.set()
            connection.recv(1)

    class Stalls(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            """Sockets were looked at; before the timers are, this process does not run for a while."""
            may_go_on.set()
            all_said.wait(30)
            time.sleep(2 * idle_s)

    async def read() -> list[int]:
        transport = KeepAliveTransport()
        port = listening.getsockname()[1]
        provider = OpenAICompatibleProvider(
            "up", base_url=f"http://127.0.0.1:{port}", api_key=None, transport=transport
        )
        near, far = socket.socketpair()
        with far, contextlib.closing(near):
            stream = await provider.stream(call(timeouts=Timeouts(idle_s=idle_s)))
            sizes = [(await anext(stream)).content_bytes]
            await asyncio.get_running_loop().create_connection(Stalls, sock=near)
            far.send(b"x")
            try:
                return sizes + [each.content_bytes async for each in stream]
            finally:
                await transport.aclose()

    with listening, ThreadPoolExecutor(1) as thread, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        providing = thread.submit(provide)
        assert runner.run(read()) == [1, 1, 0]
        providing.result(30)


@pytest.mark.parametrize(
    "base_url",
    ["", "ftp://x", "http://", "http://u:p@x/v1", "http://x/v1?a=1", "http://x/\r\nEvil: 1", "http://x:99999", "x/v1"],
)
def test_an_address_that_no_request_could_go_to_is_refused(base_url):
    with pytest.raises(EndpointError):
        endpoint_of(base_url, "/chat/completions", ())


@pytest.mark.parametrize("header", [("A", "x\r\nB: y"), ("A b", "x"), ("", "x"), ("A", "é"), ("A\n", "x")])
def test_a_header_that_would_break_the_request_is_refused_without_showing_it(header):
    with pytest.raises(EndpointError) as caught:
        endpoint_of("http://x", "/y", (header,))
    assert header[1] not in str(caught.value) or len(header[1]) == 1


def test_an_endpoint_does_not_show_its_headers():
    assert KEY not in repr(endpoint_of("http://x", "/y", (("Authorization", KEY),)))


async def _turns():
    """A while of many turns of the loop, in which all that was due and has come is seen, however slow the machine."""
    for _ in range(20):
        await asyncio.sleep(0.003)


async def _until(holds):
    while not holds():
        await asyncio.sleep(0.01)


def _certificate(directory):
    import ipaddress

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    key_path, certificate_path = directory / "key.pem", directory / "certificate.pem"
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return key_path, certificate_path
