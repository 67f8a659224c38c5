"""Extracted texts to chunks: passages that fit a prompt, stay under one heading and keep table rows whole."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Final

from collegium.domain.document import Block, Chunk, Extraction
from collegium.domain.sentences import sentences

CHUNKER: Final = "c1"
"""Version of the rules in this file: part of every chunk's id."""

TARGET: Final = 500
"""Characters from which a chunk is not made longer."""
LONGEST: Final = 900
"""Characters above which a chunk is cut; only a table row may be longer (up to four times)."""

_Span = tuple[int, int]
_LINE_END: Final = re.compile(r"\r\n|\n|\r")
_SEPARATORS: Final = re.compile(r"[-_.\s]+")


def chunks(extraction: Extraction, *, document: str, key: str) -> tuple[Chunk, ...]:
    """The chunks of a document in order; they never overlap, and ``chunk.text == extraction.text[start:end]``.

    Args:
        extraction: The document's text and structure.
        document: Its path, for the chunks and, where the content has no title of its own, for their context.
        key: What the document is known by in the index; it makes the ids.
    """
    title = extraction.title or _name(document)
    made: list[Chunk] = []
    for group in _groups(list(extraction.blocks) or [Block(start=0, end=len(extraction.text))]):
        first = next((block for block in group if block.kind != "heading"), group[-1])
        context = _context(title, first)
        for start, end in _spans(extraction.text, group):
            made.append(
                Chunk(
                    id=f"{CHUNKER}-{key[:16]}-{start}-{end}",
                    document=document,
                    sha256=key,
                    start=start,
                    end=end,
                    text=extraction.text[start:end],
                    context=context,
                    kind="prose" if first.kind in {"list", "heading"} else first.kind,
                    columns=first.columns,
                )
            )
    return tuple(made)


def _groups(blocks: Sequence[Block]) -> Iterator[list[Block]]:
    """Neighbours that may share a chunk: the same headings, the same kind and columns; a heading begins one."""
    group: list[Block] = []
    for block in blocks:
        if group and not _alike(group[-1], block):
            yield group
            group = []
        group.append(block)
    if group:
        yield group


def _alike(one: Block, two: Block) -> bool:
    if one.kind == "heading":
        return two.headings[: len(one.headings)] == one.headings and two.kind not in {"table", "code"}
    if two.kind == "heading":
        return False
    tables = (one.kind == "table", two.kind == "table")
    codes = (one.kind == "code", two.kind == "code")
    if tables[0] != tables[1] or codes[0] != codes[1] or one.columns != two.columns:
        return False
    return all(codes) or one.headings == two.headings


def _spans(text: str, group: Sequence[Block]) -> Iterator[_Span]:
    """Where the chunks of ``group`` begin and end."""
    start = end = -1
    for block in group:
        record = block.kind == "table" and _LINE_END.search(text, block.start, block.end) is not None
        for piece_start, piece_end in _pieces(text, block):
            full = start >= 0 and (piece_end - start > LONGEST or end - start >= TARGET or record)
            if full:
                yield start, end
                start = -1
            start = piece_start if start < 0 else start
            end = piece_end
        if record and start >= 0:
            yield start, end
            start = -1
    if start >= 0:
        yield start, end


def _pieces(text: str, block: Block) -> Iterator[_Span]:
    """The block, or pieces of it where it is too long: at sentences, lines, and only then between words."""
    longest = LONGEST * 4 if block.kind == "table" else LONGEST
    if block.end - block.start <= longest:
        yield from _trimmed(text, block.start, block.end)
        return
    if block.kind in {"code", "table"}:
        cuts = [block.start, *(m.end() for m in _LINE_END.finditer(text, block.start, block.end)), block.end]
    else:
        begins = [block.start + start for start, _ in sentences(text[block.start : block.end])]
        cuts = [block.start, *begins[1:], block.end]
    start = end = cuts[0]
    for cut in cuts[1:]:
        if cut - start > LONGEST and end > start:
            yield from _trimmed(text, start, end)
            start = end
        end = cut
        while end - start > LONGEST:
            space = max(text.rfind(" ", start + 1, start + LONGEST), text.rfind("\n", start + 1, start + LONGEST))
            middle = space + 1 if space > start else start + LONGEST
            yield from _trimmed(text, start, middle)
            start = middle
    yield from _trimmed(text, start, end)


def _trimmed(text: str, start: int, end: int) -> Iterator[_Span]:
    piece = text[start:end]
    if piece.strip():
        yield start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())


def _context(title: str, block: Block) -> str:
    path = [title] if title else []
    path += [name for name in block.headings if name and name not in path]
    context = " > ".join(path)
    return f"{context}\n{' | '.join(block.columns)}" if block.columns else context


def _name(document: str) -> str:
    return " ".join(_SEPARATORS.sub(" ", PurePosixPath(document).stem).split())
