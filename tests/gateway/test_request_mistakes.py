"""What is told of a request below /v1 that is wrong in itself: which part of it, and what it must be."""

import gzip

import orjson
import pytest

from kit.json_values import MAX_LEVELS
from tests.gateway.conftest import Gate, chat
from tests.seeding import seed_workspace

MESSAGES = {"model": "sandbox-chat", "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}]}


def deep(body: dict, levels: int) -> bytes:
    """A body this deep: its own object, `metadata`, and lists in it; written by hand as orjson writes 254 levels only."""
    lists = levels - 2
    metadata = b'{"x": ' + b"[" * lists + b"]" * lists + b"}"
    return orjson.dumps(body)[:-1] + b', "metadata": ' + metadata + b"}"


@pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", chat()), ("/v1/messages", MESSAGES)])
@pytest.mark.parametrize("levels", [MAX_LEVELS + 1, 900, 5_000])
async def test_a_body_that_is_too_deep_is_refused_before_anything_is_asked_of_a_provider(
    gate: Gate, path: str, body: dict, levels: int
) -> None:
    refused = await gate.ask(deep(body, levels), path=path)
    assert refused.status == 400
    error = refused.body["error"]
    assert (error["message"], error["code"]) == (
        f"the body must not be nested deeper than {MAX_LEVELS} levels",
        "bad_request",
    )
    assert (await gate.ask(path="/v1/balance")).body["held"]["credits"] == "0"
    assert await gate.services.database.pool.fetchval("SELECT count(*) FROM calls") == 0


async def test_a_body_as_deep_as_may_be_is_sent_on(gate: Gate) -> None:
    assert (await gate.ask(deep(chat(), MAX_LEVELS))).status == 200


async def test_a_body_of_many_values_that_is_not_deep_is_taken(gate: Gate) -> None:
    many = [{"role": "user", "content": [{"type": "text", "text": "a"}]} for _ in range(MAX_LEVELS)]
    assert (await gate.ask(chat(messages=many))).status == 200


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/files", "/v1/batches"])
@pytest.mark.parametrize("encoding", ["gzip", "br"])
async def test_a_compressed_body_is_not_taken(gate: Gate, path: str, encoding: str) -> None:
    refused = await gate.ask(gzip.compress(orjson.dumps(chat())), path=path, content_encoding=encoding)
    assert (refused.status, refused.body["error"]["message"]) == (415, "send the body without a content encoding")


async def test_a_body_that_says_that_it_is_not_compressed_is_taken(gate: Gate) -> None:
    assert (await gate.ask(chat(), content_encoding="identity")).status == 200


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("x_tollgate_cache", "the header X-Tollgate-Cache must be on or off"),
        ("x_tollgate_fit", "the header X-Tollgate-Fit must be true or false"),
    ],
)
async def test_a_header_of_ours_with_another_word_is_refused_with_its_words(gate: Gate, name: str, told: str) -> None:
    for word in ("maybe", ""):
        refused = await gate.ask(chat(), **{name: word})
        assert (refused.status, refused.body["error"]["message"]) == (400, told)
    for word in told.rpartition(" must be ")[2].split(" or "):
        assert (await gate.ask(chat(), **{name: word.upper()})).status == 200


async def test_a_key_of_another_request_is_named_as_the_header_that_it_is(gate: Gate) -> None:
    assert (await gate.ask(chat(), idempotency_key="once")).status == 200
    refused = await gate.ask(chat(max_tokens=7), idempotency_key="once")
    assert (refused.status, refused.code) == (422, "idempotency_key_reused")
    assert refused.body["error"]["param"] == "Idempotency-Key"
    assert "use another key for another request" in refused.body["error"]["message"]


async def test_a_path_that_is_none_names_the_list_of_those_there_are(gate: Gate) -> None:
    refused = await gate.ask({}, path="/v1/nothing")
    assert (refused.status, refused.body["error"]["message"]) == (
        404,
        "there is no /v1/nothing here; /openapi.json lists the paths there are",
    )


async def test_a_wrong_credential_is_told_what_to_send_and_not_whether_there_was_such_a_key(gate: Gate) -> None:
    revoked, expired = [await gate.key(name=name) for name in ("revoked", "expired")]
    pool = gate.services.database.pool
    await pool.execute("UPDATE api_keys SET revoked_at = now() WHERE name = 'revoked'")
    await pool.execute("UPDATE api_keys SET expires_at = now() - interval '1 day' WHERE name = 'expired'")
    answers = [await gate.ask(chat(), key=key) for key in (revoked, expired)]
    assert [answer.status for answer in answers] == [401, 401]
    assert {answer.body["error"]["message"] for answer in answers} == {
        "This API key is unknown, revoked or expired: send one that is live, or make a new one (createApiKey)."
    }
    no_key = await gate.ask(chat(), key="x")
    assert no_key.status == 401
    assert "an API key, which begins with tg_" in no_key.body["error"]["message"]
    assert "sign in" in no_key.body["error"]["message"]


async def test_a_wallet_that_cannot_pay_is_told_what_helps(gate: Gate) -> None:
    poor = await seed_workspace(gate.services.database, 0, name="poor")
    refused = await gate.ask(chat(), key=poor.api_key)
    assert (refused.status, refused.code) == (402, "insufficient_credits")
    assert refused.body["error"]["message"].endswith(
        " are available; add credits, or ask for less, such as fewer output tokens"
    )


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"input_file_id": 7}, "input_file_id must be the id of a file"),
        ({"endpoint": None}, "endpoint must be the path that each line calls, such as /v1/chat/completions"),
        ({"completion_window": "1h"}, "completion_window must be 24h"),
    ],
)
async def test_a_batch_is_told_what_its_fields_must_be(gate: Gate, wrong: dict, told: str) -> None:
    given = {"input_file_id": "file_x", "endpoint": "/v1/embeddings", "completion_window": "24h", **wrong}
    refused = await gate.ask(given, path="/v1/batches")
    assert (refused.status, refused.body["error"]["message"]) == (400, told)
