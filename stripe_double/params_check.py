"""Checks a request's parameters against the SDK's own TypedDicts and turns their texts into values, as Stripe does."""

import types
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cache
from importlib import import_module
from typing import Any, Literal, NotRequired, Required, Union, get_args, get_origin

from stripe import RequestOptions
from typing_extensions import get_type_hints, is_typeddict

from stripe_double.errors import ApiError, invalid
from stripe_double.values import Json, is_object

# Any in this file: type expressions have no common type, and a parameter's value is what its expression says.

_NAMES_OF_THE_OPTIONS = {"StripeContext": object, "Mapping": dict}
_METADATA_KEYS, _METADATA_KEY_LENGTH, _METADATA_VALUE_LENGTH = 50, 40, 500
_NUMBERS = (int, float, Decimal)


@dataclass(frozen=True, slots=True)
class _Field:
    """One parameter's alternatives, flattened."""

    alternatives: tuple[Any, ...]
    words: frozenset[str]
    """The values of an enumeration; the SDK writes `Literal[…]|str` since Stripe may add some, we refuse others."""
    required: bool


def checked(name: str, raw: Json) -> Json:
    """The parameters of the SDK class `name` (`checkout.SessionCreateParams`) as values.

    Raises ApiError 400: parameter_unknown, parameter_missing, parameter_invalid_integer, parameter_invalid_empty.
    """
    return _object(_class_of(name), raw, "")


def names_of(name: str) -> frozenset[str]:
    """The parameters that the SDK class knows."""
    return frozenset(_fields(_class_of(name)))


@cache
def _class_of(name: str) -> Any:
    *spaces, last = name.split(".")
    return getattr(import_module(".".join(["stripe.params", *spaces])), last)


@cache
def _fields(kind: Any) -> dict[str, _Field]:
    fields: dict[str, _Field] = {}
    # Some of the SDK's classes carry the options of a request too (its key, its account): these are no parameters.
    hints = get_type_hints(kind, localns=_NAMES_OF_THE_OPTIONS, include_extras=True)
    for name in hints.keys() - RequestOptions.__annotations__.keys():
        hint, required = hints[name], True
        while get_origin(hint) in {NotRequired, Required}:
            required = get_origin(hint) is Required
            (hint,) = get_args(hint)
        alternatives = tuple(_flattened(hint))
        words = frozenset(
            w for a in alternatives if get_origin(a) is Literal for w in get_args(a) if isinstance(w, str)
        )
        fields[name] = _Field(alternatives, words, required)
    return fields


def _flattened(hint: Any) -> list[Any]:
    if get_origin(hint) in {Union, types.UnionType}:
        return [part for member in get_args(hint) for part in _flattened(member)]
    return [hint]


def _object(kind: Any, raw: Json, path: str) -> Json:
    fields = _fields(kind)
    values: Json = {}
    for name, value in raw.items():
        where = f"{path}[{name}]" if path else name
        field = fields.get(name)
        if field is None:
            raise invalid(f"Received unknown parameter: {where}", code="parameter_unknown", param=where)
        values[name] = _value(field.alternatives, field.words, value, where)
    for name, field in fields.items():
        if field.required and name not in raw:
            where = f"{path}[{name}]" if path else name
            raise invalid(f"Missing required param: {where}.", code="parameter_missing", param=where)
    return values


def _value(alternatives: tuple[Any, ...], words: frozenset[str], raw: Any, where: str) -> Any:
    if is_object(raw):
        return _composed(alternatives, raw, where)
    text = str(raw)
    if text in words:
        return text
    scalar = _scalar(alternatives, text)
    if scalar is not None:
        return scalar
    named = words - {""}
    if str in alternatives and not named:
        return text
    if text == "" and _composes(alternatives):
        return [] if any(get_origin(a) is list for a in alternatives) else {}
    raise _unfit(alternatives, named, text, where)


def _scalar(alternatives: tuple[Any, ...], text: str) -> Any:
    """A truth value or number, where one is allowed and this is one."""
    if bool in alternatives and text in {"true", "false"}:
        return text == "true"
    if int in alternatives and _is_integer(text):
        return int(text)
    for number in (float, Decimal):
        if number in alternatives:
            try:
                return number(text)
            except (ValueError, InvalidOperation):
                continue
    return None


def _is_integer(text: str) -> bool:
    return text.isascii() and text.removeprefix("-").isdigit()


def _composes(alternatives: tuple[Any, ...]) -> bool:
    return any(get_origin(a) in {list, dict} or is_typeddict(a) for a in alternatives)


def _composed(alternatives: tuple[Any, ...], raw: Json, where: str) -> Any:
    positions = all(_is_integer(name) for name in raw)
    refused: ApiError | None = None
    for alternative in alternatives:
        try:
            if get_origin(alternative) is list and positions:
                (member,) = get_args(alternative)
                return _list(member, raw, where)
            if get_origin(alternative) is dict:
                _, member = get_args(alternative)
                _require_small(raw, where)
                return {k: _plain(member, v, f"{where}[{k}]") for k, v in raw.items()}
            if is_typeddict(alternative):
                return _object(alternative, raw, where)
        except ApiError as problem:  # the next alternative may take it: external_account has three forms
            refused = refused or problem
    if refused is not None:
        raise refused
    expected = "array" if any(get_origin(a) is list for a in alternatives) else "value"
    raise invalid(f"Invalid {expected} at {where}", param=where)


def _require_small(raw: Json, where: str) -> None:
    """Metadata's limits."""
    if len(raw) > _METADATA_KEYS:
        raise invalid(f"You can only specify up to {_METADATA_KEYS} metadata keys.", param=where)
    for key, value in raw.items():
        if len(key) > _METADATA_KEY_LENGTH:
            raise invalid(f"Metadata keys can have up to {_METADATA_KEY_LENGTH} characters.", param=where)
        if len(str(value)) > _METADATA_VALUE_LENGTH:
            raise invalid(
                f"Metadata values can have up to {_METADATA_VALUE_LENGTH} characters.", param=f"{where}[{key}]"
            )


def _list(member: Any, raw: Json, where: str) -> list[Any]:
    return [_plain(member, value, f"{where}[{at}]") for at, value in sorted(raw.items(), key=lambda pair: int(pair[0]))]


def _plain(hint: Any, raw: Any, where: str) -> Any:
    alternatives = tuple(_flattened(hint))
    words = frozenset(w for a in alternatives if get_origin(a) is Literal for w in get_args(a))
    return _value(alternatives, words, raw, where)


def _unfit(alternatives: tuple[Any, ...], named: frozenset[str], text: str, where: str) -> ApiError:
    if text == "":
        return invalid(
            f"You passed an empty string for '{where}'. We assume empty values are an attempt to unset a parameter;"
            f" however '{where}' cannot be unset.",
            code="parameter_invalid_empty",
            param=where,
        )
    if int in alternatives:
        return invalid(f"Invalid integer: {text}", code="parameter_invalid_integer", param=where)
    if bool in alternatives:
        return invalid(f"Invalid boolean: {text}", param=where)
    if any(number in alternatives for number in _NUMBERS):
        return invalid(f"Invalid decimal: {text}", param=where)
    if named:
        return invalid(f"Invalid {where}: must be one of {', '.join(sorted(named))}", param=where)
    if _composes(alternatives):
        return invalid(f"Invalid object at {where}", param=where)
    return invalid(f"Invalid value at {where}: {text}", param=where)
