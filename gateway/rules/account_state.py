"""Refuses by name what of a request would read what the account at the provider keeps: that account is one for all workspaces.

What else a response may not name is in gateway.rules.responses. Texts, and JSON that tools are given, are the caller's own and not
looked into.
"""

from typing import Final

from kit.errors import InvalidInput
from kit.json_values import MAX_LEVELS, is_list, is_object
from providers.base import JsonObject, Operation

_EARLIER: Final = ("previous_response_id", "conversation", "tool_resources", "container")
_FILE_NAMES: Final = ("file_id", "file_ids")
_STORED: Final = "vector_store_ids"
_OF_TOOLS: Final = ("input", "arguments", "function", "custom", "function_call")
"""Fields of messages with what tools are asked, in words of their own."""


def check_account_state(operation: Operation, body: JsonObject) -> None:
    """InvalidInput names the field that names something of the provider's account."""
    if operation in (Operation.CHAT, Operation.MESSAGES):
        for name in _EARLIER:
            if body.get(name):
                raise InvalidInput(f"{name} is not served here: nothing is kept between requests", field=[name])
        _check_tools(body.get("tools"))
        _check_said(body.get("messages"))
        _check_files(body.get("messages"), ["messages"])
        _check_files(body.get("system"), ["system"])
    elif operation is Operation.RESPONSES:
        _check_files(body.get("input"), ["input"])
    elif operation in (Operation.IMAGE, Operation.VIDEO):
        for name, value in body.items():
            if name in _FILE_NAMES and value:
                raise _named_file([name])
            if name != "input":  # of a published model, in words of its own
                _check_files(value, [name])


def _check_tools(tools: object) -> None:
    for index, tool in enumerate(tools if is_list(tools) else []):
        if not is_object(tool):
            continue
        search = tool.get("file_search")
        searches = tool.get("type") == "file_search" or (is_object(search) and search.get(_STORED))
        if searches or tool.get(_STORED) or isinstance(tool.get("container"), str):
            raise InvalidInput(
                "a tool cannot read files, stores or containers of the provider's account: none is kept",
                field=["tools", str(index)],
            )


def _check_said(messages: object) -> None:
    """Sound that an earlier answer was is kept by the provider, and named by its id in place of its words."""
    for index, message in enumerate(messages if is_list(messages) else []):
        sound = message.get("audio") if is_object(message) else None
        if is_object(sound) and sound.get("id"):
            raise InvalidInput(
                "an earlier answer's sound cannot be named by its id: none is kept. Send its transcript as content",
                field=["messages", str(index)],
            )


def _check_files(value: object, field: list[str], depth: int = 0) -> None:
    if depth > MAX_LEVELS:
        raise InvalidInput(f"nested deeper than {MAX_LEVELS} levels", field=field[:1])
    if is_list(value):
        for index, item in enumerate(value):
            if not isinstance(item, str):
                _check_files(item, [*field, str(index)] if depth == 0 else field, depth + 1)
    elif is_object(value) and not _was_run_there(value.get("type")):
        if any(value.get(name) for name in _FILE_NAMES):
            raise _named_file(field)
        for name, item in value.items():
            if not isinstance(item, str) and name not in _OF_TOOLS:
                _check_files(item, field, depth + 1)


def _was_run_there(kind: object) -> bool:
    """What a tool of the vendor's gave in an earlier turn, sent again: it names files and opens none."""
    return isinstance(kind, str) and kind.endswith("_tool_result") and kind != "tool_result"


def _named_file(field: list[str]) -> InvalidInput:
    return InvalidInput(
        "a file cannot be named by its id: none is kept. Send what is in it, or its address, in its place", field=field
    )
