"""Providers are built from the catalog's definitions, and one that lacks its key spoils no other."""

import pytest

from providers.errors import ProviderNotConfigured
from providers.openai_errors import retry_after_s
from providers.registry import ProviderKind, ProviderSpec, Registry
from tests.providers.upstreams import KEY, WHOLE, answer, call, scripted

OPENAI = ProviderSpec(
    "openai", ProviderKind.OPENAI_COMPATIBLE, "https://api.example/v1", "OPENAI_BASE_URL", "OPENAI_API_KEY"
)


async def test_the_sandbox_needs_nothing():
    registry = Registry.from_specs([ProviderSpec("sandbox", ProviderKind.SANDBOX)], {})
    assert (await registry.get("sandbox").complete(call())).usage is not None
    assert registry.unconfigured() == {}
    await registry.aclose()


async def test_a_variable_replaces_the_address_and_another_gives_the_key():
    async with scripted(answer(WHOLE)) as upstream:
        env = {"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": f" {KEY}\n"}
        registry = Registry.from_specs([OPENAI], env)
        await registry.get("openai").complete(call())
        await registry.aclose()
    assert f"Authorization: Bearer {KEY}\r\n" in upstream.requests[0].head


@pytest.mark.parametrize(
    ("spec", "env", "missing"),
    [
        (OPENAI, {}, "OPENAI_API_KEY"),
        (OPENAI, {"OPENAI_API_KEY": " "}, "OPENAI_API_KEY"),
        (OPENAI, {"OPENAI_API_KEY": "ké"}, "Authorization"),
        (OPENAI, {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "nonsense"}, "http://"),
        (ProviderSpec("x", ProviderKind.OPENAI_COMPATIBLE, base_url_env="X_URL"), {}, "X_URL"),
        (ProviderSpec("x", ProviderKind.OPENAI_COMPATIBLE), {}, "base_url"),
    ],
)
async def test_what_is_missing_is_said_at_start_and_to_callers_only_that_something_is(spec, env, missing):
    registry = Registry.from_specs([spec, ProviderSpec("sandbox", ProviderKind.SANDBOX)], env)
    assert missing in registry.unconfigured()[spec.name]
    for attempt in (registry.get(spec.name).complete, registry.get(spec.name).stream):
        with pytest.raises(ProviderNotConfigured, match="not set up here") as caught:
            await attempt(call())
        assert missing not in caught.value.message
        assert (caught.value.retryable, caught.value.elsewhere) == (False, True)
    await registry.get("sandbox").complete(call())
    await registry.aclose()


async def test_a_key_comes_from_a_file_where_the_variable_is_empty(tmp_path):
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    async with scripted(answer(WHOLE)) as upstream:
        env = {"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY_FILE": str(file), "OPENAI_API_KEY": ""}
        registry = Registry.from_specs([OPENAI], env)
        await registry.get("openai").complete(call())
        await registry.aclose()
    assert f"Authorization: Bearer {KEY}\r\n" in upstream.requests[0].head


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe", b"k" * 20_000])
async def test_a_file_without_a_key_is_told_without_its_content(tmp_path, content):
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    registry = Registry.from_specs([OPENAI], {"OPENAI_API_KEY_FILE": str(file)})
    reason = registry.unconfigured()["openai"]
    assert "OPENAI_API_KEY_FILE" in reason
    assert "kkk" not in reason
    await registry.aclose()


async def test_a_name_that_the_catalog_does_not_have_is_not_configured():
    registry = Registry.from_specs([], {})
    with pytest.raises(ProviderNotConfigured, match="'nobody'"):
        registry.get("nobody")
    await registry.aclose()


@pytest.mark.parametrize(
    ("milliseconds", "value", "expected"),
    [
        ("", "7", 7.0),
        ("1500", "7", 1.5),
        ("", "-3", 0.0),
        ("", "1e99", 86400.0),
        ("", "nan", None),
        ("", "soon", None),
        ("", "", None),
        ("", "Wed, 21 Oct 2026 07:28:30 GMT", 30.0),
        ("", "Wed, 21 Oct 2020 07:28:30 GMT", 0.0),
        ("", "Wed, 21 Oct 2026 07:28:30", None),
    ],
)
def test_retry_after_is_read_in_all_its_forms(milliseconds, value, expected):
    from datetime import UTC, datetime

    assert retry_after_s(milliseconds, value, datetime(2026, 10, 21, 7, 28, tzinfo=UTC)) == expected
