"""The store of assets in an S3-compatible bucket: a double that keeps objects and checks that requests are signed."""

import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from gateway.asset_store import PART_BYTES, AssetStore, StoreAway
from kit.ids import uuid7
from kit.sealing import Sealer
from tests.gateway.test_assets import pieces, read

SEALER = Sealer({1: b"a secret key for the tests of the bucket"}, 1)


class Bucket:
    """As much of S3 as is asked of it."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.unsigned = 0
        self.away = False
        self._uploads: dict[str, dict[int, bytes]] = {}

    async def handle(self, request: web.Request) -> web.Response:
        self.unsigned += not request.headers.get("Authorization", "").startswith("AWS4-HMAC-SHA256 Credential=AKIA")
        if self.away:
            return web.Response(status=403)
        key, query = request.match_info["key"], request.query
        match request.method:
            case "POST" if "uploads" in query:
                self._uploads["1"] = {}
                return web.Response(
                    text=f"<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>{key}</Key><UploadId>1</UploadId></InitiateMultipartUploadResult>"
                )
            case "POST" if "delete" in query:
                names = re.findall("<Key>(.*?)</Key>", (await request.read()).decode())
                for name in names:
                    self.objects.pop(name, None)
                told = "".join(f"<Deleted><Key>{name}</Key></Deleted>" for name in names)
                return web.Response(text=f"<DeleteResult>{told}</DeleteResult>")
            case "PUT" if "partNumber" in query:
                self._uploads["1"][int(query["partNumber"])] = await request.read()
                return web.Response(headers={"ETag": '"e"'})
            case "POST":
                self.objects[key] = b"".join(part for _, part in sorted(self._uploads.pop("1").items()))
                return web.Response(
                    text="<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>"
                )
            case "PUT":
                self.objects[key] = await request.read()
                return web.Response(headers={"ETag": '"e"'})
            case "GET" if not key:
                found = "".join(
                    f"<Contents><Key>{name}</Key><Size>{len(content)}</Size><ETag>e</ETag>"
                    "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
                    for name, content in self.objects.items()
                    if name.startswith(query.get("prefix", ""))
                )
                return web.Response(text=f"<ListBucketResult>{found}</ListBucketResult>")
            case "GET" if key in self.objects:
                return self._range(request, self.objects[key])
            case "DELETE":
                self.objects.pop(key, None)
                return web.Response(status=204)
            case _:
                return web.Response(status=404)

    def _range(self, request: web.Request, content: bytes) -> web.Response:
        start, _, end = request.headers["Range"].removeprefix("bytes=").partition("-")
        part = content[int(start) : int(end) + 1]
        headers = {
            "ETag": '"e"',
            "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT",
            "Content-Range": f"bytes {start}-{int(start) + len(part) - 1}/{len(content)}",
        }
        return web.Response(status=206, body=part, headers=headers)


@pytest.fixture
async def bucket(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bucket]:
    double = Bucket()
    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/assets-of-ours{slash:/?}{key:.*}", double.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{runner.addresses[0][1]}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "AKIA",
        "AWS_SECRET_ACCESS_KEY": "hush",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    yield double
    await runner.cleanup()


@pytest.mark.parametrize("size", [3, 3 * PART_BYTES + 5, 12_000_000])
async def test_files_are_kept_in_the_bucket_encrypted_and_read_in_ranges(
    bucket: Bucket, tmp_path: Path, size: int
) -> None:
    store = AssetStore.open("s3://assets-of-ours/below/here", SEALER, tmp_path)
    key, content = uuid7(), os.urandom(size)
    assert (await store.write("w/c/0", key, pieces(content))).size_bytes == size
    assert list(bucket.objects) == ["below/here/w/c/0"]
    assert content not in bucket.objects["below/here/w/c/0"]
    assert await read(store, "w/c/0", key, size) == content
    assert await read(store, "w/c/0", key, size, size - 2, size) == content[-2:]
    assert list(await store.below("w/c")) == ["w/c/0"]
    await store.delete("w/c/0")
    assert bucket.objects == {}
    assert bucket.unsigned == 0


async def test_a_bucket_that_refuses_is_told_as_a_store_that_is_away(bucket: Bucket, tmp_path: Path) -> None:
    store = AssetStore.open("s3://assets-of-ours", SEALER, tmp_path)
    key = uuid7()
    await store.write("w/c/0", key, pieces(b"abc"))
    bucket.away = True
    with pytest.raises(StoreAway):
        await store.write("w/c/1", key, pieces(b"abc"))
    with pytest.raises(StoreAway):
        await read(store, "w/c/0", key, 3)
    with pytest.raises(StoreAway):
        await store.delete("w/c/0")
    assert not list((tmp_path / "assets-in-transit").iterdir())
