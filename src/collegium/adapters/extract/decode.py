"""Bytes to text for the formats whose extracted text is the decoded file, unchanged."""

from __future__ import annotations

import codecs
from typing import Final

_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROL: Final = bytes(set(range(32)) - {8, 9, 10, 11, 12, 13, 27}) + b"\x7f"
_MOST_CONTROL: Final = 0.01
"""Share of control characters above which bytes are no text in a one-byte encoding."""


def decode(data: bytes) -> str:
    """The text of ``data``: by its byte order mark (no part of the text), else UTF-8, Windows-1252 or Latin-1.

    Newline characters stay as they are. Raises ValueError with a reason for data that is not text.
    """
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            try:
                return data.decode(encoding)
            except UnicodeDecodeError as error:
                raise ValueError(f"it is marked as {encoding} and broken at byte {error.start}") from None
    if b"\0" in data:
        raise ValueError("it holds binary data, not text")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    if len(data.translate(None, _CONTROL)) < len(data) * (1 - _MOST_CONTROL):
        raise ValueError("it holds binary data, not text")
    return text or _one_byte(data)


def _one_byte(data: bytes) -> str:
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return data.decode("latin-1")
