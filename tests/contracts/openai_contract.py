"""OpenAI's published description, as a check of what adapters send and what scripted servers answer."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

PATH = Path(__file__).parent / "openai" / "openapi.json"


@cache
def _document() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(PATH.read_text())
    return document


@cache
def _validator(schema: str) -> Draft202012Validator:
    root = {"$ref": f"#/components/schemas/{schema}", "components": _document()["components"]}
    return Draft202012Validator(root)


def check(schema: str, value: object) -> None:
    """Raises ``AssertionError`` naming what in ``value`` is not as ``schema`` of the description says."""
    error = next(iter(_validator(schema).iter_errors(value)), None)
    if error is not None:
        while error.context:  # the most telling branch of an anyOf
            error = max(error.context, key=lambda e: len(e.absolute_path))
        where = "/".join(map(str, error.absolute_path))
        raise AssertionError(f"not a {schema} at {where or 'the top'}: {error.message[:500]}")
