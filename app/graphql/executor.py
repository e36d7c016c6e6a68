"""Runs one operation of a cached document on Strawberry's schema, with what the document decides worked out once.

It is graphql-core's own executor. Two things differ: which fields a selection has is remembered with the operation,
not found anew in each request, and a scalar that is a plain attribute of its object is read without the machinery of
resolvers (path, info, arguments), which graphql-core needs 3 µs a field for. Whatever is not that simple, and every
error, goes the way of graphql-core.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from operator import attrgetter
from typing import Any, Final, NamedTuple, cast
from uuid import UUID

from graphql import (
    DocumentNode,
    ExecutionResult,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    OperationType,
    SelectionNode,
    Undefined,
    is_leaf_type,
    located_error,
)
from graphql import execution as graphql_execution
from graphql.execution import Executor
from graphql.execution.collect_fields import CollectedFields, FieldDetailsList, FragmentDetails, collect_fields
from graphql.execution.values import VariableValues, get_variable_values
from graphql.pyutils import Path, gather_with_cancel
from strawberry.execution import optimized_is_awaitable
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext
from strawberry.types.field import StrawberryField

MAX_COERCION_ERRORS: Final = 10

# graphql-core hands values of any kind between its steps, typed Any there too.
Json = dict[str, Any]
_execution: Any = graphql_execution  # its functions are typed with bare generics
_strawberry: Any = StrawberryGraphQLCoreExecutionContext  # likewise
_PLAIN: Final = frozenset({str, int, bool, float, datetime, date, Decimal, UUID})
"""Types whose values are neither awaitable nor exceptions, so that they need no such question."""
NO_VARIABLES: Final = VariableValues({}, {})


class _PlannedField(NamedTuple):
    """One field of a selection; a tuple, because it is taken apart once for each object. `read` None: by graphql-core."""

    key: str
    details: FieldDetailsList
    read: Callable[[Any], Any] | None
    coerce: Callable[[Any], Any]
    nullable: bool


_Plan = tuple[_PlannedField, ...]


@dataclass(slots=True)
class Prepared:
    """An operation of a valid document, ready to run again and again."""

    schema: GraphQLSchema
    node: OperationDefinitionNode
    fragment_definitions: dict[str, FragmentDefinitionNode]
    keeps: bool
    """Whether its selections are the same whatever the variables say: no @skip or @include."""
    fragments: dict[str, FragmentDetails] = field(init=False)
    root_type: GraphQLObjectType = field(init=False)
    root_fields: CollectedFields | None = None
    sub_fields: dict[tuple[GraphQLObjectType, int], tuple[FieldDetailsList, CollectedFields]] = field(init=False)
    plans: dict[int, tuple[object, _Plan]] = field(init=False)

    def __post_init__(self) -> None:
        """Raises nothing for a document that passed validation."""
        self.fragments = {name: FragmentDetails(node) for name, node in self.fragment_definitions.items()}
        root_type = self.schema.get_root_type(self.node.operation)
        assert root_type is not None, "validation refuses operations without a root type"
        self.root_type = root_type
        self.sub_fields = {}
        self.plans = {}

    def coerce(self, variables: Json, *, hide_suggestions: bool) -> VariableValues | list[GraphQLError]:
        """The variables as the schema's types have them, or what is wrong with them."""
        if not self.node.variable_definitions:
            return NO_VARIABLES
        return get_variable_values(
            self.schema, self.node.variable_definitions, variables, MAX_COERCION_ERRORS, hide_suggestions
        )

    def root_field_names(self) -> list[str]:
        """The schema's names of the fields at its root, each as often as it is asked for, in fragments too."""
        names: list[str] = []
        pending: list[SelectionNode] = list(self.node.selection_set.selections)
        while pending:
            selection = pending.pop()
            if isinstance(selection, FieldNode):
                names.append(selection.name.value)
            elif isinstance(selection, FragmentSpreadNode):
                pending.extend(self.fragment_definitions[selection.name.value].selection_set.selections)
            elif isinstance(selection, InlineFragmentNode):
                pending.extend(selection.selection_set.selections)
        return names

    async def run(self, variables: VariableValues, context: object, event: object = None) -> ExecutionResult:
        """Run a query or mutation, or answer one event of a subscription. Errors of fields are in the result."""
        executor = self._executor(variables, context, event)
        try:
            collected = self.root_fields
            if collected is None:
                collected = collect_fields(self.schema, self.fragments, variables, self.root_type, self.node, True)
                if self.keeps:
                    self.root_fields = collected
            serially = self.node.operation is OperationType.MUTATION
            data: Any = executor.execute_root_grouped_field_set(
                self.root_type, event, collected.grouped_field_set, serially, None
            )
            if optimized_is_awaitable(data):
                data = await cast("Awaitable[Json]", data)
        except GraphQLError as error:
            executor.collected_errors.add(error, None)
            data = None
        return ExecutionResult(data, executor.collected_errors.errors or None)

    async def events(
        self, variables: VariableValues, make_context: Callable[[], object]
    ) -> AsyncGenerator[ExecutionResult]:
        """Run a subscription: each event with a context of its own, so that nothing read for the last one is shown again.

        The source is asked for its next event only when the last answer was taken: nothing is kept in between.
        """
        opened: Any = _execution.create_source_event_stream(self._executor(variables, make_context(), None))
        if optimized_is_awaitable(opened):
            opened = await opened
        if isinstance(opened, ExecutionResult):
            yield opened
            return
        source = cast("AsyncIterator[object]", aiter(opened))
        try:
            while True:
                try:
                    event = await anext(source)
                except StopAsyncIteration:
                    return
                except Exception as error:  # noqa: BLE001 -- a process edge: the stream's failure is its last answer
                    yield ExecutionResult(None, [located_error(error, [self.node], None)])
                    return
                yield await self.run(variables, make_context(), event)
        finally:
            close = getattr(source, "aclose", None)
            if close is not None:
                await close()

    def _executor(self, variables: VariableValues, context: object, root: object) -> "PlannedExecutor":
        executor = PlannedExecutor(
            self.schema,
            self.fragment_definitions,
            self.fragments,
            root,
            context,
            self.node,
            variables,
            _execution.default_field_resolver,
            _execution.default_type_resolver,
            _execution.default_field_resolver,
            is_awaitable=optimized_is_awaitable,
            hide_suggestions=True,
        )
        if self.keeps:
            executor.remember(self.sub_fields, self.plans)
        return executor


