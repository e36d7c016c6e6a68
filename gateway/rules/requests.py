"""Reads of a request in OpenAI's form what its price depends on, and refuses what cannot be right.

Everything else in the body is the provider's business and travels on unchanged.
"""

from collections.abc import Mapping
from typing import Final

from kit.errors import InvalidInput
from kit.json_values import is_list, is_object
from kit.records import record
from providers.base import JsonObject, Operation

MAX_MESSAGES: Final = 2_048
MAX_CHOICES: Final = 128
MAX_EMBEDDING_INPUTS: Final = 2_048
MAX_IMAGES: Final = 10
MAX_SECONDS: Final = 86_400
MAX_OUTPUT_TOKENS: Final = 1_000_000_000
PAGED_PARTS: Final = 100
"""A file of pages, a film, or what a tool run by the vendor reads counts as so many pictures: its size is not in the request."""
MESSAGE_OVERHEAD_TOKENS: Final = 16
"""Tokens that a chat template adds to a message, role and separators included; the widest known adds 8."""


@record
class RequestShape:
    """What the bound of a call's cost is made from. `output_tokens` None: the caller set no limit.

    `seconds` is how long a recording may play at most, `likely_seconds` how long it probably does. `spared_bytes`: so much
    less than a byte each count the tokens of its texts, where a tokenizer says so.
    """

    input_bytes: int
    messages: int
    choices: int
    output_tokens: int | None
    images: int
    media_parts: int
    stream: bool
    characters: int = 0
    seconds: int = 0
    likely_seconds: int = 0
    spared_bytes: int = 0


def read_shape(operation: Operation, body: JsonObject) -> RequestShape:
    """The shape of a request; InvalidInput names the field that is wrong and what it must be."""
    if operation is Operation.CHAT:
        return _chat(body)
    if operation is Operation.EMBEDDING:
        return _embedding(body)
    if operation is Operation.VIDEO:
        return _video(body)
    return _image(body)


def _chat(body: JsonObject) -> RequestShape:
    messages = body.get("messages")
    if not is_list(messages) or not messages:
        raise InvalidInput("messages must be a list of at least one message", field=["messages"])
    if len(messages) > MAX_MESSAGES:
        raise InvalidInput(f"at most {MAX_MESSAGES} messages", field=["messages"])
    size = 0
    media = 0
    for index, message in enumerate(messages):
        if not is_object(message):
            raise InvalidInput("a message must be an object with role and content", field=["messages", str(index)])
        if not isinstance(message.get("role"), str):
            raise InvalidInput("a message needs a role", field=["messages", str(index), "role"])
        text_bytes, parts = _weigh_message(message)
        size += text_bytes
        media += parts
    for extra in ("tools", "functions", "response_format"):
        if extra in body:
            size += weigh(body[extra], 0)[0]
    # Each provider goes by the one that it knows.
    limits = [optional_count(body, name, MAX_OUTPUT_TOKENS) for name in ("max_completion_tokens", "max_tokens")]
    return RequestShape(
        input_bytes=size,
        messages=len(messages),
        choices=optional_count(body, "n", MAX_CHOICES) or 1,
        output_tokens=max((limit for limit in limits if limit is not None), default=None),
        images=0,
        media_parts=media,
        stream=asks_for_stream(body),
    )


def _embedding(body: JsonObject) -> RequestShape:
    given = body.get("input")
    tokens = is_list(given) and bool(given) and all(type(item) is int for item in given)
    texts = given if is_list(given) and not tokens else [given]
    if not texts or len(texts) > MAX_EMBEDDING_INPUTS:
        raise InvalidInput(f"input must be a text or a list of 1 to {MAX_EMBEDDING_INPUTS} texts", field=["input"])
    size = 0
    for text in texts:
        if isinstance(text, str):
            size += _bytes_of(text)
        elif is_list(text) and all(type(item) is int for item in text):
            size += 4 * len(text)
        else:
            raise InvalidInput("input must be a text, a list of texts or lists of token numbers", field=["input"])
    optional_count(body, "dimensions", 100_000)
    return RequestShape(size, len(texts), 1, 0, 0, 0, stream=False)


