"""Passages to the smallest things that can be quoted: sentences, table rows, records and lines of code."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from collegium.domain.document import Chunk, Passage
from collegium.domain.sentences import sentences

_LEAD: Final = re.compile(r"^(?:[-*+\u2022\u2013#>]+|\d{1,3}[.)])\s+")
_LONGEST_RECORD: Final = 1_500
_HEADING_MAX: Final = 80
_LONGEST_RUN: Final = 600
_MOST_SENTENCES: Final = 3


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """A quotable piece: ``quote`` lies at ``start`` to ``end`` of the document, ``text`` says it for a reader.

    ``around`` is what stands beside it in the same passage, ``cells`` are the named values of a row, ``size``
    is its number of sentences.
    """

    chunk: Chunk
    start: int
    end: int
    quote: str
    text: str
    around: str = ""
    cells: tuple[tuple[str, str], ...] = ()
    size: int = 1
    is_heading: bool = False
    passage_score: float = 0.0


def units(passage: Passage) -> tuple[Unit, ...]:
    """The units of a passage in order: rows, records, and runs of one to three sentences."""
    chunk = passage.chunk
    spans = list(_spans(chunk))
    found: list[Unit] = []
    for first, last in _runs(len(spans), together=chunk.kind == "prose"):
        start, end = spans[first][0], spans[last][1]
        quote = chunk.text[start:end]
        if len(quote) > _LONGEST_RUN and last > first:
            continue
        cells = _cells(quote, chunk) if chunk.kind == "table" else ()
        beside = [spans[n] for n in (first - 1, last + 1) if 0 <= n < len(spans) and chunk.kind != "table"]
        found.append(
            Unit(
                chunk=chunk,
                start=chunk.start + start,
                end=chunk.start + end,
                quote=quote,
                text=_readable(quote, cells),
                around=" ".join(chunk.text[a:b] for a, b in beside),
                cells=cells,
                size=last - first + 1,
                is_heading=last == 0 and _is_heading(quote, chunk),
                passage_score=passage.score,
            )
        )
    return tuple(found)


def _is_heading(quote: str, chunk: Chunk) -> bool:
    plain = quote.strip("# \t*=").casefold()
    return any(plain == part.strip().casefold() for part in chunk.context.split(" > "))


def _runs(count: int, *, together: bool) -> Iterator[tuple[int, int]]:
    for first in range(count):
        for last in range(first, min(first + (_MOST_SENTENCES if together else 1), count)):
            yield first, last


def _spans(chunk: Chunk) -> Iterator[tuple[int, int]]:
    if chunk.kind == "prose":
        yield from (span for span in sentences(chunk.text) if any(c.isalnum() for c in chunk.text[span[0] : span[1]]))
        return
    if chunk.kind == "table" and len(chunk.text) <= _LONGEST_RECORD and _json(chunk.text) is not None:
        yield 0, len(chunk.text)
        return
    yield from _lines(chunk.text, together=chunk.kind == "code")


def _lines(text: str, *, together: bool) -> Iterator[tuple[int, int]]:
    """Lines that hold something; for code, runs of lines that are short enough to be read as one."""
    position, start, end = 0, -1, -1
    for line in text.splitlines(keepends=True):
        here, position = position, position + len(line)
        body = line.strip()
        if start >= 0 and (not body or not together or here + len(line) - start > 300):
            yield start, end
            start = -1
        if body and any(c.isalnum() for c in body):
            start = here + len(line) - len(line.lstrip()) if start < 0 else start
            end = here + len(line.rstrip())
    if start >= 0:
        yield start, end


def _cells(quote: str, chunk: Chunk) -> tuple[tuple[str, str], ...]:
    """Names and values of a row or record."""
    value = _json(quote)
    if isinstance(value, dict):
        return tuple((str(name), _said(member)) for name, member in value.items())
    if not chunk.columns:
        return ()
    if quote.lstrip().startswith("|") or " | " in quote:
        row = [cell.strip() for cell in quote.strip().strip("|").split("|")]
    else:
        delimiter = max(",;\t", key=quote.count)
        row = next(csv.reader([" ".join(quote.splitlines())], delimiter=delimiter), [])
    if len(row) != len(chunk.columns):
        return ()
    return tuple(zip(chunk.columns, (cell.strip() for cell in row), strict=True))


def _json(text: str) -> Any:
    """The value of a JSON record, with or without its key and a comma after it; None when it is none."""
    body = text.strip().rstrip(",")
    if not body or body[0] not in '{["':
        return None
    for candidate in (body, "{" + body + "}"):
        try:
            value = json.loads(candidate, strict=False)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and len(value) == 1 and isinstance(only := next(iter(value.values())), dict):
            return {"name": next(iter(value)), **only}
        return value if isinstance(value, dict | list) else None
    return None


def _said(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(_said(member) for member in value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {_said(member)}" for name, member in value.items())
    return str(value)


def _readable(quote: str, cells: tuple[tuple[str, str], ...]) -> str:
    if cells:
        return "; ".join(f"{_plain(name)}: {value}" for name, value in cells if value)
    first, gap, rest = quote.partition("\n\n")
    if gap and len(first) < _HEADING_MAX and first[-1:].isalnum():
        quote = f"{first.strip('# ')}: {rest}"
    return _LEAD.sub("", " ".join(quote.split()))


def _plain(name: str) -> str:
    return name.replace("_", " ").strip()
