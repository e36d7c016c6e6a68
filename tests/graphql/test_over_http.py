"""GraphQL over HTTP, requirement by requirement: the ids are those of the npm package graphql-http's audit suite."""

from urllib.parse import urlencode

import orjson
import pytest

GRAPHQL = "application/graphql-response+json"
JSON = "application/json"
NOT_TEXTS = [{"obj": "ect"}, 0, False, ["array"]]
NOT_MAPS = ["string", 0, False, ["array"]]
TYPENAME = {"query": "{ __typename }"}
TYPE = {"query": "query Type($name: String!) { __type(name: $name) { name } }", "variables": {"name": "sometype"}}


async def asked(edge, body, accept=GRAPHQL, **more):
    """Status, media type and parsed answer."""
    async with edge.post(body, accept, **more) as response:
        return response.status, response.content_type, orjson.loads(await response.read())


async def got(edge, parameters, accept=GRAPHQL):
    async with edge.client.get(f"{edge.url}?{urlencode(parameters)}", headers={"accept": accept}) as response:
        return response.status, response.content_type, orjson.loads(await response.read())


@pytest.mark.parametrize(("accept", "answered"), [
    pytest.param(GRAPHQL, GRAPHQL, id="22EB"),
    pytest.param(JSON, JSON, id="4655"),
    pytest.param("*/*", JSON, id="47DE"),
    pytest.param("application/*", JSON, id="wildcard"),
    pytest.param(f"{JSON}, {GRAPHQL}", GRAPHQL, id="both"),
    pytest.param(f"{GRAPHQL};q=0.5, {JSON}", JSON, id="quality"),
    pytest.param(f"{GRAPHQL};charset=utf-8, {JSON};q=0.9", GRAPHQL, id="charset"),
    pytest.param("text/html, */*;q=0.1", JSON, id="browser"),
])  # fmt: skip
async def test_22eb_4655_47de_the_answer_has_the_accepted_media_type(edge, accept, answered):
    assert (await asked(edge, TYPENAME, accept))[:2] == (200, answered)


async def test_80d8_without_accept_the_answer_is_application_json(edge):
    async with edge.client.post(edge.url, json=TYPENAME, skip_auto_headers=["accept"]) as response:
        assert (response.status, response.content_type) == (200, JSON)


async def test_82a3_bf61_78d5_requests_and_answers_are_utf_8(edge):
    query = {"query": '{ echo(text: "Run🏃Swim🏊") }'}
    for content_type in (JSON, "application/json; charset=utf-8", 'Application/JSON; charset="UTF-8"'):
        status, _, body = await asked(edge, query, headers={"content-type": content_type})
        assert (status, body["data"]) == (200, {"echo": "Run🏃Swim🏊"})


async def test_2c94_03d4_34a2_13ee_post_is_answered(edge):
    for accept in (GRAPHQL, JSON):
        status, _, body = await asked(edge, TYPENAME, accept)
        assert (status, body["data"], "errors" in body) == (200, {"__typename": "Query"}, False)


async def test_5a70_get_is_answered(edge):
    assert (await got(edge, TYPENAME))[0] == 200
    assert (await got(edge, {**TYPENAME, "operationName": "", "variables": "", "extensions": ""}))[0] == 200


async def test_9c48_a_mutation_by_get_is_405_and_does_not_run(edge):
    parameters = urlencode({"query": 'mutation { write(text: "x") { id } }'})
    async with edge.client.get(f"{edge.url}?{parameters}") as response:
        assert (response.status, response.headers["allow"]) == (405, "POST")
        assert orjson.loads(await response.read())["errors"][0]["extensions"]["code"] == "BAD_REQUEST"
    assert edge.happenings.mutations == []


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data",
                                          "application/json; charset=latin-1", "application/jsonx", ""])  # fmt: skip
