"""How large a document and its variables may be: decided in one cheap walk, before anything dear looks at them."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    parse,
)

from app.graphql.failures import DocumentRefused, of_document_error, refused
from kit.errors import BadRequest

MAX_VARIABLE_DEPTH: Final = 32
MAX_VARIABLE_VALUES: Final = 20_000
_IN_CODE: Final = re.compile(r'"""|["#\[\](){}]')
_IN_STRING: Final = re.compile(r'\\.|["\n\r]', re.DOTALL)
_IN_BLOCK: Final = re.compile(r'\\"""|"""')
_IN_COMMENT: Final = re.compile(r"[\n\r]")
_OPENING: Final = {'"': _IN_STRING, '"""': _IN_BLOCK, "#": _IN_COMMENT}


@dataclass(frozen=True, slots=True)
class DocumentLimits:
    """The largest document that is looked at. Fields and depth count with fragments spread out."""

    bytes: int = 64 * 1024
    tokens: int = 4_000
    definitions: int = 50
    depth: int = 24
    brackets: int = 80
    fields: int = 800
    fields_of_one_selection: int = 200
    repeats: int = 20
    """Of one response key in one selection: validation compares each of them, and what is beneath, with each other."""
    root_fields: int = 30
    aliases: int = 60
    directives: int = 60


@dataclass(frozen=True, slots=True)
class _Extent:
    """What a selection set amounts to with its fragments spread out."""

    depth: int
    fields: int
    aliases: int
    directives: int


_NOTHING: Final = _Extent(0, 0, 0, 0)


def parse_within(text: str, limits: DocumentLimits) -> DocumentNode:
    """The parsed document; DocumentRefused when it does not parse or is too large."""
    if len(text) > limits.bytes or len(text.encode("utf-8", "surrogatepass")) > limits.bytes:
        raise refused(f"the document is larger than {limits.bytes} bytes")
    check_brackets(text, limits.brackets)
    try:
        document = parse(text, max_tokens=limits.tokens)
        check_extent(document, limits)
    except GraphQLError as error:
        raise DocumentRefused([of_document_error(error)]) from None
    return document


def check_brackets(text: str, limit: int) -> None:
    """DocumentRefused where brackets of any kind stand more than `limit` deep: parser, validation and coercion call
    themselves for each of them, and Python's stack ends before the token limit does.
    """
    depth = 0
    state = _IN_CODE
    found = state.search(text)
    while found is not None:
        sign = found.group()
        if state is not _IN_CODE:
            if sign[0] != "\\":
                state = _IN_CODE
        elif sign in _OPENING:
            state = _OPENING[sign]
        elif sign in "{[(":
            depth += 1
            if depth > limit:
                raise refused(f"the document's brackets are nested more than {limit} deep")
        else:
            depth -= 1
        found = state.search(text, found.end())


def check_extent(document: DocumentNode, limits: DocumentLimits) -> None:
    """DocumentRefused for a document above a limit, or with fragments that spread into themselves."""
    if len(document.definitions) > limits.definitions:
        raise refused(f"the document has more than {limits.definitions} operations and fragments")
    walk = _Walk(document, limits)
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode):
            extent = walk.of_selections(definition.selection_set, len(definition.directives or ()))
            walk.check(extent)
            if len(definition.selection_set.selections) > limits.root_fields:
                raise refused(f"an operation has at most {limits.root_fields} fields at its root")
        elif isinstance(definition, FragmentDefinitionNode):
            walk.check(walk.of_fragment(definition.name.value))  # also those that no operation uses


class _Walk:
    """Measures selections, each fragment once however often it is spread."""

    def __init__(self, document: DocumentNode, limits: DocumentLimits) -> None:
        self._limits = limits
        self._fragments = {
            definition.name.value: definition
            for definition in document.definitions
            if isinstance(definition, FragmentDefinitionNode)
        }
        self._measured: dict[str, _Extent] = {}
        self._open: set[str] = set()

    def check(self, extent: _Extent) -> None:
        limits = self._limits
        for value, limit, what in (
            (extent.depth, limits.depth, "be at most {} levels deep"),
            (extent.fields, limits.fields, "have at most {} fields, with fragments spread out"),
            (extent.aliases, limits.aliases, "have at most {} aliases"),
            (extent.directives, limits.directives, "have at most {} directives"),
        ):
            if value > limit:
                raise refused(f"an operation may {what.format(limit)}; this one has {value}")

    def of_selections(self, selection_set: SelectionSetNode, directives: int = 0) -> _Extent:
        if len(selection_set.selections) > self._limits.fields_of_one_selection:
            raise refused(f"one selection has at most {self._limits.fields_of_one_selection} fields")
        depth = fields = aliases = 0
        keys: Counter[str] = Counter()
        for selection in selection_set.selections:
            directives += len(selection.directives or ())
            if isinstance(selection, FieldNode):
                inner = self.of_selections(selection.selection_set) if selection.selection_set else _NOTHING
                depth = max(depth, inner.depth + 1)
                fields += 1
                keys[(selection.alias or selection.name).value] += 1
                aliases += selection.alias is not None
            elif isinstance(selection, InlineFragmentNode):
                inner = self.of_selections(selection.selection_set)
                depth = max(depth, inner.depth)
            else:
                assert isinstance(selection, FragmentSpreadNode), "the grammar has three kinds of selection"
                inner = self.of_fragment(selection.name.value)
                depth = max(depth, inner.depth)
            fields += inner.fields
            aliases += inner.aliases
            directives += inner.directives
        if keys and max(keys.values()) > self._limits.repeats:
            raise refused(f"one selection asks for the same field at most {self._limits.repeats} times")
        return _Extent(depth, fields, aliases, directives)

    def of_fragment(self, name: str) -> _Extent:
        measured = self._measured.get(name)
        if measured is not None:
            return measured
        fragment = self._fragments.get(name)
        if fragment is None:
            return _NOTHING  # validation tells of it, with its place
        if name in self._open:
            raise refused(f"the fragment {name[:100]} spreads itself")
        self._open.add(name)
        extent = self.of_selections(fragment.selection_set, len(fragment.directives or ()))
        self._open.discard(name)
        self._measured[name] = extent
        return extent


def check_variables(variables: Mapping[str, object]) -> None:
    """BadRequest for variables nested too deeply or of too many values. Walks by levels: depth costs no stack."""
    level: list[object] = list(variables.values())
    count = len(level)
    depth = 1
    while level:
        deeper: list[object] = []
        for value in level:
            # JSON's containers are exactly dict and list; what they hold is checked as it is reached.
            if type(value) is dict:
                deeper.extend(value.values())  # pyright: ignore[reportUnknownArgumentType] -- parsed JSON
            elif type(value) is list:
                deeper.extend(value)  # pyright: ignore[reportUnknownArgumentType] -- parsed JSON
        count += len(deeper)
        depth += 1
        if deeper and depth > MAX_VARIABLE_DEPTH:
            raise BadRequest(f"the variables are nested more than {MAX_VARIABLE_DEPTH} levels deep")
        if count > MAX_VARIABLE_VALUES:
            raise BadRequest(f"the variables hold more than {MAX_VARIABLE_VALUES} values")
        level = deeper