def _image(body: JsonObject) -> RequestShape:
    prompt = body.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        raise InvalidInput("prompt must be a text", field=["prompt"])
    count = optional_count(body, "n", MAX_IMAGES) or 1
    return RequestShape(_bytes_of(prompt), 1, 1, 0, count, 0, stream=False)


def _video(body: JsonObject) -> RequestShape:
    prompt = body.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        raise InvalidInput("prompt must be a text", field=["prompt"])
    seconds = optional_count(body, "seconds", MAX_SECONDS)
    if seconds is None:
        raise InvalidInput("seconds must say how long the video is", field=["seconds"])
    if body.get("n") not in (None, 1):
        raise InvalidInput("a call makes one video: n must be 1", field=["n"])
    return RequestShape(_bytes_of(prompt), 1, 1, 0, 0, 0, stream=False, seconds=seconds)


def asks_for_stream(body: Mapping[str, object]) -> bool:
    """Whether the answer is to be streamed. InvalidInput for what says neither."""
    stream = body.get("stream")
    if not (stream is None or isinstance(stream, bool)):
        raise InvalidInput("stream must be true or false", field=["stream"])
    return bool(stream)


def optional_count(body: Mapping[str, object], name: str, most: int) -> int | None:
    """A whole number from 1 to `most`, None where the body says nothing. InvalidInput for anything else."""
    value = body.get(name)
    if value is None:
        return None
    if type(value) is not int or not 1 <= value <= most:
        raise InvalidInput(f"{name} must be a whole number from 1 to {most}", field=[name])
    return value


_MAX_DEPTH: Final = 64
_MEDIA_KEYS: Final = frozenset({"image_url", "input_audio", "file", "video_url"})
_PICTURE: Final = "image_url"
_PICTURES: Final = ("image_url", "input_image")
"""The parts of a content whose tokens do not grow with their bytes: vendors scale pictures down."""
_PAGED: Final = ("file", "video_url")


def weigh(value: object, depth: int = 0) -> tuple[int, int]:
    """UTF-8 bytes of all text below a JSON value, and the number of its media. Nothing is left out: see `weigh_part`."""
    if depth > _MAX_DEPTH:
        raise InvalidInput(f"nested deeper than {_MAX_DEPTH} levels", field=["messages"])
    if isinstance(value, str):
        return _bytes_of(value), 0
    if is_object(value):
        size = media = 0
        for key, item in value.items():
            below = weigh(item, depth + 1)
            size += len(key) + 2 + below[0]
            media += below[1] + (key in _MEDIA_KEYS)
        return size, media
    if is_list(value):
        size = media = 0
        for item in value:
            below = weigh(item, depth + 1)
            size += below[0]
            media += below[1]
        return size, media
    return 8, 0


def weigh_part(part: object, depth: int = 0) -> tuple[int, int]:
    """The same of a part of a content, where a picture counts as one whatever its bytes.

    Only here: elsewhere, as in a tool's schema, what is called `image_url` is a text like others.
    """
    kind = part.get("type") if is_object(part) else None
    if is_object(part) and kind in _PICTURES and _PICTURE in part:
        size, media = weigh({name: value for name, value in part.items() if name != _PICTURE}, depth)
        return size, media + 1
    size, media = weigh(part, depth)
    return size, media + (PAGED_PARTS if kind in _PAGED else 0)


def _weigh_message(message: JsonObject) -> tuple[int, int]:
    size = media = 0
    for key, item in message.items():
        below = [weigh_part(part, 2) for part in item] if key == "content" and is_list(item) else [weigh(item, 1)]
        size += len(key) + 2 + sum([each[0] for each in below])
        media += sum([each[1] for each in below]) + (key in _MEDIA_KEYS)
    return size, media


def _bytes_of(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
