"""What a query may cost, found out before any of it is done.

Everything here is bounded by the size of the query's text: a fragment is looked at once, however often it is spread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    Lexer,
    OperationDefinitionNode,
    SelectionNode,
    Source,
    TokenKind,
    VariableNode,
    get_named_type,
    is_leaf_type,
    is_list_type,
)
from graphql.type import GraphQLField, GraphQLNonNull

MAX_QUERY_CHARS: Final = 32_000
MAX_TOKENS: Final = 2_000
MAX_NESTING: Final = 40
MAX_DEPTH: Final = 12
MAX_ALIASES: Final = 30
MAX_DIRECTIVES: Final = 30
MAX_COST: Final = 5_000
LIST_SIZE: Final = 5
"""So many items are reckoned with in a list that no ``limit`` bounds."""
_USUAL: Final = 50
_DEPTH_OF_INTROSPECTION: Final = 16
_OPENS: Final = frozenset({TokenKind.BRACE_L, TokenKind.BRACKET_L, TokenKind.PAREN_L})
_CLOSES: Final = frozenset({TokenKind.BRACE_R, TokenKind.BRACKET_R, TokenKind.PAREN_R})


class Weight(NamedTuple):
    """What selections weigh, fragments expanded."""

    cost: int = 0
    depth: int = 0
    aliases: int = 0
    directives: int = 0

    def beside(self, other: Weight) -> Weight:
        """Both together."""
        return Weight(
            self.cost + other.cost,
            max(self.depth, other.depth),
            self.aliases + other.aliases,
            self.directives + other.directives,
        )


def refused(what: str) -> GraphQLError:
    """The error for a query that is too much."""
    return GraphQLError(what, extensions={"code": "query_too_large"})


def check_text(query: str) -> None:
    """Raises ``GraphQLError`` for a text that is too long or nested too deeply to be parsed."""
    if len(query) > MAX_QUERY_CHARS:
        raise refused(f"the query has {len(query):,} characters and the cap is {MAX_QUERY_CHARS:,}: use variables")
    lexer = Lexer(Source(query))
    nesting = tokens = 0
    while (token := lexer.advance()).kind is not TokenKind.EOF:
        tokens += 1
        nesting += (token.kind in _OPENS) - (token.kind in _CLOSES)
        if tokens > MAX_TOKENS:
            raise refused(f"the query has more than {MAX_TOKENS:,} tokens: ask for less at once")
        if nesting > MAX_NESTING:
            raise refused(f"the query is nested deeper than {MAX_NESTING} brackets")


def check_cost(document: DocumentNode, schema: GraphQLSchema, variables: Mapping[str, Any]) -> int:
    """The cost of the dearest operation: fields times the sizes of the lists they are in.

    Raises ``GraphQLError`` for one beyond the cap, and for too much depth, too many aliases or directives.
    """
    scales = _Scales(document, schema, variables)
    dearest = 0
    for operation in (one for one in document.definitions if isinstance(one, OperationDefinitionNode)):
        root = schema.get_root_type(operation.operation)
        weight = scales.weigh(operation.selection_set.selections, root)
        _check(weight, scales.is_introspecting)
        dearest = max(dearest, weight.cost)
    return dearest


def _check(weight: Weight, is_introspecting: bool) -> None:
    depth = _DEPTH_OF_INTROSPECTION if is_introspecting else MAX_DEPTH
    for name, found, cap in (
        ("cost", weight.cost, MAX_COST),
        ("depth", weight.depth, depth),
        ("number of aliases", weight.aliases, MAX_ALIASES),
        ("number of directives", weight.directives, MAX_DIRECTIVES),
    ):
        if found > cap:
            shown = f"{found:,}" if found < 10**9 else "beyond a billion"
            raise refused(f"the {name} of the query is {shown} and the cap is {cap:,}: ask for less at once")


class _Scales:
    """Weighs selections; each fragment once."""

    def __init__(self, document: DocumentNode, schema: GraphQLSchema, variables: Mapping[str, Any]) -> None:
        self.is_introspecting = False
        self._schema = schema
        self._variables = dict(variables)
        self._fragments = {
            one.name.value: one for one in document.definitions if isinstance(one, FragmentDefinitionNode)
        }
        self._known: dict[str, Weight] = {}
        self._open: set[str] = set()
        for operation in (one for one in document.definitions if isinstance(one, OperationDefinitionNode)):
            for given in operation.variable_definitions or ():
                if isinstance(given.default_value, IntValueNode):
                    self._variables.setdefault(given.variable.name.value, _number(given.default_value.value))

    def weigh(self, selections: Iterable[SelectionNode], parent: object) -> Weight:
        """What ``selections`` of ``parent`` weigh."""
        weight = Weight()
        for one in selections:
            weight = weight.beside(self._one(one, parent))
        return weight

    def _one(self, node: SelectionNode, parent: object) -> Weight:
        own = Weight(directives=len(node.directives or ()))
        if isinstance(node, FragmentSpreadNode):
            return own.beside(self._fragment(node.name.value))
        if isinstance(node, InlineFragmentNode):
            kind = parent
            if node.type_condition is not None:
                kind = self._schema.get_type(node.type_condition.name.value)
            return own.beside(self.weigh(node.selection_set.selections, kind))
        return own.beside(self._field(node, parent)) if isinstance(node, FieldNode) else own

    def _fragment(self, name: str) -> Weight:
        """What the fragment weighs; nothing for one that spreads itself, which validation refuses."""
        if name not in self._known:
            fragment = self._fragments.get(name)
            if fragment is None or name in self._open:
                return Weight()
            if len(self._open) > MAX_NESTING:
                raise refused(f"fragments spread each other more than {MAX_NESTING} deep")
            self._open.add(name)
            kind = self._schema.get_type(fragment.type_condition.name.value)
            self._known[name] = self.weigh(fragment.selection_set.selections, kind)
            self._open.discard(name)
        return self._known[name]

    def _field(self, node: FieldNode, parent: object) -> Weight:
        name = node.name.value
        field = parent.fields.get(name) if isinstance(parent, GraphQLObjectType) else None
        if name in ("__schema", "__type"):
            self.is_introspecting = True
        inner = Weight()
        if node.selection_set is not None:
            inner = self.weigh(node.selection_set.selections, None if field is None else get_named_type(field.type))
        times = 1 if field is None else self._times(node, field)
        aliases = inner.aliases + (node.alias is not None)
        return Weight(1 + times * inner.cost, 1 + inner.depth, aliases, inner.directives)

    def _times(self, node: FieldNode, field: GraphQLField) -> int:
        """How often what is in the field is there."""
        if "limit" in field.args:
            return max(1, self._limit(node))
        kind = field.type.of_type if isinstance(field.type, GraphQLNonNull) else field.type
        is_items = node.name.value == "items"
        return LIST_SIZE if is_list_type(kind) and not is_items and not is_leaf_type(get_named_type(kind)) else 1

    def _limit(self, node: FieldNode) -> int:
        for given in node.arguments or ():
            if given.name.value != "limit":
                continue
            if isinstance(given.value, IntValueNode):
                return _number(given.value.value)
            if isinstance(given.value, VariableNode):
                found = self._variables.get(given.value.name.value, _USUAL)
                return int(found) if isinstance(found, (int, float)) and abs(found) < 10**12 else _USUAL
        return _USUAL


def _number(text: str) -> int:
    """The number; one of many digits counts as very large."""
    return int(text) if len(text) <= 12 else 10**12
