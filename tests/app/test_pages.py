"""The pages that mails link to: reading one changes nothing, its form does, and nothing sent to it breaks it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import quote, urlencode

import asyncpg
import pytest

from accounts import operator
from accounts.access_tokens import AccessTokens
from accounts.invalidation import Invalidations
from accounts.key_uses import KeyUses
from accounts.mail.kinds import MailKind
from accounts.mail.outbox import deliver_mail
from accounts.mail.unsubscribe import token_for
from accounts.passwords import PasswordHasher
from accounts.principals import Principals
from accounts.services import Accounts
from accounts.sign_in import sign_in
from accounts.users import sign_up
from app.credentials import Credentials
from app.page_html import POLICY
from app.pages import PATHS, Pages
from app.ports import Attempts
from app.throttle import Throttle
from kit.sealing import Sealer
from metering.limiter import Limiter
from metering.redis_link import connect_node, script_link
from models.database import Database
from tests.accounts.conftest import PASSWORD, SECRET, SENDER, VISITOR, Mailbox, Plans, token_in


@dataclass(frozen=True)
class Shown:
    status: int
    headers: dict[str, str]
    html: str


class Reader(HTMLParser):
    """What of a page matters to the tests."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))

    def named(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


@dataclass
class Site:
    pages: Pages
    accounts: Accounts
    pg: asyncpg.Connection

    async def ask(
        self, path: str, token: str | None = None, *, form: dict | bytes | None = None, kind: str = "application/x-www-form-urlencoded", method: str | None = None
    ) -> Shown:  # fmt: skip
        sent: list[dict] = []
        raw = form if isinstance(form, bytes) else urlencode(form or {}).encode()
        scope = {
            "type": "http",
            "method": method or ("GET" if form is None else "POST"),
            "path": path,
            "query_string": b"" if token is None else b"token=" + quote(token, safe="").encode(),
            "client": ("203.0.113.7", 1),
            "headers": [(b"content-type", kind.encode())],
        }

        async def receive() -> dict:
            return {"type": "http.request", "body": raw, "more_body": False}

        async def send(message: dict) -> None:
            sent.append(message)

        await self.pages(scope, receive, send)
        headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Shown(sent[0]["status"], headers, sent[1]["body"].decode())

    async def mailed_token(self) -> str:
        box = Mailbox()
        await deliver_mail(self.accounts.database, self.accounts.sealer, box, SENDER)
        return token_in(box.messages[-1])


@pytest.fixture
async def site(database_url: str, redis_url: str, pg: asyncpg.Connection) -> AsyncIterator[Site]:
    database = await Database.open(database_url, max_size=4)
    redis = connect_node(redis_url)
    link = script_link(redis)
    sealer, invalidations, limiter = Sealer({1: SECRET}, 1), Invalidations(redis), Limiter(link)
    accounts = Accounts(
        database=database,
        sealer=sealer,
        hasher=PasswordHasher(),
        invalidations=invalidations,
        attempts=Attempts(limiter),
        plans=Plans(),
        public_url="https://tollgate.test",
    )
    principals = Principals(database, AccessTokens(sealer), invalidations, KeyUses(database))
    yield Site(Pages(accounts, Credentials(principals, Throttle(limiter), ())), accounts, pg)
    await link.aclose()
    await redis.aclose()
    await database.close()


@pytest.mark.parametrize("path", sorted(PATHS))
async def test_a_page_stands_alone_and_runs_no_script(site: Site, path: str) -> None:
    shown = await site.ask(path, '"><script>alert(1)</script>')
    assert shown.status == 200
    assert shown.headers["content-security-policy"] == POLICY
    assert shown.headers["referrer-policy"] == "no-referrer"
    assert shown.headers["cache-control"] == "no-store"
    page = Reader(shown.html)
    assert page.named("html") == [{"lang": "en"}]
    assert not [tag for tag, given in page.tags if tag in {"script", "link", "img", "iframe"} or "style" in given]
    labelled = [given for given in page.named("input") if given["type"] != "hidden"]
    assert len(page.named("label")) == len(labelled)
    assert len(page.named("h1")) == 1


async def test_an_address_is_confirmed_by_the_button_and_not_by_reading(site: Site) -> None:
    await sign_up(site.accounts, VISITOR, "ada@example.com", PASSWORD, "Ada")
    token = await site.mailed_token()
    for _ in range(2):
        shown = await site.ask("/verify-email", token)
    assert await site.pg.fetchval("SELECT email_verified_at FROM users") is None
    (hidden,) = [given for given in Reader(shown.html).named("input") if given["name"] == "token"]
    assert (await site.ask("/verify-email", form={"token": hidden["value"]})).status == 200
    assert await site.pg.fetchval("SELECT email_verified_at FROM users") is not None
    assert await site.pg.fetchval("SELECT count(*) FROM sessions WHERE revoked_at IS NULL") == 0
    again = await site.ask("/verify-email", form={"token": token})
    assert again.status == 422
    assert 'role="alert"' in again.html


async def test_a_password_is_set_with_the_mailed_link(site: Site) -> None:
    await operator.make_user(site.accounts, "ada@example.com", "Ada", PASSWORD)
    asked = [await site.ask("/sign-in", form={"email": email}) for email in ("ada@example.com", "nobody@example.com")]
    assert asked[0].html == asked[1].html
    token = await site.mailed_token()
    short = await site.ask("/reset-password", form={"token": token, "password": "short"})
    assert short.status == 422
    assert "at least 10 characters" in short.html
    assert (await site.ask("/reset-password", form={"token": token, "password": "another password"})).status == 200
    await sign_in(site.accounts, VISITOR, "ada@example.com", "another password")


async def invited(site: Site, email: str) -> str:
    from accounts.invitations import invite
    from accounts.rules.roles import Role

    owner = await operator.make_user(site.accounts, "owner@example.com", "Owner", None)
    workspace_id = await site.pg.fetchval("SELECT id FROM workspaces WHERE created_by = $1", owner.id)
    await invite(site.accounts, operator.OPERATOR, workspace_id, email, Role.MEMBER)
    return await site.mailed_token()


async def test_an_invitation_is_taken_up_with_and_without_an_account(site: Site) -> None:
    members = "SELECT count(*) FROM members WHERE role = 'MEMBER' AND removed_at IS NULL"
    token = await invited(site, "new@example.com")
    form = {"token": token, "as": "new", "name": "New", "password": PASSWORD}
    assert (await site.ask("/invite", form=form)).status == 200
    await operator.make_user(site.accounts, "ada@example.com", "Ada", PASSWORD)
    token = await invited(site, "ada@example.com")
    refused = await site.ask("/invite", form={**form, "token": token})
    assert "This address has an account" in refused.html
    known = {"token": token, "as": "known", "email": "ada@example.com"}
    assert (await site.ask("/invite", form={**known, "password": "wrong"})).status == 422
    assert (await site.ask("/invite", form={**known, "password": PASSWORD})).status == 200
    assert await site.pg.fetchval(members) == 2
    assert await site.pg.fetchval("SELECT count(*) FROM sessions WHERE revoked_at IS NULL") == 0


@pytest.mark.parametrize(
    ("form", "kind"),
    [
        (b"List-Unsubscribe=One-Click", "application/x-www-form-urlencoded"),
        (b'--x\r\ncontent-disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--x--', "multipart/form-data; boundary=x"),
        (b"", "application/x-www-form-urlencoded"),
    ],
)  # fmt: skip
async def test_one_post_of_a_mail_program_unsubscribes_and_a_look_does_not(site: Site, form: bytes, kind: str) -> None:
    token = token_for(site.accounts.sealer, "ada@example.com", MailKind.PRODUCT_NEWS)
    assert "product news" in (await site.ask("/unsubscribe", token)).html
    assert await site.pg.fetchval("SELECT count(*) FROM mail_preferences") == 0
    for _ in range(2):
        assert (await site.ask("/unsubscribe", token, form=form, kind=kind)).status == 200
    row = await site.pg.fetchrow("SELECT kind, source FROM mail_preferences")
    assert tuple(row) == ("PRODUCT_NEWS", "ONE_CLICK")


@pytest.mark.parametrize("path", sorted(PATHS))
@pytest.mark.parametrize(
    "form", [{}, {"token": "x"}, {"token": "\x00\ud7ff"}, {"token": "é" * 9_000}, b"%ff%fe=%00&token=%zz", b"a&" * 500]
)
async def test_nonsense_is_refused_with_a_page(site: Site, path: str, form: dict | bytes) -> None:
    shown = await site.ask(path, "nonsense", form=form)
    assert shown.status in {413, 422, 429}
    assert 'role="alert"' in shown.html


async def test_other_methods_are_refused(site: Site) -> None:
    shown = await site.ask("/invite", method="DELETE")
    assert (shown.status, shown.headers["allow"]) == (405, "GET, HEAD, POST")
