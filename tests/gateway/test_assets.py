"""Assets: stored encrypted, within the plan's room, as long as the plan says, and gone when their time is over."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from gateway import asset_store
from gateway.asset_store import PART_BYTES, AssetStore, StoreAway
from gateway.errors import StorageFull
from gateway.rules.asset_types import content_type_of
from gateway.rules.storage import KeptTime
from gateway.views import CallRequest, CallResult
from kit.ids import uuid7
from kit.sealing import Sealer
from providers.base import Operation, ProviderAnswer, ProviderRequest
from tests.gateway.job_shop import Shop, later

SECRET = b"a secret key for the tests of the store of assets"
MARKER = b"a marker of what was made"


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def read(store: AssetStore, path: str, key: UUID, size: int, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([part async for part in store.read(path, key, size, start, size if end is None else end)])


def make_full(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """The disk has no room: for a new file ("mkstemp"), or for what is written into one."""

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if what == "mkstemp":
        monkeypatch.setattr(asset_store.tempfile, "mkstemp", refused)
    else:
        monkeypatch.setattr(AssetStore, "_encrypt", refused)


@pytest.fixture
def sealer() -> Sealer:
    return Sealer({1: SECRET}, 1)


@pytest.fixture
def store(tmp_path: Path, sealer: Sealer) -> AssetStore:
    return AssetStore.open(f"file://{tmp_path}/kept", sealer, tmp_path)


# the store


@pytest.mark.parametrize("size", [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 5 * PART_BYTES + 77])
async def test_a_file_comes_back_whole_and_in_any_range(store: AssetStore, size: int) -> None:
    key, content = uuid7(), os.urandom(size)
    written = await store.write("w/c/0", key, pieces(*[content[at : at + 50_000] for at in range(0, size, 50_000)]))
    assert (written.size_bytes, written.beginning) == (size, content[:64])
    assert await read(store, "w/c/0", key, size) == content
    for start, end in [(0, 1), (PART_BYTES - 1, PART_BYTES + 1), (size // 2, size), (size - 1, size), (3, size - 3)]:
        if 0 <= start < end <= size:
            assert await read(store, "w/c/0", key, size, start, end) == content[start:end], (start, end)


async def test_nothing_of_a_file_lies_in_clear(store: AssetStore, tmp_path: Path) -> None:
    await store.write("w/c/0", uuid7(), pieces(MARKER * 5_000))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if MARKER in path.read_bytes()]
    assert not list((tmp_path / "assets-in-transit").iterdir())
    assert (tmp_path / "kept").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: raw[:-1],
        lambda raw: raw[: 18 + PART_BYTES + 16],
        lambda raw: raw[:100] + bytes([raw[100] ^ 1]) + raw[101:],
        lambda raw: raw[:2] + os.urandom(16) + raw[18:],
        lambda raw: b"\x02" + raw[1:],
        lambda raw: raw[:1] + b"\x07" + raw[2:],
        lambda raw: b"",
    ],
)
async def test_a_file_that_was_touched_is_not_given_out(store: AssetStore, tmp_path: Path, spoil) -> None:
    key, content = uuid7(), os.urandom(2 * PART_BYTES)
    await store.write("w/c/0", key, pieces(content))
    path = tmp_path / "kept" / "w" / "c" / "0"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(StoreAway):
        await read(store, "w/c/0", key, len(content))


async def test_a_file_does_not_open_as_another_asset(store: AssetStore) -> None:
    await store.write("w/c/0", uuid7(), pieces(b"abc"))
    with pytest.raises(StoreAway):
        await read(store, "w/c/0", uuid7(), 3)


async def test_files_stay_readable_while_the_secret_key_is_rotated(store: AssetStore, tmp_path: Path) -> None:
    key = uuid7()
    await store.write("w/c/0", key, pieces(b"abc"))
    rotated = AssetStore.open(f"file://{tmp_path}/kept", Sealer({2: SECRET[::-1], 1: SECRET}, 2), tmp_path)
    assert await read(rotated, "w/c/0", key, 3) == b"abc"
    with pytest.raises(StoreAway):
        await read(AssetStore.open(f"file://{tmp_path}/kept", Sealer({2: SECRET[::-1]}, 2), tmp_path), "w/c/0", key, 3)


async def test_a_writing_that_breaks_off_leaves_nothing(store: AssetStore, tmp_path: Path) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        yield b"a" * 100_000
        raise RuntimeError("the provider went away")

    with pytest.raises(RuntimeError):
        await store.write("w/c/0", uuid7(), breaking())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("full", ["mkstemp", "write"])
async def test_a_full_disk_is_a_store_that_takes_no_files(
    store: AssetStore, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    make_full(monkeypatch, full)
    with pytest.raises(StoreAway):
        await store.write("w/c/0", uuid7(), pieces(b"abc"))


async def test_a_file_is_removed_and_removing_it_again_is_fine(store: AssetStore) -> None:
    await store.write("w/c/0", uuid7(), pieces(b"abc"))
    assert list(await store.below("w/c")) == ["w/c/0"]
    await store.delete("w/c/0")
    await store.delete("w/c/0")
    assert list(await store.below("w/c")) == []


@pytest.mark.parametrize(
    ("beginning", "content_type"),
    [
        (b"\x89PNG\r\n\x1a\nmore", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "audio/wav"),
        (b"\xff\xf2\x40", "audio/mpeg"),
        (b"\xff\xf1\x50", "audio/aac"),
        (b"\x00\x00\x00\x18ftypisom", "video/mp4"),
        (b"<html><script>", "application/octet-stream"),
        (b"<svg xmlns=", "application/octet-stream"),
        (b"", "application/octet-stream"),
    ],
)
def test_the_type_is_what_the_bytes_show(beginning: bytes, content_type: str) -> None:
    assert content_type_of(beginning) == content_type


# calls that are answered whole


async def picture(shop: Shop, *, keeps: bool = True, key: str | None = None, **body: object) -> CallResult:
    request = CallRequest(
        "snapshot", Operation.IMAGE, {"prompt": "a cat", **body}, idempotency_key=key, keeps_assets=keeps
    )
    return await shop.services.calls.call(await shop.caller(), request)


async def test_pictures_of_a_whole_call_are_stored_and_named_in_its_answer(shop: Shop) -> None:
    result = await picture(shop, n=2)
    assert result.body is not None
    ids = [UUID(hex=item["asset"]) for item in result.body["data"]]
    rows = await shop.services.jobs.assets.by_ids(ids)
    assert [rows[each].content_type for each in ids] == ["image/png", "image/png"]
    assert rows[ids[0]].call_id == result.call_id
    assert rows[ids[0]].api_key_id == shop.seeded.api_key_id
    assert await shop.room() == (sum(row.size_bytes for row in rows.values()), 0)
    assert await shop.spent() == 6


async def spoken(shop: Shop, text: str = "Hello", *, key: str | None = None, **more: object) -> CallResult:
    body = {"input": text, "voice": "alloy"}
    request = CallRequest("speaker", Operation.SPEECH, body, idempotency_key=key, keeps_assets=True)
    return await shop.services.calls.call(await shop.caller(), replace(request, **more))


async def test_speech_of_a_whole_call_is_stored_and_named_in_its_answer(shop: Shop) -> None:
    first = await spoken(shop, key="k")
    assert first.body is not None
    (named,) = [UUID(hex=item["asset"]) for item in first.body["data"]]
    assets = shop.services.jobs.assets
    row = (await assets.by_ids([named]))[named]
    assert (row.content_type, row.call_id) == ("audio/wav", first.call_id)
    sound = b"".join([part async for part in assets.content(row, 0, row.size_bytes)])
    assert sound.startswith(b"RIFF")
    assert (await spoken(shop, key="k")).body == first.body
    assert await shop.room() == (len(sound), 0)
    assert await shop.spent() == 5


async def test_speech_that_keeps_nothing_goes_through_unchanged(shop: Shop) -> None:
    result = await spoken(shop, keeps_assets=False)
    assert "b64_audio" in result.body
    assert await shop.room() == (0, 0)


async def test_speech_without_room_is_refused_before_it_costs_anything(shop: Shop) -> None:
    await shop.give_plan(storage_bytes=5_000)
    await spoken(shop, "four")
    with pytest.raises(StorageFull, match="are free"):
        await spoken(shop, "x" * 6)
    assert await shop.spent() == 4


async def test_cached_speech_is_kept_as_an_asset_of_the_call_that_gets_it(shop: Shop) -> None:
    first, second = [await spoken(shop, cache=True) for _ in range(2)]
    assert (first.cached, second.cached) == (False, True)
    ids = [UUID(hex=result.body["data"][0]["asset"]) for result in (first, second)]
    rows = await shop.services.jobs.assets.by_ids(ids)
    assert [rows[each].call_id for each in ids] == [first.call_id, second.call_id]
    assert await shop.spent() == 5


async def test_a_repeat_names_the_same_assets_and_makes_none(shop: Shop) -> None:
    first = await picture(shop, key="k")
    again = await picture(shop, key="k")
    assert again.repeated
    assert again.body == first.body
    assert await shop.pg.fetchval("SELECT count(*) FROM assets") == 1
    assert (await shop.room())[1] == 0


async def test_a_cached_picture_is_kept_as_an_asset_of_the_call_that_gets_it(shop: Shop) -> None:
    """Neither names another call's assets, which its caller may not see, nor hands them to who keeps none."""
    other_key = uuid7()
    request = CallRequest("snapshot", Operation.IMAGE, {"prompt": "a cat"}, cache=True)
    calls = shop.services.calls
    plain = await calls.call(await shop.caller(), request)
    kept = [
        await calls.call(await shop.caller(**who), replace(request, keeps_assets=True))
        for who in ({"api_key_id": other_key}, {})
    ]
    again = await calls.call(await shop.caller(), request)
    assert [result.cached for result in (plain, *kept, again)] == [False, True, True, True]
    assert again.body == plain.body
    ids = [UUID(hex=result.body["data"][0]["asset"]) for result in kept]
    rows = await shop.services.jobs.assets.by_ids(ids)
    assert [(rows[each].call_id, rows[each].api_key_id) for each in ids] == [
        (kept[0].call_id, other_key),
        (kept[1].call_id, shop.seeded.api_key_id),
    ]
    assert await shop.room() == (sum(row.size_bytes for row in rows.values()), 0)
    assert await shop.spent() == 3


