"""Reads a DOCX from standard input and writes its text as JSON to standard output: run as a program of its own.

It imports nothing of collegium, so that it starts quickly; a document that unpacks to gigabytes harms no other process.
The reply is ``{"title", "blocks": [[kind, text or cells, level]]}`` or ``{"error"}``.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import zipfile
from typing import Any

MAX_MEMORY_BYTES = 2 << 30
MAX_UNPACKED_BYTES = 500 << 20


def read(data: bytes) -> dict[str, Any]:
    """The reply for the bytes of one DOCX."""
    import docx
    from docx.opc.exceptions import OpcError
    from docx.table import Table

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(item.file_size for item in archive.infolist())
        if unpacked > MAX_UNPACKED_BYTES:
            return {"error": f"it unpacks to {unpacked >> 20:,} MB, more than {MAX_UNPACKED_BYTES >> 20:,} MB"}
        document = docx.Document(io.BytesIO(data))
    except zipfile.BadZipFile:
        encrypted = data.startswith(b"\xd0\xcf\x11\xe0")
        return {"error": "it is encrypted or of an old Word format" if encrypted else "it is not a whole DOCX file"}
    except (OpcError, KeyError, ValueError):
        return {"error": "it is not a Word document"}
    blocks: list[list[Any]] = []
    for item in document.iter_inner_content():
        if isinstance(item, Table):
            blocks.append(["table", [[cell.text for cell in _once(row.cells)] for row in item.rows], 0])
        elif item.text.strip():
            blocks.append(_paragraph(item))
    return {"title": document.core_properties.title or "", "blocks": blocks}


def _paragraph(item: Any) -> list[Any]:
    style = (item.style.name or "").lower() if item.style is not None else ""
    if style == "title":
        return ["heading", item.text, 0]
    if style.startswith("heading"):
        level = style.removeprefix("heading").strip()
        return ["heading", item.text, int(level) if level.isdigit() else 1]
    numbered = item._p.pPr is not None and item._p.pPr.numPr is not None  # noqa: SLF001 - no public way to ask
    return ["list" if numbered or style.startswith("list") else "prose", item.text, 0]


def _once(cells: Any) -> list[Any]:
    """Merged cells come once per column: keep the first of each."""
    kept: list[Any] = []
    for cell in cells:
        if not kept or cell._tc is not kept[-1]._tc:  # noqa: SLF001 - no public identity
            kept.append(cell)
    return kept


def main() -> None:
    """Reads, writes, and never takes more memory than the cap."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    try:
        reply = read(sys.stdin.buffer.read())
    except ImportError:
        reply = {"missing": "python-docx"}
    except MemoryError:
        reply = {"error": f"reading it takes more than {MAX_MEMORY_BYTES >> 20:,} MB of memory"}
    sys.stdout.buffer.write(json.dumps(reply).encode())


if __name__ == "__main__":
    main()
