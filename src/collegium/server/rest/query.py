"""Query parameters of routes that are served without FastAPI."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from starlette.datastructures import QueryParams
from starlette.requests import Request

from collegium.domain.errors import UsageError

_SHORT_BYTES: Final = 200
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d")


def asked_of(request: Request) -> QueryParams:
    """What the query of ``request`` asks for; short ones, which come again and again, are read once."""
    text: bytes = request.scope["query_string"]
    return _short(text) if len(text) <= _SHORT_BYTES else request.query_params


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
