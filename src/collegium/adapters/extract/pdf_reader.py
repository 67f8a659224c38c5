"""Reads a PDF from standard input and writes its text as JSON to standard output: run as a program of its own.

It imports nothing of collegium, so that it starts quickly; what native code does to this process harms no other.
The reply is ``{"title", "lines": [[text, size, gap]]}`` or ``{"error"}``: a line's font size in points and its distance to the line above in line
heights; None stands between pages.
"""

from __future__ import annotations

import contextlib
import json
import sys
from statistics import median
from typing import Any

MAX_PAGES = 3_000
MAX_MEMORY_BYTES = 2 << 30
_GAP_BETWEEN_CELLS = 1.2
"""Horizontal distance, in font sizes, from which two words stand in different cells of a table."""


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
    text = page.get_text_range()
    if page.count_chars() != len(text):
        return [[line, 0.0, 1.0] for line in text.split("\r\n")]
    found: list[list[Any]] = []
    start, above = 0, None
    for line in text.split("\r\n"):
        if line.strip():
            size, bottom, top, cells = _measure(page, start, line)
            height = max(size, top - bottom, 1.0)
            gap = 1.0 if above is None else abs(above - bottom) / height
            found.append([cells, round(size, 1), round(gap, 2)])
            above = bottom
        start += len(line) + 2
    return found


def _measure(page: Any, start: int, line: str) -> tuple[float, float, float, str]:
    """Font size, bottom, top, and the line with bars where wide gaps part its cells."""
    import pypdfium2.raw as pdfium

    boxes = [page.get_charbox(start + n) if not c.isspace() else None for n, c in enumerate(line)]
    seen = [box for box in boxes if box is not None]
    sizes = [pdfium.FPDFText_GetFontSize(page.raw, start + n) for n, box in enumerate(boxes) if box is not None]
    size = median(sizes)
    bottom, top = min(box[1] for box in seen), max(box[3] for box in seen)
    if size <= 1.5:
        size = top - bottom
    pieces: list[str] = []
    right = None
    for char, box in zip(line, boxes, strict=True):
        if box is not None:
            if right is not None and box[0] - right > _GAP_BETWEEN_CELLS * size and pieces and pieces[-1] == " ":
                pieces[-1] = " | "
            right = box[2]
        pieces.append(char)
    return size, bottom, top, "".join(pieces).strip()


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
