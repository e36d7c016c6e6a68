"""The exports: whole, exact, well quoted, page by page, and for keys that may."""

import asyncio
import csv
import io
import itertools
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import asyncpg
import orjson
import pytest

from app.lifespan import open_services
from kit import clock
from kit.ids import encode_id, uuid7
from metering import exporting
from metering.wallets import balance_at, last_entry_at
from models.database import Database
from tests.metering.money import START, grant, hold, open_wallet, settle
from tests.metering.test_ledger import ledger_on
from tests.schema.conftest import settings_for
from tests.seeding import apply_catalog, seed_workspace

BEGIN = datetime(2026, 5, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Line:
    def __init__(self, services, seeded):
        self.services, self.seeded = services, seeded

    async def get(
        self,
        path,
        query="from=2026-05-01T00:00:00Z&to=2026-06-01T00:00:00Z",
        *,
        key=None,
        method="GET",
        gone_after=None,
    ):
        """Status, headers, and the chunks of the body."""
        headers = [(b"authorization", b"Bearer " + (key or self.seeded.api_key).encode())]
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": headers,
            "client": ("203.0.113.9", 1),
        }
        gone, started, chunks = asyncio.Event(), {}, []

        async def receive():
            if not started.get("asked"):
                started["asked"] = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            if message["type"] == "http.response.start":
                started.update(status=message["status"], headers=dict(message["headers"]))
            else:
                chunks.append(message["body"])
                if gone_after is not None and len(chunks) >= gone_after:
                    gone.set()
                await asyncio.sleep(0)
            started["ended"] = message["type"] == "http.response.body" and not message.get("more_body", False)

        await self.services.exports(scope, receive, send)
        assert started["ended"]
        return started["status"], started["headers"], chunks

    async def usage(self, count, **columns):
        """So many events, a minute after each other, all by SQL."""
        model = columns.get("model", "sandbox-chat")
        await self.services.database.pool.execute(
            "INSERT INTO usage_events (call_id, workspace_id, wallet_id, model_slug, modality, input_tokens, created_at,"
            " cost_micro, charged_micro, estimated, provider) SELECT gen_random_uuid(), $1, $2, $3, 'TEXT', n, $4::timestamptz"
            " + make_interval(secs => n / 3), 1500000, 1500000, false, 'sandbox' FROM generate_series(0, $5::int - 1) n",
            self.seeded.workspace_id, self.seeded.wallet_id, model, BEGIN, count,
        )  # fmt: skip


@pytest.fixture
async def line(database_url, redis_url, tmp_path):
    async with AsyncExitStack() as stack:
        database = await Database.open(database_url, max_size=2)
        await apply_catalog(database)
        seeded = await seed_workspace(database, 5_000_000)
        await database.close()
        services = await stack.enter_async_context(open_services(settings_for(database_url, redis_url, tmp_path)))
        yield Line(services, seeded)


def parsed(chunks):
    return list(csv.DictReader(io.StringIO(b"".join(chunks).decode(), newline="")))


async def test_A4_the_usage_of_a_workspace_is_exported_whole_in_both_forms(line, monkeypatch):
    monkeypatch.setattr(exporting, "PAGE", 7)
    await line.usage(50)
    other = await seed_workspace(line.services.database, 0, "other")
    status, headers, chunks = await line.get("/v1/usage.csv")
    rows = parsed(chunks)
    assert status == 200
    assert headers[b"content-disposition"] == b'attachment; filename="usage.csv"'
    assert [int(row["input_tokens"]) for row in sorted(rows, key=lambda row: int(row["input_tokens"]))] == list(
        range(50)
    )
    assert len({row["call_id"] for row in rows}) == 50
    assert [row["created_at"] for row in rows] == sorted(row["created_at"] for row in rows)
    assert rows[0]["credits"] == "1.5"
    assert rows[0]["api_key_id"] == ""
    _, _, chunks = await line.get("/v1/usage.jsonl")
    lines = [orjson.loads(text) for text in b"".join(chunks).splitlines()]
    assert [each["call_id"] for each in lines] == [row["call_id"] for row in rows]
    assert lines[0]["credits"] == "1.5"
    assert lines[0]["api_key_id"] is None
    _, _, chunks = await line.get("/v1/usage.csv", key=other.api_key)
    assert parsed(chunks) == []
    assert len(chunks) == 2  # the names of the columns, and the end


async def test_memory_is_bounded_by_a_page_however_many_rows_there_are(line, monkeypatch):
    await line.usage(5_000)
    monkeypatch.setattr(exporting, "PAGE", 100)
    held, fetched = [], exporting.fetch_rows

    async def counted(*arguments):
        rows = await fetched(*arguments)
        held.append(len(rows))
        return rows

    monkeypatch.setattr(exporting, "fetch_rows", counted)
    _, _, chunks = await line.get("/v1/usage.jsonl")
    assert sum(held) == 5_000
    assert max(held) == 100
    assert len(chunks) >= 50
    assert max(map(len, chunks)) < 100 * 1_000
    held.clear()
    _, _, chunks = await line.get("/v1/usage.jsonl", gone_after=3)  # a client that leaves ends the reading
    assert sum(held) <= 500