async def test_a_picture_that_was_kept_leaves_the_providers_answer_in_the_cache(shop: Shop) -> None:
    request = CallRequest("snapshot", Operation.IMAGE, {"prompt": "a dog"}, cache=True, keeps_assets=True)
    first = await shop.services.calls.call(await shop.caller(), request)
    plain = await shop.services.calls.call(await shop.caller(), replace(request, keeps_assets=False))
    assert "asset" in first.body["data"][0]
    assert (plain.cached, list(plain.body["data"][0])) == (True, ["b64_json"])


async def test_a_call_that_keeps_nothing_goes_through_unchanged(shop: Shop) -> None:
    result = await picture(shop, keeps=False)
    assert "b64_json" in result.body["data"][0]
    assert await shop.room() == (0, 0)


async def test_a_failed_call_gives_its_room_back(shop: Shop) -> None:
    with pytest.raises(Exception, match="503"):
        await picture(shop, metadata={"sandbox_status": "503"})
    assert await shop.room() == (0, 0)


async def test_a_call_whose_files_find_the_disk_full_is_paid_for_and_answered_as_it_came(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_full(monkeypatch, "mkstemp")
    result = await picture(shop)
    assert "b64_json" in result.body["data"][0]
    assert await shop.spent() == 3
    assert await shop.pg.fetchval("SELECT count(*) FROM holds") == 0
    assert await shop.room() == (0, 0)


async def test_files_of_a_call_of_which_one_cannot_be_kept_leave_nothing_behind(shop: Shop) -> None:
    result = await picture_of(shop, ["data:image/png;base64,QUJD", "http://127.0.0.1:1/none"], n=2)
    assert result.body["data"][1] == {"url": "http://127.0.0.1:1/none"}
    assert (await shop.room(), files_of(shop)) == ((0, 0), 0)


async def test_of_more_pictures_than_were_asked_for_the_first_are_kept(shop: Shop) -> None:
    result = await picture_of(shop, ["data:image/png;base64,QUJD"] * 3, n=2)
    assert len(result.body["data"]) == 2
    assert (await shop.room(), files_of(shop)) == ((6, 0), 2)


async def picture_of(shop: Shop, urls: list[str], **body: object) -> CallResult:
    """A call whose provider answers with files at these addresses."""
    provider = shop.services.calls._kept_files._providers.get("rest")
    answered = provider.complete

    async def complete(request: ProviderRequest) -> ProviderAnswer:
        return replace(await answered(request), body={"created": 1, "data": [{"url": url} for url in urls]})

    provider.complete = complete
    return await picture(shop, **body)


async def test_what_cannot_be_stored_is_answered_as_it_came(shop: Shop) -> None:
    folder = shop.directory / "assets"
    for below in folder.iterdir():
        below.rmdir()
    folder.rmdir()
    folder.write_text("a file where the folder was")
    result = await picture(shop)
    assert "b64_json" in result.body["data"][0]
    assert await shop.spent() == 3
    assert await shop.room() == (0, 0)


# room


async def test_C1_a_call_without_room_is_refused_before_it_costs_anything(shop: Shop) -> None:
    await shop.give_plan(storage_bytes=3_500)
    await shop.ended(await shop.start())
    used, _ = await shop.room()
    assert used == 256
    await shop.start(sandbox_delay_ms=60_000)  # sets 3,000 aside
    with pytest.raises(StorageFull, match="244 are free"):
        await shop.start("print")
    with pytest.raises(StorageFull):
        await picture(shop)
    assert len(shop.served("created")) == 1
    assert (await shop.wallet())[1] == 7_000_000


async def test_calls_at_once_cannot_all_take_the_last_room(shop: Shop) -> None:
    await shop.give_plan(storage_bytes=4_500)
    outcomes = await asyncio.gather(
        *(shop.start("print", sandbox_delay_ms=60_000) for _ in range(12)), return_exceptions=True
    )
    assert sum(isinstance(outcome, UUID) for outcome in outcomes) == 4
    assert sum(isinstance(outcome, StorageFull) for outcome in outcomes) == 8
    assert await shop.room() == (0, 4_000)
    assert (await shop.wallet())[1] == 4 * 3_000_000


async def test_a_repeat_needs_no_room(shop: Shop) -> None:
    await shop.give_plan(storage_bytes=1_200)
    first = await picture(shop, key="k")
    assert (await picture(shop, key="k")).body == first.body
    with pytest.raises(StorageFull):
        await picture(shop)


async def test_a_deleted_asset_frees_its_room_at_once_and_its_file_goes_with_the_purge(shop: Shop) -> None:
    await shop.ended(await shop.start())
    key = await shop.pg.fetchval("SELECT id FROM assets")
    assert files_of(shop) == 1
    assert await shop.services.jobs.assets.delete(key)
    assert not await shop.services.jobs.assets.delete(key)
    assert await shop.room() == (0, 0)
    assert await shop.services.jobs.assets.by_ids([key]) == {}
    assert await shop.services.jobs.assets.purge(limit=10) == 1
    assert files_of(shop) == 0
    assert await shop.services.jobs.assets.purge(limit=10) == 0


def files_of(shop: Shop) -> int:
    return sum(path.is_file() for path in (shop.directory / "assets").rglob("*"))


# time


@pytest.mark.parametrize(
    ("entitlements", "stores", "kept"),
    [
        ({"asset_retention_days": 30}, False, timedelta(hours=24)),
        ({"asset_retention_days": 30}, True, timedelta(days=30)),
        ({"asset_retention_days": 90, "storage_bytes": 10**9}, False, timedelta(days=90)),
        ({"asset_retention_days": None, "storage_bytes": 10**10}, False, None),
        ({"asset_retention_days": None}, True, None),
    ],
)
async def test_C1_assets_are_kept_as_long_as_the_plan_says_and_a_day_where_nothing_is_stored(
    shop: Shop, entitlements: dict, stores: bool, kept: timedelta | None
) -> None:
    await shop.give_plan(**entitlements)
    await shop.pg.execute("UPDATE workspaces SET store_outputs = $1", stores)
    shop.services.workspaces.forget_all()
    call_id = await shop.start()
    await shop.ended(call_id)
    made, ends = await shop.pg.fetchrow("SELECT created_at, expires_at FROM assets")
    assert (ends - made if ends else None) == kept
    output_ends = await shop.pg.fetchval("SELECT expires_at FROM call_outputs WHERE call_id = $1", call_id)
    life = timedelta(days=30) if stores else timedelta(hours=24)
    assert abs(output_ends - made - life) < timedelta(minutes=1)
    assets = shop.services.jobs.assets
    if kept is None:
        async with later(timedelta(days=5_000)):
            assert await assets.purge(limit=10) == 0
        return
    async with later(kept - timedelta(minutes=1)):
        assert await assets.purge(limit=10) == 0
    async with later(kept + timedelta(minutes=1)):
        assert await assets.by_ids([await shop.pg.fetchval("SELECT id FROM assets")]) == {}
        assert await assets.purge(limit=10) == 2  # from view, then its file
    assert files_of(shop) == 0
    assert await shop.room() == (0, 0)


async def storing(shop: Shop, *, on: bool) -> None:
    await shop.pg.execute("UPDATE workspaces SET store_outputs = $1", on)
    shop.services.workspaces.forget_all()


async def test_D12_assets_that_were_stored_end_a_day_after_they_were_made_once_storing_is_turned_off(
    shop: Shop,
) -> None:
    await shop.give_plan(asset_retention_days=30)
    await storing(shop, on=True)
    for _ in range(2):
        await shop.ended(await shop.start())
    await picture(shop)
    assets = shop.services.jobs.assets
    rows = await shop.pg.fetch("SELECT id, created_at, expires_at FROM assets")
    ids = [row["id"] for row in rows]
    async with later(timedelta(hours=25)):
        assert len(await assets.by_ids(ids)) == 3
        assert await assets.purge(limit=10) == 0
    await storing(shop, on=False)
    found = await assets.by_ids(ids)
    assert {found[row["id"]].expires_at for row in rows} == {row["created_at"] + timedelta(hours=24) for row in rows}
    async with later(timedelta(hours=25)):
        assert await assets.by_ids(ids) == {}  # at once, before anything is purged
        await storing(shop, on=True)
        assert len(await assets.by_ids(ids)) == 3  # for who did not mean it
        await storing(shop, on=False)
        assert await assets.purge(limit=2) == 4  # two from view, then their files
        assert await assets.purge(limit=10) == 2
    assert files_of(shop) == 0
    assert await shop.room() == (0, 0)


async def test_D12_what_a_job_makes_that_was_begun_before_storing_was_turned_off_ends_with_it(shop: Shop) -> None:
    await shop.give_plan(asset_retention_days=None)
    await storing(shop, on=True)
    call_id = await shop.start()
    await storing(shop, on=False)
    await shop.ended(call_id)
    (key,) = [row[0] for row in await shop.pg.fetch("SELECT id FROM assets")]
    async with later(timedelta(hours=25)):
        assert await shop.services.jobs.assets.by_ids([key]) == {}
        assert await shop.services.jobs.assets.purge(limit=10) == 2


async def test_C1_a_plan_with_storage_keeps_its_assets_when_storing_is_turned_off(shop: Shop) -> None:
    await shop.give_plan(asset_retention_days=90, storage_bytes=10**9)
    await storing(shop, on=True)
    await shop.ended(await shop.start())
    await storing(shop, on=False)
    key = await shop.pg.fetchval("SELECT id FROM assets")
    async with later(timedelta(days=89)):
        assert await shop.services.jobs.assets.by_ids([key])
        assert await shop.services.jobs.assets.purge(limit=10) == 0


async def test_C9_who_left_keeps_what_they_made_when_the_workspace_turns_storing_off(shop: Shop) -> None:
    await shop.give_plan(asset_retention_days=None)
    await storing(shop, on=True)
    for _ in range(2):
        await shop.ended(await shop.start())
    keys = [row[0] for row in await shop.pg.fetch("SELECT id FROM assets ORDER BY id")]
    for key, removed_at in zip(keys, (None, datetime.now(UTC)), strict=True):
        await shop.pg.execute(_MAKER, uuid7(), f"{key.hex}@example.com", shop.seeded.workspace_id, removed_at, key)
    await storing(shop, on=False)
    async with later(timedelta(hours=25)):
        assert list(await shop.services.jobs.assets.by_ids(keys)) == [keys[1]]
        assert await shop.services.jobs.assets.purge(limit=10) == 2
        assert list(await shop.services.jobs.assets.by_ids(keys)) == [keys[1]]


_MAKER = """
WITH made AS (
    INSERT INTO users (id, email, email_key, name, created_at, updated_at) VALUES ($1, $2, $2, 'M', now(), now())
    RETURNING id
), joined AS (
    INSERT INTO members (id, workspace_id, user_id, role, joined_at, removed_at)
    SELECT gen_random_uuid(), $3, id, 'MEMBER', now(), $4 FROM made RETURNING user_id
)
UPDATE assets SET owner_id = joined.user_id, api_key_id = NULL FROM joined WHERE assets.id = $5
"""


async def test_two_purges_beside_each_other_count_each_asset_once(shop: Shop) -> None:
    for _ in range(5):
        await shop.ended(await shop.start())
    async with later(timedelta(days=2)):
        assets = shop.services.jobs.assets
        await asyncio.gather(assets.purge(limit=10), assets.purge(limit=10), assets.purge(limit=2))
    assert await shop.room() == (0, 0)
    assert files_of(shop) == 0


async def test_what_a_dead_call_left_behind_is_removed(shop: Shop) -> None:
    """A process that died between storing and saying so: room set aside, files without rows."""
    assets, call_id = shop.services.jobs.assets, uuid7()
    from gateway.assets import Maker

    maker = Maker(call_id, shop.seeded.workspace_id, None, None)
    entitlements = (await shop.caller()).plan.entitlements
    await assets.reserve_now(maker, entitlements, 5_000)
    await assets.write(maker, [lambda: pieces(b"abc")], KeptTime(None))
    assert (await shop.room(), files_of(shop)) == ((0, 5_000), 1)
    assert await assets.purge(limit=10) == 0
    async with later(timedelta(hours=1)):
        assert await assets.purge(limit=10) == 1
    assert (await shop.room(), files_of(shop)) == ((0, 0), 0)


async def test_files_of_a_purged_workspace_go_too(shop: Shop) -> None:
    from accounts.workspace_deletion import purge_deleted_workspaces

    await shop.ended(await shop.start())
    await shop.pg.execute("UPDATE workspaces SET deleted_at = now() - interval '31 days'")
    assert await purge_deleted_workspaces(shop.services.database) == (shop.seeded.workspace_id,)
    assert await shop.services.jobs.assets.purge(limit=10) == 1
    assert files_of(shop) == 0
