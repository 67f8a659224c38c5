"""Query parameters of routes that are served without FastAPI."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from typing import Final

from fastapi.routing import APIRoute
from starlette.datastructures import QueryParams
from starlette.requests import Request

from collegium.domain.errors import UsageError

_SHORT_BYTES: Final = 200
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d")


def asked_of(request: Request, *names: str) -> QueryParams:
    """What the query of ``request`` asks for, by ``names``; short ones, which come again and again, are read once.

    Raises ``UsageError`` for a parameter that is none of them.
    """
    text: bytes = request.scope["query_string"]
    asked = _short(text) if len(text) <= _SHORT_BYTES else request.query_params
    require_known(asked, names)
    return asked


def require_known(asked: QueryParams, names: Collection[str]) -> None:
    """Raises ``UsageError`` for a parameter of another name: a filter that is misspelt would let everything through."""
    for name in asked:
        if name not in names:
            known = f"there are {', '.join(sorted(names))}" if names else "there is none"
            raise UsageError(f"there is no parameter {name[:40]!r} here: {known}", parameter=name[:40])


async def only_known(request: Request) -> None:
    """The same for a route of FastAPI, by the parameters that its function has; a dependency of all of them."""
    if request.scope["query_string"]:
        route: APIRoute = request.scope["route"]
        require_known(request.query_params, [field.alias for field in route.dependant.query_params])


@lru_cache(500)
def _short(text: bytes) -> QueryParams:
    return QueryParams(text)


def number(asked: QueryParams, name: str, default: int, *, least: int = 1, most: int = 2**53) -> int:
    """The whole number called ``name``, or ``default``. Raises ``UsageError`` for another, or beyond its bounds."""
    text = asked.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and least <= int(text[:20]) <= most):
        bound = f"{least} or more" if most == 2**53 else f"from {least} to {most:,}"
        raise UsageError(f"{name}={text[:40]!r} does not do: it has to be a whole number {bound}", parameter=name)
    return int(text)


def optional(asked: QueryParams, name: str) -> str | None:
    """The text called ``name``, or None where it is not given or empty."""
    return asked.get(name) or None


def several(asked: QueryParams, name: str) -> tuple[str, ...]:
    """All texts called ``name``, given once each or in one with commas between them."""
    return tuple(part for text in asked.getlist(name) for part in text.split(",") if part)


def moment_text(text: object) -> object:
    """A time as RFC 3339 writes it, and nothing else: pydantic would take a number for seconds too."""
    if isinstance(text, str) and not _DATE.match(text):
        raise ValueError("write a time as 2026-11-22T12:00:00Z")
    return text
