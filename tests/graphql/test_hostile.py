"""What a stranger may try: floods, cycles, depth, rubbish. Each is refused as the caller's fault, before it costs much."""

import asyncio
import time

import aiohttp
import orjson
import pytest

GENEROUS_S = 2.0
"""Of this process's own work, which only one quadratic or worse in the size of a document would exceed."""


async def refused(edge, query, variables=None, token=None) -> str:
    """The message of a refusal; the refusal must be BAD_REQUEST, without data, and quick."""
    start = time.process_time()
    answer = await edge.ask(query, variables, token)
    assert time.process_time() - start < GENEROUS_S
    assert (answer.status, answer.code, "data" in answer.body) == (400, "BAD_REQUEST", False)
    return answer.errors[0]["message"]


def nested(depth: int) -> str:
    return (
        "{ workspace { members { nodes "
        + "{ workspace { members { nodes " * depth
        + "{ id }"
        + " } }" * (depth + 1)
        + " }"
    )


FLOODS = {
    "aliases": "{" + " ".join(f"a{n}: __typename" for n in range(100)) + "}",
    "fields": "{ workspace {" + " name" * 1_500 + "} }",
    "same field": "{" + " ".join("__typename" for _ in range(1_900)) + "}",
    "directives": "{ __typename " + "@include(if: true) " * 300 + "}",
    "unknown directives": "{ __typename " + "@a " * 1_900 + "}",
    "fragments": "{ ...F0 } " + " ".join(f"fragment F{n} on Query {{ __typename }}" for n in range(400)),
    "inline fragments": "{" + "... on Query { __typename } " * 500 + "}",
    "operations": " ".join(f"query Q{n} {{ __typename }}" for n in range(500)),
    "arguments": "{ echo(" + " ".join(f'a{n}: "x"' for n in range(1_300)) + ") }",
    "variables": "query(" + " ".join(f"$v{n}: Int" for n in range(1_300)) + ") { __typename }",
    "tokens": "{" + " ".join(f"f{n}" for n in range(9_000)) + "}",
    "bytes": "{ __typename } #" + "x" * 70_000,
    "comments": "#\n" * 30_000 + "{ nothing }",
    "deep selections": nested(40),
    "deep lists": "{ grid(rows: " + "[" * 1_500 + "]" * 1_500 + ") }",
    "deep objects": "{ anything(value: " + "{a: " * 1_000 + "1" + "}" * 1_000 + ") }",
    "unclosed": "{" * 3_900,
    "unclosed lists": "{ grid(rows: " + "[" * 60_000,
    "strings": '{ echo(text: "' + '\\"' * 30_000 + " }",
    "blocks": '"""' + '\\"""' * 15_000,
}


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_is_refused_in_bounded_time(edge, name):
    await refused(edge, FLOODS[name])


@pytest.mark.parametrize(
    ("query", "told"),
    [(FLOODS["aliases"], "may have at most 60 aliases"), ("{ a " * 26 + "}" * 26, "may be at most 24 levels deep")],
    ids=["aliases", "levels"],
)
async def test_a_limit_of_a_document_is_told_in_plain_words(edge, query, told):
    assert told in await refused(edge, query)


async def test_fragments_that_multiply_are_counted_spread_out(edge):
    """Thirty fragments, each spreading the next twice: a billion fields in a kilobyte."""
    chain = " ".join(f"fragment F{n} on Query {{ ...F{n + 1} ... on Query {{ ...F{n + 1} }} }}" for n in range(30))
    message = await refused(edge, "{ ...F0 } " + chain + " fragment F30 on Query { __typename }")
    assert "fields, with fragments spread out" in message


@pytest.mark.parametrize("query", [
    "{ ...A } fragment A on Query { ...A }",
    "{ ...A } fragment A on Query { ...B } fragment B on Query { ...C } fragment C on Query { ...A }",
    "{ __typename } fragment A on Query { workspace { id } ...B } fragment B on Query { ...A }",
])  # fmt: skip
async def test_circular_fragments_are_refused(edge, query):
    assert "spreads itself" in await refused(edge, query)


async def test_deep_and_huge_variables_are_refused(edge):
    query = "query($v: JSON) { anything(value: $v) }"
    deep: object = 1
    for _ in range(100):
        deep = {"a": [deep]}
    assert "nested" in await refused(edge, query, {"v": deep})
    assert "values" in await refused(edge, query, {"v": [0] * 30_000})
    async with edge.post(
        data=b'{"query":"{ __typename }","variables":' + b'{"a":' * 3_000 + b"1" + b"}" * 3_000 + b"}"
    ) as r:
        assert r.status == 400


async def test_deep_input_objects_in_variables_are_refused(edge):
    note: dict = {"text": "x"}
    for _ in range(40):
        note = {"text": "x", "inner": note}
    await refused(edge, "query($n: NoteInput) { echo(note: $n) }", {"n": note})


async def test_deep_introspection_is_refused(edge):
    deep = "{ __schema { types { fields { type { fields { type { fields { type { fields { name } } } } } } } } } }"
    await refused(edge, deep)


