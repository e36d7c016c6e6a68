"""Forms of published models' pages: what was typed as the model's request, and the model's answer as it is shown."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

from app.model_page_html import Answer, input_fields
from billing.published import Published
from billing.rules.input_schema import InputField
from kit.errors import InvalidInput
from kit.json_values import JsonObject, is_list, is_object
from models.enums import Modality

MAX_FIELDS: Final = 60
MAX_DIGITS: Final = 40
MAX_NUMBER: Final = 2**53
Given = Mapping[str, str]


def body_of(published: Published, given: Given) -> JsonObject:
    """The request that a form asks for; InvalidInput names the field that is wrong."""
    values: JsonObject = {}
    for each in input_fields(published):
        value = _value(each, given.get(f"in.{each.name}", ""))
        if value is not None:
            values[each.name] = value
    if published.model.modality is Modality.EMBEDDING:
        return {"input": "\n".join(str(value) for value in values.values())}
    if published.input_schema is not None:
        return {"input": values}
    text = str(values.get("prompt", ""))
    if published.model.modality is Modality.IMAGE:
        return {"prompt": text}
    return {"messages": [{"role": "user", "content": text}]}


def _value(each: InputField, text: str) -> object:
    """What was typed as the schema's type; None where nothing was."""
    if each.kind == "boolean":
        return text == "true"
    if not text.strip():
        if each.required:
            raise InvalidInput(f"{each.title} is needed.", field=["input", each.name])
        return None
    if each.kind == "string":
        return text.replace("\r\n", "\n")
    try:
        number = int(text[:MAX_DIGITS]) if each.kind == "integer" else float(text[:MAX_DIGITS])
    except ValueError as error:
        raise InvalidInput(f"{each.title} is a number.", field=["input", each.name]) from error
    if not -MAX_NUMBER <= number <= MAX_NUMBER:  # nor is it NaN
        raise InvalidInput(f"{each.title} is a number up to {MAX_NUMBER}.", field=["input", each.name])
    return number


def answer_of(body: JsonObject) -> Answer:
    """What of a model's answer a page shows; its charge is added by who knows it."""
    choices, items = body.get("choices"), body.get("data")
    texts: list[str] = []
    for choice in choices if is_list(choices) else ():
        message = choice.get("message") if is_object(choice) else None
        content = message.get("content") if is_object(message) else None
        texts.append(content if isinstance(content, str) else "The model answered without a text.")
    pictures: list[str] = []
    links: list[str] = []
    for item in items if is_list(items) else ():
        if not is_object(item):
            continue
        data, url, vector = item.get("b64_json"), item.get("url"), item.get("embedding")
        if isinstance(data, str):
            pictures.append(data)
        elif isinstance(url, str):
            links.append(url)
        elif is_list(vector):
            texts.append(f"A vector of {len(vector)} numbers.")
    return Answer(tuple(texts), tuple(pictures), tuple(links))


def fields_of_form(text: bytes) -> Given:
    """The fields of a form in the usual encoding; InvalidInput."""
    try:
        return dict(parse_qsl(text.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict"))
    except ValueError as error:
        raise InvalidInput("This is no form of this page.") from error
