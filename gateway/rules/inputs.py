"""The `input` of a model that takes one: read from a request, put into a prompt or into a chain's templates."""

from typing import Final

from billing.rules.input_schema import check_input
from billing.rules.templates import Template, parse_template
from kit.errors import InvalidInput
from kit.json_values import JsonObject, is_list, is_object
from providers.base import Operation

_PLAIN: Final = parse_template("{{ input.prompt }}")
_OWN_INPUT: Final = frozenset({Operation.EMBEDDING, Operation.RESPONSES})
_OF_A_TEXT: Final = frozenset({"text", "prompt"})
MAX_INPUT_TEXT: Final = 1_000_000


def input_values(body: JsonObject, schema: JsonObject | None) -> JsonObject:
    """What `input.…` in a template refers to: the request's `input`, with the last message as `text` and `prompt`.

    InvalidInput where it does not fit the schema, or is missing where the schema needs more than a text.
    """
    text = last_text(body)
    spoken: JsonObject = dict.fromkeys(_OF_A_TEXT, text)
    given = body.get("input")
    if given is None:
        required = schema.get("required") if schema is not None else None
        if is_list(required) and not _OF_A_TEXT.issuperset(str(name) for name in required):
            raise InvalidInput("this model takes an input: an object with its properties", field=["input"])
        return spoken
    if not is_object(given):
        raise InvalidInput("input is an object", field=["input"])
    return spoken | (given if schema is None else check_input(schema, given))


def last_text(body: JsonObject) -> str:
    """The text of the last message of a chat, else an image's prompt; empty where there is none."""
    messages, prompt = body.get("messages"), body.get("prompt")
    if not is_list(messages) and isinstance(prompt, str):
        return prompt
    last = messages[-1] if is_list(messages) and messages else None
    content = last.get("content") if is_object(last) else None
    if isinstance(content, str):
        return content
    if is_list(content):
        texts = [part.get("text") for part in content if is_object(part)]
        return "\n".join(text for text in texts if isinstance(text, str))
    return ""


def history_of(body: JsonObject) -> list[object]:
    """The messages of a chat; none where they say nothing, as beside an `input`."""
    messages = body.get("messages")
    return messages if is_list(messages) and last_text(body) else []


def with_input(
    operation: Operation, body: JsonObject, schema: JsonObject | None, prompt: Template | None
) -> JsonObject:
    """A request whose `input` has become a message, or an image's prompt; unchanged where it has none.

    The `input` of an embedding and of a response is what they are about, not one of these.
    """
    if operation in _OWN_INPUT or "input" not in body:
        return body
    values = input_values(body, schema)
    text = (prompt or _PLAIN).render({"input": values})
    rest = {key: value for key, value in body.items() if key != "input"}
    if operation is Operation.IMAGE:
        return {**rest, "prompt": text}
    return {**rest, "messages": [{"role": "user", "content": text}]}
