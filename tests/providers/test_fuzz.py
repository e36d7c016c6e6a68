"""Nothing that a caller sends or a provider answers gives anything but an answer or a ProviderError."""

import random
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from providers.base import Operation, ProviderRequest, Timeouts
from providers.errors import ProviderError
from providers.sandbox import SandboxProvider
from tests.providers.test_streaming import WHOLE_STREAM
from tests.providers.upstreams import WHOLE, answer, call, closing, scripted

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.just(10**400)
    | st.just(1.5)
    | st.sampled_from(["", "a", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["role", "content", "text", "function", "name", "include_usage"]), inner, max_size=3
        )
    ),
    max_leaves=5,
)
FIELDS = st.sampled_from(
    ["messages", "max_tokens", "n", "stop", "tools", "tool_choice", "stream_options", "input", "dimensions", "prompt"]
)
METADATA = st.dictionaries(
    st.sampled_from(
        ["sandbox_status", "sandbox_usage", "sandbox_output_tokens", "sandbox_fault_after", "sandbox_retry_after"]
    ),
    VALUES | st.sampled_from(["0", "2", "429", "none", "text"]),
    max_size=3,
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(Operation), st.dictionaries(FIELDS, VALUES, max_size=4), METADATA)
def test_any_body_gives_an_answer_or_an_error_of_the_sandbox(operation, body, metadata):
    if operation is Operation.RESPONSES:
        body.setdefault("input", body.pop("messages", "hello"))
    if operation is Operation.CHAT:
        body.setdefault("messages", [{"role": "user", "content": "hello"}])
    request = ProviderRequest(operation, "m", {**body, "metadata": metadata}, "r", Timeouts())

    async def attempt():
        for responses in (False, True):
            provider = SandboxProvider(responses=responses)
            with suppress(ProviderError):
                await provider.complete(request)
            with suppress(ProviderError):
                async for _ in await provider.stream(request):
                    pass

    _run(attempt())


def _run(coroutine):
    """Drives a coroutine that never waits for anything, so that no event loop is needed."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("it waited")


async def test_mangled_answers_give_an_answer_or_an_error(provider_at):
    chance = random.Random(7)
    mangled = b""

    async def script(reader, writer):
        await closing(mangled)(reader, writer)

    outcomes = {"answered": 0, "failed": 0}
    async with scripted(script) as upstream:
        provider = provider_at(upstream.url, timeouts=Timeouts(total_s=1))
        for number in range(200):
            streamed = number % 2 == 1
            mangled = _mangle(WHOLE_STREAM if streamed else answer(WHOLE), chance)
            try:
                if streamed:
                    async for _ in await provider.stream(call()):
                        pass
                else:
                    await provider.complete(call())
                outcomes["answered"] += 1
            except ProviderError:
                outcomes["failed"] += 1
    assert min(outcomes.values()) > 10


def _mangle(text: bytes, chance: random.Random) -> bytes:
    mangled = bytearray(text)
    for _ in range(chance.choice([1, 1, 2, 10])):
        at = chance.randrange(len(mangled))
        match chance.randrange(4):
            case 0:
                mangled[at] = chance.randrange(256)
            case 1:
                del mangled[at : at + chance.randrange(1, 9)]
            case 2:
                mangled[at:at] = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 5)))
            case _:
                mangled[at:at] = mangled[max(0, at - 20) : at]
    return bytes(mangled)
