"""What a tool call gave: any return value as a ``ToolResult`` of bounded size, or that nobody can say."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from collegium.domain.errors import CollegiumError, NotFound, ToolError, UsageError
from collegium.domain.tool import ToolResult

LIMIT_BYTES: Final = 100 * 1024
"""How much of a result's text is kept, in UTF-8; ``data`` larger than this is left out."""


class OutcomeUnknown(ToolError):
    """A ``write`` was begun and nobody can say whether it fired: ask ``reconcile``, then a person."""

    code = "tool_outcome_unknown"


class Reconciled(msgspec.Struct, frozen=True, kw_only=True):
    """What the far side says of a key.

    ``done``: it fired, and ``result`` is what it gave. ``voided``: it did not fire and the far side will
    refuse this key from now on. ``unknown``: everything else; "not seen yet" is ``unknown``, because the call
    may still be on its way.
    """

    state: Literal["done", "voided", "unknown"]
    result: ToolResult | None = None
    detail: str = ""

    def __post_init__(self) -> None:
        if (self.state == "done") != (self.result is not None):
            raise ValueError(f"a result belongs to `done` and to nothing else, not to {self.state!r}")


def failed(text: str) -> ToolResult:
    """A result that says why there is none."""
    return capped(ToolResult(text=text, is_ok=False))


def result_of(value: object, *, tool: str) -> ToolResult:
    """A tool function's return value as a result.

    A string is the text; a ``ToolResult`` stays what it is; anything else that JSON can carry is shown to the
    agent as JSON and kept as ``data`` (under ``value`` unless it is an object). A value that is none of these
    gives a failed result.
    """
    if isinstance(value, ToolResult):
        return capped(value)
    if isinstance(value, str):
        return capped(ToolResult(text=value))
    try:
        text = _ENCODER.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        return failed(f"{tool} returned a {type(value).__name__}, which is neither text nor JSON ({error})")
    if value is None:
        return ToolResult(text="done")
    data: Any = msgspec.json.decode(text)
    return capped(ToolResult(text=text.decode(), data=data if isinstance(data, dict) else {"value": data}))


def error_result(error: Exception, *, tool: str) -> ToolResult:
    """A failed result for what a tool function raised.

    Raises:
        CollegiumError: ``error`` itself, where it is the house's own word and not the tool's: a store that is
            down, a limit, an attempt that was taken over, a model that cannot be reached. The worker deals
            with these, never the agent: told "store unavailable" it would write an answer without evidence.
    """
    if isinstance(error, CollegiumError):
        if not isinstance(error, (ToolError, NotFound, UsageError)) or isinstance(error, OutcomeUnknown):
            raise error
        return failed(str(error))
    return failed(f"{tool} failed: {type(error).__name__}: {error}")


def capped(result: ToolResult) -> ToolResult:
    """``result`` within ``LIMIT_BYTES``; its text says what was left out. Lone surrogates become ``?``."""
    data = result.data
    if data is not None and len(_ENCODER.encode(data)) > LIMIT_BYTES:
        data = None
    text = _cut(result.text)
    if data is None and result.data is not None:
        text += f"\n[the data is larger than {LIMIT_BYTES:,} bytes and was left out: ask for less at a time]"
    if text is result.text and data is result.data:
        return result
    return ToolResult(text=text, is_ok=result.is_ok, data=data)


def _cut(text: str) -> str:
    if len(text) <= LIMIT_BYTES // 4:  # no character takes more than four bytes
        return text if text.isascii() else _whole(text)
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= LIMIT_BYTES:
        return _whole(text)
    kept = encoded[:LIMIT_BYTES].decode("utf-8", "ignore")
    return f"{kept}\n[cut: the first {LIMIT_BYTES:,} of {len(encoded):,} bytes; ask for less at a time]"


def _whole(text: str) -> str:
    """``text`` itself, unless it holds lone surrogates, which no store can keep."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


_ENCODER: Final = msgspec.json.Encoder(decimal_format="string")
