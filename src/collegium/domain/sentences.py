"""Sentences of a text, as offsets: prose, list items, table rows and lines of key and value."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

Span = tuple[int, int]

_OWN_LINE: Final = re.compile(r"\s*(?:[-*+\u2022\u2013]\s|\d{1,3}[.)]\s|[a-z][.)]\s|#{1,6}\s|\||>|```|~~~)")
_COLUMNS: Final = re.compile(r"\S(?: {3,}|\t+)\S")
_END: Final = re.compile(
    r"""[.!?\u2026]+["'\u201d\u2019)\]]*(?:\[\d+\])*(?=\s+["'\u201c\u2018(\[]*[A-Z0-9\u00c0-\u00de`*_])"""
)
_LAST_WORD: Final = re.compile(r"[\w.]+$")
_ABBREVIATIONS: Final = frozenset(
    {"mr", "mrs", "ms", "dr", "prof", "st", "jr", "sr", "vs", "etc", "e.g", "i.e", "cf", "ca", "approx", "resp"}
    | {"inc", "ltd", "co", "corp", "dept", "est", "incl", "a.m", "p.m", "u.s", "u.k"}
)
_BEFORE_NUMBERS: Final = frozenset({"no", "nos", "fig", "figs", "eq", "vol", "p", "pp", "sec", "ch", "min", "max"})
_CALENDAR: Final = frozenset(
    {"jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec"}
    | {"mon", "tue", "wed", "thu", "fri", "sat", "sun"}
)
_LONG_LINE: Final = 45
"""A line at least this long that does not end a sentence was broken by a margin."""


def sentences(text: str) -> tuple[Span, ...]:
    """``(start, end)`` of every sentence of ``text`` in order, without the white space around it.

    A list item, table row, heading or line of columns never shares a sentence with its neighbours; lines that
    a margin broke belong together, as do a term and the indented definition below it. Versions (``1.2.3``),
    URLs, abbreviations and initials do not end a sentence.
    """
    return tuple(span for block in _blocks(text) for span in _split(text, *block))


def _blocks(text: str) -> Iterator[Span]:
    """Runs of lines in which sentences may go on from one line to the next."""
    start, end, previous = -1, -1, ""
    position = 0
    for line in text.splitlines(keepends=True):
        here, position = position, position + len(line)
        stripped = line.strip()
        if start >= 0 and (not stripped or _breaks(previous, line)):
            yield start, end
            start = -1
        if stripped:
            start = here if start < 0 else start
            end, previous = here + len(line.rstrip()), line
    if start >= 0:
        yield start, end


def _breaks(previous: str, line: str) -> bool:
    if _OWN_LINE.match(line) or _COLUMNS.search(line) or _COLUMNS.search(previous.rstrip()):
        return True
    if previous.lstrip().startswith(("|", "#", "```", "~~~")):
        return True
    if _indent(line) >= _indent(previous) + 2 and not previous.rstrip().endswith((".", ":", "?", "!")):
        return False
    wrapped = len(previous.rstrip()) >= _LONG_LINE or line.lstrip()[:1].islower()
    return not wrapped


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))


def _split(text: str, start: int, end: int) -> Iterator[Span]:
    if text[start:end].lstrip().startswith("|"):
        yield _trim(text, start, end)
        return
    begin = start
    for match in _END.finditer(text, start, end):
        if match.group()[0] == "." and _continues(text, begin, match.start()):
            continue
        yield _trim(text, begin, match.end())
        begin = match.end()
    if text[begin:end].strip():
        yield _trim(text, begin, end)


def _continues(text: str, begin: int, dot: int) -> bool:
    """Whether the full stop at ``dot`` belongs to an abbreviation, an initial or the number of a list item."""
    word = _LAST_WORD.search(text, begin, dot)
    if word is None:
        return False
    last = word.group()
    if last.lower() in _BEFORE_NUMBERS:
        return text[dot + 1 : dot + 3].strip()[:1].isdigit()
    if last.lower() in _ABBREVIATIONS or (last.istitle() and last.lower() in _CALENDAR):
        return True
    if len(last) == 1 and last.isupper():
        return True
    return last.isdigit() and not text[begin : word.start()].strip(" \t\n*_")


def _trim(text: str, start: int, end: int) -> Span:
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())
