"""HTML to readable text: what a reader sees, with headings, lists, table rows and code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Final

from selectolax.lexbor import LexborHTMLParser, LexborNode

from collegium.adapters.extract.writer import TextWriter
from collegium.domain.document import Block

_SKIPPED: Final = frozenset(
    "script style noscript template head svg canvas iframe object nav button select option dialog".split()
)
_HEADINGS: Final = {f"h{n}": n for n in range(1, 7)}
_CONTAINERS: Final = frozenset(
    """html body main article section div header footer aside figure figcaption details summary fieldset form center
    blockquote address hgroup search ul ol dl menu tbody thead tfoot""".split()
)
_BLOCKS: Final = _CONTAINERS | frozenset(_HEADINGS) | frozenset("p pre table li dt dd hr tr td th caption".split())
_DEEPEST: Final = 400
_EMPTY_LINE: Final = re.compile(r"\n *\n")


def html_text(source: str) -> tuple[str, str, tuple[Block, ...]]:
    """Text, title and blocks of an HTML page. Deeper nesting than a browser draws is cut off."""
    tree = LexborHTMLParser(source)
    writer = TextWriter()
    walker = _Walker(writer)
    if tree.body is not None:
        walker.container(tree.body, 0)
        walker.flush()
    text, blocks = writer.finish()
    head = tree.css_first("head > title")
    title = " ".join(head.text().split()) if head is not None else ""
    return text, writer.title or title, blocks


class _Walker:
    def __init__(self, writer: TextWriter) -> None:
        self.writer = writer
        self.inline: list[str] = []

    def container(self, node: LexborNode, depth: int) -> None:
        """Writes the blocks of ``node``; loose text between them becomes paragraphs."""
        for child in node.iter(include_text=True):
            tag = child.tag or ""
            if tag == "-text":
                self.inline.append(child.text_content or "")
            elif tag == "br":
                self.inline.append("\n")
            elif tag in _SKIPPED or tag.startswith(("-", "!")) or depth > _DEEPEST:
                continue
            elif tag in _BLOCKS:
                self.flush()
                self.block(child, tag, depth)
            else:
                self.container(child, depth + 1)

    def block(self, child: LexborNode, tag: str, depth: int) -> None:
        """Writes one block element."""
        if tag in _HEADINGS:
            self.writer.heading(_text(child), _HEADINGS[tag])
        elif tag == "pre":
            self.writer.add(child.text(deep=True).strip("\n"), "code")
        elif tag == "table":
            self.table(child, depth)
        elif tag in {"li", "dt", "dd"}:
            self.item(child, depth)
        elif tag != "hr":
            self.container(child, depth + 1)
            self.flush()

    def item(self, child: LexborNode, depth: int) -> None:
        """Writes a list item; lists inside it follow as items of their own."""
        if _has_blocks(child):
            self.container(child, depth + 1)
            self.flush()
        else:
            text = _text(child)
            self.writer.add(f"- {text}" if text else "", "list")

    def table(self, node: LexborNode, depth: int) -> None:
        """Writes the rows; a first row of ``th`` (or inside ``thead``) names the columns. Layout tables are unpacked."""
        if node.css_first("table table, h1, h2, h3, ul, p + p") is not None and node.css_first("th") is None:
            for cell in node.css("td"):
                self.container(cell, depth + 1)
                self.flush()
            return
        columns: tuple[str, ...] = ()
        for row in node.css("tr"):
            cells = [c for c in row.iter() if c.tag in {"td", "th"}]
            texts = tuple(_text(cell) for cell in cells)
            is_header = all(c.tag == "th" for c in cells) and not columns
            if is_header:
                columns = texts
            self.writer.row(texts, () if is_header else columns)

    def flush(self) -> None:
        """Writes the loose text collected so far as a paragraph; an empty line made of breaks parts two."""
        text = "".join(piece if piece == "\n" else " ".join(f".{piece}.".split())[1:-1] for piece in self.inline)
        self.inline.clear()
        for paragraph in _EMPTY_LINE.split(text):
            self.writer.add(" ".join(paragraph.split()))


def _text(node: LexborNode) -> str:
    """What ``node`` says on one line; blocks and line breaks inside it part words."""
    pieces: list[str] = []
    for child in islice(node.traverse(include_text=True), 1, None):
        tag = child.tag or ""
        if tag == "-text" and not any(p in _SKIPPED for p in _ancestors(child, node)):
            pieces.append(child.text_content or "")
        elif tag == "br" or tag in _BLOCKS:
            pieces.append(" ")
    return " ".join("".join(pieces).split())


def _ancestors(child: LexborNode, top: LexborNode) -> Iterator[str]:
    at = child.parent
    while at is not None and at != top:
        yield at.tag or ""
        at = at.parent


def _has_blocks(node: LexborNode) -> bool:
    return any(child.tag in _BLOCKS for child in islice(node.traverse(), 1, None))