@pytest.mark.parametrize("body", [
    b"null", b'"x"', b"[]", b"1", b"true", b"{}", b"[{}]", b"\xff\xfe", b'{"query":"\xff"}', b'{"query":NaN}',
    b'{"query":"{ __typename }","variables":{"a":NaN}}', b'{"query":"{ __typename }","variables":{"a":Infinity}}',
    b'{"query":"\\ud800"}', b"[" * 5_000, b'{"a":' * 3_000 + b"1" + b"}" * 3_000, b"\x00", b" ", b"{'query':1}",
    b'{"query":"{ __typename }"} trailing', b'{"query":"\\u0000"}', b'{"query":null}', b'{"query":""}',
    b'{"documentId":7}', b'{"documentId":"sha256:nope"}', b'{"extensions":{"persistedQuery":7}}',
    b'{"extensions":{"persistedQuery":{"version":2,"sha256Hash":"x"}}}',
    b'{"query":"{ __typename }","operationName":"' + b"x" * 1_000 + b'"}',
])  # fmt: skip
async def test_malformed_bodies_are_400_with_a_code(edge, body):
    async with edge.post(data=body) as response:
        assert response.status == 400
        error = orjson.loads(await response.read())["errors"][0]
        assert error["extensions"]["code"] in {"BAD_REQUEST", "PERSISTED_QUERY_NOT_FOUND"}


@pytest.mark.parametrize("body", [
    b'{"query":"{ __typename }","query":"{ __typename }"}',
    b'{"query":"{ __typename }","variables":{"a":1,"a":2,"b":123456789012345678901234567890}}',
    b'{"query":"{ __typename }","variables":{"__proto__":{},"\\u0000":1}}',
])  # fmt: skip
async def test_odd_bodies_that_are_json_are_answered(edge, body):
    async with edge.post(data=body) as response:
        assert response.status == 200


@pytest.mark.parametrize("query_string", [
    "query=%FF%FE", "query=%7B__typename%7D&variables=%7B", "query=%7B__typename%7D&variables=%5B%5D", "query=%ZZ",
    "query=%7B__typename%7D&query=%7B__typename%7D", "variables=1", "a=1&" * 200, "query=" + "x" * 40_000, "&&&=&",
    "query=%7B__typename%7D&variables=" + "%5B" * 3_000, "query=%7B__typename%7D&extensions=nope",
])  # fmt: skip
async def test_malformed_parameters_are_400(edge, query_string):
    from yarl import URL

    accept = {"accept": "application/graphql-response+json"}
    async with edge.client.get(URL(f"{edge.url}?{query_string}", encoded=True), headers=accept) as response:
        assert response.status == 400


async def test_raw_bytes_in_a_url_are_400(edge):
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(b"GET /graphql?query=\xff{ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 400")
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    "accept", ["x" * 5_000, ";;;,,,", "application/json;q=nope", "*/*;q=0", "\xff/\xff", "application/json;q=1e309"]
)
async def test_a_malformed_accept_header_is_406_at_worst(edge, accept):
    async with edge.client.post(edge.url, json={"query": "{ __typename }"}, headers={"accept": accept}) as response:
        assert response.status in {200, 406}


async def test_batches_are_refused(edge):
    async with edge.post([{"query": "{ __typename }"}] * 2) as response:
        assert response.status == 400
        assert "batches" in await response.text()


async def test_posts_of_other_origins_are_refused_and_do_not_run(edge):
    mutation = {"query": 'mutation { write(text: "forged") { id } }'}
    for origin in ("https://evil.example", "null", "http://127.0.0.1.evil.example", "http://[", ""):
        async with edge.post(mutation, headers={"origin": origin, "authorization": "Bearer key"}) as response:
            assert response.status == 403
    assert edge.happenings.mutations == []
    own = edge.url.removesuffix("/graphql")
    async with edge.post(mutation, headers={"origin": own, "authorization": "Bearer key"}) as response:
        assert response.status == 200


async def test_introspection_can_be_switched_off(serve):
    async with serve(introspection=False) as edge:
        for query in (
            "{ __schema { types { name } } }",
            '{ __type(name: "Query") { name } }',
            "{ ...F } fragment F on Query { __schema { types { name } } }",
        ):
            await refused(edge, query, token="key")
        assert (await edge.ask("{ __typename }")).data == {"__typename": "Query"}


async def test_strangers_get_no_suggestions_and_callers_do(edge):
    for query in ("{ workspac { id } }", "{ echo(txt: 1) }", "{ ... on Membr { id } }"):
        assert "Did you mean" not in str((await edge.ask(query, token=None)).body)
        assert "Did you mean" in str((await edge.ask(query)).body)
    variables = {"n": {"txt": "a"}}
    assert "Did you mean" not in str((await edge.ask("query($n: NoteInput) { echo(note: $n) }", variables, None)).body)


async def test_rubbish_does_not_evict_good_documents(serve):
    async with serve(documents=3, documents_per_hour=1) as edge:
        assert (await edge.ask("{ __typename }")).status == 200
        assert (await edge.ask("{ nothing }")).status == 400
        assert (await edge.ask("{ nothing2 }")).status == 400
        answer = await edge.ask("{ nothing3 }")
        assert (answer.status, answer.code) == (429, "RATE_LIMITED")
        assert int(answer.headers["retry-after"]) > 0
        assert (await edge.ask("{ __typename }")).status == 200


async def test_a_client_that_leaves_while_sending_does_no_harm(edge):
    _, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(b"POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await edge.ask("{ __typename }")).status == 200


async def test_a_query_that_never_ends_is_given_up(serve):
    async with serve(query_timeout_s=0.05) as edge:
        answer = await edge.ask("{ slow }")
        assert (answer.status, answer.code) == (503, "INTERNAL")


async def test_a_page_of_another_origin_cannot_open_a_socket(edge):
    for origin in ("https://evil.example", "null"):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
            await edge.client.ws_connect(
                edge.socket_url, protocols=["graphql-transport-ws"], headers={"origin": origin}
            )
        assert refusal.value.status == 403
