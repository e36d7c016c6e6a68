"""Mail: what is said, how it leaves through a real SMTP server, and how it is turned off."""

import asyncio
import email
import email.policy
import ssl
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from aiosmtpd.smtp import SMTP
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from accounts.mail import messages, unsubscribe
from accounts.mail.kinds import OPTIONAL, MailKind
from accounts.mail.mailer import ConsoleMailer, MailFailed, MailRefused, SmtpMailer, parse_smtp_url
from accounts.mail.messages import Mail, as_message
from accounts.mail.outbox import MAX_ATTEMPTS, deliver_mail, enqueue, pause_after
from kit.errors import InvalidInput
from kit.ids import uuid7
from kit.sealing import Sealer
from models.database import transaction
from tests.accounts.conftest import SENDER, later

NOTICE = Mail(
    to="ada@example.com",
    subject="Your balance is low",
    paragraphs=("<b>5</b> credits are left in Ada & Söhne.",),
    link="https://tollgate.test/wallet?a=1&b=2",
    link_text="Top up",
    kind=MailKind.BALANCE_ALERTS,
)


class Kept:
    """What the SMTP server received, and what it answers."""

    def __init__(self):
        self.answers = []
        self.received = []

    async def handle_DATA(self, server, session, envelope):
        if self.answers:
            return self.answers.pop(0)
        self.received.append(
            (envelope.rcpt_tos, email.message_from_bytes(envelope.content, policy=email.policy.default))
        )
        return "250 OK"