async def test_entries_are_exported_in_order_with_words_that_need_quoting(line, monkeypatch):
    monkeypatch.setattr(exporting, "PAGE", 2)
    pool = line.services.database.pool
    wallet_id = line.seeded.wallet_id
    grant_id = await pool.fetchval("SELECT id FROM credit_grants")
    words = ['with "quotes", and; a\r\nnew line', "=HYPERLINK(1)", "-5 +3", "ünïcödé", "\ttab"]
    for index, text in enumerate(words):
        await pool.execute(
            "INSERT INTO ledger_entries (id, wallet_id, grant_id, kind, amount_micro, balance_after_micro, counter_account,"
            " reference_kind, reference_id, description, created_at) VALUES ($1, $2, $3, 'USAGE', -1500000, $4, 'REVENUE',"
            " 'TEST', '', $5, now())",
            uuid7(), wallet_id, grant_id, index, text,
        )  # fmt: skip
    span = f"from={(clock.now() - MINUTE).strftime('%Y-%m-%dT%H:%M:%SZ')}"
    _, _, chunks = await line.get("/v1/entries.csv", span)
    rows = parsed(chunks)
    assert [row["kind"] for row in rows] == ["GRANT"] + ["USAGE"] * 5
    assert [row["description"] for row in rows[1:]] == [words[0], "'=HYPERLINK(1)", "'-5 +3", words[3], "'\ttab"]
    assert rows[1]["amount"] == "-1.5"
    assert rows[0]["grant_id"] == encode_id("grant", grant_id)
    _, _, chunks = await line.get("/v1/entries.jsonl", span)
    assert [orjson.loads(text)["description"] for text in b"".join(chunks).splitlines()][1:] == words
    past = f"from=2020-01-01T00:00:00Z&to={(clock.now() - 5 * MINUTE).strftime('%Y-%m-%dT%H:%M:%SZ')}"
    assert b"".join((await line.get("/v1/entries.jsonl", past))[2]) == b""


@pytest.mark.parametrize(
    "query",
    ["from=nonsense", "from=2026-05-01", "from=2026-05-01T00:00:00", "to=0001-01-01T00:00:00Z", "x=1", "from=2026-05-02T00:00:00Z&to=2026-05-01T00:00:00Z",
     "from=9999-12-31T23:59:59Z", "from=%00", "a=" + "x" * 2000, "from=" + "%F0%9F%98%80", "&".join(["to=x"] * 11)],
)  # fmt: skip
async def test_a_range_that_is_none_is_a_bad_request(line, query):
    status, _, chunks = await line.get("/v1/usage.csv", query)
    assert status == 400
    assert orjson.loads(b"".join(chunks))["error"]["type"] == "invalid_request_error"


async def test_a_range_that_ends_before_it_begins_is_told_what_it_must_be(line):
    _, _, chunks = await line.get("/v1/usage.csv", "from=2026-05-02T00:00:00Z&to=2026-05-01T00:00:00Z")
    assert orjson.loads(b"".join(chunks))["error"]["message"] == "from must be before to"


async def test_keys_without_the_scope_and_other_methods_are_refused(line):
    pool = line.services.database.pool
    assert (await line.get("/v1/usage.csv", method="POST"))[0] == 405
    assert (await line.get("/v1/usage.csv", key="tg_live_nonsense"))[0] == 401
    for allowed, refused, scope in (("usage", "entries", "USAGE_READ"), ("entries", "usage", "WALLET_READ")):
        other = await seed_workspace(line.services.database, 0, scope.lower().replace("_", "-"))
        await pool.execute("UPDATE api_keys SET scopes = $2 WHERE id = $1", other.api_key_id, [scope])
        assert (await line.get(f"/v1/{allowed}.csv", key=other.api_key))[0] == 200
        assert (await line.get(f"/v1/{refused}.jsonl", key=other.api_key))[0] == 403


async def test_a_balance_is_known_at_any_past_instant(database_url, pg: asyncpg.Connection):
    async with ledger_on(database_url) as ledger:
        wallet = await open_wallet(pg)
        database, history = ledger._database, [(START - MINUTE, 0)]
        for index in range(40):
            at = START + index * index * MINUTE
            with clock.installed(clock.VirtualClock(at)):
                if index % 4 == 0:
                    await ledger.submit(grant(wallet[0], 100, at=at))
                else:
                    call = hold(wallet, 10)
                    await ledger.submit(call)
                    await ledger.submit(settle(wallet, call.call_id, 10))
            history.append((at, await pg.fetchval("SELECT balance_micro FROM wallets WHERE id = $1", wallet[0])))
        for (at, balance), (following, _) in itertools.pairwise(history):
            assert await balance_at(database, wallet[0], at) == balance, at
            assert await balance_at(database, wallet[0], following - timedelta(microseconds=1)) == balance
        assert await balance_at(database, wallet[0], history[-1][0] + 400 * 1440 * MINUTE) == history[-1][1]
        assert await balance_at(database, uuid7(), START) == 0
        assert await last_entry_at(database, wallet[0], START - MINUTE) is None
