"""Batches: files in, each line a call of its own under its own key, files out, everything forgotten in time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import aiohttp
import asyncpg
import orjson
import pytest
import uvicorn

from accounts.secret_rotation import rotate_secrets
from app import batch_work
from app.http_protocol import HttpProtocol
from gateway import batches, files
from gateway.batch_lines import LEASE
from gateway.files import FILE_LIFE, Files, Owner, purge_files
from kit import clock
from kit.clock import now
from kit.ids import decode_id
from kit.sealing import Sealer
from tests.gateway.conftest import CREDITS_MICRO, SECRET_KEY, Answer, Gate, chat
from tests.metering.invariants import assert_invariants
from tests.seeding import seed_workspace

CHAT = "/v1/chat/completions"
BOUNDARY = "xyz"
TOO_DEEP = b'"x": ' + b"[" * 300 + b"]" * 300 + b", "


def line(custom_id: object, body: object = None, url: str = CHAT, method: str = "POST") -> bytes:
    return orjson.dumps({"custom_id": custom_id, "method": method, "url": url, "body": body or chat()})


def form(content: bytes, purpose: str | None = "batch", filename: str = "in.jsonl", **fields: str) -> bytes:
    given = {**({} if purpose is None else {"purpose": purpose}), **fields}
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode() for name, value in given.items()]
    parts.append(f'Content-Disposition: form-data; name="file"; filename="{filename}"\r\n\r\n'.encode() + content)
    return b"".join(b"--xyz\r\n" + part + b"\r\n" for part in parts) + b"--xyz--\r\n"


async def upload(gate: Gate, content: bytes, *, key: str | None = None, **fields: str) -> Answer:
    body = form(content, **fields)
    return await gate.ask(body, key=key, path="/v1/files", content_type=f"multipart/form-data; boundary={BOUNDARY}")


async def begun(gate: Gate, *lines: bytes, endpoint: str = CHAT, **more: object) -> str:
    file = await upload(gate, b"\n".join(lines))
    assert file.status == 200, file.raw
    asked = {"input_file_id": file.body["id"], "endpoint": endpoint, "completion_window": "24h", **more}
    batch = await gate.ask(asked, path="/v1/batches")
    assert batch.status == 200, batch.raw
    assert batch.body["status"] == "validating"
    return batch.body["id"]


async def work(gate: Gate) -> None:
    """What the worker does, until nothing is due now."""
    for _ in range(100):
        moved = await gate.services.batches.advance(now(), limit=20)
        if not moved + await gate.services.batch_work.run(16):
            return
    raise AssertionError("the worker does not come to an end")


async def told(gate: Gate, batch_id: str) -> dict:
    return (await gate.ask(path=f"/v1/batches/{batch_id}")).body


async def content(gate: Gate, file_id: str) -> list[dict]:
    answer = await gate.ask(path=f"/v1/files/{file_id}/content")
    assert answer.status == 200
    assert int(answer.headers["content-length"]) == len(answer.raw)
    return [orjson.loads(text) for text in answer.raw.splitlines()]


async def test_each_line_is_a_call_whose_answer_is_a_line_of_the_output(gate: Gate, pg) -> None:
    batch_id = await begun(gate, line("a"), b"", line("b", chat(max_tokens=3)), line("ü" * 128), metadata={"of": "me"})
    await work(gate)
    batch = await told(gate, batch_id)
    assert (batch["status"], batch["metadata"], batch["errors"]) == ("completed", {"of": "me"}, None)
    assert batch["request_counts"] == {"total": 3, "completed": 3, "failed": 0}
    assert batch["error_file_id"] is None
    lines = await content(gate, batch["output_file_id"])
    assert [each["custom_id"] for each in lines] == ["a", "b", "ü" * 128]
    for each in lines:
        assert each["error"] is None
        assert each["response"]["status_code"] == 200
        assert each["response"]["body"]["choices"][0]["message"]["content"]
        call = (await gate.ask(path=f"/v1/calls/{each['response']['request_id']}")).body
        assert call["usage"]["credits"] == each["response"]["body"]["usage"]["credits"] != "0"
    assert await pg.fetchval("SELECT count(*) FROM usage_events") == 3
    await assert_invariants(pg)


async def test_lines_of_a_caching_keys_batch_are_answered_from_the_cache(gate: Gate, pg) -> None:
    await pg.execute("UPDATE api_keys SET cache_answers = true")
    gate.services.principals._principals.clear()
    assert (await gate.ask(chat())).headers["x-tollgate-cache"] == "miss"
    batch_id = await begun(gate, line("a"))
    await work(gate)
    (only,) = await content(gate, (await told(gate, batch_id))["output_file_id"])
    usage = only["response"]["body"]["usage"]
    assert (usage["cached"], usage["credits"]) == (True, "0")
    await assert_invariants(pg)


@pytest.mark.parametrize(
    ("url", "body"),
    [
        ("/v1/embeddings", {"model": "sandbox-embedding", "input": "one"}),
        ("/v1/images/generations", {"model": "sandbox-image", "prompt": "a gate"}),
        ("/v1/responses", {"model": "sandbox-chat", "input": "Hello", "max_output_tokens": 16}),
    ],
)
async def test_embeddings_pictures_and_responses_too(gate: Gate, url: str, body: dict) -> None:
    batch_id = await begun(gate, line("a", body, url), endpoint=url)
    await work(gate)
    (only,) = await content(gate, (await told(gate, batch_id))["output_file_id"])
    body = only["response"]["body"]
    assert body["output" if url == "/v1/responses" else "data"]
    assert float(body["usage"]["credits"]) > 0


async def test_lines_that_fail_are_told_apart_and_cost_nothing(gate: Gate, pg) -> None:
    batch_id = await begun(
        gate,
        line("good"),
        line("refused", chat(metadata={"sandbox_status": "400"})),
        line("wrong", chat(max_tokens=-1)),
        line("unknown", chat("no-such-model")),
    )
    await work(gate)
    batch = await told(gate, batch_id)
    assert (batch["status"], batch["request_counts"]) == ("completed", {"total": 4, "completed": 1, "failed": 3})
    failed = await content(gate, batch["error_file_id"])
    assert [(each["custom_id"], each["response"]["status_code"], each["response"]["body"]["error"]["code"]) for each in failed] == [
        ("refused", 400, "upstream_rejected"),
        ("wrong", 400, "invalid_value"),
        ("unknown", 404, "model_not_found"),
    ]  # fmt: skip
    assert [each["custom_id"] for each in await content(gate, batch["output_file_id"])] == ["good"]
    assert await pg.fetchval("SELECT count(*) FROM usage_events") == 1


async def test_a_provider_that_fails_is_asked_three_times_each_time_as_a_new_call(gate: Gate, pg, monkeypatch) -> None:
    monkeypatch.setattr(batch_work, "_PAUSE_S", 0)
    batch_id = await begun(gate, line("a", chat(metadata={"sandbox_status": "500"})))
    await work(gate)
    batch = await told(gate, batch_id)
    assert batch["request_counts"]["failed"] == 1
    assert (await content(gate, batch["error_file_id"]))[0]["response"]["status_code"] == 502
    keys = await pg.fetch("SELECT idempotency_key FROM calls ORDER BY id")
    assert [row[0].rpartition(":")[2] for row in keys] == ["0", "1", "2"]
    assert len({row[0].rpartition(":")[0] for row in keys}) == 1


async def test_what_nobody_foresaw_ends_its_line_after_three_tries_and_no_other(gate: Gate, monkeypatch) -> None:
    monkeypatch.setattr(batch_work, "_PAUSE_S", 0)
    tried, call = [], gate.services.batch_work._calls.call

    async def strange(caller, request):
        if request.body.get("user") == "strange":
            tried.append(request.idempotency_key)
            raise TypeError("unhashable type")
        return await call(caller, request)

    monkeypatch.setattr(gate.services.batch_work._calls, "call", strange)
    batch_id = await begun(gate, line("a", chat(user="strange")), line("b"))
    await work(gate)
    batch = await told(gate, batch_id)
    assert batch["request_counts"] == {"total": 2, "completed": 1, "failed": 1}
    (failed,) = await content(gate, batch["error_file_id"])
    assert (failed["custom_id"], failed["response"]["status_code"]) == ("a", 500)
    assert len(tried) == len(set(tried)) == 3


@pytest.mark.parametrize(
    ("lines", "code", "at"),
    [
        ((b"{",), "invalid_json_line", 1),
        ((b"[]",), "invalid_json_line", 1),
        ((line("a"), line("a")), "duplicate_custom_id", 2),
        ((line(""),), "invalid_custom_id", 1),
        ((line(7),), "invalid_custom_id", 1),
        ((line("x" * 129),), "invalid_custom_id", 1),
        ((line("a", method="GET"),), "invalid_method", 1),
        ((line("a", url="/v1/embeddings"),), "mismatched_url", 1),
        ((line("a", "words"),), "invalid_body", 1),
        ((line("a", {"messages": []}),), "invalid_body", 1),
        ((line("a", chat(stream=True)),), "invalid_body", 1),
        ((line("a").replace(b'"model"', TOO_DEEP + b'"model"'),), "invalid_body", 1),
        ((b"", b"  "), "empty_file", None),
    ],
)
async def test_a_file_that_is_no_batch_fails_it_before_anything_is_called(gate: Gate, pg, lines, code, at) -> None:
    batch_id = await begun(gate, *lines)
    await work(gate)
    batch = await told(gate, batch_id)
    assert batch["status"] == "failed"
    assert (batch["errors"]["data"][0]["code"], batch["errors"]["data"][0]["line"]) == (code, at)
    assert await pg.fetchval("SELECT count(*) FROM batch_lines") == 0
    assert await pg.fetchval("SELECT count(*) FROM calls") == 0


async def test_a_batch_that_fails_here_stops_no_other_and_ends_after_five_tries(gate: Gate, monkeypatch) -> None:
    first, second = await begun(gate, line("broken")), await begun(gate, line("a"))
    tried, read = [], batches.read_lines

    def reading(content: bytes, endpoint: str) -> tuple:
        if b"broken" in content:
            tried.append(content)
            raise TypeError("recursion limit reached")
        return read(content, endpoint)

    monkeypatch.setattr(batches, "read_lines", reading)
    await work(gate)
    assert ((await told(gate, first))["status"], (await told(gate, second))["status"]) == ("validating", "completed")
    later = clock.VirtualClock(now())
    with clock.installed(later):
        assert await gate.services.batches.advance(now(), limit=1) == 0
        assert len(tried) == 1  # it rests
        for _ in range(5):
            later.at += timedelta(minutes=5)
            await gate.services.batches.advance(now(), limit=1)
    batch = await told(gate, first)
    assert (batch["status"], batch["errors"]["data"][0]["code"], len(tried)) == ("failed", "internal", 5)


async def test_a_killed_workers_lines_are_called_by_another_and_charged_once(gate: Gate, pg, monkeypatch) -> None:
    await begun(gate, line("a"), line("b"))
    await gate.services.batches.advance(now(), limit=20)

    async def killed(*args: object, **kwargs: object) -> None:
        raise RuntimeError("killed after the settlement")

    with monkeypatch.context() as patched:
        patched.setattr(gate.services.batch_work._lines, "end", killed)
        assert await gate.services.batch_work.run(16) == 2
    assert await pg.fetchval("SELECT count(*) FROM usage_events") == 2
    spent = await pg.fetchval("SELECT balance_micro FROM wallets")
    assert await gate.services.batch_work.run(16) == 0  # claimed still
    with clock.installed(clock.VirtualClock(now() + LEASE + timedelta(minutes=30))):
        await work(gate)
    assert await pg.fetchval("SELECT count(*) FROM batch_lines WHERE state = 'SUCCEEDED'") == 2
    assert await pg.fetchval("SELECT completed_count FROM batches") == 2
    assert await pg.fetchval("SELECT count(*) FROM usage_events") == 2
    assert await pg.fetchval("SELECT balance_micro FROM wallets") == spent
    batch_id = (await gate.ask(path="/v1/batches")).body["data"][0]["id"]
    lines = await content(gate, (await told(gate, batch_id))["output_file_id"])
    assert all(each["response"]["body"]["choices"] for each in lines)
    await assert_invariants(pg)


async def test_several_workers_call_each_line_once(gate: Gate, pg) -> None:
    batch_id = await begun(gate, *(line(str(number)) for number in range(40)))
    await gate.services.batches.advance(now(), limit=20)
    while sum(await asyncio.gather(*(gate.services.batch_work.run(8) for _ in range(4)))):
        continue
    await work(gate)
    assert (await told(gate, batch_id))["request_counts"]["completed"] == 40
    assert await pg.fetchval("SELECT count(*) FROM calls") == 40


async def test_a_cancelled_batch_calls_no_further_line_and_keeps_what_was_done(gate: Gate, pg) -> None:
    batch_id = await begun(gate, *(line(str(number)) for number in range(6)))
    await gate.services.batches.advance(now(), limit=20)
    assert await gate.services.batch_work.run(2) == 2
    cancelled = await gate.ask({}, path=f"/v1/batches/{batch_id}/cancel")
    assert cancelled.body["status"] == "cancelling"
    await work(gate)
    batch = await told(gate, batch_id)
    assert (batch["status"], batch["request_counts"]["completed"]) == ("cancelled", 2)
    assert len(await content(gate, batch["output_file_id"])) == 2
    assert await pg.fetchval("SELECT count(*) FROM calls") == 2
    again = await gate.ask({}, path=f"/v1/batches/{batch_id}/cancel")
    assert again.body["status"] == "cancelled"


async def test_what_is_not_done_in_its_window_is_told_as_expired(gate: Gate, pg) -> None:
    batch_id = await begun(gate, line("a"), line("b"))
    await gate.services.batches.advance(now(), limit=20)
    assert await gate.services.batch_work.run(1) == 1
    with clock.installed(clock.VirtualClock(now() + batches.WINDOW)):
        assert await gate.services.batch_work.run(16) == 0
        await work(gate)
        batch = await told(gate, batch_id)
        assert (batch["status"], batch["request_counts"]) == ("expired", {"total": 2, "completed": 1, "failed": 1})
        (failed,) = await content(gate, batch["error_file_id"])
        assert (failed["custom_id"], failed["error"]["code"]) == ("b", "batch_expired")
    assert await pg.fetchval("SELECT count(*) FROM calls") == 1


@pytest.mark.parametrize("age", [timedelta(0), timedelta(hours=25)], ids=["in its time", "after it"])
async def test_a_line_whose_seal_does_not_open_fails_alone_and_its_batch_ends(gate: Gate, pg, age: timedelta) -> None:
    batch_id = await begun(gate, line("a"), line("torn"), line("of a lost key"), line("d"))
    await gate.services.batches.advance(now(), limit=20)
    await pg.execute("UPDATE batch_lines SET sealed = substring(sealed from 1 for 40) WHERE number = 2")
    await pg.execute("UPDATE batch_lines SET sealed = set_byte(sealed, 0, 200) WHERE number = 3")
    called = 2 if not age else 0
    with clock.installed(clock.VirtualClock(now() + age)):
        await work(gate)
        batch = await told(gate, batch_id)
        failed = await content(gate, batch["error_file_id"])
    assert (batch["status"], batch["request_counts"]) == (
        "completed" if called else "expired",
        {"total": 4, "completed": called, "failed": 4 - called},
    )
    unread = [each for each in failed if each["custom_id"] is None]
    assert [(each["response"], each["error"]["code"]) for each in unread] == [(None, "line_unreadable")] * 2
    assert [each["error"]["message"][:6] for each in unread] == ["line 2", "line 3"]
    assert await pg.fetchval("SELECT count(*) FROM usage_events") == called
    await assert_invariants(pg)


async def test_an_ended_line_whose_seal_does_not_open_is_told_as_such_among_the_others(gate: Gate, pg) -> None:
    batch_id = await begun(gate, line("a"), line("torn"), line("of a lost key"), line("d"))
    await work(gate)
    output = (await told(gate, batch_id))["output_file_id"]
    whole = await content(gate, output)
    size = sum(len(orjson.dumps(each)) + 1 for each in whole)
    assert (await gate.ask(path=f"/v1/files/{output}")).body["bytes"] == size
    await pg.execute("UPDATE batch_lines SET sealed = substring(sealed from 1 for 40) WHERE number = 2")
    await pg.execute("UPDATE batch_lines SET sealed = set_byte(sealed, 0, 200) WHERE number = 3")
    first, *unread, last = await content(gate, output)
    assert (first, last) == (whole[0], whole[3])
    assert [(each["custom_id"], each["response"], each["error"]["code"]) for each in unread] == [
        (None, None, "line_unreadable")
    ] * 2
    assert [each["error"]["message"][:11] for each in unread] == ["what line 2", "what line 3"]


async def test_a_file_is_sent_with_its_length_also_where_its_lines_are_shorter_than_the_notice_of_one(
    gate: Gate, pg
) -> None:
    lines = [line(f"{number}") for number in range(7)]
    batch_id = await begun(gate, *lines)
    await gate.services.batches.advance(now(), limit=20)
    with clock.installed(clock.VirtualClock(now() + timedelta(hours=25))):
        await work(gate)
        errors = (await told(gate, batch_id))["error_file_id"]
        assert [each["error"]["code"] for each in await content(gate, errors)] == ["batch_expired"] * 7
        for number, bytes_left in ((1, 0), (2, 3), (3, 100), (4, 170), (5, 180)):
            await pg.execute(
                "UPDATE batch_lines SET sealed = substring(sealed from 1 for $2) WHERE number = $1", number, bytes_left
            )
        codes = [each["error"]["code"] for each in await content(gate, errors)]
    assert codes == ["line_unreadable"] * 4 + ["batch_expired"] * 3


async def test_an_input_that_can_no_longer_be_read_is_not_there(gate: Gate, pg) -> None:
    file = (await upload(gate, line("a"))).body["id"]
    sent = await gate.ask(path=f"/v1/files/{file}/content")
    assert (sent.raw, sent.headers["content-length"]) == (line("a"), str(len(line("a"))))
    await pg.execute("UPDATE files SET sealed = set_byte(sealed, 0, 200)")
    lost = await gate.ask(path=f"/v1/files/{file}/content")
    assert (lost.status, lost.code) == (404, "not_found")


async def owner_of(gate: Gate, pg: asyncpg.Connection) -> Owner:
    return Owner(gate.seeded.workspace_id, await pg.fetchval("SELECT api_key_id FROM batches"))


async def test_a_length_stays_right_while_an_operator_rotates_the_secrets(gate: Gate, pg, monkeypatch) -> None:
    monkeypatch.setattr(files, "_LINES_A_PAGE", 1)
    batch_id = await begun(gate, line("a"), line("b"), line("c"))
    await work(gate)
    output = (await told(gate, batch_id))["output_file_id"]
    whole = await gate.ask(path=f"/v1/files/{output}/content")
    both = Sealer({1: SECRET_KEY.encode(), 2: b"another secret key of enough characters"}, 2)
    database = gate.services.database
    opened = Files(database, both)
    file = await opened.get(await owner_of(gate, pg), decode_id("file", output), now())
    sent = await opened.content(file)
    parts = [await anext(sent.parts)]
    assert {each.column: each.renewed for each in await rotate_secrets(database, both)}["batch_lines.sealed"] == 3
    parts += [part async for part in sent.parts]
    assert (b"".join(parts), sent.size_bytes) == (whole.raw, len(whole.raw))
    assert (await opened.content(file)).size_bytes == len(whole.raw)


@asynccontextmanager
async def listening(gate: Gate) -> AsyncIterator[str]:
    """The address of the files and batches, on a socket, by the protocol that serves them."""
    config = uvicorn.Config(gate.services.batch_rest, port=0, http=HttpProtocol, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving


@pytest.mark.parametrize("kept", [0, 1])
async def test_a_file_that_goes_while_it_is_sent_is_broken_off(gate: Gate, pg, monkeypatch, kept: int) -> None:
    monkeypatch.setattr(files, "_LINES_A_PAGE", 1)
    batch_id = await begun(gate, line("a"), line("b"), line("c"))
    await work(gate)
    output = (await told(gate, batch_id))["output_file_id"]
    read = Files._page

    async def read_and_forgotten(
        self: Files, file: files.FileView, state: str, after: int, lines: int, *, shorter_than: int | None
    ) -> list[asyncpg.Record]:
        if shorter_than is None and after >= kept:
            await self.delete(await owner_of(gate, pg), file.id, now())
        return await read(self, file, state, after, lines, shorter_than=shorter_than)

    headers = {"authorization": f"Bearer {gate.seeded.api_key}"}
    async with listening(gate) as url, aiohttp.ClientSession(url, headers=headers) as client:
        path = f"/v1/files/{output}/content"
        async with client.get(path) as answer:
            body = await answer.read()
        assert [orjson.loads(each)["custom_id"] for each in body.splitlines()] == ["a", "b", "c"]
        assert (answer.content_length, "transfer-encoding" in answer.headers) == (len(body), False)
        monkeypatch.setattr(Files, "_page", read_and_forgotten)
        with pytest.raises(aiohttp.ClientError):
            async with client.get(path) as answer:
                await answer.read()
        async with client.get(path) as answer:
            assert answer.status == 404


async def test_limits_put_a_line_off_and_do_not_fail_it(gate: Gate, pg) -> None:
    await pg.execute("UPDATE api_keys SET requests_per_hour = 4")
    gate.services.principals._principals.clear()
    await begun(gate, line("a"), line("b"), line("c"))  # two requests to begin it
    await work(gate)
    assert await pg.fetchval("SELECT completed_count FROM batches") == 2
    assert await pg.fetchval("SELECT count(*) FROM batch_lines WHERE state = 'PENDING' AND due_at > now()") == 1
    assert await pg.fetchval("SELECT max(attempt) FROM batch_lines") == 0


async def test_an_empty_wallet_fails_its_lines_with_the_reason(gate: Gate) -> None:
    poor = await seed_workspace(gate.services.database, 1, name="poor")
    file = await upload(gate, line("a"), key=poor.api_key)
    asked = {"input_file_id": file.body["id"], "endpoint": CHAT, "completion_window": "24h"}
    batch = await gate.ask(asked, key=poor.api_key, path="/v1/batches")
    await work(gate)
    batch = await gate.ask(path=f"/v1/batches/{batch.body['id']}", key=poor.api_key)
    errors = await gate.ask(path=f"/v1/files/{batch.body['error_file_id']}/content", key=poor.api_key)
    assert orjson.loads(errors.raw)["response"]["body"]["error"]["code"] == "insufficient_credits"


async def test_a_key_that_has_ended_calls_nothing_more(gate: Gate, pg) -> None:
    await begun(gate, line("a"))
    await pg.execute("UPDATE api_keys SET revoked_at = now()")
    await work(gate)
    assert await pg.fetchrow("SELECT status, failed_count FROM batches") == ("COMPLETED", 1)
    assert await pg.fetchval("SELECT count(*) FROM calls") == 0


async def test_files_and_batches_are_of_the_key_that_made_them(gate: Gate) -> None:
    batch_id = await begun(gate, line("a"))
    await work(gate)
    batch = await told(gate, batch_id)
    stranger = (await seed_workspace(gate.services.database, CREDITS_MICRO, name="other")).api_key
    for key in (stranger, await gate.key()):
        for path in (
            f"/v1/batches/{batch_id}",
            f"/v1/files/{batch['input_file_id']}",
            f"/v1/files/{batch['output_file_id']}/content",
        ):
            assert (await gate.ask(path=path, key=key)).status == 404
        assert (await gate.ask({}, path=f"/v1/batches/{batch_id}/cancel", key=key)).status == 404
        assert (await gate.ask(path=f"/v1/files/{batch['output_file_id']}", key=key, method="DELETE")).status == 404
        asked = {"input_file_id": batch["input_file_id"], "endpoint": CHAT, "completion_window": "24h"}
        assert (await gate.ask(asked, path="/v1/batches", key=key)).status == 404
        assert (await gate.ask(path="/v1/files", key=key)).body["data"] == []
    assert len((await gate.ask(path="/v1/files")).body["data"]) == 2


async def test_nothing_is_stored_in_clear(gate: Gate, pg) -> None:
    marker = "marker-of-a-batch"
    await begun(gate, line(marker, {**chat(), "messages": [{"role": "user", "content": marker}]}))
    for _ in range(3):
        await gate.services.batches.advance(now(), limit=20)
        for table in ("files", "batches", "batch_lines", "calls", "call_outputs", "idempotency_keys"):
            for row in await pg.fetch(f"SELECT * FROM {table}"):
                for value in row.values():
                    assert marker not in (value.decode("latin-1") if isinstance(value, bytes) else str(value))
        await gate.services.batch_work.run(16)
    assert await pg.fetchval("SELECT count(*) FROM files") == 2


async def test_files_are_kept_for_a_day_and_batches_for_a_month(gate: Gate, pg) -> None:
    batch_id = await begun(gate, line("a"), line("bad", chat(max_tokens=-1)))
    await work(gate)
    batch = await told(gate, batch_id)
    assert (await gate.ask(path=f"/v1/files/{batch['input_file_id']}")).body["expires_at"] == pytest.approx(
        (now() + FILE_LIFE).timestamp(), abs=60
    )
    assert await purge_files(gate.services.database, now() + FILE_LIFE - timedelta(minutes=2), limit=50) == 0
    with clock.installed(clock.VirtualClock(now() + FILE_LIFE)):
        for name in ("input_file_id", "output_file_id", "error_file_id"):
            assert (await gate.ask(path=f"/v1/files/{batch[name]}/content")).status == 404
        assert await purge_files(gate.services.database, now(), limit=50) == 3
        assert await pg.fetchval("SELECT count(*) FROM batch_lines") == 0
        assert (await told(gate, batch_id))["status"] == "completed"
    with clock.installed(clock.VirtualClock(now() + batches.REMEMBERED)):
        assert await purge_files(gate.services.database, now(), limit=50) == 1
    assert (await gate.ask(path=f"/v1/batches/{batch_id}")).status == 404


async def test_a_file_can_have_a_life_of_its_own_and_be_deleted(gate: Gate, pg) -> None:
    short = await upload(gate, line("a"), **{"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"})
    assert short.body["expires_at"] - short.body["created_at"] == 3600
    for seconds in ("0", "-1", "x", "3599", "2592001", "9" * 30):
        assert (await upload(gate, line("a"), **{"expires_after[seconds]": seconds})).status == 400
    deleted = await gate.ask(path=f"/v1/files/{short.body['id']}", method="DELETE")
    assert deleted.body == {"id": short.body["id"], "object": "file", "deleted": True}
    assert (await gate.ask(path=f"/v1/files/{short.body['id']}")).status == 404
    batch_id = await begun(gate, line("a"))
    await work(gate)
    output = (await told(gate, batch_id))["output_file_id"]
    assert (await gate.ask(path=f"/v1/files/{output}", method="DELETE")).status == 200
    assert await pg.fetchval("SELECT count(*) FROM batch_lines") == 0


async def test_an_input_file_deleted_before_it_is_read_fails_its_batch_and_after_it_does_not(gate: Gate) -> None:
    first, second = await begun(gate, line("a")), await begun(gate, line("b"))
    await gate.ask(path=f"/v1/files/{(await told(gate, first))['input_file_id']}", method="DELETE")
    await gate.services.batches.advance(now(), limit=20)
    await gate.ask(path=f"/v1/files/{(await told(gate, second))['input_file_id']}", method="DELETE")
    await work(gate)
    assert (await told(gate, first))["errors"]["data"][0]["code"] == "file_gone"
    assert (await told(gate, second))["status"] == "completed"


async def test_sizes_and_numbers_have_bounds(gate: Gate, monkeypatch) -> None:
    monkeypatch.setattr(files, "MAX_STORED_BYTES", 1_000)
    assert (await upload(gate, b"x" * 900)).status == 200
    full = await upload(gate, b"x" * 101)
    assert (full.status, full.code) == (400, "storage_full")
    assert (await upload(gate, b"x" * 100)).status == 200
    monkeypatch.setattr("app.batch_rest.MAX_FILE_BYTES", 50)
    assert (await upload(gate, b"x" * 51)).status == 400
    monkeypatch.setattr("app.batch_rest.MAX_UPLOAD_BYTES", 60)
    assert (await upload(gate, b"x" * 51)).status == 413
    monkeypatch.undo()
    monkeypatch.setattr(batches, "MAX_OPEN", 1)
    await begun(gate, line("a"))
    file = await upload(gate, line("a"))
    more = await gate.ask(
        {"input_file_id": file.body["id"], "endpoint": CHAT, "completion_window": "24h"}, path="/v1/batches"
    )
    assert (more.status, more.code) == (409, "conflict")


async def test_no_more_lines_than_a_batch_may_have(gate: Gate, monkeypatch) -> None:
    monkeypatch.setattr("gateway.rules.batches.MAX_LINES", 3)
    batch_id = await begun(gate, *(line(str(number)) for number in range(4)))
    await work(gate)
    assert (await told(gate, batch_id))["errors"]["data"][0]["code"] == "too_many_lines"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "multipart/form-data; boundary=xyz"),
        (b"nonsense", "multipart/form-data; boundary=xyz"),
        (form(b"x"), "multipart/form-data"),
        (form(b"x"), "application/json"),
        (form(b"x", purpose="fine-tune"), "multipart/form-data; boundary=xyz"),
        (form(b"x", purpose=None), "multipart/form-data; boundary=xyz"),
        (
            b'--xyz\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--xyz--\r\n',
            "multipart/form-data; boundary=xyz",
        ),
        (form(b"x", **{f"field-{number}": "x" for number in range(20)}), "multipart/form-data; boundary=xyz"),
    ],
)
async def test_an_upload_that_is_none_is_a_bad_request(gate: Gate, body: bytes, kind: str) -> None:
    assert (await gate.ask(body, path="/v1/files", content_type=kind)).status == 400


@pytest.mark.parametrize(
    "more",
    [
        {"endpoint": "/v1/models"},
        {"endpoint": None},
        {"completion_window": "1h"},
        {"input_file_id": 7},
        {"metadata": {"a": 1}},
        {"metadata": {"a": "x" * 513}},
        {"metadata": {"a": "\0"}},
        {"metadata": {str(number): "x" for number in range(17)}},
        {"metadata": []},
    ],
)
async def test_a_batch_that_cannot_be_is_refused(gate: Gate, more: dict) -> None:
    file = await upload(gate, line("a"))
    asked = {"input_file_id": file.body["id"], "endpoint": CHAT, "completion_window": "24h", **more}
    assert (await gate.ask(asked, path="/v1/batches")).status == 400


async def test_methods_and_scopes_are_those_there_are(gate: Gate) -> None:
    reader = await gate.key(scopes=("CALLS_READ",))
    assert (await upload(gate, b"x", key=reader)).status == 403
    assert (await gate.ask(path="/v1/files", key=reader)).status == 200
    assert (await gate.ask(path="/v1/batches", key=reader)).headers["ratelimit"]
    refused = await gate.ask({}, path="/v1/files/x")
    assert (refused.status, refused.headers["allow"]) == (405, "GET, DELETE")
    assert (await gate.ask(path="/v1/batches/x/cancel")).headers["allow"] == "POST"
    for path in ("/v1/files/x", "/v1/files/x/content", "/v1/batches/x"):
        assert (await gate.ask(path=path)).status == 404
