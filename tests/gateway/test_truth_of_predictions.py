"""The truth table's rows of predictions, played by a scripted provider over a real socket through the job path to the ledger."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import asyncpg
import pytest
from aiohttp import web

from gateway.rules.truth import ROWS
from tests.gateway.job_shop import WEBHOOK_SECRET, Shop, open_shop

PICTURE = b"\x89PNG\r\n\x1a\n" + b"a scripted picture"
MADE = ["a.png"]


@dataclass
class Studio:
    """A provider of predictions that says what a scene wrote. `ends`: the last word, from the first look or the cancelling on."""

    url: str = ""
    ends: dict[str, object] = field(default_factory=dict)
    waits_for_cancel: bool = False
    asked: list[tuple[str, str]] = field(default_factory=list)

    def script(self, status: str, *files: str, on_cancel: bool = False, **said: object) -> None:
        self.ends = {"status": status, "output": [f"{self.url}/files/{name}" for name in files], **said}
        self.waits_for_cancel = on_cancel

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append((request.method, request.path))
        if request.path.startswith("/v1/files/"):
            return web.Response(body=PICTURE)
        if request.path.endswith("/cancel"):
            self.waits_for_cancel = False
        running = request.method == "POST" or self.waits_for_cancel
        return web.json_response({"id": "p-1", **({"status": "processing"} if running else self.ends)})


@dataclass
class Scene:
    shop: Shop
    studio: Studio

    async def played(self, model: str = "print", **body: object) -> None:
        """A job from its hold to its end, cancelled by its caller where the script waits for that."""
        call_id = await self.shop.start(model, **body)
        if self.studio.waits_for_cancel:
            await self.shop.round()
            await self.shop.services.jobs.jobs.cancel(call_id)
        await self.shop.ended(call_id)

    async def booked(self) -> asyncpg.Record:
        """How the only call ended, its usage event and what the ledger took for it, with nothing held or set aside."""
        row = await self.shop.pg.fetchrow(_BOOKED)
        assert row is not None
        assert -row["entries_micro"] == (row["charged_micro"] or 0) == await self.shop.spent() * 1_000_000
        assert (await self.shop.room())[1] == 0
        return row


_BOOKED = """
SELECT c.status, c.error_code, c.error_message, u.call_id, u.images, u.seconds, u.estimated, u.charged_micro,
    (SELECT count(*) FROM assets a WHERE a.call_id = c.id) AS assets,
    (SELECT coalesce(sum(amount_micro), 0)::bigint FROM ledger_entries e
     WHERE e.call_id = c.id AND e.kind = 'USAGE') AS entries_micro
FROM calls c LEFT JOIN usage_events u ON u.call_id = c.id
"""


@pytest.fixture
async def scene(
    database_url: str, redis_url: str, tmp_path, pg: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    studio = Studio()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", studio.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    studio.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    monkeypatch.setenv("PRINTS_URL", studio.url)
    monkeypatch.setenv("PRINTS_SECRET", WEBHOOK_SECRET)
    place = SimpleNamespace(url=studio.url)
    async with open_shop(database_url, redis_url, tmp_path, pg, place, tmp_path / "no log") as shop:
        yield Scene(shop, studio)
    await runner.cleanup()


async def prediction_failed(scene: Scene) -> int:
    scene.studio.script("failed", error="no")
    await scene.played(n=4)
    return 0


async def prediction_failed_partly(scene: Scene) -> int:
    scene.studio.script("failed", *MADE, error="no", usage={"images": 1})
    await scene.played(n=4)
    return 1


async def prediction_canceled(scene: Scene) -> int:
    scene.studio.script("canceled", on_cancel=True)
    await scene.played(n=4)
    return 0


async def prediction_canceled_partly(scene: Scene) -> int:
    scene.studio.script("canceled", *MADE, on_cancel=True, usage={"images": 1})
    await scene.played(n=4)
    return 1


SCENES: dict[str, Callable[[Scene], Awaitable[int]]] = {
    played.__name__: played
    for played in (prediction_failed, prediction_failed_partly, prediction_canceled, prediction_canceled_partly)
}


def test_every_row_of_predictions_has_its_scene() -> None:
    assert {row.name for row in ROWS if row.name.startswith("prediction_")} == SCENES.keys()


@pytest.mark.parametrize("name", SCENES)
async def test_a_row_of_predictions(scene: Scene, name: str) -> None:
    """A picture costs 3 credits; 12 were held."""
    pictures = await SCENES[name](scene)
    row = next(row for row in ROWS if row.name == name).verdict
    booked = await scene.booked()
    assert booked["status"] == row.status
    assert booked["assets"] == pictures
    assert ("POST", "/v1/predictions/p-1/cancel") in scene.studio.asked or row.status == "FAILED"
    if row.usage is None:
        assert (booked["call_id"], booked["entries_micro"]) == (None, 0)
    else:
        assert (booked["images"], booked["estimated"]) == (row.usage.images, row.usage.estimated)
        assert booked["charged_micro"] == pictures * 3_000_000
        assert ("GET", "/v1/files/a.png") in scene.studio.asked


async def test_what_a_failed_prediction_made_and_did_not_count_is_counted_here(scene: Scene) -> None:
    scene.studio.script("failed", "a.png", "b.png", error="no")
    await scene.played(n=4)
    booked = await scene.booked()
    assert (booked["status"], booked["images"], booked["charged_micro"]) == ("FAILED", 2, 6_000_000)


async def test_a_failed_film_is_charged_the_seconds_that_its_provider_reports(scene: Scene) -> None:
    scene.studio.script("failed", "a.mp4", error="no", usage={"seconds": 1.2})
    await scene.played("clip", seconds=5)
    booked = await scene.booked()
    assert (booked["status"], booked["seconds"], booked["estimated"]) == ("FAILED", 2, False)
    assert booked["charged_micro"] == (1 + 2 * 2) * 1_000_000


async def test_more_than_was_asked_for_is_cut_for_a_failed_prediction_too(scene: Scene) -> None:
    scene.studio.script("failed", *MADE, error="no", usage={"images": 9})
    await scene.played(n=4)
    booked = await scene.booked()
    assert (booked["images"], booked["estimated"], booked["charged_micro"]) == (4, True, 12_000_000)


@pytest.mark.parametrize(
    ("files", "told"),
    [((), "the provider cancelled the job; nothing is charged"), (MADE, "the provider cancelled the job")],
)
async def test_a_prediction_that_its_provider_cancels_by_itself_has_failed(scene: Scene, files, told: str) -> None:
    scene.studio.script("canceled", *files, usage={"images": 1})
    await scene.played(n=4)
    booked = await scene.booked()
    assert (booked["status"], booked["error_code"], booked["error_message"]) == ("FAILED", "UPSTREAM_ERROR", told)
    assert booked["charged_micro"] == (3_000_000 if files else None)
