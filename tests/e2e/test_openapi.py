"""The OpenAPI document is that of the code, covers every path, and a running gateway answers as it says."""

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import jsonschema
import pytest

from app import exports, openapi
from models.database import Database
from tests.processes import ROOT, Running, gateway_env, start, start_gateway
from tests.seeding import Seeded, apply_catalog, seed_workspace

COMMITTED = ROOT / "docs" / "openapi.json"
CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance"),
    *("response_schema_conformance", "negative_data_rejection", "unsupported_method", "ignored_auth"),
)


@pytest.fixture
async def served(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[tuple[Running, Seeded]]:
    database = await Database.open(database_url, max_size=2)
    await apply_catalog(database)
    seeded = await seed_workspace(database, 20_000_000_000_000)
    await database.close()
    gateway = await start_gateway(gateway_env(database_url, redis_url, tmp_path))
    yield gateway, seeded
    assert await gateway.stop() == 0
    assert not [line for line in gateway.lines if "Traceback" in line or "ERROR" in line], gateway.lines


def test_the_committed_document_is_that_of_the_code() -> None:
    assert COMMITTED.read_bytes() == openapi.document_text(), "run python -m app.openapi > docs/openapi.json"


def test_the_schemas_are_schemas_and_every_reference_leads_somewhere() -> None:
    document = openapi.document()
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)

    def look(value: object) -> None:
        if isinstance(value, dict):
            if "$ref" in value:
                found = document
                for part in value["$ref"].removeprefix("#/").split("/"):
                    found = found[part]
            for item in value.values():
                look(item)
        elif isinstance(value, list):
            for item in value:
                look(item)

    look(document)


def test_every_path_below_v1_that_the_code_serves_is_in_the_document() -> None:
    from app import batch_rest, openai_rest, openapi_batches, partner_rest

    served = {
        *(openai_rest.CALL_PATHS - openapi.VENDORS_OWN),
        *exports.PATHS,
        partner_rest.BALANCE_PATH,
        partner_rest.CALLS_PREFIX + "{id}",
    }
    documented = set(openapi.PATHS)
    of_batches = {path for path in documented if batch_rest.BatchRest.serves(path)}
    assert of_batches == set(openapi_batches.BATCH_PATHS)
    assert served | {"/v1/models", "/v1/models/{model}"} == documented - of_batches


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_running_gateway_answers_as_its_document_says(served: tuple[Running, Seeded], tmp_path: Path) -> None:
    gateway, seeded = served
    async with aiohttp.ClientSession() as session, session.get(f"{gateway.url}/openapi.json") as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        assert await answer.read() == COMMITTED.read_bytes()
    report = tmp_path / "report.json"
    checked = await start(
        str(Path(sys.executable).parent / "schemathesis"), "run", f"{gateway.url}/openapi.json",
        "--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing", "--max-examples", "15",
        "--generation-deterministic", "--no-color", "--continue-on-failure",
        "--request-timeout", "60", "--suppress-health-check", "all",
        "--header", f"Authorization: Bearer {seeded.api_key}",
        "--report", "json", "--report-json-path", str(report), "--warnings", "off",
    )  # fmt: skip
    code = await checked._ended(240)
    assert code == 0, "\n".join(checked.lines[-150:])
    assert len(json.dumps(json.loads(report.read_text()))) > 100
