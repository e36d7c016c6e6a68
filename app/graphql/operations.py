"""The operations that came lately, parsed, validated and priced: kept by the exact text of their document.

Only valid documents are kept, so that rubbish evicts nothing. What is not kept passes the document bucket first,
which the pipeline sees to.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Final

import strawberry
from graphql import (
    ASTValidationRule,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLError,
    OperationDefinitionNode,
    OperationType,
    specified_rules,
    validate,
)
from graphql.validation import MaxIntrospectionDepthRule, NoSchemaIntrospectionCustomRule
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule

from app.graphql.cost import Formula, formula_of
from app.graphql.executor import Prepared, selections_keep
from app.graphql.failures import DocumentRefused, of_document_error, refused
from app.graphql.limits import DocumentLimits, parse_within
from app.graphql.weights import Weights

MAX_DOCUMENTS: Final = 2_000
MAX_TEXT_BYTES: Final = 4 * 1024 * 1024
"""Of the texts kept; a parsed document takes about fifty times its text."""
MAX_ERRORS: Final = 10
_SDL_FIELDS: Final = frozenset({"_service"})
"""Apollo Federation's way to read the schema: introspection by another name."""


@dataclass(slots=True)
class Operation:
    """One operation of a document, ready to run."""

    name: str | None
    kind: OperationType
    prepared: Prepared
    formula: Formula
    is_introspection: bool
    """Asks for nothing but the schema, without variables: its answer is always the same."""
    introspection: dict[str, Any] | None = None
    """That answer, once it was given."""
    _counts: dict[frozenset[str], int] = field(default_factory=dict[frozenset[str], int])

    def count_of(self, names: frozenset[str]) -> int:
        """How many of its root fields are among these."""
        count = self._counts.get(names)
        if count is None:
            count = sum([name in names for name in self.prepared.root_field_names()])
            self._counts[names] = count
        return count


@dataclass(frozen=True, slots=True)
class Document:
    """A valid document."""

    text: str
    operations: dict[str | None, Operation]

    def operation(self, name: str | None) -> Operation:
        """The one to run; DocumentRefused when the name does not tell."""
        if name is None:
            if len(self.operations) == 1:
                return next(iter(self.operations.values()))
            raise refused("the document has several operations; say which in `operationName`")
        found = self.operations.get(name)
        if found is None:
            raise refused(f"the document has no operation named {name!r}")
        return found


@dataclass(slots=True)
class Operations:
    """Turns texts into documents, and keeps the valid ones, the least lately used going first."""

    schema: strawberry.Schema
    limits: DocumentLimits
    introspection: bool
    max_documents: int = MAX_DOCUMENTS
    _weights: Weights = field(init=False)
    _rules: tuple[type[ASTValidationRule], ...] = field(init=False)
    _kept: OrderedDict[str, Document] = field(init=False)
    _kept_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        """Rules are chosen once: rules made anew for each request are a known way to lose a cache."""
        rules = [*specified_rules, MaxIntrospectionDepthRule, MaybeNullValidationRule, OneOfInputValidationRule]
        if not self.introspection:
            rules.append(NoSchemaIntrospectionCustomRule)
        self._rules = tuple(dict.fromkeys(rules))
        self._weights = Weights.of_schema(self._core)
        self._kept = OrderedDict()
        self._kept_bytes = 0

    @property
    def _core(self) -> Any:  # graphql-core's schema, which Strawberry keeps to itself; a test pins the name
        return self.schema._schema  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

    def kept(self, text: str) -> Document | None:
        """The document, where it came lately."""
        document = self._kept.get(text)
        if document is not None:
            self._kept.move_to_end(text)
        return document

    def read(self, text: str, *, hide_suggestions: bool, keep: bool = True) -> Document:
        """Parse, validate and price a text; DocumentRefused tells why not. `hide_suggestions`: name nothing that the
        text did not name.
        """
        node = parse_within(text, self.limits)
        try:
            errors = validate(self._core, node, self._rules, max_errors=MAX_ERRORS, hide_suggestions=hide_suggestions)
        except RecursionError:
            raise refused("the document is nested too deeply") from None
        if errors:
            raise DocumentRefused([of_document_error(_told(error, hide_suggestions)) for error in errors])
        document = Document(text, self._operations_of(node))
        if not document.operations:
            raise refused("the document has no operation")
        if not self.introspection and any(op.count_of(_SDL_FIELDS) for op in document.operations.values()):
            raise refused("introspection is switched off here")
        if keep:
            self._keep(document)
        return document

    def _keep(self, document: Document) -> None:
        self._kept[document.text] = document
        self._kept_bytes += len(document.text)
        while len(self._kept) > self.max_documents or self._kept_bytes > MAX_TEXT_BYTES:
            evicted, _ = self._kept.popitem(last=False)
            self._kept_bytes -= len(evicted)

    def _operations_of(self, node: DocumentNode) -> dict[str | None, Operation]:
        fragments = {
            definition.name.value: definition
            for definition in node.definitions
            if isinstance(definition, FragmentDefinitionNode)
        }
        keeps = selections_keep(node)
        operations: dict[str | None, Operation] = {}
        for definition in node.definitions:
            if isinstance(definition, OperationDefinitionNode):
                name = definition.name.value if definition.name else None
                operations[name] = Operation(
                    name,
                    definition.operation,
                    Prepared(self._core, definition, fragments, keeps),
                    formula_of(self._core, self._weights, definition, fragments),
                    keeps and _is_introspection(definition),
                )
        return operations


def _is_introspection(operation: OperationDefinitionNode) -> bool:
    return not operation.variable_definitions and all(
        isinstance(selection, FieldNode) and selection.name.value.startswith("__")
        for selection in operation.selection_set.selections
    )


def _told(error: GraphQLError, hide_suggestions: bool) -> GraphQLError:
    """Without the suggestion that a rule makes which knows no such switch."""
    if hide_suggestions and "Did you mean" in error.message:
        return GraphQLError(error.message.partition(" Did you mean")[0], error.nodes)
    return error
