"""Addresses of assets: signed, short-lived, in ranges, and nothing a browser could be made to run."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, quote, urlsplit
from uuid import UUID

import pytest

from app.asset_files import AssetFiles
from gateway.asset_urls import URL_LIFE, AssetUrls
from gateway.assets import Maker
from gateway.rules.storage import KeptTime
from kit.clock import now
from kit.ids import encode_id, uuid7
from kit.sealing import Sealer
from tests.gateway.job_shop import SECRET_KEY, Shop, later

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 1_000


@dataclass(frozen=True)
class Got:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Files:
    shop: Shop
    app: AssetFiles

    async def keep(self, content: bytes = PNG) -> UUID:
        """A stored file."""

        async def pieces() -> AsyncIterator[bytes]:
            yield content

        assets = self.shop.services.jobs.assets
        maker = Maker(uuid7(), self.shop.seeded.workspace_id, None, None)
        rows = await assets.write(maker, [pieces], KeptTime(86_400.0))
        await assets.keep_now(maker.call_id, rows)
        return rows[0].id

    async def url(self, key: UUID) -> str:
        assets = self.shop.services.jobs.assets
        return assets.view((await assets.by_ids([key]))[key]).url

    async def get(self, url: str, method: str = "GET", **headers: str) -> Got:
        parts = urlsplit(url)
        sent: list[dict] = []

        async def send(message: dict) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": parts.path,
            "raw_path": quote(parts.path).encode(),
            "query_string": parts.query.encode(),
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        }
        await self.app(scope, send)
        assert sent[-1].get("more_body", False) is False
        head = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Got(sent[0]["status"], head, b"".join(message.get("body", b"") for message in sent[1:]))


@pytest.fixture
async def files(shop: Shop) -> Files:
    return Files(shop, shop.services.asset_files)


async def test_a_signed_address_gives_the_file_with_headers_that_keep_it_harmless(files: Files) -> None:
    key = await files.keep()
    url = await files.url(key)
    assert url.startswith(f"http://localhost:8000/assets/{encode_id('asset', key)}?expires=")
    got = await files.get(url)
    assert (got.status, got.body) == (200, PNG)
    assert got.headers["content-type"] == "image/png"
    assert got.headers["content-length"] == str(len(PNG))
    assert got.headers["content-disposition"] == f'inline; filename="{key.hex}.png"'
    assert got.headers["x-content-type-options"] == "nosniff"
    assert got.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert got.headers["access-control-allow-origin"] == "*"
    assert got.headers["cache-control"].startswith("private, max-age=")
    head = await files.get(url, "HEAD")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(PNG)))


async def test_what_is_no_picture_sound_or_film_is_saved_and_never_shown(files: Files) -> None:
    got = await files.get(await files.url(await files.keep(b"<html><script>alert(1)</script></html>")))
    assert got.headers["content-type"] == "application/octet-stream"
    assert got.headers["content-disposition"].startswith("attachment; ")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda url: url[:-1] + ("A" if url[-1] != "A" else "B"),
        lambda url: url + "A",
        lambda url: url.partition("&signature")[0],
        lambda url: url.replace("expires=", "expires=9"),
        lambda url: url.replace("expires=", "expires=0"),
        lambda url: url.replace("/assets/asset_", "/assets/asset_0", 1),
        lambda url: url.replace("signature=", "signature=%C3%A9"),
        lambda url: url.partition("?")[0],
    ],
)
async def test_an_address_that_was_touched_opens_nothing(files: Files, spoil) -> None:
    got = await files.get(spoil(await files.url(await files.keep())))
    assert (got.status, b"not valid" in got.body) == (403, True)


async def test_the_signature_of_one_asset_does_not_open_another(files: Files) -> None:
    one, other = await files.keep(), await files.keep()
    query = urlsplit(await files.url(one)).query
    got = await files.get(f"http://x/assets/{encode_id('asset', other)}?{query}")
    assert got.status == 403


async def test_an_address_works_for_a_short_while_only(files: Files) -> None:
    key, before = await files.keep(), now()
    url = await files.url(key)
    expires = datetime.fromtimestamp(int(parse_qs(urlsplit(url).query)["expires"][0]), UTC)
    second = timedelta(seconds=1)
    assert before - second <= expires - URL_LIFE <= now() + second
    async with later(URL_LIFE - timedelta(seconds=10)):
        assert (await files.get(url)).status == 200
    async with later(URL_LIFE + timedelta(seconds=1)):
        got = await files.get(url)
    assert (got.status, b"expired" in got.body) == (403, True)


async def test_no_address_outlives_its_asset(files: Files) -> None:
    key = await files.keep()
    async with later(timedelta(hours=24) - timedelta(minutes=2)):
        url = await files.url(key)
        expires = int(parse_qs(urlsplit(url).query)["expires"][0])
        assert expires <= (now() + timedelta(minutes=2, seconds=5)).timestamp()


async def test_a_deleted_asset_is_gone_for_addresses_that_still_work(files: Files) -> None:
    key = await files.keep()
    url = await files.url(key)
    await files.shop.services.jobs.assets.delete(key)
    assert (await files.get(url)).status == 404


@pytest.mark.parametrize(
    ("wanted", "status", "start", "end"),
    [
        ("bytes=0-0", 206, 0, 1),
        ("bytes=65535-65536", 206, 65_535, 65_537),
        ("bytes=100000-", 206, 100_000, len(PNG)),
        ("bytes=0-", 206, 0, len(PNG)),
        ("bytes=-7", 206, len(PNG) - 7, len(PNG)),
        ("bytes=-99999999", 206, 0, len(PNG)),
        ("bytes=200000-99999999", 206, 200_000, len(PNG)),
        ("bytes=5-2", 200, 0, len(PNG)),
        ("bytes=0-1,3-4", 200, 0, len(PNG)),
        ("lines=0-1", 200, 0, len(PNG)),
    ],
)
async def test_ranges(files: Files, wanted: str, status: int, start: int, end: int) -> None:
    got = await files.get(await files.url(await files.keep()), range=wanted)
    assert (got.status, got.body) == (status, PNG[start:end])
    assert got.headers["content-length"] == str(end - start)
    if status == 206:
        assert got.headers["content-range"] == f"bytes {start}-{end - 1}/{len(PNG)}"


@pytest.mark.parametrize("wanted", ["bytes=99999999-", "bytes=-0"])
async def test_a_range_outside_of_the_file_is_refused(files: Files, wanted: str) -> None:
    got = await files.get(await files.url(await files.keep()), range=wanted)
    assert (got.status, got.headers["content-range"]) == (416, f"bytes */{len(PNG)}")


async def test_what_a_client_has_is_not_sent_again(files: Files) -> None:
    url = await files.url(await files.keep())
    tag = (await files.get(url)).headers["etag"]
    again = await files.get(url, if_none_match=tag)
    assert (again.status, again.body) == (304, b"")
    changed = await files.get(url, range="bytes=0-1", if_range='"another"')
    assert (changed.status, len(changed.body)) == (200, len(PNG))


async def test_other_methods_are_refused(files: Files) -> None:
    got = await files.get(await files.url(await files.keep()), "DELETE")
    assert (got.status, got.headers["allow"]) == (405, "GET, HEAD")


async def test_a_store_that_is_away_is_told_as_such(files: Files) -> None:
    key = await files.keep()
    url = await files.url(key)
    for path in (files.shop.directory / "assets").rglob("*"):
        if path.is_file():
            path.unlink()
    got = await files.get(url)
    assert (got.status, got.headers["retry-after"]) == (503, "5")


def test_addresses_stay_valid_while_the_secret_key_is_rotated() -> None:
    old = AssetUrls(Sealer({1: SECRET_KEY.encode()}, 1), "https://x")
    new = AssetUrls(Sealer({2: SECRET_KEY[::-1].encode(), 1: SECRET_KEY.encode()}, 2), "https://x")
    gone = AssetUrls(Sealer({2: SECRET_KEY[::-1].encode()}, 2), "https://x")
    url, _ = old.url_of(uuid7(), now(), None)
    parts, asked = urlsplit(url), parse_qs(urlsplit(url).query)
    name = parts.path.removeprefix("/assets/")
    assert new.is_genuine(name, asked["expires"][0], asked["signature"][0])
    assert not gone.is_genuine(name, asked["expires"][0], asked["signature"][0])
    assert url != new.url_of(uuid7(), now(), None)[0]