class PlannedExecutor(Executor[Any]):
    """graphql-core's plain executor (not the one for @defer and @stream, which costs more) with planned selections."""

    def build_resolve_info(self, *args: Any, **kwargs: Any) -> Any:
        """Strawberry's own form, which its resolvers expect."""
        return _strawberry.build_resolve_info(self, *args, **kwargs)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As graphql-core's."""
        super().__init__(*args, **kwargs)
        self.operation_extensions = None
        self._plans: dict[int, tuple[object, _Plan]] = {}

    def remember(
        self,
        sub_fields: dict[tuple[GraphQLObjectType, int], tuple[FieldDetailsList, CollectedFields]],
        plans: dict[int, tuple[object, _Plan]],
    ) -> None:
        """Share with all runs of the operation."""
        self._relevant_sub_fields = sub_fields
        self._plans = plans

    def execute_fields(
        self,
        parent_type: GraphQLObjectType,
        source_value: Any,
        path: Path | None,
        grouped_field_set: dict[str, FieldDetailsList],
        position_context: Any,
    ) -> Any:
        """The fields of one object: plain attributes at once, the others by graphql-core, those awaited together."""
        planned = self._plans.get(id(grouped_field_set))
        if planned is None:
            # The selection is kept with its plan, so that its id names no other one meanwhile.
            planned = (grouped_field_set, _plan_of(self.schema, parent_type, grouped_field_set))
            self._plans[id(grouped_field_set)] = planned
        results: Json = {}
        awaited: list[str] = []
        try:
            for key, details, read, coerce, nullable in planned[1]:
                if read is not None:
                    try:
                        value = read(source_value)
                        if value.__class__ in _PLAIN or isinstance(value, Enum):
                            value = coerce(value)
                            if value is not None and value is not Undefined:
                                results[key] = value
                                continue
                        elif value is None and nullable:
                            results[key] = None
                            continue
                    except Exception:  # noqa: BLE001, S110 -- graphql-core does the same step again and tells the error
                        pass
                field_path = Path(path, key, parent_type.name)
                result = self.execute_field(parent_type, source_value, details, field_path, position_context)
                if result is Undefined:
                    continue
                results[key] = result
                if optimized_is_awaitable(result):
                    awaited.append(key)
        except Exception:
            # A non-null field failed and takes its parent along: what its siblings began must still end.
            if awaited:
                self.settle_in_background([results[key] for key in awaited])
            raise
        if not awaited:
            return results
        return _gathered(results, awaited)


async def _gathered(results: Json, awaited: list[str]) -> Json:
    if len(awaited) == 1:
        results[awaited[0]] = await results[awaited[0]]
    else:
        answers = await gather_with_cancel(*[results[key] for key in awaited])
        results.update(zip(awaited, answers, strict=True))
    return results


def _plan_of(
    schema: GraphQLSchema, parent_type: GraphQLObjectType, grouped_field_set: Mapping[str, FieldDetailsList]
) -> _Plan:
    return tuple([_planned(schema, parent_type, key, details) for key, details in grouped_field_set.items()])


def _planned(
    schema: GraphQLSchema, parent_type: GraphQLObjectType, key: str, details: FieldDetailsList
) -> _PlannedField:
    name = details[0].node.name.value
    if name == "__typename":
        return _PlannedField(key, details, _constant(parent_type.name), str, nullable=False)
    definition = schema.get_field(parent_type, name)
    if definition is not None and getattr(definition.resolve, "_is_default", False):
        strawberry_field = definition.extensions.get("strawberry-definition")
        declared = _type_of(definition)
        nullable = not _is_non_null(declared)
        leaf: Any = declared if nullable else declared.of_type
        if isinstance(strawberry_field, StrawberryField) and is_leaf_type(leaf) and not definition.args:
            coerce = leaf.coerce_output_value
            return _PlannedField(key, details, attrgetter(strawberry_field.python_name), coerce, nullable)
    return _PlannedField(key, details, None, str, nullable=False)


def _is_non_null(declared: object) -> bool:
    return isinstance(declared, GraphQLNonNull)


def _type_of(definition: Any) -> Any:  # graphql-core's wrapping types are bare generics
    return definition.type


def _constant(value: str) -> Callable[[Any], str]:
    return lambda _source: value


def selections_keep(document: DocumentNode) -> bool:
    """Whether no part of a document is there only if a variable says so."""
    return not _mentions_conditions(document)


def _mentions_conditions(document: DocumentNode) -> bool:
    pending: list[Any] = list(document.definitions)
    while pending:
        node = pending.pop()
        if any(directive.name.value in {"skip", "include"} for directive in node.directives or ()):
            return True
        if getattr(node, "selection_set", None) is not None:
            pending.extend(node.selection_set.selections)
    return False
