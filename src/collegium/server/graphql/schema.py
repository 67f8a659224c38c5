"""The schema: what is asked passes its limits first, and no error says more than it should."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from typing import Final

import strawberry
from graphql import GraphQLError, NoSchemaIntrospectionCustomRule, specified_rules
from strawberry.extensions import ParserCache, SchemaExtension
from strawberry.schema.config import StrawberryConfig
from strawberry.types import ExecutionContext

from collegium.domain.errors import CollegiumError, NotAuthenticated, StoreError
from collegium.domain.redaction import masked
from collegium.server.graphql.context import Context
from collegium.server.graphql.cost import MAX_TOKENS, check_cost, check_text
from collegium.server.graphql.mutations import Mutation
from collegium.server.graphql.queries import Query
from collegium.server.graphql.subscriptions import Subscription
from collegium.server.graphql.types import LONG, Long
from collegium.server.problem import trace_id

PARSED: Final = 128
"""So many parsed queries are kept."""
_log = logging.getLogger("collegium.server")


class Limits(SchemaExtension):
    """Refuses what is too much before it is parsed, and before it is validated; and whoever's credential is over."""

    _refused: GraphQLError | None = None

    async def on_operation(self) -> AsyncIterator[None]:
        """Looks at the text, and on a socket at the caller's credential.

        What is raised here is an answer to a request; over a socket it would be lost, and is said when it is validated.
        """
        asked = self.execution_context
        context: Context | None = asked.context
        is_valid = None if context is None else context.is_valid
        asked.parse_options["max_tokens"] = MAX_TOKENS
        try:
            check_text(asked.query or "")
        except GraphQLError as error:
            if is_valid is None:
                raise
            self._refused = error
        if is_valid is not None and not await is_valid():
            cause = NotAuthenticated("the credential that this socket came with holds no more: open another one")
            self._refused = GraphQLError(cause.message, original_error=cause)
        yield

    def on_validate(self) -> Iterator[None]:
        """Weighs what is asked for; introspection is for whoever uses this machine alone."""
        asked = self.execution_context
        context: Context | None = asked.context
        if context is None or context.caller.principal.kind != "local":
            asked.validation_rules = (*specified_rules, NoSchemaIntrospectionCustomRule)
        if self._refused is not None:
            asked.pre_execution_errors = [self._refused]
        elif asked.graphql_document is not None:
            try:
                given = asked.variables if isinstance(asked.variables, dict) else {}
                check_cost(asked.graphql_document, asked.schema._schema, given)  # noqa: SLF001 - it has no other name
            except GraphQLError as error:
                asked.pre_execution_errors = [error]
        yield


class Schema(strawberry.Schema):
    """A schema whose errors have a code and a trace id."""

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """Gives each error its code; what nobody foresaw is logged, and told as ``internal``."""
        context: Context | None = None if execution_context is None else execution_context.context
        for error in errors:
            _mark(error, "" if context is None else trace_id(context.connection))


def _mark(error: GraphQLError, trace: str) -> None:
    cause = error.original_error
    while isinstance(cause, GraphQLError):
        cause = cause.original_error
    code = (error.extensions or {}).get("code", "invalid_request")
    if isinstance(cause, CollegiumError):
        code, error.message = cause.code, masked(cause.message)
        if isinstance(cause, StoreError):
            _log.warning("a query found its store away: %s", cause)
    elif cause is not None:
        code, error.message = "internal", "something failed in a way nobody foresaw; the log says what"
        _log.error("a query failed (trace %s)", trace, exc_info=cause)
    error.extensions = {"code": code, "trace_id": trace}


def make_schema() -> Schema:
    """The schema, ready to be asked."""
    return Schema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        extensions=[Limits, lambda: ParserCache(maxsize=PARSED)],
        config=StrawberryConfig(scalar_map={Long: LONG}),
    )
