"""CSV and TSV: the text is the file; every record is a block that knows its column names."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Final

from collegium.adapters.extract.lines import Line, lines
from collegium.domain.document import Block

_DELIMITERS: Final = ",;\t|"
_SAMPLE_LINES: Final = 20


def delimiter_of(text: str) -> str:
    """The delimiter that splits the first lines of ``text`` most evenly; a comma when none does."""
    sample = [line.text for line, _ in zip(lines(text), range(_SAMPLE_LINES), strict=False) if not line.blank]
    best, best_score = ",", 0.0
    for delimiter in _DELIMITERS:
        counts = [len(row) for row in csv.reader(sample, delimiter=delimiter)]
        if counts and max(counts) > 1:
            score = counts.count(counts[0]) / len(counts) + 0.01 * counts[0]
            if score > best_score:
                best, best_score = delimiter, score
    return best


def table_blocks(text: str) -> tuple[str, tuple[Block, ...]]:
    """No title, and one block per record; the first record gives the column names when it looks like names."""
    delimiter = delimiter_of(text)
    records = list(_records(text))
    if not records:
        return "", ()
    header = _cells(records[0].text, delimiter)
    is_header = len(records) > 1 and _looks_like_names(header)
    columns = tuple(cell.strip() for cell in header) if is_header else ()
    blocks = [Block(start=records[0].start, end=records[0].end, kind="heading" if is_header else "table")]
    blocks += [Block(start=r.start, end=r.end, kind="table", columns=columns) for r in records[1:]]
    return "", tuple(blocks)


def _cells(record: str, delimiter: str) -> list[str]:
    return next(csv.reader(record.splitlines(keepends=True), delimiter=delimiter), [])


def _looks_like_names(cells: list[str]) -> bool:
    return all(cell.strip() and not cell.strip()[0].isdigit() for cell in cells) and len(set(cells)) == len(cells)


def _records(text: str) -> Iterator[Line]:
    """Lines, joined while a quoted cell is open."""
    start, quotes = -1, 0
    for line in lines(text):
        if start < 0:
            if line.blank:
                continue
            start, quotes = line.start, 0
        quotes += line.text.count('"')
        if quotes % 2 == 0:
            yield Line(start, line.end, text[start : line.end])
            start = -1
    if start >= 0:
        yield Line(start, len(text), text[start:])
