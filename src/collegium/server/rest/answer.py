"""Answers: documents of msgspec types, and how the OpenAPI document speaks of them.

Requests are pydantic models, which FastAPI checks and describes. Answers are types of the domain: they are encoded as
they are, and their schemas are put into the document by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from collegium.server.access.page import Page

_ENCODER: Final = msgspec.json.Encoder(enc_hook=str, decimal_format="number")
NO_STORE: Final = {"cache-control": "no-store"}


def answer(document: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """``document`` as JSON."""
    return Response(_ENCODER.encode(document), status, {**NO_STORE, **(headers or {})}, media_type="application/json")


def encoded(document: bytes, headers: Mapping[str, str] | None = None) -> Response:
    """A document that is JSON already."""
    return Response(document, 200, {**NO_STORE, **(headers or {})}, media_type="application/json")


def unmodified(request: Request, response: Response) -> Response | None:
    """304 for whoever has what would be sent already, None for everybody else.

    Source: RFC 9110, sections 8.8.3.2 and 13.1.2.
    """
    wanted, tag = request.headers.get("if-none-match"), response.headers.get("etag")
    if wanted is None or tag is None:
        return None
    # Compared as weak ones: whether it is the same byte for byte is of no interest here.
    given = [one.strip().removeprefix("W/") for one in wanted.split(",")]
    if "*" not in given and tag.removeprefix("W/") not in given:
        return None
    return Response(status_code=304, headers={"etag": tag, **NO_STORE})


def ref(kind: type) -> dict[str, str]:
    """The place of the schema of ``kind`` in the document; the module lists the type in its ``TYPES``."""
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def gives(kind: type, description: str, *, status: int = 200, example: object = None) -> dict[int | str, Any]:
    """``responses`` of an endpoint that answers with one ``kind``."""
    return {status: _content(description, ref(kind), example)}


def gives_page(kind: type, description: str, *, example: object = None) -> dict[int | str, Any]:
    """``responses`` of an endpoint that answers with a page of ``kind``."""
    schema = {
        "type": "object",
        "required": ["items", "next"],
        "properties": {
            "items": {"type": "array", "items": ref(kind)},
            "next": {"anyOf": [{"type": "string"}, {"type": "null"}], "description": Page.__doc__},
        },
    }
    return {200: _content(description, schema, example)}


def _content(description: str, schema: object, example: object) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": schema}
    if example is not None:
        content["example"] = msgspec.to_builtins(example, enc_hook=str)
    return {"description": description, "content": {"application/json": content}}
