"""A process that polls does not sleep after a model call's request, and sleeps again afterwards."""

import asyncio
import selectors

import pytest

from app.busy_polling import BusyPolling
from app.exports import PATHS as EXPORT_PATHS
from app.main import Tollgate
from app.settings import Settings


class Watched(selectors.DefaultSelector):
    """Keeps how long the loop was ready to sleep, each time that it looked at its sockets; None: until something comes."""

    def __init__(self):
        super().__init__()
        self.slept: list[float | None] = []

    def select(self, timeout=None):
        self.slept.append(timeout)
        return super().select(timeout)


class Scene:
    def __init__(self, microseconds):
        self.at = 50.0
        self.selector = Watched()
        self.polling = BusyPolling(microseconds, lambda: self.at)

    async def waited(self) -> list[float | None]:
        """What the loop did while nothing but a timer was due."""
        self.selector.slept.clear()
        await asyncio.sleep(0.02)
        return list(self.selector.slept)


def run(microseconds, play) -> None:
    scene = Scene(microseconds)
    loop = asyncio.SelectorEventLoop(scene.selector)
    try:
        loop.run_until_complete(play(scene))
    finally:
        loop.close()


def test_the_loop_does_not_sleep_until_the_time_is_over():
    async def play(scene):
        scene.polling.go_on()
        assert scene.polling.polls
        looked = await scene.waited()
        assert set(looked) == {0}
        assert len(looked) > 2
        scene.at += 0.0009
        scene.polling.go_on()  # the time begins anew
        scene.at += 0.0009
        assert set(await scene.waited()) == {0}
        scene.at += 0.0002
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not scene.polling.polls
        assert max(await scene.waited()) > 0
        scene.polling.go_on()
        assert set(await scene.waited()) == {0}

    run(1_000, play)


def test_a_second_request_meanwhile_makes_the_loop_no_busier():
    async def play(scene):
        for _ in range(100):
            scene.polling.go_on()
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(scene.selector.slept.clear)
        ran = 0
        original = scene.polling._poll

        def counted():
            nonlocal ran
            ran += 1
            original()

        scene.polling._poll = counted
        await scene.waited()
        assert ran <= len(scene.selector.slept) + 1

    run(1_000_000, play)


def test_at_0_it_always_sleeps():
    async def play(scene):
        scene.polling.go_on()
        assert not scene.polling.polls
        assert max(await scene.waited()) > 0

    run(0, play)


class OnlyRest:
    """Stands for the parts of a process."""

    otel = None

    def __init__(self, answer):
        self.rest = answer
        self.exports = answer


@pytest.mark.parametrize(("path", "polls"), [("/v1/chat/completions", True), (min(EXPORT_PATHS), False)])
async def test_a_process_polls_for_model_calls_only(path, polls):
    seen = []

    async def answer(*asked):
        seen.append(app.polling.polls)

    app = Tollgate(Settings.from_environment({"TOLLGATE_BUSY_POLL_US": "1000000"}))
    app._services = OnlyRest(answer)  # type: ignore[assignment]
    await app({"type": "http", "path": path, "headers": []}, None, None)
    assert seen == [polls]
    assert app.polling.polls is polls
