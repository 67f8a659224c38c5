"""Arguments in the one form that is stored and hashed, and the key of a call."""

from __future__ import annotations

import hashlib
import math
import re
from typing import Any, Final

import msgspec

from collegium.domain.chat import Json
from collegium.domain.errors import ToolError

LIMIT_DEPTH: Final = 64
"""How deep arguments may be nested."""
EXACT_INT: Final = 2**53
"""Up to here a float holds every whole number."""

_COUNTED: Final = re.compile(r"(.*-[0-9a-f]{32})-(\d+)\Z", re.DOTALL)
_ENCODER: Final = msgspec.json.Encoder(order="deterministic")


def canonical_arguments(arguments: Json) -> Json:
    """The arguments with sorted keys and one spelling for each number: equal calls look equal.

    A whole float up to ``2**53`` becomes an integer (``1.0`` and ``1`` are one number in JSON, ``-0.0`` is
    ``0``); other floats stay as they are and are written in their shortest form that reads back the same.
    Strings are kept to the last character.

    Raises:
        ToolError: A value that JSON cannot carry (NaN, infinity, lone surrogates, other types) or nested too
            deep.
    """
    return _object(arguments, "", 0)


def canonical_bytes(arguments: Json) -> bytes:
    """``canonical_arguments`` as JSON in UTF-8, without any whitespace."""
    return _ENCODER.encode(canonical_arguments(arguments))


def arguments_sha256(arguments: Json) -> str:
    """Hex SHA-256 of ``canonical_bytes``: what approvals are bound to and the ledger compares."""
    return hashlib.sha256(canonical_bytes(arguments)).hexdigest()


def idempotency_key(run: str, task: str, *, step: int, call: int) -> str:
    """The key of a call: the same for every attempt at it, different for every other call of any run.

    It starts with the run's id, for whoever looks for it at the far side; the rest is a hash, so that it has
    a fixed length and only characters that every protocol carries.
    """
    digest = hashlib.sha256(msgspec.json.encode((run, task, step, call))).hexdigest()
    return f"{run}-{digest[:32]}"


def next_key(key: str) -> str:
    """The key of a call that is made anew because the far side has voided ``key``: ``K``, ``K-2``, ``K-3`` ..."""
    match = _COUNTED.match(key)
    return f"{match[1]}-{int(match[2]) + 1}" if match else f"{key}-2"


def first_key(key: str) -> str:
    """The key that the call of ``key`` had first."""
    match = _COUNTED.match(key)
    return match[1] if match else key


def _object(value: dict[Any, Any], path: str, depth: int) -> Json:
    for name in value:
        if not isinstance(name, str):
            raise ToolError(f"the argument {path or 'object'} has a key that is no text: {name!r}", path=path)
    dot = "." if path else ""
    return {_text(name, path): _canonical(value[name], f"{path}{dot}{name}", depth + 1) for name in sorted(value)}


def _canonical(value: Any, path: str, depth: int) -> Any:
    if depth > LIMIT_DEPTH:
        raise ToolError(f"the arguments are nested deeper than {LIMIT_DEPTH} levels: send them flatter")
    match value:
        case None | bool() | int():
            return value
        case str():
            return _text(value, path)
        case float():
            return _number(value, path)
        case list():
            return [_canonical(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
        case dict():
            return _object(value, path, depth)
    raise ToolError(f"the argument {path} is a {type(value).__name__}, which JSON cannot carry", path=path)


def _text(value: str, path: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ToolError(f"the argument {path} holds half a character (a lone surrogate): send whole ones") from error
    return value


def _number(value: float, path: str) -> float | int:
    if not math.isfinite(value):
        raise ToolError(f"the argument {path} is {value}, which JSON cannot carry: send a finite number", path=path)
    return int(value) if value.is_integer() and abs(value) <= EXACT_INT else value
