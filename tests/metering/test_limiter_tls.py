"""The limiter's link over TLS: redis-py shakes hands, then the link reads the answers itself."""

import asyncio
import contextlib
import datetime as dt
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from metering.limiter import Bucket, BucketKind, Limiter
from metering.redis_link import connect, script_link
from tests.metering.redis_servers import Server


@pytest.fixture
def certificate(tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    start = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=10))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "server.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while some := await reader.read(65536):
            writer.write(some)
            await writer.drain()
    writer.close()


@pytest.fixture
async def tls_port(certificate):
    """A TLS door before a server without one."""
    server = Server().start()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_unix_connection(str(server.socket))
        await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    door = await asyncio.start_server(relay, "localhost", ssl=context)
    yield door.sockets[0].getsockname()[1]
    door.close()
    server.stop()
    await asyncio.sleep(0.05)


async def test_decisions_pass_through_tls(tls_port, certificate):
    client = connect(f"rediss://localhost:{tls_port}?ssl_ca_certs={certificate}")
    link = script_link(client, timeout_s=5)
    bucket = Bucket(BucketKind.WORKSPACE, "w", 50, 1)
    decisions = await asyncio.gather(*[Limiter(link).take([bucket], tag="t") for _ in range(200)])
    assert not any(decision.degraded for decision in decisions)
    assert sum(decision.allowed for decision in decisions) == 50
    await link.aclose()
    await client.aclose()


async def test_a_server_without_a_trusted_certificate_is_not_asked(tls_port):
    client = connect(f"rediss://localhost:{tls_port}")
    link = script_link(client, timeout_s=5)
    assert (await Limiter(link).take([Bucket(BucketKind.WORKSPACE, "w", 50, 1)], tag="t")).degraded
    await link.aclose()
    await client.aclose()
