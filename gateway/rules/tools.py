"""Refuses by name the tools that a provider runs itself and bills by use: no meter of a model's prices shows what they cost."""

from typing import Final

from kit.errors import InvalidInput
from kit.json_values import is_list, is_object
from metering.rules.price_list import WRAPPER
from providers.base import JsonObject, Operation

_FREE_TOOLS: Final = frozenset({"function", "custom"})
"""Tools that the caller runs: they cost tokens only."""
ANTHROPICS_RUN_BY_CALLERS: Final = ("bash_", "text_editor_", "computer_", "memory_", "browser_")
"""How the types begin of Anthropic's own tools that the caller runs."""
_UNTYPED: Final = {Operation.CHAT: "function", Operation.MESSAGES: "input_schema"}
"""What a tool that the caller runs has where it names no type."""
SWITCHES: Final = ("mcp_servers", "web_search_options", "search_parameters", "plugins", "enable_search")
"""Fields that have a provider run tools without a tool named, whatever the vendor."""
_UNPRICED: Final = "a tool that the provider runs costs what tokens do not show"


def check_tools(operation: Operation, body: JsonObject) -> None:
    """InvalidInput names the tool, or the field that has the provider run one; other operations than chats have none."""
    if operation not in (Operation.CHAT, Operation.MESSAGES, Operation.RESPONSES):
        return
    for name in SWITCHES:
        if body.get(name) not in (None, False, []):  # an empty object switches on
            raise InvalidInput(f"{name} is not served here: {_UNPRICED}", field=[name])
    tools = body.get("tools")
    for index, tool in enumerate(tools if is_list(tools) else []):
        if not _is_run_by_caller(operation, tool):
            kind = tool.get("type") if is_object(tool) else None
            raise InvalidInput(
                f"tools of the type {str(kind)[:60]!r} are not served here: {_UNPRICED}. "
                "Tools of the types function and custom are",
                field=["tools", str(index)],
            )
    wrapped = body.get(WRAPPER)
    if is_object(wrapped):
        check_tools(operation, wrapped)


def _is_run_by_caller(operation: Operation, tool: object) -> bool:
    if not is_object(tool):
        return False
    kind = tool.get("type")
    if kind is None:
        return operation in _UNTYPED and _UNTYPED[operation] in tool
    if not isinstance(kind, str):
        return False
    return kind in _FREE_TOOLS or (operation is Operation.MESSAGES and kind.startswith(ANTHROPICS_RUN_BY_CALLERS))
