"""The template language of chains and prompts: texts with `{{ input.x }}` and `{{ steps.a.content }}` in them, no code.

A reference is a path: names and whole numbers between dots. What it leads to is put in as text: a text as it is,
nothing as nothing, anything else as JSON. What is put in is never read as a template again.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import orjson

from kit.errors import InvalidInput
from kit.json_values import is_list, is_object

MAX_TEMPLATE_CHARACTERS: Final = 20_000
MAX_REFERENCES: Final = 64
MAX_RENDERED_CHARACTERS: Final = 2_000_000
_REFERENCE: Final = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_PATH: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}(\.[A-Za-z0-9_-]{1,64}){1,8}")


class TemplateError(ValueError):
    """The text is no template; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Template:
    """A text in pieces: `pieces[n]` stands before what `paths[n]` leads to, the last piece at the end."""

    pieces: tuple[str, ...]
    paths: tuple[tuple[str, ...], ...]

    def render(self, values: Mapping[str, object]) -> str:
        """The text with what the paths lead to in it."""
        return self.render_with(lambda path: text_of(value_at(values, path)))

    def render_with(self, text_at: Callable[[tuple[str, ...]], str]) -> str:
        """The text with what `text_at` says of each path in it; InvalidInput where it is above MAX_RENDERED_CHARACTERS."""
        parts = [self.pieces[0]]
        room = MAX_RENDERED_CHARACTERS
        for path, piece in zip(self.paths, self.pieces[1:], strict=True):
            text = text_at(path)
            room -= len(text)
            if room < 0:
                raise InvalidInput(f"a prompt made of this is longer than {MAX_RENDERED_CHARACTERS} characters")
            parts += (text, piece)
        return "".join(parts)

    @property
    def steps(self) -> frozenset[str]:
        """The steps whose outputs it names."""
        return frozenset(path[1] for path in self.paths if path[0] == "steps")


def parse_template(text: str) -> Template:
    """The template; TemplateError where a reference is not one to `input` or `steps`."""
    if len(text) > MAX_TEMPLATE_CHARACTERS:
        raise TemplateError(f"a template may have at most {MAX_TEMPLATE_CHARACTERS} characters")
    if "\0" in text:
        raise TemplateError("a template may not have the character U+0000")
    found = _REFERENCE.split(text)
    pieces, references = found[::2], found[1::2]
    if len(references) > MAX_REFERENCES:
        raise TemplateError(f"a template may have at most {MAX_REFERENCES} references")
    if any("{{" in piece or "}}" in piece for piece in pieces):
        raise TemplateError("a reference begins with {{ and ends with }}")
    return Template(tuple(pieces), tuple(_path(reference.strip()) for reference in references))


def value_at(values: object, path: tuple[str, ...]) -> object:
    """What a path leads to below parsed JSON; None where it leads nowhere."""
    found = values
    for name in path:
        if is_object(found):
            found = found.get(name)
        elif is_list(found) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        else:
            return None
    return found


def text_of(value: object) -> str:
    """A value as it stands in a text."""
    if value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _path(text: str) -> tuple[str, ...]:
    shown = text[:60]
    if not _PATH.fullmatch(text):
        raise TemplateError(
            f"{{{{ {shown} }}}} is no reference such as {{{{ input.topic }}}} or {{{{ steps.a.content }}}}"
        )
    path = tuple(text.split("."))
    if path[0] == "input":
        return path
    if path[0] == "steps" and len(path) > 2 and path[2] in {"content", "json"}:
        return path
    raise TemplateError(f"{{{{ {shown} }}}}: a reference is to input.NAME, steps.NAME.content or steps.NAME.json.NAME")