@asynccontextmanager
async def serving(kept, **settings):
    """An SMTP server in this loop."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(kept, hostname="smtp.test", loop=loop, **settings), "127.0.0.1", 0)
    kept.port = server.sockets[0].getsockname()[1]
    kept.url = f"smtp://127.0.0.1:{kept.port}"
    yield kept
    server.close()
    await server.wait_closed()


@pytest.fixture
async def smtp():
    async with serving(Kept()) as kept:
        yield kept


async def put(room, mail, **changes):
    async with transaction(room.accounts.database) as conn:
        await enqueue(conn, room.accounts.sealer, mail, **changes)


async def deliver(room, mailer, sender=SENDER):
    return await deliver_mail(room.accounts.database, room.accounts.sealer, mailer, sender)


async def test_D11_a_mail_arrives_with_plain_and_html_parts_and_one_click_unsubscribe(room, smtp):
    await put(room, NOTICE)
    assert (await deliver(room, SmtpMailer(smtp.url))).sent == 1
    ((recipients, message),) = smtp.received
    assert recipients == ["ada@example.com"]
    assert message["Subject"] == "Your balance is low"
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    url = message["List-Unsubscribe"].strip("<>")
    assert url.startswith("https://tollgate.test/unsubscribe?token=")
    plain, html = (message.get_body((kind,)).get_content() for kind in ("plain", "html"))
    assert "<b>5</b> credits are left in Ada & Söhne." in plain
    assert "https://tollgate.test/wallet?a=1&b=2" in plain
    assert "&lt;b&gt;5&lt;/b&gt; credits are left in Ada &amp; Söhne." in html
    assert url in plain
    assert url in html
    assert (await deliver(room, SmtpMailer(smtp.url))).sent == 0


async def test_a_transactional_mail_cannot_be_turned_off_and_carries_no_such_header(room, smtp):
    await put(room, replace(NOTICE, kind=MailKind.TRANSACTIONAL))
    await deliver(room, SmtpMailer(smtp.url))
    ((_, message),) = smtp.received
    assert message["List-Unsubscribe"] is None
    token = unsubscribe.token_for(room.accounts.sealer, "ada@example.com", MailKind.TRANSACTIONAL)
    with pytest.raises(InvalidInput):
        await unsubscribe.unsubscribe(room.accounts.database, room.accounts.sealer, token)


async def test_one_click_turns_its_kind_off_for_its_address_only_and_repeats(room, smtp):
    sealer, database = room.accounts.sealer, room.accounts.database
    token = unsubscribe.token_for(sealer, "Ada@Example.com", MailKind.BALANCE_ALERTS)
    for _ in range(2):
        assert await unsubscribe.unsubscribe(database, sealer, token) is MailKind.BALANCE_ALERTS
    await put(room, NOTICE)
    await put(room, replace(NOTICE, kind=MailKind.BILLING_NOTICES))
    await put(room, replace(NOTICE, to="bob@example.com"))
    done = await deliver(room, SmtpMailer(smtp.url))
    assert (done.sent, done.dropped) == (2, 1)
    async with transaction(database) as conn:
        await unsubscribe.turn_on(conn, "ada@example.com", MailKind.BALANCE_ALERTS)
    await put(room, NOTICE)
    assert (await deliver(room, SmtpMailer(smtp.url))).sent == 1


@pytest.mark.parametrize("token", ["", "x", "A" * 60, "\ud800", "é", "x" * 5000])
async def test_unsubscribe_links_we_did_not_sign_are_refused(room, token):
    with pytest.raises(InvalidInput):
        unsubscribe.read_token(room.accounts.sealer, token)


async def test_an_unsubscribe_link_with_one_wrong_character_is_refused(room):
    good = unsubscribe.token_for(room.accounts.sealer, "ada@example.com", MailKind.PRODUCT_NEWS)
    other = Sealer({1: b"another secret key of enough length"}, 1)
    with pytest.raises(InvalidInput):
        unsubscribe.read_token(other, good)
    for place in range(0, len(good) - 1, 7):
        with pytest.raises(InvalidInput):
            unsubscribe.read_token(
                room.accounts.sealer, good[:place] + ("A" if good[place] != "A" else "B") + good[place + 1 :]
            )


async def test_a_mail_is_tried_again_later_and_at_last_given_up(room, smtp, time):
    await put(room, NOTICE)
    smtp.answers = ["451 later"] * MAX_ATTEMPTS
    for attempt in range(1, MAX_ATTEMPTS):
        assert (await deliver(room, SmtpMailer(smtp.url))).postponed == 1, attempt
        assert await deliver(room, SmtpMailer(smtp.url)) == await deliver(room, SmtpMailer(smtp.url))
        later(time, seconds=pause_after(attempt).total_seconds())
    assert (await deliver(room, SmtpMailer(smtp.url))).dropped == 1
    assert await room.pg.fetchval("SELECT payload ? 'sealed' FROM outbox_events") is False
    assert pause_after(1) < pause_after(2) < pause_after(50) == timedelta(hours=2)


async def test_a_mail_tried_again_has_the_message_id_it_had(room, smtp, time):
    await put(room, NOTICE)
    sent = []

    class Torn:
        async def send(self, message):
            sent.append(message["Message-ID"])
            if len(sent) == 1:
                raise MailFailed("torn after the server took it")

    await deliver(room, Torn())
    later(time, minutes=1)
    await deliver(room, Torn())
    assert len(sent) == 2
    assert len(set(sent)) == 1


async def test_a_mail_refused_for_good_is_not_tried_again(room, smtp):
    await put(room, NOTICE)
    smtp.answers = ["550 no such mailbox"]
    assert (await deliver(room, SmtpMailer(smtp.url))).dropped == 1
    assert (await deliver(room, SmtpMailer(smtp.url))).sent == 0


async def test_while_the_server_is_away_mails_wait(room, smtp):
    await put(room, NOTICE)
    assert (await deliver(room, SmtpMailer("smtp://127.0.0.1:1"))).postponed == 1


async def test_workers_share_the_work_and_send_each_mail_once(room, smtp):
    for number in range(12):
        await put(room, replace(NOTICE, to=f"p{number}@example.com"))
    await room.warm()
    done = await asyncio.gather(*(deliver(room, SmtpMailer(smtp.url)) for _ in range(5)))
    assert sum(round_.sent for round_ in done) == 12
    assert len({recipients[0] for recipients, _ in smtp.received}) == 12
    assert len(smtp.received) == 12


async def test_a_mail_of_a_rolled_back_change_is_never_sent(room, smtp):
    async def failing():
        async with transaction(room.accounts.database) as conn:
            await enqueue(conn, room.accounts.sealer, NOTICE)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await failing()
    assert (await deliver(room, SmtpMailer(smtp.url))).sent == 0


async def test_one_dedupe_key_is_one_mail(room, smtp):
    for _ in range(2):
        await put(room, NOTICE, dedupe_key="low:1")
    assert (await deliver(room, SmtpMailer(smtp.url))).sent == 1


async def test_a_mail_sealed_under_a_lost_key_is_given_up_and_blocks_no_other(room, smtp):
    await put(room, NOTICE)
    await room.pg.execute("UPDATE outbox_events SET payload = jsonb_set(payload, '{sealed}', '\"AAAA\"')")
    await put(room, NOTICE)
    done = await deliver(room, SmtpMailer(smtp.url))
    assert (done.sent, done.dropped) == (1, 1)


@pytest.mark.parametrize(
    "mail",
    [
        messages.invitation("ada@example.com", "Tollgate", "A\r\nBcc: eve@example.com", "Eve\nX: y", "https://x.test/"),
        replace(NOTICE, subject="Hello\r\nBcc: eve@example.com\r\n\r\nbody"),
        replace(NOTICE, subject="\u2028Bcc: eve@example.com"),
    ],
)
def test_no_text_adds_a_header(mail):
    message = as_message(mail, uuid7(), SENDER, "https://x.test/u")
    assert message["Bcc"] is None
    assert message["X"] is None
    read = email.message_from_bytes(message.as_bytes(), policy=email.policy.default)
    assert set(read.keys()) == set(message.keys())


def test_an_address_with_a_header_in_it_is_refused():
    with pytest.raises(InvalidInput):
        as_message(replace(NOTICE, to="ada@example.com\r\nBcc: eve@example.com"), uuid7(), SENDER, None)


def test_every_kind_but_the_transactional_can_be_turned_off():
    assert set(MailKind) - OPTIONAL == {MailKind.TRANSACTIONAL}


async def test_the_console_shows_the_text_with_its_link(capsys):
    await ConsoleMailer().send(as_message(NOTICE, uuid7(), SENDER, None))
    shown = capsys.readouterr().out
    assert "ada@example.com" in shown
    assert NOTICE.link in shown


@pytest.mark.parametrize(
    ("url", "host", "port", "use_tls", "start_tls"),
    [
        ("smtp://mail.test", "mail.test", 587, False, None),
        ("smtp://mail.test:25?starttls=never", "mail.test", 25, False, False),
        ("smtp://mail.test?starttls=require", "mail.test", 587, False, True),
        ("smtp://me:p%40ss@mail.test", "mail.test", 587, False, True),
        ("smtps://me:p%40ss@mail.test", "mail.test", 465, True, False),
    ],
)
def test_addresses_of_smtp_servers(url, host, port, use_tls, start_tls):
    found = parse_smtp_url(url)
    assert (found.host, found.port, found.use_tls, found.start_tls) == (host, port, use_tls, start_tls)
    assert found.password in {None, "p@ss"}


@pytest.mark.parametrize("url", ["", "mail.test", "http://mail.test", "smtp://", "smtp://mail.test?starttls=perhaps"])
def test_other_addresses_are_refused(url):
    with pytest.raises(ValueError):
        SmtpMailer(url)


async def test_a_server_without_starttls_gets_no_password(smtp):
    mailer = SmtpMailer(f"smtp://me:secret@127.0.0.1:{smtp.port}")
    with pytest.raises((MailFailed, MailRefused)):
        await mailer.send(as_message(NOTICE, uuid7(), SENDER, None))
    assert smtp.received == []


async def test_starttls_is_used_where_required_and_its_certificate_is_checked(tmp_path):
    certificate, key = _self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    message = as_message(NOTICE, uuid7(), SENDER, None)
    async with serving(Kept(), tls_context=context, require_starttls=True) as kept:
        with pytest.raises(MailFailed):
            await SmtpMailer(f"{kept.url}?starttls=require").send(message)
        with pytest.raises(MailRefused):
            await SmtpMailer(f"{kept.url}?starttls=never").send(message)
    assert kept.received == []


def _self_signed(directory):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "elsewhere.test")])
    present = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(present - timedelta(days=1))
        .not_valid_after(present + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (directory / "c.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (directory / "k.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return directory / "c.pem", directory / "k.pem"
