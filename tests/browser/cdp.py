"""A headless Chromium, spoken to over the Chrome DevTools Protocol: just enough to use a page as a person does."""

import asyncio
import contextlib
import itertools
import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
    "--window-size=1600,2400",
)
START_TIMEOUT_S = 30
WAIT_TIMEOUT_S = 40
_WATCH = """
window.__violations = [];
document.addEventListener('securitypolicyviolation',
    event => window.__violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


class Navigated(AssertionError):
    """The page that was asked is another one now."""


@dataclass
class Page:
    """One tab. `complaints` is what its console was told of errors, thrown ones included."""

    socket: aiohttp.ClientWebSocketResponse
    complaints: list[str] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)
    _ids: itertools.count = field(default_factory=lambda: itertools.count(1))
    _waiting: dict[int, asyncio.Future] = field(default_factory=dict)

    async def listen(self) -> None:
        async for message in self.socket:
            told = message.json()
            if "id" in told:
                future = self._waiting.pop(told["id"])
                if not future.done():
                    future.set_result(told)
            else:
                self._note(told["method"], told["params"])

    def _note(self, method: str, params: dict) -> None:
        match method:
            case "Runtime.exceptionThrown":
                self.complaints.append(str(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if params["type"] in {"error", "assert"}:
                self.complaints.append(str([each.get("value", each.get("description")) for each in params["args"]]))
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
            case "Network.requestWillBeSent":
                self.requested.append(params["request"]["url"])
            case "Network.webSocketCreated":
                self.requested.append(params["url"])

    async def send(self, method: str, **params: object) -> dict:
        number = next(self._ids)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self.socket.send_json({"id": number, "method": method, "params": params})
        async with asyncio.timeout(WAIT_TIMEOUT_S):
            told = await future
        if any(sign in told.get("error", {}).get("message", "") for sign in ("navigated", "context")):
            raise Navigated(told)
        assert "error" not in told, (method, told)
        return told["result"]

    async def open(self, url: str) -> None:
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.send(f"{domain}.enable")
        await self.send("Page.addScriptToEvaluateOnNewDocument", source=_WATCH)
        await self.go_to(url)

    async def go_to(self, url: str) -> None:
        """Another page in the same tab."""
        await self.send("Page.navigate", url=url)

    async def evaluate(self, expression: str) -> object:
        told = await self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, (expression, told["exceptionDetails"])
        return told["result"].get("value")

    async def until(self, expression: str, is_enough: Callable[[object], bool] = bool) -> object:
        """The expression's value, once it is enough."""
        value: object = None
        try:
            async with asyncio.timeout(WAIT_TIMEOUT_S):
                while True:
                    with contextlib.suppress(Navigated):
                        value = await self.evaluate(expression)
                        if is_enough(value):
                            return value
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{expression} is still {value!r}; the console said {self.complaints}") from None

    async def click(self, selector: str) -> None:
        """Press and release the mouse in the middle of the element, once the page is all there."""
        x, y = await self.until(
            f"""(() => {{ const box = document.querySelector({selector!r})?.getBoundingClientRect();
            return box && box.width && document.readyState === 'complete' ? [box.x + box.width / 2, box.y + box.height / 2] : null; }})()"""
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    async def leave_by(self, selector: str) -> None:
        """Click on what leads to another page, until that is all there: what is clicked on a page that goes is lost."""
        await self.evaluate("window.__stillHere = true")
        await self.click(selector)
        await self.until("!window.__stillHere && document.readyState === 'complete'")

    async def type_into(self, selector: str, text: str) -> None:
        await self.click(selector)
        await self.send("Input.insertText", text=text)

    async def choose(self, selector: str, label: str) -> None:
        """Choose the option of a list that contains this text."""
        await self.until(f"document.querySelector({selector!r})?.disabled === false")
        await self.evaluate(
            f"""(() => {{ const list = document.querySelector({selector!r});
            list.value = [...list.options].find(option => option.text.includes({label!r})).value;
            list.dispatchEvent(new Event('change', {{ bubbles: true }})); }})()"""
        )

    async def violations(self) -> object:
        return await self.evaluate("window.__violations")


@contextlib.asynccontextmanager
async def browser_page(chromium: str, directory: Path) -> AsyncIterator[Page]:
    """A new browser with one tab; it is gone afterwards, with all of its processes."""
    process = await asyncio.create_subprocess_exec(
        chromium,
        *FLAGS,
        f"--user-data-dir={directory}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        async with aiohttp.ClientSession() as session:
            port = await _port(directory / "DevToolsActivePort", process)
            async with session.ws_connect(await _first_tab(session, port), max_msg_size=0) as socket:
                page = Page(socket)
                listening = asyncio.create_task(page.listen())
                yield page
                listening.cancel()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _port(file: Path, process: asyncio.subprocess.Process) -> int:
    async with asyncio.timeout(START_TIMEOUT_S):
        while True:
            assert process.returncode is None, "the browser ended at once"
            if file.exists() and (lines := file.read_text().splitlines()):
                return int(lines[0])
            await asyncio.sleep(0.02)


async def _first_tab(session: aiohttp.ClientSession, port: int) -> str:
    async with asyncio.timeout(START_TIMEOUT_S):
        while True:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                tabs = [tab for tab in await answer.json() if tab["type"] == "page"]
            if tabs:
                return tabs[0]["webSocketDebuggerUrl"]
            await asyncio.sleep(0.02)
