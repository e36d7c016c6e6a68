"""The input of a published model, as a JSON Schema of one level: what a form can be made of, and checked against.

A small part of JSON Schema is taken: no references, no patterns, so that checking never fetches and never hangs.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from jsonschema import Draft202012Validator

from kit.errors import InvalidInput
from kit.json_values import JsonObject, has_nul, is_list, is_object

MAX_PROPERTIES: Final = 32
MAX_TEXT: Final = 500
MAX_CHOICES: Final = 100
UNSEEN: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What no text that people are shown may have: controls but tabs and line ends, and what turns the reading direction."""
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_TOP_KEYS: Final = frozenset(
    {"$schema", "type", "title", "description", "properties", "required", "additionalProperties"}
)
_TYPES: Final = frozenset({"string", "integer", "number", "boolean"})
_KEYS: Final[Mapping[str, frozenset[str]]] = {
    "string": frozenset({"minLength", "maxLength", "enum"}),
    "integer": frozenset({"minimum", "maximum", "enum"}),
    "number": frozenset({"minimum", "maximum", "enum"}),
    "boolean": frozenset(),
}
_COMMON_KEYS: Final = frozenset({"type", "title", "description", "default"})


@dataclass(frozen=True, slots=True)
class InputField:
    """One property, as a form shows it. `choices`: the only values. Bounds are of a text's length or of a number."""

    name: str
    kind: str
    title: str
    description: str
    required: bool
    default: object
    choices: tuple[object, ...] | None
    least: float | None
    most: float | None


def check_schema(given: object) -> JsonObject:
    """The schema, where a form can be made of it; InvalidInput says what is wrong and where."""
    if not is_object(given) or given.get("type") != "object" or not is_object(given.get("properties")):
        raise _wrong('the input schema is an object with type "object" and properties')
    _known(given, _TOP_KEYS)
    properties = given["properties"]
    assert is_object(properties), "asked above"
    if not 0 < len(properties) <= MAX_PROPERTIES:
        raise _wrong(f"it has 1 to {MAX_PROPERTIES} properties", "properties")
    for name, each in properties.items():
        _check_property(name, each)
    required = given.get("required", [])
    if not is_list(required) or not all(isinstance(name, str) and name in properties for name in required):
        raise _wrong("required is a list of names of properties", "required")
    if not isinstance(given.get("additionalProperties", False), bool):
        raise _wrong("additionalProperties is true or false", "additionalProperties")
    _texts(given)
    return given


def fields_of(schema: JsonObject) -> tuple[InputField, ...]:
    """The fields of a form for a schema that `check_schema` has seen, in its order."""
    properties, required = schema["properties"], schema.get("required")
    assert is_object(properties), "check_schema has seen it"
    fields: list[InputField] = []
    for name, each in properties.items():
        assert is_object(each), "check_schema has seen it"
        kind = str(each["type"])
        choices = each.get("enum")
        low, high = ("minLength", "maxLength") if kind == "string" else ("minimum", "maximum")
        fields.append(
            InputField(
                name=name,
                kind=kind,
                title=str(each.get("title") or name),
                description=str(each.get("description") or ""),
                required=is_list(required) and name in required,
                default=each.get("default"),
                choices=tuple(choices) if is_list(choices) else None,
                least=_number(each.get(low)),
                most=_number(each.get(high)),
            )
        )
    return tuple(fields)


def check_input(schema: JsonObject, given: object) -> JsonObject:
    """The input with the schema's defaults in place; InvalidInput names the property that is wrong."""
    if not is_object(given):
        raise InvalidInput("input must be an object", field=["input"])
    whole = {field.name: field.default for field in fields_of(schema) if field.default is not None} | given
    for error in Draft202012Validator(schema).iter_errors(whole):  # pyright: ignore[reportUnknownMemberType, reportArgumentType] -- parsed JSON
        path = [str(part) for part in error.absolute_path]
        raise InvalidInput(f"input: {error.message[:300]}", field=["input", *path])
    return whole


def _check_property(name: str, given: object) -> None:
    at = ("properties", name[:64])
    if not _NAME.fullmatch(name):
        raise _wrong("a property's name is a word of letters, digits and _", *at)
    kind = given.get("type") if is_object(given) else None
    if not is_object(given) or not isinstance(kind, str) or kind not in _TYPES:
        raise _wrong(f"a property has a type: {', '.join(sorted(_TYPES))}", *at, "type")
    _known(given, _COMMON_KEYS | _KEYS[kind], *at)
    _texts(given, *at)
    for bound in ("minLength", "maxLength", "minimum", "maximum"):
        if bound in given and _number(given[bound]) is None:
            raise _wrong(f"{bound} is a number", *at, bound)
    choices = given.get("enum")
    if choices is not None and (
        not is_list(choices)
        or not 0 < len(choices) <= MAX_CHOICES
        or not all(_of_kind(choice, kind) for choice in choices)
    ):
        raise _wrong(f"enum is a list of 1 to {MAX_CHOICES} values of its type", *at, "enum")
    if given.get("default") is not None and not _of_kind(given["default"], kind):
        raise _wrong("default is of the property's type", *at, "default")


def _of_kind(value: object, kind: str) -> bool:
    if kind == "string":
        return isinstance(value, str) and len(value) <= MAX_TEXT
    if kind == "boolean":
        return isinstance(value, bool)
    return _number(value) is not None and (kind == "number" or isinstance(value, int))


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 10**15 else None


def _texts(given: JsonObject, *at: str) -> None:
    for key in ("title", "description", "$schema"):
        text = given.get(key, "")
        if not isinstance(text, str) or len(text) > MAX_TEXT:
            raise _wrong(f"{key} is a text of at most {MAX_TEXT} characters", *at, key)
    if has_nul(given):
        raise _wrong("a text in it may not have the character U+0000", *at)
    for key in ("title", "description"):
        if UNSEEN.search(str(given.get(key, ""))):
            raise _wrong(f"{key} may have no control characters", *at, key)


def _known(given: JsonObject, keys: frozenset[str], *at: str) -> None:
    for key in given:
        if key not in keys:
            raise _wrong(f"{key[:40]!r} is not one of {', '.join(sorted(keys))}", *at, key[:40])


def _wrong(message: str, *at: str) -> InvalidInput:
    return InvalidInput(message, field=["inputSchema", *at])
