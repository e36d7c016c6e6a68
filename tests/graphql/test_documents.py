"""Documents that are named instead of sent: the manifest of trusted ones, and automatic persisted queries."""

import json
from uuid import UUID

import pytest

from app.graphql.document_mode import DocumentMode
from app.graphql.documents import APQ_TTL_S, UntrustedManifest, digest_of
from tests.graphql.conftest import KEY

TRUSTED = 'query Trusted { echo(text: "trusted") }'
OTHER = '{ echo(text: "other") }'


@pytest.fixture
def manifest(tmp_path):
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({digest_of(TRUSTED): TRUSTED}))
    return path


async def by_id(edge, document_id, token="key"):
    async with edge.post(
        {"documentId": document_id}, headers={"authorization": f"Bearer {token}"} if token else {}
    ) as response:
        return response.status, await response.json(content_type=None)


async def test_a_trusted_document_runs_by_its_id(serve, manifest):
    async with serve(trusted_documents=manifest) as edge:
        status, body = await by_id(edge, f"sha256:{digest_of(TRUSTED)}")
        assert (status, body["data"]) == (200, {"echo": "trusted"})
        status, body = await by_id(edge, f"sha256:{digest_of(OTHER)}")
        assert (status, body["errors"][0]["extensions"]["code"]) == (400, "PERSISTED_QUERY_NOT_FOUND")
        assert (await edge.ask(OTHER)).data == {"echo": "other"}


async def test_strangers_may_be_held_to_trusted_documents(serve, manifest):
    async with serve(trusted_documents=manifest, document_mode=DocumentMode.TRUSTED_FOR_STRANGERS) as edge:
        refused = await edge.ask(OTHER, token=None)
        assert (refused.status, refused.code) == (403, "FORBIDDEN")
        assert (await edge.ask("{ nothing }", token=None)).status == 403
        assert (await edge.ask(TRUSTED, token=None)).data == {"echo": "trusted"}
        assert (await by_id(edge, digest_of(TRUSTED), None))[0] == 200
        assert (await edge.ask(OTHER)).data == {"echo": "other"}


async def test_everybody_or_one_key_may_be_held_to_trusted_documents(serve, manifest):
    async with serve(trusted_documents=manifest, document_mode=DocumentMode.TRUSTED_ONLY) as edge:
        assert (await edge.ask(OTHER)).code == "FORBIDDEN"
    keys = frozenset({KEY.api_key_id, UUID(int=99)})
    async with serve(trusted_documents=manifest, trusted_only_keys=keys) as edge:
        assert (await edge.ask(OTHER)).code == "FORBIDDEN"
        assert (await edge.ask(OTHER, token="user")).data == {"echo": "other"}


@pytest.mark.parametrize(
    "entries", [{"0" * 64: TRUSTED}, {digest_of("{ nothing }"): "{ nothing }"}, {digest_of(""): 7}, ["x"]]
)
async def test_a_manifest_that_cannot_be_served_stops_the_start(serve, tmp_path, entries):
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(entries))
    with pytest.raises(UntrustedManifest):
        async with serve(trusted_documents=path):
            pass


def apq(text):
    return {"persistedQuery": {"version": 1, "sha256Hash": digest_of(text)}}


async def hashed(edge, text):
    async with edge.post({"extensions": apq(text)}, headers={"authorization": "Bearer key"}) as response:
        return response.status, await response.json(content_type=None)


async def test_a_persisted_query_is_asked_for_stored_once_and_then_found_by_every_process(edge, serve):
    status, body = await hashed(edge, OTHER)
    assert (status, body["errors"][0]["extensions"]["code"]) == (400, "PERSISTED_QUERY_NOT_FOUND")
    assert body["errors"][0]["message"] == "PersistedQueryNotFound"
    assert (await edge.ask(OTHER, extensions=apq(OTHER))).data == {"echo": "other"}
    assert (await hashed(edge, OTHER))[1]["data"] == {"echo": "other"}
    ttl_s = await edge.redis.ttl(f"tollgate:apq:{digest_of(OTHER)}")
    assert APQ_TTL_S - 60 < ttl_s <= APQ_TTL_S


@pytest.mark.parametrize(("extensions", "legacy_status"), [({"persistedQuery": 5}, 200), (5, 400)])
async def test_extensions_of_a_wrong_kind_are_malformed_and_what_is_wrong_in_them_cannot_be_run(
    edge, extensions, legacy_status
):
    for accept, status in (("application/json", legacy_status), ("application/graphql-response+json", 400)):
        asked = {"query": OTHER, "extensions": extensions}
        async with edge.post(asked, accept, headers={"authorization": "Bearer key"}) as response:
            assert response.status == status
            assert (await response.json(content_type=None))["errors"][0]["extensions"]["code"] == "BAD_REQUEST"


async def test_a_text_under_another_digest_is_refused_and_not_stored(edge):
    answer = await edge.ask(OTHER, extensions=apq(TRUSTED))
    assert (answer.status, answer.code) == (400, "BAD_REQUEST")
    assert (await hashed(edge, TRUSTED))[0] == 400


async def test_an_invalid_document_is_not_stored(edge):
    assert (await edge.ask("{ nothing }", extensions=apq("{ nothing }"))).status == 400
    assert await edge.redis.exists(f"tollgate:apq:{digest_of('{ nothing }')}") == 0


async def test_what_another_hand_put_into_redis_is_not_run(edge):
    await edge.redis.set(f"tollgate:apq:{digest_of('{ whoami }')}", OTHER)
    assert (await hashed(edge, "{ whoami }"))[0] == 400
