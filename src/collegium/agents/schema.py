"""Output schemas: checked before anything is spent on them, and held against what a model wrote."""

from __future__ import annotations

from typing import Any

import jsonschema_rs

from collegium.domain.chat import Json
from collegium.domain.errors import UsageError


class OutputSchema:
    """A JSON Schema for an object.

    Nothing outside the schema is ever fetched: a ``$ref`` to another place is an error.

    Raises:
        UsageError: It is no valid schema, or does not describe an object.
    """

    def __init__(self, schema: Json) -> None:
        if schema.get("type", "object") != "object":
            raise UsageError(f"the output schema describes a {schema['type']!r}: its top level has to be an object")
        try:
            self._validator = jsonschema_rs.validator_for(schema, retriever=_refuse)
        except (jsonschema_rs.ValidationError, ValueError) as error:
            message = getattr(error, "message", str(error))
            raise UsageError(f"the output schema is not a valid JSON Schema: {message}") from error

    def problems(self, data: Any) -> tuple[str, ...]:
        """What is wrong with ``data``, place by place; empty when it satisfies the schema."""
        return tuple(
            f"{'/'.join(map(str, e.instance_path)) or 'the document'}: {e.message}"
            for e in self._validator.iter_errors(data)
        )


def _refuse(uri: str) -> Any:
    raise ValueError(f"it refers to {uri}, which is not part of it")
