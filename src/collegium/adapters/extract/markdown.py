"""Markdown: the text is the file; headings, paragraphs, lists, tables and code are found line by line."""

from __future__ import annotations

import re
from typing import Final

from collegium.adapters.extract.lines import Line, lines
from collegium.domain.document import Block, BlockKind

_ATX: Final = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*")
_SETEXT: Final = re.compile(r" {0,3}(=+|-{2,})[ \t]*")
_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})")
_ITEM: Final = re.compile(r"\s*(?:[-*+]|\d{1,9}[.)])\s+\S")
_RULE: Final = re.compile(r" {0,3}(?:(?:\*\s*){3,}|(?:-\s*){3,}|(?:_\s*){3,})")
_DELIMITER: Final = re.compile(r"\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*")
_CELL: Final = re.compile(r"(?<!\\)\|")
_MARKS: Final = re.compile(r"[`*]|\[([^\]]*)\]\([^)]*\)")


def cells(row: str) -> tuple[str, ...]:
    """The cells of a table row that is written with bars."""
    row = row.strip().removeprefix("|")
    return tuple(cell.strip() for cell in _CELL.split(row.removesuffix("|")))


def markdown_blocks(text: str) -> tuple[str, tuple[Block, ...]]:
    """Title (the first heading, or the front matter's) and blocks of Markdown."""
    return _Scanner(list(lines(text))).scan()


class _Scanner:
    def __init__(self, found: list[Line]) -> None:
        self.lines = found
        self.at = 0
        self.title = ""
        self.path: list[tuple[int, str]] = []
        self.blocks: list[Block] = []

    def scan(self) -> tuple[str, tuple[Block, ...]]:
        self._front_matter()
        while self.at < len(self.lines):
            line = self.lines[self.at]
            if line.blank or (_RULE.fullmatch(line.text) and not self._is_setext()):
                self.at += 1
            elif _ATX.fullmatch(line.text) or self._is_setext():
                self._heading(line)
            elif _FENCE.match(line.text):
                self._fence(line)
            elif self._is_table():
                self._table()
            else:
                self._paragraph()
        return self.title, tuple(self.blocks)

    def _add(self, first: int, last: int, kind: BlockKind, columns: tuple[str, ...] = ()) -> None:
        headings = tuple(name for _, name in self.path)
        start, end = self.lines[first].start, self.lines[last].end
        self.blocks.append(Block(start=start, end=end, kind=kind, headings=headings, columns=columns))

    def _front_matter(self) -> None:
        if not self.lines or self.lines[0].text.rstrip() != "---":
            return
        last = next((n for n, line in enumerate(self.lines[1:60], 1) if line.text.rstrip() in {"---", "..."}), 0)
        if last < 2:
            return
        for line in self.lines[1:last]:
            key, _, value = line.text.partition(":")
            if key.strip().lower() == "title":
                self.title = value.strip().strip("\"'")
        self._add(1, last - 1, "code")
        self.at = last + 1

    def _is_setext(self) -> bool:
        if self.at + 1 >= len(self.lines) or _ITEM.match(self.lines[self.at].text) or "|" in self.lines[self.at].text:
            return False
        return _SETEXT.fullmatch(self.lines[self.at + 1].text) is not None

    def _heading(self, line: Line) -> None:
        atx = _ATX.fullmatch(line.text)
        underline = "" if atx else self.lines[self.at + 1].text.strip()
        level = len(atx.group(1)) if atx else (1 if underline[0] == "=" else 2)
        name = ((atx.group(2) or "") if atx else line.text).strip()
        name = _MARKS.sub(lambda m: m.group(1) or "", name)
        self.path = [(depth, above) for depth, above in self.path if depth < level] + [(level, name)]
        self.title = self.title or name
        last = self.at if atx else self.at + 1
        self._add(self.at, last, "heading")
        self.at = last + 1

    def _fence(self, line: Line) -> None:
        match = _FENCE.match(line.text)
        mark = match.group(1) if match else "```"
        last = self.at + 1
        while last < len(self.lines) and not self.lines[last].text.strip().startswith(mark):
            last += 1
        inside = range(self.at + 1, min(last, len(self.lines)))
        if any(not self.lines[n].blank for n in inside):
            self._add(inside[0], inside[-1], "code")
        self.at = last + 1

    def _is_table(self) -> bool:
        if self.at + 1 >= len(self.lines) or "|" not in self.lines[self.at].text:
            return False
        under = self.lines[self.at + 1].text
        return "-" in under and _DELIMITER.fullmatch(under) is not None and "|" in under

    def _table(self) -> None:
        columns = cells(self.lines[self.at].text)
        row = self.at + 2
        while row < len(self.lines) and not self.lines[row].blank and "|" in self.lines[row].text:
            self._add(row, row, "table", columns)
            row += 1
        self.at = row

    def _paragraph(self) -> None:
        first = self.at
        is_list = _ITEM.match(self.lines[first].text) is not None
        last = first
        while last + 1 < len(self.lines) and not self._ends(last + 1, is_list=is_list):
            last += 1
        self._add(first, last, "list" if is_list else "prose")
        self.at = last + 1

    def _ends(self, number: int, *, is_list: bool) -> bool:
        """Whether the line does not go on with the paragraph or list item above it."""
        line = self.lines[number]
        if line.blank or _ITEM.match(line.text):
            return True
        if _ATX.fullmatch(line.text) or _FENCE.match(line.text) or _RULE.fullmatch(line.text):
            return True
        here, self.at = self.at, number
        begins = self._is_table() or (not is_list and self._is_setext())
        self.at = here
        return begins
