"""Where webhooks may not go: private, loopback, link-local and reserved addresses, whatever they are dressed as."""

import asyncio
import socket
from ipaddress import ip_address, ip_network

import pytest

from billing.egress import CheckedResolver, Egress
from billing.rules.egress import may_reach, mistake_in_url
from billing.webhook_errors import UrlRefused

LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


@pytest.mark.parametrize("text", [
    "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "100.127.255.255", "192.0.0.8", "192.0.2.1", "198.18.0.1", "203.0.113.9", "224.0.0.1", "240.0.0.1",
    "255.255.255.255", "::", "::1", "fc00::1", "fd12:3456::1", "fe80::1", "fec0::1", "ff02::1", "2001:db8::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::127.0.0.1",
    "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "100::1", "3fff::1", "5f00::1",
])  # fmt: skip
def test_what_is_not_public_is_not_reached(text):
    assert not may_reach(ip_address(text), ())


@pytest.mark.parametrize("text", ["1.1.1.1", "93.184.216.34", "100.63.255.255", "172.32.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])  # fmt: skip
def test_what_is_public_is_reached(text):
    assert may_reach(ip_address(text), ())


def test_what_the_operator_allows_is_reached_and_no_more():
    allowed = (ip_network("10.1.0.0/16"), ip_network("fd00::/8"))
    assert may_reach(ip_address("10.1.2.3"), allowed)
    assert may_reach(ip_address("::ffff:10.1.2.3"), allowed)
    assert may_reach(ip_address("fd00::5"), allowed)
    assert not may_reach(ip_address("10.2.0.1"), allowed)


@pytest.mark.parametrize("url", [
    "", "example.com", "ftp://example.com", "file:///etc/passwd", "https://", "https://user@example.com", "https://u:p@example.com",
    "https://example.com/#x", "https://example.com:99999/", "https://example.com:0/", "https://exa mple.com", "https://exämple.com",
    "https://[::1", "https://example.com/\r\nX: y", "https://example.com/\0", "https://example.com/\x01", "https://example.com/\x7f", "javascript:alert(1)", "https://example.com/" + "a" * 2000,
])  # fmt: skip
def test_what_is_no_address_of_the_web_is_refused(url):
    assert mistake_in_url(url) is not None


@pytest.mark.parametrize("url", [
    "https://127.0.0.1/", "https://localhost/", "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://2130706433/",
    "https://0x7f.1/", "https://0/", "https://169.254.169.254/latest/meta-data", "http://1.1.1.1/", "https://nowhere.invalid/",
])  # fmt: skip
async def test_registration_refuses_what_resolves_to_us_and_plain_http_to_others(url):
    with pytest.raises(UrlRefused):
        await Egress(()).check(url)


async def test_registration_takes_public_addresses_and_what_is_allowed():
    await Egress(()).check("https://1.1.1.1/hooks")
    await Egress(LOOPBACK).check("http://127.0.0.1:8080/hooks")
    await Egress(LOOPBACK).check("https://localhost/hooks")


async def test_one_private_address_among_public_ones_refuses_the_name(monkeypatch):
    async def both(host, port, **_):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (text, port)) for text in ("1.1.1.1", "10.0.0.1")]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", both)
    with pytest.raises(OSError, match="private"):
        await CheckedResolver(()).resolve("rebinding.example", 443)


async def test_a_name_that_leads_to_us_later_is_refused_at_connect_time_and_nothing_is_sent(monkeypatch):
    connected = []
    server = await asyncio.start_server(lambda *_: connected.append(1), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    places = iter(["1.1.1.1", "127.0.0.1"])

    async def rebinding(host, port, **_):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(places), port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", rebinding)
    url = f"https://rebinding.example:{port}/"
    async with Egress(()) as egress:
        await egress.check(url)
        answer = await egress.post(url, b"{}", {})
        literals = [
            await egress.post(f"http://{host}:{port}/", b"{}", {}) for host in ("127.0.0.1", "[::ffff:127.0.0.1]")
        ]
    server.close()
    await server.wait_closed()
    assert answer.status_code is None
    assert "private" in (answer.error or "")
    assert all(each.status_code is None and "private" in each.error for each in literals)
    assert connected == []
