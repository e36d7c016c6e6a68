"""Reads of a request in OpenAI's Responses form what its price depends on, and refuses what cannot be right or is not served.

The provider's account is one for all workspaces: whatever would read or keep state there is refused by name. Tools are
gateway.rules.tools's.
"""

from collections.abc import Callable
from typing import Final

from gateway.rules.requests import (
    MAX_MESSAGES,
    MAX_OUTPUT_TOKENS,
    PAGED_PARTS,
    RequestShape,
    asks_for_stream,
    optional_count,
    weigh,
    weigh_part,
)
from kit.errors import InvalidInput
from kit.json_values import is_list, is_object
from providers.base import JsonObject

_OF_STATE: Final = ("previous_response_id", "conversation", "prompt", "background")
_SEND_AGAIN: Final = (
    'nothing is kept between requests. Send the earlier items in `input` again; `include: ["reasoning.encrypted_content"]` '
    "gives reasoning that can be sent again"
)
_ITEMS: Final = frozenset(
    {
        "message", "reasoning", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output",
        "compaction",
    }
)  # fmt: skip
"""Items that bring all they mean with them. Others may stand for what the account keeps, or bring tools along."""
_WEIGHED: Final = ("instructions", "text", "tools")


def responses_shape(body: JsonObject) -> RequestShape:
    """The shape of a request; InvalidInput names the field that is wrong and what it must be."""
    _check_state(body)
    items, size, media = 1, 0, 0
    given = body.get("input")
    if isinstance(given, str):
        size = _weigh(given, ["input"])[0]
    elif is_list(given) and 0 < len(given) <= MAX_MESSAGES:
        items = len(given)
        for index, item in enumerate(given):
            text_bytes, parts = _weigh_item(item, ["input", str(index)])
            size += text_bytes
            media += parts
    else:
        raise InvalidInput(f"input must be a text or a list of 1 to {MAX_MESSAGES} items", field=["input"])
    size += sum(_weigh(body[name], [name])[0] for name in _WEIGHED if name in body)
    return RequestShape(
        input_bytes=size,
        messages=items + 1,
        choices=1,
        output_tokens=optional_count(body, "max_output_tokens", MAX_OUTPUT_TOKENS),
        images=0,
        media_parts=media,
        stream=asks_for_stream(body),
    )


def _check_state(body: JsonObject) -> None:
    for name in _OF_STATE:
        if body.get(name):
            raise InvalidInput(f"{name} is not served here: {_SEND_AGAIN}", field=[name])
    options = body.get("prompt_cache_options")
    if is_object(options) and options.get("comparison_response_id"):
        raise InvalidInput("an earlier response cannot be named here: none is kept", field=["prompt_cache_options"])


def _weigh_item(item: object, field: list[str]) -> tuple[int, int]:
    if not is_object(item):
        raise InvalidInput("an item of the input must be an object", field=field)
    kind = item.get("type") or "message"
    if kind == "item_reference":
        raise InvalidInput(f"an item cannot be named by its id: {_SEND_AGAIN}", field=[*field, "type"])
    if not isinstance(kind, str) or kind not in _ITEMS:
        raise InvalidInput(f"items of the type {str(kind)[:60]!r} are not served here", field=[*field, "type"])
    content = item.get("content")
    if kind == "message" and not isinstance(content, str) and not is_list(content):
        raise InvalidInput("content must be a text or a list of parts", field=[*field, "content"])
    size = media = 0
    for name, value in item.items():
        if name in ("content", "output") and is_list(value):
            for part in value:
                text_bytes, parts = _weigh_part(part, [*field, name])
                size += text_bytes
                media += parts
        else:
            size += len(name) + 2 + _weigh(value, field)[0]
    return size, media


def _weigh_part(part: object, field: list[str]) -> tuple[int, int]:
    if not is_object(part):
        raise InvalidInput("a part must be an object", field=field)
    if part.get("file_id"):
        raise InvalidInput(
            "a file cannot be named by its id: none is kept. Send it as file_data, a picture as image_url", field=field
        )
    size, media = _weigh(part, field, weigh_part)
    return size, media + (PAGED_PARTS if part.get("type") == "input_file" else 0)


def _weigh(value: object, field: list[str], by: Callable[[object], tuple[int, int]] = weigh) -> tuple[int, int]:
    try:
        return by(value)
    except InvalidInput as refused:
        raise InvalidInput(refused.message, field=field) from refused