async def test_9abe_a_post_of_another_content_type_is_415(edge, content_type):
    data = orjson.dumps({"query": 'mutation { write(text: "forged") { id } }'})
    status, _, body = await asked(edge, None, data=data, headers={"content-type": content_type})
    assert (status, body["errors"][0]["extensions"]["code"]) == (415, "BAD_REQUEST")
    assert edge.happenings.mutations == []


async def test_a_compressed_body_is_415(edge):
    assert (await asked(edge, TYPENAME, headers={"content-encoding": "br"}))[0] == 415


async def test_a5bf_a_missing_body_is_400(edge):
    assert (await asked(edge, None, data=b""))[0] == 400


async def test_423l_8764_3e3a_a_missing_query_is_400(edge):
    for accept in (GRAPHQL, JSON):
        assert (await asked(edge, {"notquery": "{ __typename }"}, accept))[0] == 400
    assert (await got(edge, {"qeury": "{ __typename }"}))[0] == 400


@pytest.mark.parametrize("wrong", NOT_TEXTS)
async def test_lkj_a_query_that_is_no_text_is_400(edge, wrong):
    assert (await asked(edge, {"query": wrong}, JSON))[0] == 400


@pytest.mark.parametrize("wrong", NOT_TEXTS)
async def test_6c0_an_operation_name_that_is_no_text_is_400(edge, wrong):
    assert (await asked(edge, {**TYPENAME, "operationName": wrong}, JSON))[0] == 400


@pytest.mark.parametrize("wrong", NOT_MAPS)
@pytest.mark.parametrize("parameter", ["variables", "extensions"])
async def test_476_58b_variables_or_extensions_that_are_no_map_are_400(edge, parameter, wrong):
    assert (await asked(edge, {**TYPENAME, parameter: wrong}, JSON))[0] == 400


async def test_8161_b8b3_the_operation_is_chosen_by_name(edge):
    query = {"query": "query A { a: __typename } query B { b: __typename }", "operationName": "B"}
    for accept in (GRAPHQL, JSON):
        status, _, body = await asked(edge, query, accept)
        assert (status, body["data"]) == (200, {"b": "Query"})


async def test_an_operation_that_no_name_chooses_is_refused(edge):
    query = "query A { a: __typename } query B { b: __typename }"
    for name in (None, "C"):
        status, _, body = await asked(edge, {"query": query, "operationName": name})
        assert (status, "data" in body) == (400, False)


@pytest.mark.parametrize("parameter", ["variables", "operationName", "extensions"])
@pytest.mark.parametrize("accept", [GRAPHQL, JSON])
async def test_94b_022_null_parameters_are_allowed(edge, parameter, accept):
    status, _, body = await asked(edge, {**TYPENAME, parameter: None}, accept)
    assert (status, "errors" in body) == (200, False)


@pytest.mark.parametrize("accept", [GRAPHQL, JSON])
async def test_2ea1_28b9_d6d5_6a70_variables_are_taken_by_post_and_get(edge, accept):
    status, _, body = await asked(edge, TYPE, accept)
    assert (status, body["data"]) == (200, {"__type": None})
    encoded = {"query": TYPE["query"], "variables": orjson.dumps(TYPE["variables"]).decode()}
    status, _, body = await got(edge, encoded, accept)
    assert (status, body["data"]) == (200, {"__type": None})


@pytest.mark.parametrize("accept", [GRAPHQL, JSON])
async def test_428f_1b7a_a_map_of_extensions_is_allowed(edge, accept):
    assert (await asked(edge, {**TYPENAME, "extensions": {"some": "value"}}, accept))[0] == 200


async def test_b6dc_bcf8_b7n8_a_body_that_is_no_json_is_400(edge):
    for accept in (GRAPHQL, JSON):
        status, media_type, body = await asked(edge, None, accept, data=b'{ "not a JSON')
        assert (status, media_type) == (400, accept)
        assert body["errors"][0]["extensions"]["code"] == "BAD_REQUEST"


