"""The vectors and pictures of the sandbox: the same input always gives the same."""

import base64
import hashlib
import math
import struct
import zlib
from typing import Final

from providers.base import JsonObject
from providers.openai_content import text_bytes
from providers.sandbox_behaviour import SandboxBehaviour, UsageFault
from providers.sandbox_model import (
    SandboxRefusal,
    SandboxUsage,
    check_model,
    reported_usage,
    seed_of,
    tokens_of,
    whole_number,
)

_DIMENSIONS: Final = 256
_MAX_DIMENSIONS: Final = 4096
_MAX_INPUTS: Final = 2048


def embeddings(body: JsonObject, behaviour: SandboxBehaviour) -> tuple[JsonObject, SandboxUsage]:
    """Unit vectors of `dimensions` (256), as numbers or, with encoding_format base64, as little-endian floats."""
    check_model(body)
    dimensions = whole_number(body, "dimensions", 1, _MAX_DIMENSIONS) or _DIMENSIONS
    inputs = _embedding_inputs(body.get("input"))
    tokens = sum(len(item) if isinstance(item, list) else tokens_of(text_bytes(item)) for item in inputs)
    packed = body.get("encoding_format") == "base64"
    usage = SandboxUsage(tokens, 0)
    answer: JsonObject = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _vector(item, dimensions, packed=packed)}
            for index, item in enumerate(inputs)
        ],
        "model": body["model"],
    }
    if behaviour.usage is not UsageFault.NONE:
        reported = reported_usage(usage, behaviour)
        answer["usage"] = {name: reported[name] for name in ("prompt_tokens", "total_tokens")}
    return answer, usage


def images(body: JsonObject, behaviour: SandboxBehaviour, created: int) -> tuple[JsonObject, SandboxUsage]:
    """`n` PNG pictures of 8 by 8 pixels, as base64 or, with response_format url, as data: addresses."""
    check_model(body)
    prompt = body.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        raise SandboxRefusal(400, "prompt must be a text that is not empty", "prompt")
    count = whole_number(body, "n", 1, 10) or 1
    as_address = body.get("response_format") == "url"
    pictures: list[JsonObject] = []
    for index in range(count):
        text = base64.b64encode(picture(seed_of([body["model"], prompt, index]))).decode()
        pictures.append({"url": f"data:image/png;base64,{text}"} if as_address else {"b64_json": text})
    usage = SandboxUsage(tokens_of(text_bytes(prompt)), 0, images=count)
    answer: JsonObject = {"created": created, "data": pictures}
    if behaviour.usage is not UsageFault.NONE:
        reported = reported_usage(usage, behaviour)
        answer["usage"] = {
            "input_tokens": reported["prompt_tokens"],
            "output_tokens": 0,
            "total_tokens": reported["prompt_tokens"],
        }
    return answer, usage


def _embedding_inputs(value: object) -> list[str | list[int]]:
    if isinstance(value, str) and value:
        return [value]
    if isinstance(value, list) and 0 < len(value) <= _MAX_INPUTS:  # pyright: ignore[reportUnknownArgumentType]
        items: list[object] = value  # pyright: ignore[reportUnknownVariableType] -- judged below
        texts = [item for item in items if isinstance(item, str) and item]
        if len(texts) == len(items):
            return [*texts]
        numbers = [item for item in items if isinstance(item, int)]
        if len(numbers) == len(items):
            return [numbers]
        lists: list[list[int]] = [item for item in items if isinstance(item, list) and item]  # pyright: ignore[reportUnknownVariableType] -- what is in them is only counted
        if len(lists) == len(items):
            return [*lists]
    raise SandboxRefusal(400, f"input must be a text, or a list of 1 to {_MAX_INPUTS} texts or tokens", "input")


def _vector(item: object, dimensions: int, *, packed: bool) -> list[float] | str:
    raw = struct.unpack(f"<{dimensions}h", hashlib.shake_256(seed_of(item)).digest(2 * dimensions))
    norm = math.sqrt(sum(number * number for number in raw)) or 1.0
    vector = [number / norm for number in raw]
    return base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode() if packed else vector


def picture(seed: bytes) -> bytes:
    """A real PNG: 8 by 8 pixels, RGB, from 192 bytes of the hash."""
    pixels = hashlib.shake_256(seed).digest(8 * 8 * 3)
    rows = b"".join(b"\x00" + pixels[row * 24 : row * 24 + 24] for row in range(8))

    def block(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + block(b"IHDR", header) + block(b"IDAT", zlib.compress(rows)) + block(b"IEND", b"")
