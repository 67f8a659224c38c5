"""PDF and DOCX to readable text, from what the reader programs reply."""

from __future__ import annotations

from statistics import median
from typing import Any

from collegium.adapters.extract.writer import TextWriter
from collegium.domain.document import Block

_HEADING_SIZE = 1.12
_PARAGRAPH_GAP = 1.6
_HEADING_MAX = 120


def docx_text(reply: dict[str, Any]) -> tuple[str, str, tuple[Block, ...]]:
    """Text, title and blocks of a Word document."""
    writer = TextWriter()
    for kind, content, level in reply["blocks"]:
        if kind == "heading":
            writer.heading(content, level)
        elif kind == "table":
            columns = tuple(" ".join(cell.split()) for cell in content[0]) if content else ()
            for number, row in enumerate(content):
                writer.row(tuple(row), columns if number else ())
        else:
            writer.add(f"- {content.strip()}" if kind == "list" else content, kind)
    text, blocks = writer.finish()
    return text, writer.title or str(reply.get("title") or "").strip(), blocks


def pdf_text(reply: dict[str, Any]) -> tuple[str, str, tuple[Block, ...]]:
    """Text, title and blocks of a PDF: larger lines are headings, wide gaps part paragraphs, cells make tables."""
    found: list[list[Any] | None] = reply["lines"]
    sizes = [line[1] for line in found if line is not None for _ in range(sum(map(len, line[0])))]
    body = median(sizes) if sizes else 0.0
    writer = TextWriter()
    paragraph: list[str] = []
    columns: tuple[str, ...] = ()

    def flush() -> None:
        writer.add(_joined(paragraph), "list" if paragraph and paragraph[0][:2] in _BULLETS else "prose")
        paragraph.clear()

    running = _running(found)
    for line in found:
        if line is None or _shape(line) in running:
            continue
        cells, size, gap = line
        text = cells[0]
        if len(cells) > 1:
            flush()
            row = tuple(cells)
            writer.row(row, columns if len(columns) == len(row) else ())
            columns = columns if len(columns) == len(row) else row
            continue
        is_heading = bool(body) and size >= body * _HEADING_SIZE and len(text) <= _HEADING_MAX
        if is_heading or gap > _PARAGRAPH_GAP or text[:2] in _BULLETS:
            flush()
            columns = ()
        if is_heading:
            writer.heading(text, 1 if size >= body * 1.5 else 2)
        else:
            paragraph.append(text)
    flush()
    whole, blocks = writer.finish()
    return whole, writer.title or str(reply.get("title") or "").strip(), blocks


def _running(found: list[list[Any] | None]) -> set[str]:
    """Headers and footers: what stands first or last on most pages, page numbers aside."""
    pages: list[list[list[Any]]] = [[]]
    for line in found:
        if line is None:
            pages.append([])
        else:
            pages[-1].append(line)
    edges = [_shape(line) for page in pages for line in {id(x): x for x in (*page[:2], *page[-2:])}.values()]
    return {shape for shape in edges if len(pages) > 1 and edges.count(shape) > len(pages) / 2}


def _shape(line: list[Any]) -> str:
    return "".join(c for c in " ".join(line[0]) if not c.isdigit())


_BULLETS = frozenset({"- ", "* ", "\u2022 ", "\u2022", "\u2013 "})


def _joined(paragraph: list[str]) -> str:
    """The lines of a paragraph as one; a word that a line end hyphenated becomes whole again."""
    text = ""
    for line in paragraph:
        is_cut = text.endswith(("\u00ad", "\ufffe"))
        text = text[:-1] + line if is_cut else f"{text} {line}"
    return text.strip()
