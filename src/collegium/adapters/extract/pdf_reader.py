"""Reads a PDF from standard input and writes its text as JSON to standard output: run as a program of its own.

It imports nothing of collegium, so that it starts quickly; what native code does to this process harms no
other. The reply is ``{"title", "lines": [[cells, size, gap]]}`` or ``{"error"}``: ``cells`` are the texts of
a table row, or the one text of a line; then its font size in points and its distance to the line above in
font sizes; None stands between pages.
"""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

MAX_PAGES = 3_000
MAX_MEMORY_BYTES = 2 << 30
_GAP_BETWEEN_CELLS = 1.2
"""Horizontal distance, in font sizes, from which two words stand in different cells of a table."""
_SAME_CELL = 1.45
"""Vertical distance, in font sizes, up to which a line goes on with the cell above it."""
_NARROW = 12
"""Widest first cell, in font sizes, that may go on in the next line; wider ones are lines of prose."""


def read(data: bytes) -> dict[str, Any]:
    """The reply for the bytes of one PDF."""
    import pypdfium2

    try:
        pdf = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        reason = str(error).lower()
        encrypted = "password" in reason or "security" in reason
        return {"error": "it is encrypted; give a copy without a password" if encrypted else "it is not a whole PDF"}
    if len(pdf) > MAX_PAGES:
        return {"error": f"it has {len(pdf):,} pages, more than {MAX_PAGES:,}"}
    found: list[list[Any] | None] = []
    for number in range(len(pdf)):
        found += [None] if found else []
        with contextlib.suppress(pypdfium2.PdfiumError):
            found += _page_lines(pdf[number].get_textpage())
    return {"title": pdf.get_metadata_dict().get("Title", ""), "lines": found}


def _page_lines(page: Any) -> list[list[Any]]:
    """Lines and table rows in the order in which the page draws them."""
    text = page.get_text_range()
    if page.count_chars() != len(text):  # characters beyond the basic plane: offsets no longer match
        return [[[line], 0.0, 1.0] for line in text.split("\r\n") if line.strip()]
    rows: list[list[list[Any]]] = []
    for segment in _segments(page, text):
        place = _place(rows[-1], segment) if rows else None
        if place is None:
            rows.append([segment])
        elif place == len(rows[-1]):
            rows[-1].append(segment)
        else:
            rows[-1][place] = _joined(rows[-1][place], segment)
    found: list[list[Any]] = []
    above = None
    for row in rows:
        size = max(cell[1] for cell in row)
        gap = 1.0 if above is None else abs(above - row[0][4]) / size
        found.append([[cell[0] for cell in row], round(size, 1), round(gap, 2)])
        above = min(cell[5] for cell in row)
    return found


def _segments(page: Any, text: str) -> Any:
    """Runs of characters on one line without a wide gap: text, size, left, right, first baseline, last baseline."""
    import pypdfium2.raw as pdfium

    current: list[Any] | None = None
    pieces: list[str] = []
    for index, char in enumerate(text):
        if char.isspace():
            pieces.append(" ")
            continue
        left, bottom, right, top = page.get_charbox(index, loose=True)
        size = pdfium.FPDFText_GetFontSize(page.raw, index)
        size = size if size > 1.5 else max(top - bottom, 1.0)
        if current is not None:
            apart = left - current[3] > _GAP_BETWEEN_CELLS * size or left < current[3] - 2 * size
            if apart or abs(bottom - current[4]) > 0.5 * size:
                yield ["".join(pieces).strip(), *current[1:]]
                current, pieces = None, []
        if current is None:
            current = ["", size, left, right, bottom, bottom]
        current[1], current[3] = max(current[1], size), right
        pieces.append(char)
    if current is not None:
        yield ["".join(pieces).strip(), *current[1:]]


def _place(row: list[list[Any]], segment: list[Any]) -> int | None:
    """Where a segment belongs in the row: the number of the cell that it goes on with, of a new one, or nowhere."""
    first, last, count = row[0], row[-1], len(row)
    size: float = segment[1]
    left: float = segment[2]
    baseline: float = segment[4]
    if left > last[3] and -0.5 * size <= first[4] - baseline <= 3 * _SAME_CELL * size:
        return count
    for number in range(count - 1, -1, -1):
        cell = row[number]
        below = 0 < cell[5] - baseline <= _SAME_CELL * size and abs(left - cell[2]) < size
        narrow = number > 0 or (cell is last and cell[3] - cell[2] < _NARROW * size)
        if below and narrow and abs(size - cell[1]) < 0.5:
            return number
    return None


def _joined(cell: list[Any], segment: list[Any]) -> list[Any]:
    return [f"{cell[0]} {segment[0]}", cell[1], cell[2], max(cell[3], segment[3]), cell[4], segment[4]]


def main() -> None:
    """Reads, writes, and never takes more memory than the cap."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    try:
        reply = read(sys.stdin.buffer.read())
    except ImportError:
        reply = {"missing": "pypdfium2"}
    except MemoryError:
        reply = {"error": f"reading it takes more than {MAX_MEMORY_BYTES >> 20:,} MB of memory"}
    sys.stdout.buffer.write(json.dumps(reply).encode())


if __name__ == "__main__":
    main()
