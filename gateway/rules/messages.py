"""Reads of a request in Anthropic's Messages form what its price depends on, and refuses what cannot be right."""

from typing import Final

from gateway.rules.requests import (
    MAX_MESSAGES,
    MAX_OUTPUT_TOKENS,
    PAGED_PARTS,
    RequestShape,
    asks_for_stream,
    weigh,
)
from gateway.rules.tools import ANTHROPICS_RUN_BY_CALLERS
from kit.errors import InvalidInput
from kit.json_values import is_list, is_object
from providers.base import JsonObject

TOOLS_OVERHEAD_TOKENS: Final = 1_024
"""Tokens that the vendor adds to a call with tools, and for each tool whose schema is the vendor's own."""


def messages_shape(body: JsonObject) -> RequestShape:
    """The shape of a request; InvalidInput names the field that is wrong and what it must be."""
    shape = input_shape(body)
    limit = body.get("max_tokens")
    if type(limit) is not int or not 0 <= limit <= MAX_OUTPUT_TOKENS:
        raise InvalidInput(f"max_tokens is needed: a whole number from 0 to {MAX_OUTPUT_TOKENS}", field=["max_tokens"])
    return RequestShape(
        input_bytes=shape.input_bytes,
        messages=shape.messages,
        choices=1,
        output_tokens=limit,
        images=0,
        media_parts=shape.media_parts,
        stream=asks_for_stream(body),
    )


def input_shape(body: JsonObject) -> RequestShape:
    """The shape of what goes in alone, as for counting its tokens; InvalidInput as above."""
    messages = body.get("messages")
    if not is_list(messages) or not messages:
        raise InvalidInput("messages must be a list of at least one message", field=["messages"])
    if len(messages) > MAX_MESSAGES:
        raise InvalidInput(f"at most {MAX_MESSAGES} messages", field=["messages"])
    size = media = 0
    for index, message in enumerate(messages):
        if not is_object(message) or not isinstance(message.get("role"), str):
            raise InvalidInput("a message must be an object with role and content", field=["messages", str(index)])
        text_bytes, parts = _weigh_content(message.get("content"), index, 0)
        size += text_bytes
        media += parts
    for extra in ("system", "output_config", "mcp_servers"):
        if extra in body:
            size += weigh(body[extra], 0)[0]
    if body.get("mcp_servers"):
        media += PAGED_PARTS
    tool_bytes, tool_parts = _weigh_tools(body.get("tools"))
    return RequestShape(
        input_bytes=size + tool_bytes,
        messages=len(messages) + 1,
        choices=1,
        output_tokens=None,
        images=0,
        media_parts=media + tool_parts,
        stream=False,
    )


def _weigh_content(content: object, index: int, depth: int) -> tuple[int, int]:
    if isinstance(content, str):
        return weigh(content, 0)
    if not is_list(content):
        raise InvalidInput("content must be a text or a list of blocks", field=["messages", str(index), "content"])
    size = media = 0
    for block in content:
        text_bytes, parts = _weigh_block(block, index, depth)
        size += text_bytes
        media += parts
    return size, media


def _weigh_block(block: object, index: int, depth: int) -> tuple[int, int]:
    if not is_object(block):
        raise InvalidInput("a block must be an object", field=["messages", str(index), "content"])
    rest = {name: value for name, value in block.items() if name != "source"}
    source = block.get("source")
    match block.get("type"):
        case "image":
            return weigh(rest, 0)[0], 1
        case "document":
            text_bytes, parts = weigh(block, 0)
            in_pages = not is_object(source) or source.get("type") not in ("text", "content")
            return text_bytes, parts + (PAGED_PARTS if in_pages else 0)
        case "tool_result" if is_list(block.get("content")) and depth == 0:
            outer = {name: value for name, value in rest.items() if name != "content"}
            size, media = _weigh_content(block["content"], index, depth + 1)
            return weigh(outer, 0)[0] + size, media
        case _:
            return weigh(block, 0)


def _weigh_tools(tools: object) -> tuple[int, int]:
    if not is_list(tools) or not tools:
        return 0, 0
    size, parts = weigh(tools, 0)[0] + TOOLS_OVERHEAD_TOKENS, 0
    for tool in tools:
        kind = tool.get("type") if is_object(tool) else None
        if not isinstance(kind, str) or kind == "custom":
            continue
        size += TOOLS_OVERHEAD_TOKENS
        if not kind.startswith(ANTHROPICS_RUN_BY_CALLERS):
            parts += PAGED_PARTS
    return size, parts
