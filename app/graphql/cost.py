"""What an operation costs in API points: a formula made once from the SDL's @cost and @listSize, filled per request.

Points are what the rate limiter counts; credits, which are money, are the ledger's and never meet them. An object
costs 1, a scalar nothing, a mutation 10, a list its size times what one item costs (an edge counts for its node).
The requested cost is an upper bound: @skip and @include are taken to let everything pass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLList,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    Undefined,
    VariableNode,
    is_composite_type,
    is_object_type,
)

from app.graphql.weights import ListSize, Weights

OBJECT_WEIGHT: Final = 1
MUTATION_WEIGHT: Final = 10
INTROSPECTION_WEIGHT: Final = 10
ASSUMED_LIST_SIZE: Final = 10
"""Of a list of objects that says nothing of its size."""
MAX_PAGE: Final = 100
"""The largest page; a request for more is refused by its resolver, so it cannot cost more."""
_UNLIMITED: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class _Size:
    """How many items a field answers: the largest of its slicing arguments, read when variables are known."""

    fixed: int
    """What literals and defaults say; 0 when they say nothing."""
    variables: tuple[str, ...]
    otherwise: int

    def of(self, variables: Mapping[str, Any]) -> int:
        size = self.fixed
        for name in self.variables:
            value = variables.get(name)
            if isinstance(value, int):
                size = max(size, min(value, MAX_PAGE))
        return size or self.otherwise


@dataclass(frozen=True, slots=True)
class _Cost:
    """One response key: its own weight, how often it occurs in its parent, and what lies beneath."""

    key: str
    weight: int
    times: "_Size | int"
    beneath: "_Selection"


@dataclass(frozen=True, slots=True)
class _Selection:
    """The costs of a selection set. Of several object types that an abstract one may be, the dearest counts."""

    always: tuple[_Cost, ...] = ()
    by_type: tuple[tuple[_Cost, ...], ...] = ()

    def requested(self, variables: Mapping[str, Any]) -> int:
        total = sum([_requested(cost, variables) for cost in self.always])
        if self.by_type:
            total += max([sum([_requested(cost, variables) for cost in costs]) for costs in self.by_type])
        return min(total, _UNLIMITED)

    def actual(self, answer: Mapping[str, Any]) -> int:
        total = 0
        for cost in self.always:
            total += _actual(cost, answer.get(cost.key))
        if self.by_type:
            total += max([sum([_actual(cost, answer.get(cost.key)) for cost in costs]) for costs in self.by_type])
        return total

    @property
    def is_fixed(self) -> bool:
        groups = (self.always, *self.by_type)
        return all(isinstance(cost.times, int) and cost.beneath.is_fixed for costs in groups for cost in costs)


_NOTHING: Final = _Selection()


@dataclass(frozen=True, slots=True)
class Formula:
    """The cost of one operation. At least 1: also `{ __typename }` is a request."""

    selection: _Selection
    fixed: int | None
    base: int

    def requested(self, variables: Mapping[str, Any]) -> int:
        """The most that it can cost with these (coerced) variables."""
        if self.fixed is not None:
            return self.fixed
        return max(1, self.base + self.selection.requested(variables))

    def actual(self, answer: Mapping[str, Any] | None, requested: int) -> int:
        """What its answer did cost, at most `requested`. A failed mutation costs as an answered one."""
        if answer is None:
            return min(requested, max(1, self.base))
        return min(requested, max(1, self.base + self.selection.actual(answer)))


def _requested(cost: _Cost, variables: Mapping[str, Any]) -> int:
    times = cost.times if isinstance(cost.times, int) else cost.times.of(variables)
    return times * (cost.weight + cost.beneath.requested(variables))


def _actual(cost: _Cost, value: Any) -> int:  # part of an answer: JSON of any kind
    if value is None:
        return 0
    if isinstance(value, list):
        return sum([_actual(cost, item) for item in cast("list[Any]", value)])
    if isinstance(value, dict) and cost.beneath is not _NOTHING:
        return cost.weight + cost.beneath.actual(cast("Mapping[str, Any]", value))
    return cost.weight


def formula_of(
    schema: GraphQLSchema,
    weights: Weights,
    operation: OperationDefinitionNode,
    fragments: Mapping[str, FragmentDefinitionNode],
) -> Formula:
    """The formula of a valid operation."""
    root = schema.get_root_type(operation.operation)
    assert root is not None, "validation refuses operations without a root type"
    is_mutation = operation.operation is OperationType.MUTATION
    compiler = _Compiler(schema, weights, fragments)
    selection = compiler.selection(root, [operation.selection_set], None, is_mutation)
    # A mutation's own weight is owed even when its answer is null, so it stands outside of what is counted.
    base = compiler.mutation_weight if is_mutation else 0
    fixed = max(1, base + selection.requested({})) if selection.is_fixed else None
    return Formula(selection, fixed, base)


class _Compiler:
    """Turns one operation into its formula."""

    def __init__(
        self, schema: GraphQLSchema, weights: Weights, fragments: Mapping[str, FragmentDefinitionNode]
    ) -> None:
        self._schema = schema
        self._weights = weights
        self._fragments = fragments
        self.mutation_weight = 0

    def selection(
        self,
        parent: object,
        selection_sets: Sequence[SelectionSetNode],
        sized: "tuple[tuple[str, ...], _Size | int] | None",
        is_mutation_root: bool = False,
    ) -> _Selection:
        groups: dict[str | None, dict[str, list[FieldNode]]] = {None: {}}
        for selection_set in selection_sets:
            self._collect(parent, None, selection_set, groups, frozenset())
        compiled: dict[str | None, tuple[_Cost, ...]] = {}
        for type_name, fields in groups.items():
            owner = parent if type_name is None else self._schema.get_type(type_name)
            costs = [self._cost(owner, key, nodes, sized, is_mutation_root) for key, nodes in fields.items()]
            compiled[type_name] = tuple([cost for cost in costs if cost.weight or cost.beneath is not _NOTHING])
        always = compiled.pop(None)
        by_type = tuple([costs for costs in compiled.values() if costs])
        return _Selection(always, by_type) if always or by_type else _NOTHING

    def _collect(
        self,
        parent: object,
        condition: str | None,
        selection_set: SelectionSetNode,
        groups: dict[str | None, dict[str, list[FieldNode]]],
        spread: frozenset[str],
    ) -> None:
        for selection in selection_set.selections:
            if isinstance(selection, FieldNode):
                key = selection.alias.value if selection.alias else selection.name.value
                groups.setdefault(condition, {}).setdefault(key, []).append(selection)
                continue
            if isinstance(selection, FragmentSpreadNode):
                fragment = self._fragments.get(selection.name.value)
                if fragment is None or selection.name.value in spread:
                    continue
                inner, named = fragment.selection_set, fragment.type_condition.name.value
                seen = spread | {selection.name.value}
            else:
                assert isinstance(selection, InlineFragmentNode), "the grammar has three kinds of selection"
                inner, seen = selection.selection_set, spread
                named = selection.type_condition.name.value if selection.type_condition else None
            narrower = condition
            if named is not None and not is_object_type(parent) and is_object_type(self._schema.get_type(named)):
                narrower = named
            self._collect(parent, narrower, inner, groups, seen)

    def _cost(
        self,
        parent: object,
        key: str,
        nodes: list[FieldNode],
        sized: "tuple[tuple[str, ...], _Size | int] | None",
        is_mutation_root: bool,
    ) -> _Cost:
        name = nodes[0].name.value
        if name.startswith("__"):
            return _Cost(key, 0 if name == "__typename" else INTROSPECTION_WEIGHT, 1, _NOTHING)
        parent_name = str(parent)
        definition = self._schema.get_field(parent, name) if is_composite_type(parent) else None
        assert definition is not None, "the document is valid"
        field_type = _type_of(definition)
        named = _named(field_type)
        composite = is_composite_type(named)
        weight = self._weights.field_weights.get((parent_name, name))
        if is_mutation_root:
            self.mutation_weight += MUTATION_WEIGHT if weight is None else weight
            weight = 0
        elif weight is None:
            of_type = self._weights.type_weights.get(named.name, OBJECT_WEIGHT if composite else 0)
            weight = 0 if name == "node" and parent_name.endswith("Edge") else of_type
            if named.name == "PageInfo":
                weight = 0
        size = self._weights.sizes.get((parent_name, name))
        if size is None and named.name.endswith("Connection"):
            size = ListSize(slicing=("first", "last"), sized_fields=("edges", "nodes"))
        many = _is_list(field_type)
        times: _Size | int = 1
        inner_sized: tuple[tuple[str, ...], _Size | int] | None = None
        if size is not None and size.sized_fields:
            inner_sized = (size.sized_fields, self._size(definition.args, nodes[0], size))
        elif size is not None:
            times = self._size(definition.args, nodes[0], size)
        elif sized is not None and name in sized[0]:
            times = sized[1]
        elif many and composite:
            times = ASSUMED_LIST_SIZE
        inner = [node.selection_set for node in nodes if node.selection_set is not None]
        beneath = self.selection(named, inner, inner_sized) if inner else _NOTHING
        return _Cost(key, weight, times, beneath)

    def _size(self, arguments: Mapping[str, Any], node: FieldNode, size: ListSize) -> _Size | int:
        """A number where literals and defaults decide, else what to read from the variables."""
        fixed, variables = 0, list[str]()
        otherwise = size.assumed if size.assumed is not None else (MAX_PAGE if size.slicing else ASSUMED_LIST_SIZE)
        given = {argument.name.value: argument.value for argument in node.arguments or ()}
        for name in size.slicing:
            value = given.get(name)
            if isinstance(value, IntValueNode):
                fixed = max(fixed, _bounded(value.value))
            elif isinstance(value, VariableNode):
                variables.append(value.name.value)
                otherwise = min(_default_of(arguments[name]), MAX_PAGE) or otherwise
            elif value is None and name in arguments:
                default = _default_of(arguments[name])
                fixed = max(fixed, min(default, MAX_PAGE))
        if variables:
            return _Size(fixed, tuple(variables), otherwise)
        return fixed or otherwise


def _type_of(definition: Any) -> Any:  # graphql-core's wrapping types are bare generics
    return definition.type


def _named(field_type: Any) -> Any:  # as above
    while hasattr(field_type, "of_type"):
        field_type = field_type.of_type
    return field_type


def _is_list(field_type: Any) -> bool:  # graphql-core's wrapping types are bare generics
    return isinstance(getattr(field_type, "of_type", None), GraphQLList) or isinstance(field_type, GraphQLList)


def _bounded(digits: str) -> int:
    """A literal's number, without trusting its length: more digits than an Int has are a page of the largest size."""
    return MAX_PAGE if len(digits) > 11 else max(0, min(int(digits), MAX_PAGE))


def _default_of(argument: Any) -> int:  # an argument of either of graphql-core's two notations for defaults
    default = getattr(argument, "default", None)
    value = getattr(default, "value", None)
    if value is None or value is Undefined:
        value = getattr(argument, "default_value", None)
    return value if isinstance(value, int) else 0
