"""Tools that a vendor runs and bills by use have no price here: they are refused by name in every form, and before any hold."""

import pytest

from gateway.rules.tools import check_tools
from gateway.views import CallRequest
from kit.errors import InvalidInput
from providers.base import JsonObject, Operation
from tests.gateway.conftest import Gate
from tests.gateway.market import Market

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CUSTOM = {"name": "t", "input_schema": {"type": "object"}}


def said(**more: object) -> JsonObject:
    return {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 10, **more}


def claude(*kinds: str) -> list[JsonObject]:
    return [{"type": kind, "name": kind.rpartition("_")[0]} for kind in kinds]


async def refusal_of(gate: Gate, path: str, body: JsonObject, param: str) -> str:
    """The message of a refusal that names the field `param`, where the form has a place for that; no call was made."""
    refused = await gate.ask({"model": "claude-sonnet-4", **body}, path=path)
    error = refused.body["error"]
    assert refused.status == 400, refused.raw
    if path != MESSAGES:
        assert (error["code"], error["param"]) == ("invalid_value", param)
    assert await gate.services.database.pool.fetchval("SELECT count(*) FROM calls") == 0
    return error["message"]


RUN_BY_VENDORS: list[tuple[str, JsonObject, str]] = [
    *((MESSAGES, said(tools=[CUSTOM, *claude(kind)]), "tools.1") for kind in (
        "web_search_20250305", "web_fetch_20250910", "code_execution_20250825", "mcp_toolset", "unheard_of_20300101",
    )),
    (MESSAGES, said(mcp_servers=[{"type": "url", "url": "https://x.example", "name": "x"}]), "mcp_servers"),
    (CHAT, said(web_search_options={}), "web_search_options"),
    (CHAT, said(search_parameters={"mode": "auto"}), "search_parameters"),
    (CHAT, said(plugins=[{"id": "web"}]), "plugins"),
    (CHAT, said(enable_search=True), "enable_search"),
    (CHAT, said(extra_body={"enable_search": True}), "enable_search"),
    (CHAT, said(tools=[FUNCTION, {"type": "web_search"}]), "tools.1"),
    (CHAT, said(tools=[{"google_search": {}}]), "tools.0"),
    (CHAT, said(tools=[{"type": "builtin_function", "function": {"name": "$web_search"}}]), "tools.0"),
    (CHAT, said(tools=claude("bash_20250124")), "tools.0"),
    (CHAT, said(tools=["x"]), "tools.0"),
    (RESPONSES, {"input": "x", "tools": [{"type": "function", "name": "f"}, {"type": "image_generation"}]}, "tools.1"),
    (RESPONSES, {"input": "x", "tools": [{"type": ["function"]}]}, "tools.0"),
    (RESPONSES, {"input": "x", "tools": [{"type": {}}]}, "tools.0"),
    (RESPONSES, {"input": "x", "tools": ["y"]}, "tools.0"),
    (RESPONSES, {"input": "x", "tools": [{"name": "f"}]}, "tools.0"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "param"), RUN_BY_VENDORS)
async def test_a_tool_that_the_vendor_runs_is_refused_by_name(
    gate: Gate, path: str, body: JsonObject, param: str
) -> None:
    message = await refusal_of(gate, path, body, param)
    assert "what tokens do not show" in message
    assert param.split(".", maxsplit=1)[0] in message


RUN_BY_CALLERS: list[tuple[Operation, JsonObject]] = [
    (Operation.MESSAGES, said(tools=[CUSTOM, {"type": "custom", **CUSTOM, "name": "u"}])),
    (Operation.MESSAGES, said(tools=claude("bash_20250124", "text_editor_20250728", "computer_20250124", "memory_20250818"))),
    (Operation.MESSAGES, said(tools=[], mcp_servers=[])),
    (Operation.CHAT, said(tools=[FUNCTION, {"function": FUNCTION["function"]}], plugins=[], enable_search=False)),
    (Operation.CHAT, said(tools=[{"type": "custom", "custom": {"name": "c"}}], web_search_options=None)),
    (Operation.RESPONSES, {"input": "x", "tools": [{"type": "function", "name": "f"}, {"type": "custom", "name": "c"}]}),
    (Operation.IMAGE, {"prompt": "x", "tools": [{"type": "web_search"}], "plugins": ["mine"]}),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "body"), RUN_BY_CALLERS)
def test_tools_that_the_caller_runs_are_served(operation: Operation, body: JsonObject) -> None:
    check_tools(operation, body)


async def test_a_publishers_tools_are_for_its_own_workspace_and_nobody_else(market: Market) -> None:
    slug = await market.part("a")
    chain = await market.chain("pipe", {"name": "one", "model": "sandbox-chat", "history": True, "max_tokens": 10})
    body = said(web_search_options={}, tools=[{"type": "web_search"}])
    for named, seeded in ((slug, market.buyer), (chain, market.buyer), (chain, market.maker)):
        with pytest.raises(InvalidInput, match="what tokens do not show"):
            await market.services.calls.call(await market.caller(seeded), CallRequest(named, Operation.CHAT, body))
    assert market.provider.asked == []
    await market.services.calls.call(await market.caller(market.maker), CallRequest(slug, Operation.CHAT, body))
    assert market.provider.asked[-1]["tools"] == body["tools"]
