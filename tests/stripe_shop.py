"""The Stripe double as a process of its own, and what tests ask of it beside the SDK: clock, webhooks, faults, books."""

import asyncio
import re
import sys
from typing import Any

import aiohttp
import stripe

from tests.processes import Running, start

WEBHOOK_SECRET = "whsec_of_the_tests"


class Shop:
    """A running double. `client` is the real SDK, reached over real HTTP; no retries of its own."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.url = running.url
        self._http = aiohttp.ClientSession()
        self._sdk_session = aiohttp.ClientSession()
        self.client = self.new_client()

    def new_client(self, **more: Any) -> stripe.StripeClient:
        return stripe.StripeClient(
            "sk_test_double",
            base_addresses={"api": self.url},
            http_client=stripe.AIOHTTPClient(session=self._sdk_session),
            **{"max_network_retries": 0, **more},
        )

    @property
    def v1(self) -> Any:
        return self.client.v1

    async def close(self) -> None:
        await self._http.close()
        await self._sdk_session.close()
        await self.running.stop()

    async def ask(self, method: str, path: str, /, **wanted: Any) -> Any:
        """A control endpoint; AssertionError with its answer where it refuses."""
        status, answer = await self.try_ask(method, path, **wanted)
        assert status == 200, answer
        return answer

    async def try_ask(self, method: str, path: str, /, **wanted: Any) -> tuple[int, Any]:
        json = None if method == "GET" else wanted
        async with self._http.request(method, f"{self.url}/_double/{path}", json=json) as answer:
            return answer.status, await answer.json()

    async def reset(self, *, now: int | None = None) -> None:
        """As new; with `now` the clock stands there."""
        await self.ask("POST", "webhooks", url="")
        await self.ask("POST", "settings", invoice_delay_s=3600)
        await self.ask("POST", "reset", **({} if now is None else {"now": now, "frozen": True}))

    async def now(self) -> int:
        return (await self.ask("GET", "clock"))["now"]

    async def advance(self, to: int) -> None:
        """Move the clock; what falls due on the way happens."""
        await self.ask("POST", "clock", to=to)

    async def pass_time(self, **span: float) -> int:
        """Move the clock by so many days, hours, seconds; answers the new instant."""
        units = {"days": 86_400, "hours": 3_600, "seconds": 1}
        return (await self.ask("POST", "clock", by=int(sum(units[u] * n for u, n in span.items()))))["now"]

    async def deliver_to(self, url: str, *, secret: str = WEBHOOK_SECRET, **policy: Any) -> None:
        """Send events there under a policy: drop, repeat, shuffle, delay_ms, seed, paused, retries."""
        await self.ask("POST", "webhooks", url=url, secret=secret, policy=policy)

    async def flush(self, order: list[str] | None = None) -> Any:
        """Send what waits and wait for it; with `order` exactly these events, in this order."""
        return await self.ask("POST", "webhooks/flush", **({} if order is None else {"order": order}))

    async def waiting(self) -> list[Any]:
        """The events that wait, each with id and type."""
        return (await self.ask("GET", "webhooks"))["waiting"]

    async def calls(self, path: str = "", method: str = "POST") -> list[Any]:
        """What was asked of the API: method, path, key, status, replayed, fault."""
        made = (await self.ask("GET", "calls"))["calls"]
        return [call for call in made if call["method"] == method and path in call["path"]]

    async def fault(self, kind: str, path: str, **more: Any) -> None:
        """The next call of `path` (a regular expression): error_before, rate_limit_before, drop_after, timeout_after."""
        await self.ask("POST", "faults", kind=kind, path=path, **more)

    async def books(self) -> Any:
        return await self.ask("GET", "books")

    async def pay(self, session: str, card: str = "pm_card_visa", **more: Any) -> Any:
        """Pay a Checkout session as a customer would on its page."""
        return await self.ask("POST", f"checkout/{session}/pay", card=card, **more)

    async def customer(self, card: str | None = "pm_card_visa", **more: Any) -> Any:
        """A customer, by default with a saved card as its default method."""
        made = await self.v1.customers.create_async({"email": "owner@example.com", **more})
        if card is None:
            return made
        method = await self.v1.payment_methods.attach_async(card, {"customer": made.id})
        return await self.v1.customers.update_async(
            made.id, {"invoice_settings": {"default_payment_method": method.id}}
        )

    async def price(self, cents: int, interval: str | None = "month", count: int = 1, **more: Any) -> Any:
        """A price of a product of its own; without an interval it is paid once."""
        recurring = {"recurring": {"interval": interval, "interval_count": count}} if interval else {}
        product = {"product_data": {"name": f"Plan of {cents} cents"}}
        return await self.v1.prices.create_async(
            {"currency": "usd", "unit_amount": cents, **product, **recurring, **more}
        )

    async def subscription(self, customer: Any, price: Any, **more: Any) -> Any:
        """A subscription paid with the customer's default method."""
        wanted = {"customer": customer.id, "items": [{"price": price.id}], **more}
        return await self.v1.subscriptions.create_async(wanted)

    async def events(self, *kinds: str) -> list[str]:
        """The kinds of events of the last thirty days, oldest first; all or some."""
        found = [e.type async for e in (await self.v1.events.list_async({"limit": 100})).auto_paging_iter()]
        return [kind for kind in reversed(found) if not kinds or kind in kinds]

    async def behave(self, method: str, like: str) -> None:
        """From now on a saved method behaves as this test token."""
        await self.ask("POST", f"payment_methods/{method}", like=like)


async def start_shop(*options: str) -> Shop:
    """A double on a free port."""
    running = await start(sys.executable, "-m", "stripe_double", "--port", "0", *options)
    async with asyncio.timeout(30):
        while not running.url:
            await asyncio.sleep(0.01)
            assert running.process.returncode is None, running.lines
            for line in running.lines:
                if found := re.search(r"stripe double on (http://\S+)", line):
                    running.url = found[1]
    return Shop(running)
