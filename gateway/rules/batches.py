"""The lines of a batch's input file in OpenAI's form: what they ask, or what is wrong with them."""

from dataclasses import dataclass
from typing import Final

import orjson

from kit.json_values import MAX_LEVELS, is_deeper, is_object
from providers.base import JsonObject, Operation

ENDPOINTS: Final = {
    "/v1/chat/completions": Operation.CHAT,
    "/v1/responses": Operation.RESPONSES,
    "/v1/embeddings": Operation.EMBEDDING,
    "/v1/images/generations": Operation.IMAGE,
}
MAX_LINES: Final = 10_000
MAX_PROBLEMS: Final = 20
"""More are not told."""
MAX_CUSTOM_ID_CHARACTERS: Final = 128


@dataclass(frozen=True, slots=True)
class Line:
    """One call: `custom_id` is the caller's own name of it, once in its batch."""

    number: int
    custom_id: str
    model: str
    body: JsonObject


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a file cannot be a batch's. The message has no word of the file; `line` counts from 1, None for the whole."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


def read_lines(content: bytes, endpoint: str) -> tuple[list[Line], list[Problem]]:
    """The lines, empty ones left out; with problems there is no batch."""
    lines: list[Line] = []
    problems: list[Problem] = []
    seen: set[str] = set()
    for number, text in enumerate(content.split(b"\n"), start=1):
        if not text.strip():
            continue
        read = _read_line(number, text, endpoint)
        if isinstance(read, Line) and read.custom_id in seen:
            read = Problem("duplicate_custom_id", "an earlier line has this custom_id", number, "custom_id")
        if isinstance(read, Problem):
            problems.append(read)
        else:
            seen.add(read.custom_id)
            lines.append(read)
        if len(lines) > MAX_LINES:
            problems.append(Problem("too_many_lines", f"a batch has at most {MAX_LINES} lines"))
        if problems and (len(lines) > MAX_LINES or len(problems) >= MAX_PROBLEMS):
            break
    if not lines and not problems:
        problems.append(Problem("empty_file", "the file has no lines"))
    return lines, problems


def _read_line(number: int, text: bytes, endpoint: str) -> Line | Problem:
    try:
        parsed: object = orjson.loads(text)
    except orjson.JSONDecodeError:
        return Problem("invalid_json_line", "this line is not JSON", number)
    if not is_object(parsed):
        return Problem("invalid_json_line", "this line is not a JSON object", number)
    custom_id = parsed.get("custom_id")
    if not isinstance(custom_id, str) or not 1 <= len(custom_id) <= MAX_CUSTOM_ID_CHARACTERS:
        wanted = f"custom_id is a text of 1 to {MAX_CUSTOM_ID_CHARACTERS} characters"
        return Problem("invalid_custom_id", wanted, number, "custom_id")
    if parsed.get("method") != "POST":
        return Problem("invalid_method", "method is POST", number, "method")
    if parsed.get("url") != endpoint:
        return Problem("mismatched_url", "url is the batch's endpoint", number, "url")
    body = parsed.get("body")
    if not is_object(body):
        return Problem("invalid_body", "body is an object", number, "body")
    model = body.get("model")
    if not isinstance(model, str):
        return Problem("invalid_body", "body.model is the name of a model", number, "body.model")
    if is_deeper(body, text, MAX_LEVELS):
        return Problem("invalid_body", f"body is nested deeper than {MAX_LEVELS} levels", number, "body")
    if body.get("stream"):
        return Problem("invalid_body", "a batch does not stream", number, "body.stream")
    return Line(number, custom_id, model, body)


def unreadable_line(number: int, *, called: bool) -> bytes:
    """What is told of a line whose seal does not open: its own name, `custom_id`, was sealed with it.

    `called`: it has ended, and what cannot be read is what it came to.
    """
    lost = f"what line {number} of the input file came to can no longer be read here"
    never = f"line {number} of the input file can no longer be read here; it is not called"
    error = {"code": "line_unreadable", "message": lost if called else never}
    return orjson.dumps({"id": None, "custom_id": None, "response": None, "error": error})
