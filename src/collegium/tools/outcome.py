"""What a tool call gave: any return value as a ``ToolResult`` of bounded size, or that nobody can say."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from collegium.domain.chat import Json
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


def result_of(value: object, *, tool: str, limit_bytes: int = LIMIT_BYTES, is_done: bool = False) -> ToolResult:
    """A tool function's return value as a result; never raises.

    A string is the text, and so are bytes that are UTF-8; a ``ToolResult`` stays what it is; anything else that JSON
    can carry is shown to the agent as JSON and kept as ``data`` (under ``value`` unless it is an object). A value that
    is none of these gives a failed result, or, with ``is_done``, one that says that the call was carried out: an agent
    that is told of a failure would do it again.
    """
    try:
        result = _plain(value, limit_bytes)
    except Exception as error:  # noqa: BLE001  # the value is foreign code's, and so is what looking at it raises
        kind = type(value).__name__
        what = f"{tool} returned a {kind}, which is neither text nor JSON ({said_by(error)})"
        if is_done:
            return capped(ToolResult(text=f"{tool} was carried out; what came of it cannot be shown: {what}"))
        return failed(what)
    return capped(result, limit_bytes)


def error_result(error: BaseException, *, tool: str) -> ToolResult:
    """A failed result for what a tool function raised.

    Raises:
        CollegiumError: ``error`` itself, where it is the house's own word and not the tool's: a store that is
            down, a limit, an attempt that was taken over, a model that cannot be reached. The worker deals
            with these, never the agent: told "store unavailable" it would write an answer without evidence.
    """
    if isinstance(error, CollegiumError):
        if not isinstance(error, (ToolError, NotFound, UsageError)) or isinstance(error, OutcomeUnknown):
            raise error
        return failed(said_by(error, LIMIT_BYTES))
    return failed(f"{tool} failed: {type(error).__name__}: {said_by(error, LIMIT_BYTES)}")


def said_by(error: BaseException, limit_bytes: int = 2_000) -> str:
    """The text of ``error``, as far as it has one that can be shown."""
    try:
        text = str(error)
    except Exception as fault:  # noqa: BLE001  # an exception of foreign code, whose text is foreign code too
        return f"(its text cannot be shown: {type(fault).__name__})"
    return _cut(_exactly(text), limit_bytes)


def capped(result: ToolResult, limit_bytes: int = LIMIT_BYTES) -> ToolResult:
    """``result`` within ``limit_bytes``; its text says what was left out.

    Lone surrogates, which no store can keep, and NUL, which some cannot, become ``?``.
    """
    data = result.data
    if data is not None and len(_ENCODER.encode(data)) > limit_bytes:
        data = None
    text = _cut(result.text, limit_bytes)
    if data is None and result.data is not None:
        text += f"\n[the data is larger than {limit_bytes:,} bytes and was left out: ask for less at a time]"
    if text is result.text and data is result.data:
        return result
    return ToolResult(text=text, is_ok=result.is_ok, data=data)


def _plain(value: object, limit_bytes: int) -> ToolResult:
    """``value`` as a result made of nothing but plain text and JSON. Raises whatever looking at it raises."""
    if isinstance(value, ToolResult):
        given: tuple[Any, Any] = (value.text, value.data)  # nobody has checked them yet
        if not isinstance(given[0], str) or not isinstance(given[1], dict | None):
            raise TypeError("its text has to be a str, its data a dict")
        return ToolResult(text=_exactly(value.text), is_ok=bool(value.is_ok), data=_as_json(value.data, limit_bytes))
    if isinstance(value, str):
        return ToolResult(text=_exactly(value))
    if isinstance(value, (bytes, bytearray, memoryview)):
        return ToolResult(text=bytes(value).decode())
    if value is None:
        return ToolResult(text="done")
    encoded = _ENCODER.encode(value)
    if len(encoded) > limit_bytes:
        return ToolResult(text=encoded.decode())
    data: Any = msgspec.json.decode(encoded)
    return ToolResult(text=encoded.decode(), data=data if isinstance(data, dict) else {"value": data})


def _as_json(data: Json | None, limit_bytes: int) -> Json | None:
    """``data`` as it will be read back from the store; what is too large to be kept is handed back as it is."""
    if data is None:
        return None
    encoded = _ENCODER.encode(data)
    decoded: Json = data if len(encoded) > limit_bytes else msgspec.json.decode(encoded)
    return decoded


def _exactly(text: str) -> str:
    """``text`` as a plain string: a subclass may answer anything."""
    return text if type(text) is str else str.__str__(text)


def _cut(text: str, limit_bytes: int) -> str:
    if len(text) <= limit_bytes // 4:  # no character takes more than four bytes
        return _storable(text)
    size = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
    if size <= limit_bytes:
        return _storable(text)
    kept = text[:limit_bytes].encode("utf-8", "replace")[:limit_bytes].decode("utf-8", "ignore")
    return f"{_storable(kept)}\n[cut: the first {limit_bytes:,} of {size:,} bytes; ask for less at a time]"


def _storable(text: str) -> str:
    """``text`` itself, unless it holds what stores cannot keep."""
    if "\0" in text:
        text = text.replace("\0", "?")
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


_ENCODER: Final = msgspec.json.Encoder(decimal_format="string")
