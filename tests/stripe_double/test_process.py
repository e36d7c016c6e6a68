"""The process: its command line, its end, and answers that are lost on the way."""

import asyncio
import signal
import sys
from pathlib import Path

import aiohttp
import pytest
import stripe

from tests.processes import ROOT, start
from tests.stripe_shop import Shop, start_shop


async def test_help_names_the_options() -> None:
    running = await start(sys.executable, "-m", "stripe_double", "--help")
    assert await running._ended() == 0
    text = "\n".join(running.lines)
    assert all(option in text for option in ("--port", "--webhook-url", "--webhook-secret"))


async def test_it_stops_on_sigterm() -> None:
    other = await start_shop()
    await other.customer(None)
    other.running.process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(other.running.process.wait(), 30) in {0, -signal.SIGTERM}
    await other.close()


async def test_it_dies_with_its_parent() -> None:
    script = (
        "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-m', 'stripe_double', '--port', '0']);"
        "print('child', p.pid, flush=True); time.sleep(60)"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    child, url = 0, ""
    async with asyncio.timeout(30):
        while not (child and url):
            line = (await parent.stdout.readline()).decode()
            child = int(line.split()[1]) if line.startswith("child") else child
            url = line.split()[-1] if line.startswith("stripe double on") else url
    parent.kill()
    await parent.wait()
    async with asyncio.timeout(30):
        while _lives(child):
            await asyncio.sleep(0.02)


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_lost_answer_is_found_again_under_its_key(shop: Shop) -> None:
    customer = await shop.customer()
    method = customer.invoice_settings.default_payment_method
    wanted = {"amount": 700, "currency": "usd", "customer": customer.id, "payment_method": method, "confirm": True}
    await shop.fault("drop_after", "/v1/payment_intents", method="POST")
    options = {"idempotency_key": "topup:1"}
    with pytest.raises(stripe.APIConnectionError):
        await shop.v1.payment_intents.create_async({**wanted, "off_session": True}, options)
    assert (await shop.books())["charged"] == 700
    again = await shop.v1.payment_intents.create_async({**wanted, "off_session": True}, options)
    assert again.status == "succeeded"
    assert (await shop.books())["charged"] == 700


async def test_a_call_may_fail_before_it_does_anything(shop: Shop) -> None:
    await shop.fault("error_before", "/v1/customers")
    await shop.fault("rate_limit_before", "/v1/customers", after=1)
    options = {"idempotency_key": "ws:1:customer"}
    with pytest.raises(stripe.APIError):
        await shop.v1.customers.create_async({}, options)
    await shop.v1.customers.create_async({}, options)
    with pytest.raises(stripe.RateLimitError):
        await shop.v1.customers.list_async()
    assert len((await shop.v1.customers.list_async()).data) == 1


async def test_an_answer_may_take_longer_than_the_client_waits(shop: Shop) -> None:
    await shop.fault("timeout_after", "/v1/customers", seconds=30)
    impatient = shop.new_client()
    impatient._requestor._client._timeout = aiohttp.ClientTimeout(total=2)
    with pytest.raises(stripe.APIConnectionError):
        await impatient.v1.customers.create_async({})
    assert len((await shop.v1.customers.list_async()).data) == 1


async def test_retries_of_the_sdk_keep_their_key(shop: Shop) -> None:
    await shop.fault("drop_after", "/v1/customers", method="POST")
    await shop.new_client(max_network_retries=2).v1.customers.create_async({})
    assert len((await shop.v1.customers.list_async()).data) == 1
    first, second = await shop.calls("/v1/customers")
    assert first["key"] == second["key"]
    assert [(c["fault"], c["replayed"], c["status"]) for c in (first, second)] == [
        ("drop_after", False, 200),
        (None, True, 200),
    ]


async def test_a_state_file_outlives_the_process(tmp_path: Path) -> None:
    state = tmp_path / "state"
    first = await start_shop("--state", str(state))
    customer, price = await first.customer(), await first.price(2000)
    subscription = await first.subscription(customer, price)
    await first.pass_time(days=3)
    await first.close()
    second = await start_shop("--state", str(state))
    await second.v1.prices.update_async(price.id, {"nickname": "still one and the same"})
    kept = await second.v1.subscriptions.retrieve_async(subscription.id)
    assert kept["items"].data[0].price.nickname == "still one and the same"
    await second.pass_time(days=30)
    assert (await second.books())["charged"] == 4000
    await second.close()


async def test_what_is_due_comes_by_itself(shop: Shop) -> None:
    customer = await shop.customer("pm_card_refundFail")
    method = customer.invoice_settings.default_payment_method
    wanted = {"amount": 700, "currency": "usd", "customer": customer.id, "payment_method": method, "confirm": True}
    intent = await shop.v1.payment_intents.create_async({**wanted, "off_session": True})
    refund = await shop.v1.refunds.create_async({"payment_intent": intent.id})
    await shop.pass_time(seconds=59)
    async with asyncio.timeout(30):
        while (await shop.v1.refunds.retrieve_async(refund.id)).status != "failed":
            await asyncio.sleep(0.05)


async def test_a_reset_forgets_everything(shop: Shop) -> None:
    customer = await shop.customer()
    await shop.reset(now=1_800_000_000)
    assert await shop.now() == 1_800_000_000
    with pytest.raises(stripe.InvalidRequestError):
        await shop.v1.customers.retrieve_async(customer.id)
    assert (await shop.books())["customers"] == {}
    status, answer = await shop.try_ask("POST", "clock", to=1)
    assert (status, answer["error"]["param"]) == (400, "to")
