"""The adapter of predictions, in whatever words a catalog gives, against servers over real sockets."""

import base64
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import aiohttp
import orjson
import pytest
from aiohttp import web

from providers.at_once import AtOnce
from providers.base import Operation, Timeouts
from providers.errors import (
    ProviderError,
    UpstreamAuthFailed,
    UpstreamGarbage,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from providers.json_paths import read, write
from providers.prediction_http import HttpPredictionProvider, NotReached
from providers.prediction_terms import CancelMethod, PredictionTerms, WebhookScheme
from providers.predictions import PredictionRequest, PredictionState, PredictionUnknown, WebhookRefused
from providers.sandbox import SandboxProvider
from providers.sandbox_jobs import SandboxJobs

KEY = "sk-very-secret"


@dataclass
class Upstream:
    """Answers what a test says, and keeps what it was asked."""

    url: str = ""
    answers: list[tuple[int, object, dict[str, str]]] = field(default_factory=list)
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    def says(self, body: object, status: int = 200, **headers: str) -> None:
        self.answers.append((status, body, {name.replace("_", "-"): value for name, value in headers.items()}))

    async def handle(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.asked.append((request.method, request.path_qs, headers, await request.read()))
        status, body, extra = self.answers.pop(0)
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        return web.Response(status=status, body=raw, headers=extra)

    @property
    def body(self) -> dict:
        return orjson.loads(self.asked[-1][3])


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    scripted = Upstream()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", scripted.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    scripted.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    yield scripted
    await runner.cleanup()


@asynccontextmanager
async def provider_at(
    url: str, terms: PredictionTerms | None = None, secret: str | None = None
) -> AsyncIterator[HttpPredictionProvider]:
    async with aiohttp.ClientSession() as session:
        yield HttpPredictionProvider(
            "there",
            base_url=url,
            api_key=KEY,
            terms=terms or PredictionTerms(),
            session=session,
            timeouts=Timeouts(connect_s=2, total_s=2, idle_s=2),
            webhook_secret=secret,
        )


def asked(**more: object) -> PredictionRequest:
    body = {"prompt": "a wave", "seconds": 8, "n": 2, **more}
    return PredictionRequest(
        Operation.VIDEO, "vendor/model-1", body, "the-key", "req_1", "https://us/webhooks/providers/there"
    )


async def test_usual_words(upstream: Upstream) -> None:
    upstream.says({"id": "p1", "status": "starting"}, 201)
    upstream.says({"id": "p1", "status": "succeeded", "output": ["https://x/1", "https://x/2"], "error": None})
    async with provider_at(upstream.url) as provider:
        made = await provider.create(asked())
        assert (made.id, made.state) == ("p1", PredictionState.QUEUED)
        found = await provider.read("p1")
    assert [file.url for file in found.outputs] == ["https://x/1", "https://x/2"]
    method, path, headers, _ = upstream.asked[0]
    assert (method, path, headers["authorization"]) == ("POST", "/v1/predictions", f"Bearer {KEY}")
    assert "idempotency-key" not in headers
    assert not provider.repeatable
    assert orjson.loads(upstream.asked[0][3]) == {
        "model": "vendor/model-1",
        "input": {"prompt": "a wave", "seconds": 8, "n": 2},
    }
    assert upstream.asked[1][:2] == ("GET", "/v1/predictions/p1")


async def test_every_word_can_be_another(upstream: Upstream) -> None:
    terms = PredictionTerms(
        create_path="/models/{model}/runs",
        poll_path="/runs/{id}",
        cancel_path="/runs/{id}",
        cancel_method=CancelMethod.DELETE,
        auth_header="X-Key",
        auth_scheme="",
        idempotency_header="X-Once",
        input_field="job.arguments",
        webhook_field="callbacks.done",
        rename=(("n", "samples"), ("seconds", "duration")),
        as_text=("duration",),
        id_field="run.0.name",
        status_field="run.0.phase",
        output_field="run.0.files.*.link",
        error_field="run.0.fault",
        running=("WORKING",),
        succeeded=("DONE",),
        usage=(("SECONDS", "meta.time"), ("REQUESTS", "meta.none")),
    )
    upstream.says({"run": [{"name": 77, "phase": "WORKING"}]})
    upstream.says({"run": [{"phase": "DONE", "files": [{"link": "https://x/1"}, {"no": 1}]}], "meta": {"time": 7.2}})
    upstream.says(b"", 204)
    async with provider_at(upstream.url, terms, "hush") as provider:
        made = await provider.create(asked())
        assert (made.id, made.state, provider.repeatable) == ("77", PredictionState.RUNNING, True)
        found = await provider.read("77")
        assert (found.id, found.state, found.reported) == ("77", PredictionState.SUCCEEDED, {"seconds": 8})
        assert [file.url for file in found.outputs] == ["https://x/1"]
        assert await provider.cancel("7/7 ?")
    _, path, headers, _ = upstream.asked[0]
    assert path == "/v1/models/vendor/model-1/runs"
    assert (headers["x-key"], headers["x-once"]) == (KEY, "the-key")
    assert orjson.loads(upstream.asked[0][3]) == {
        "job": {"arguments": {"prompt": "a wave", "duration": "8", "samples": 2}},
        "callbacks": {"done": "https://us/webhooks/providers/there"},
    }
    assert upstream.asked[2][:2] == ("DELETE", "/v1/runs/7%2F7%20%3F")


async def test_a_renamed_field_is_not_said_otherwise_by_its_name_there(upstream: Upstream) -> None:
    terms = PredictionTerms(rename=(("seconds", "duration"), ("size", "resolution"), ("resolution", "detail")))
    upstream.says({"id": "p1", "status": "starting"})
    body = {"prompt": "a wave", "seconds": 2, "duration": 60, "size": "small", "resolution": "fine", "detail": "most"}
    in_other_letters = {"Duration": 60, "DETAIL": "most", "de_tail": "most"}
    async with provider_at(upstream.url, terms) as provider:
        await provider.create(replace(asked(), body=body | in_other_letters))
    given = {"prompt": "a wave", "duration": 2, "resolution": "small", "detail": "fine"}
    assert upstream.body["input"] == given


async def test_a_field_that_is_renamed_to_other_letters_has_one_value(upstream: Upstream) -> None:
    upstream.says({"id": "p1", "status": "starting"})
    async with provider_at(upstream.url, PredictionTerms(rename=(("seconds", "Seconds"),))) as provider:
        await provider.create(replace(asked(), body={"prompt": "a wave", "seconds": 2, "Seconds": 60}))
    assert upstream.body["input"] == {"prompt": "a wave", "Seconds": 2}


async def test_no_webhook_is_asked_for_that_could_not_be_verified(upstream: Upstream) -> None:
    upstream.says({"id": "p1", "status": "starting"})
    async with provider_at(upstream.url, PredictionTerms(webhook_field="webhook")) as provider:
        await provider.create(asked())
    assert "webhook" not in upstream.body


async def test_openais_films_as_the_example_catalogs_describe_them(upstream: Upstream) -> None:
    from billing.catalog_file import read_catalog
    from tests.seeding import CATALOG

    (spec,) = [each for each in read_catalog(CATALOG).settings.providers if each.name == "openai-videos"]
    upstream.says({"id": "video_1", "object": "video", "status": "queued", "seconds": "8", "progress": 0})
    upstream.says({"id": "video_1", "object": "video", "status": "completed", "seconds": "8", "error": None})
    upstream.says(b"the film")
    async with provider_at(upstream.url, spec.prediction) as provider:
        await provider.create(asked())
        found = await provider.read("video_1")
        (file,) = found.outputs
        assert file.url == f"{upstream.url}/videos/video_1/content"
        assert provider.owns(file.url)
        assert b"".join([part async for part in provider.fetch(file.url)]) == b"the film"
    assert found.reported == {"seconds": 8}
    assert orjson.loads(upstream.asked[0][3]) == {"model": "vendor/model-1", "prompt": "a wave", "seconds": "8", "n": 2}
    assert upstream.asked[2][2]["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, {"error": KEY}, UpstreamAuthFailed),
        (422, {"error": {"message": f"no {KEY}"}}, UpstreamRejected),
        (429, {}, UpstreamRateLimited),
        (500, {}, UpstreamUnavailable),
        (504, {}, UpstreamTimeout),
        (404, {}, PredictionUnknown),
        (410, {}, PredictionUnknown),
        (302, {}, UpstreamUnavailable),
        (200, b"<html>", UpstreamGarbage),
        (200, [], UpstreamGarbage),
        (200, {"id": "p1"}, UpstreamGarbage),
        (200, {"id": "p1", "status": "sideways"}, UpstreamGarbage),
    ],
)
async def test_failures_of_a_look(upstream: Upstream, status: int, body: object, error: type[ProviderError]) -> None:
    upstream.says(body, status, location="https://elsewhere/")
    async with provider_at(upstream.url) as provider:
        with pytest.raises(error) as failed:
            await provider.read("p1")
    assert KEY not in str(failed.value)
    assert len(upstream.asked) == 1


async def test_a_model_that_is_not_there_is_a_refusal_and_not_a_lost_job(upstream: Upstream) -> None:
    upstream.says({"error": "no such model"}, 404)
    async with provider_at(upstream.url) as provider:
        with pytest.raises(UpstreamRejected):
            await provider.create(asked())


async def test_a_provider_that_cannot_be_reached_has_surely_made_nothing() -> None:
    async with provider_at("http://127.0.0.1:9/v1") as provider:
        with pytest.raises(NotReached):
            await provider.create(asked())


async def test_only_its_own_origin_gets_the_key(upstream: Upstream) -> None:
    async with provider_at(upstream.url) as provider:
        assert provider.owns(f"{upstream.url}/files/1")
        for url in (
            "http://127.0.0.1:1/v1/files/1",
            "https://127.0.0.1/v1",
            "http://localhost/v1",
            "nonsense",
            "http://[/",
        ):
            assert not provider.owns(url)


@pytest.mark.parametrize(
    ("output", "files"),
    [
        ("https://x/1", [("https://x/1", None)]),
        ({"url": "https://x/1"}, [("https://x/1", None)]),
        ([{"uri": "https://x/1"}, {"b64_json": "YWI="}], [("https://x/1", None), (None, b"ab")]),
        ("data:image/png;base64,YWI=", [(None, b"ab")]),
        ("data:image/png;base64,???", []),
        ("file:///etc/passwd", []),
        ([None, 7, {}, "x"], []),
        (None, []),
    ],
)
async def test_outputs_in_every_form(upstream: Upstream, output: object, files: list) -> None:
    upstream.says({"id": "p1", "status": "succeeded", "output": output})
    async with provider_at(upstream.url) as provider:
        found = await provider.read("p1")
    assert [(file.url, file.inline) for file in found.outputs] == files


@pytest.mark.parametrize(
    ("value", "reported"),
    [(4, {"seconds": 4}), ("4.5", {"seconds": 5}), (None, {}), (-1, None), (True, None), ("x", None), (1e300, None)],
)
async def test_reported_usage_is_taken_only_where_it_can_be_a_number_of_units(
    upstream: Upstream, value: object, reported: dict | None
) -> None:
    upstream.says({"id": "p1", "status": "succeeded", "metrics": {"time": value}})
    async with provider_at(upstream.url, PredictionTerms(usage=(("SECONDS", "metrics.time"),))) as provider:
        assert (await provider.read("p1")).reported == reported


async def test_webhooks_signed_by_a_mac_of_the_body() -> None:
    terms = PredictionTerms(
        webhook_scheme=WebhookScheme.HMAC_SHA256, webhook_signature_header="x-sign", id_field="run.id"
    )
    body = orjson.dumps({"run": {"id": "p1"}})
    mac = hmac.digest(b"hush", body, "sha256").hex()
    async with provider_at("http://127.0.0.1:9", terms, "hush") as provider:
        for given in (mac, mac.upper(), f"sha256={mac}"):
            assert provider.webhook_subject({"x-sign": given}, body, 0) == "p1"
        for given in ("", mac[:-1], base64.b64encode(b"x").decode()):
            with pytest.raises(WebhookRefused):
                provider.webhook_subject({"x-sign": given}, body, 0)


def test_paths_into_json() -> None:
    value = {"a": [{"b": 1}, {"b": 2}, {}], "c": {"d": "e"}}
    assert read(value, ".") == value
    assert read(value, "a.1.b") == 2
    assert read(value, "a.*.b") == [1, 2]
    assert [read(value, path) for path in ("a.9", "c.d.e", "x", "a.b", "c.0")] == [None] * 5
    body: dict = {"c": 1}
    write(body, "a.b.c", 2)
    write(body, "c.d", 3)
    write(body, ".", {"e": 4})
    assert body == {"a": {"b": {"c": 2}}, "c": {"d": 3}, "e": 4}


@pytest.mark.parametrize(
    "provider", [AtOnce(SandboxProvider("there")), SandboxJobs("there")], ids=["at once", "sandbox"]
)
async def test_a_provider_without_files_and_webhooks_of_its_own_says_so(provider) -> None:
    assert not provider.owns("https://example.com/file")
    with pytest.raises(PredictionUnknown):
        await anext(provider.fetch("https://example.com/file"))
    with pytest.raises(WebhookRefused):
        provider.webhook_subject({}, b"{}", 0)
