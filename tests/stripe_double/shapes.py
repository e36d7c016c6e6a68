"""Judges answers by the annotations of the SDK's resource classes: no key that is not annotated, none missing that must be."""

import ast
import inspect
import sys
import types
from decimal import Decimal
from functools import cache
from importlib import import_module
from typing import Any, ClassVar, Literal, Union, get_args, get_origin

from stripe._list_object import ListObject
from stripe._object_classes import get_object_class
from stripe._stripe_object import StripeObject, UntypedStripeObject
from typing_extensions import get_type_hints


def problems_of(answer: dict[str, Any]) -> list[str]:
    """What is wrong with an object, as paths with reasons."""
    if answer.get("deleted"):
        return []
    return _judge_object(answer, get_object_class("V1", answer["object"]), answer["object"])


@cache
def _names(module: str) -> dict[str, Any]:
    """What a module of the SDK imports for its annotations alone."""
    names = dict(vars(sys.modules[module]))
    for node in ast.walk(ast.parse(inspect.getsource(sys.modules[module]))):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            for line in node.body:
                if isinstance(line, ast.ImportFrom) and line.module and ".params" not in line.module:
                    for alias in line.names:
                        names[alias.asname or alias.name] = getattr(import_module(line.module), alias.name)
    return names


@cache
def _annotations(kind: type) -> dict[str, Any]:
    own = type("Own", (), {"__annotations__": inspect.get_annotations(kind)})
    hints = get_type_hints(own, globalns=_names(kind.__module__), localns={})
    return {n: h for n, h in hints.items() if get_origin(h) is not ClassVar and not n.startswith("_")}


def _judge_object(value: dict[str, Any], kind: type, path: str) -> list[str]:
    hints = _annotations(kind)
    found: list[str] = []
    for name, inner in value.items():
        if name not in hints:
            found.append(f"{path}.{name}: not annotated on {kind.__name__}")
        else:
            found += _judge(inner, hints[name], f"{path}.{name}")
    found += [f"{path}.{name}: missing" for name, hint in hints.items() if name not in value and not _optional(hint)]
    return found


def _optional(hint: Any) -> bool:
    return type(None) in _alternatives(hint)


def _alternatives(hint: Any) -> list[Any]:
    if get_origin(hint) in {Union, types.UnionType}:
        return [part for member in get_args(hint) for part in _alternatives(member)]
    return [hint]


def _judge(value: Any, hint: Any, path: str) -> list[str]:
    alternatives = _alternatives(hint)
    if value is None:
        return [] if type(None) in alternatives else [f"{path}: null"]
    words = {w for a in alternatives if get_origin(a) is Literal for w in get_args(a)}
    if words and isinstance(value, str):
        return [] if value in words else [f"{path}: {value!r} is none of {sorted(words)}"]
    verdicts = [_judge_one(value, alternative, path) for alternative in alternatives if alternative is not type(None)]
    return min(verdicts, key=len)


def _judge_one(value: Any, hint: Any, path: str) -> list[str]:
    origin = get_origin(hint)
    if hint is Any or origin is UntypedStripeObject or hint is UntypedStripeObject:
        return [] if hint is Any or isinstance(value, dict) else [f"{path}: no object"]
    if origin is Literal:
        return [] if value in get_args(hint) else [f"{path}: {value!r}"]
    if origin is list:
        if not isinstance(value, list):
            return [f"{path}: no list"]
        return [p for n, one in enumerate(value) for p in _judge(one, get_args(hint)[0], f"{path}[{n}]")]
    if origin is ListObject:
        if not isinstance(value, dict) or set(value) != {"object", "url", "has_more", "data"}:
            return [f"{path}: no list object"]
        return [p for n, one in enumerate(value["data"]) for p in _judge(one, get_args(hint)[0], f"{path}[{n}]")]
    if inspect.isclass(hint) and issubclass(hint, StripeObject):
        if not isinstance(value, dict):
            return [f"{path}: no object"]
        return [] if value.get("deleted") else _judge_object(value, hint, path)
    return [] if _is_plain(value, hint) else [f"{path}: {value!r} is no {hint}"]


def _is_plain(value: Any, hint: Any) -> bool:
    if hint is Decimal:
        return isinstance(value, str | Decimal)  # the SDK turns decimal strings into Decimal
    if hint is bool:
        return isinstance(value, bool)
    if hint in {int, float}:
        return isinstance(value, int | hint) and not isinstance(value, bool)
    return hint is str and isinstance(value, str)