@pytest.mark.parametrize("request_", [
    pytest.param({"query": "{"}, id="parse-572B-865D-556A-D586"),
    pytest.param({"query": "{ 8f31403dfe404bccbb0e835f2629c6a7 }"}, id="validate-FDE2"),
    pytest.param({"query": "{ notAField }"}, id="validate-51FE-74FF-5E5B"),
    pytest.param({"query": "query C($id: ID!) { workspace(id: $id) { id } }", "variables": {"id": None}}, id="coerce-7B9B-86EE"),
])  # fmt: skip
async def test_a_document_that_cannot_run_is_400_and_for_plain_json_200_without_data(edge, request_):
    for accept, expected in ((GRAPHQL, 400), (JSON, 200)):
        status, _, body = await asked(edge, request_, accept)
        assert (status, "data" in body) == (expected, False)
        assert body["errors"][0]["extensions"]["code"] == "BAD_REQUEST"


async def test_ee52_an_answer_with_data_is_200_though_a_field_failed(edge):
    status, _, body = await asked(edge, {"query": '{ hidden echo(text: "a") }'})
    assert (status, body["data"]) == (200, {"hidden": None, "echo": "a"})
    assert body["errors"][0]["extensions"]["code"] == "NOT_FOUND"
    assert body["errors"][0]["path"] == ["hidden"]


async def test_bc58_a_wrong_credential_is_401_with_a_challenge(edge):
    async with edge.post(TYPENAME, headers={"authorization": "Bearer wrong"}) as response:
        assert (response.status, response.content_type) == (401, GRAPHQL)
        assert response.headers["www-authenticate"].startswith("Bearer")
        assert (await response.json(content_type=None))["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"


async def test_nothing_acceptable_is_406_in_json(edge):
    status, media_type, body = await asked(edge, TYPENAME, "image/png")
    assert (status, media_type, body["errors"][0]["extensions"]["code"]) == (406, JSON, "BAD_REQUEST")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "HEAD", "PROPFIND"])
async def test_another_method_is_405_with_allow(edge, method):
    async with edge.client.request(method, edge.url) as response:
        assert (response.status, response.headers["allow"]) == (405, "GET, POST, OPTIONS")


async def test_a_body_above_the_limit_is_413(serve):
    async with serve(stranger_max_body_bytes=1_000, max_body_bytes=2_000) as edge:
        large = orjson.dumps({"query": "{ __typename }", "extensions": {"x": "x" * 1_500}})
        assert (await asked(edge, None, data=large))[0] == 413
        assert (await asked(edge, None, data=large, headers={"authorization": "Bearer key"}))[0] == 200

        async def endless():
            for _ in range(100):
                yield b" " * 100

        assert (await asked(edge, None, data=endless(), headers={"authorization": "Bearer key"}))[0] == 413


async def test_every_answer_carries_the_request_id(edge):
    async with edge.post(TYPENAME, headers={"x-request-id": "mine-1"}) as response:
        assert response.headers["x-request-id"] == "mine-1"
    async with edge.post({"query": "{"}, headers={"x-request-id": "bad id\t"}) as response:
        assert response.headers["x-request-id"].startswith("req_")


async def test_an_unknown_path_below_is_404_in_json(edge):
    async with edge.client.get(f"{edge.url}/nothing") as response:
        assert (response.status, response.content_type) == (404, JSON)


async def test_pages_of_allowed_origins_may_ask_and_read(serve):
    async with serve(allowed_origins=("https://app.example",)) as edge:
        ask = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
        async with edge.client.options(edge.url, headers={"origin": "https://app.example", **ask}) as response:
            assert response.status == 204
            assert response.headers["access-control-allow-origin"] == "https://app.example"
            assert "authorization" in response.headers["access-control-allow-headers"]
        async with edge.post(TYPENAME, headers={"origin": "https://app.example"}) as response:
            assert response.status == 200
            assert response.headers["access-control-allow-origin"] == "https://app.example"
        async with edge.client.options(edge.url, headers={"origin": "https://evil.example", **ask}) as response:
            assert "access-control-allow-origin" not in response.headers
