"""HTML to readable text: what a reader sees, with headings, lists, table rows and code."""

from __future__ import annotations

import re
from itertools import islice
from typing import Final

from selectolax.lexbor import LexborHTMLParser, LexborNode

from collegium.adapters.extract.writer import TextWriter
from collegium.domain.document import Block

_SKIPPED_TEXT: Final = """
    script style noscript template head svg canvas iframe object nav button select option dialog
"""
_SKIPPED: Final = frozenset(_SKIPPED_TEXT.split())
_HEADINGS: Final = {f"h{n}": n for n in range(1, 7)}
_BLOCKS_TEXT: Final = """
    html body main article section div header footer aside figure figcaption details summary fieldset
    form center blockquote address hgroup search ul ol dl menu tbody thead tfoot p td th tr caption hr
"""
_BLOCKS: Final = frozenset(_BLOCKS_TEXT.split())
_ITEMS: Final = frozenset({"li", "dt", "dd"})
_DEEPEST: Final = 200
_EMPTY_LINE: Final = re.compile(r"\n *\n")


def html_text(source: str) -> tuple[str, str, tuple[Block, ...]]:
    """Text, title and blocks of an HTML page. What is nested deeper than ``_DEEPEST`` becomes plain text."""
    tree = LexborHTMLParser(source)
    walker = _Walker()
    if tree.body is not None:
        walker.walk(tree.body, 0)
        walker.flush()
    text, blocks = walker.writer.finish()
    head = tree.css_first("head > title")
    title = " ".join(head.text().split()) if head is not None else ""
    return text, walker.writer.title or title, blocks


class _Walker:
    """Goes once through a page and writes blocks as they end."""

    def __init__(self) -> None:
        self.writer = TextWriter()
        self.inline: list[str] = []

    def walk(self, node: LexborNode, depth: int, *, is_item: bool = False) -> None:
        """Collects the text of ``node``; every block inside it ends what came before."""
        for child in node.iter(include_text=True):
            tag = child.tag or ""
            if tag == "-text":
                self.inline.append(child.text_content or "")
            elif tag == "br":
                self.inline.append("\n")
            elif tag in _SKIPPED or tag.startswith(("-", "!")):
                continue
            elif depth > _DEEPEST:
                self.inline.append(f" {child.text(deep=True)} ")
            elif tag in _HEADINGS or tag in {"pre", "table"}:
                self.flush(is_item=is_item)
                self.special(child, tag, depth)
            elif tag in _BLOCKS or tag in _ITEMS:
                self.flush(is_item=is_item)
                inside = is_item or tag in _ITEMS
                self.walk(child, depth + 1, is_item=inside)
                self.flush(is_item=inside)
            else:
                self.walk(child, depth + 1, is_item=is_item)

    def special(self, node: LexborNode, tag: str, depth: int) -> None:
        """Writes a heading, code, or a table."""
        if tag in _HEADINGS:
            self.writer.heading(_text(node), _HEADINGS[tag])
        elif tag == "pre":
            self.writer.add(node.text(deep=True).strip("\n"), "code")
        else:
            self.table(node, depth)

    def table(self, node: LexborNode, depth: int) -> None:
        """Writes the rows; a first row of ``th`` names the columns. Tables that only lay out a page are unpacked."""
        if _is_layout(node):
            self.walk(node, depth + 1)
            self.flush()
            return
        columns: tuple[str, ...] = ()
        for row in node.css("tr"):
            cells = [cell for cell in row.iter() if cell.tag in {"td", "th"}]
            texts = tuple(_text(cell) for cell in cells)
            is_header = not columns and bool(cells) and all(cell.tag == "th" for cell in cells)
            if is_header:
                columns = texts
            self.writer.row(texts, () if is_header or len(texts) != len(columns) else columns)

    def flush(self, *, is_item: bool = False) -> None:
        """Writes the text collected so far; an empty line made of breaks parts two paragraphs."""
        pieces = (piece if piece == "\n" else " ".join(f".{piece}.".split())[1:-1] for piece in self.inline)
        text = "".join(pieces)
        self.inline.clear()
        for paragraph in _EMPTY_LINE.split(text):
            line = " ".join(paragraph.split())
            if line:
                self.writer.add(f"- {line}" if is_item else line, "list" if is_item else "prose")


def _is_layout(table: LexborNode) -> bool:
    """Whether a table holds tables, headings or lists, and no column names."""
    inside = {child.tag for child in islice(table.traverse(), 1, None)}
    return "th" not in inside and not inside.isdisjoint({"table", "h1", "h2", "h3", "ul", "ol"})


def _text(node: LexborNode) -> str:
    """What ``node`` says, on one line."""
    pieces: list[str] = []
    for child in islice(node.traverse(include_text=True), 1, None):
        if child.tag == "-text":
            pieces.append(child.text_content or "")
        elif child.tag in _BLOCKS or child.tag in _ITEMS or child.tag == "br":
            pieces.append(" ")
    return " ".join("".join(pieces).split())
