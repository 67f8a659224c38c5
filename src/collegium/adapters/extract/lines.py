"""Lines of a text with their offsets, and the plain-text reader that is built on them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from collegium.domain.document import Block

_LIST: Final = re.compile(r"\s{0,8}(?:[-*+\u2022]|\d{1,3}[.)])\s+\S")
_UNDERLINE: Final = re.compile(r"\s*([=\-~^*_])\1{2,}\s*")
_RULE: Final = re.compile(r"\s*[-=*_~\u2500-\u257f]{3,}\s*")
_HEADING_MAX: Final = 80


class Line(NamedTuple):
    """``text[start:end]`` is the line without its newline."""

    start: int
    end: int
    text: str

    @property
    def blank(self) -> bool:
        """Whether there is nothing on it."""
        return not self.text.strip()


def lines(text: str) -> Iterator[Line]:
    r"""The lines of ``text``; ends are ``\n``, ``\r\n`` and ``\r`` only, so that offsets are those of an editor."""
    position = 0
    for match in re.finditer(r"\r\n|\n|\r", text):
        yield Line(position, match.start(), text[position : match.start()])
        position = match.end()
    if position < len(text):
        yield Line(position, len(text), text[position:])


def runs(found: list[Line]) -> Iterator[list[Line]]:
    """Groups of lines between blank lines."""
    group: list[Line] = []
    for line in found:
        if line.blank:
            if group:
                yield group
            group = []
        else:
            group.append(line)
    if group:
        yield group


def text_blocks(text: str) -> tuple[str, tuple[Block, ...]]:
    """Title and blocks of plain text: paragraphs, lists, and headings (underlined, numbered or in capitals)."""
    blocks: list[Block] = []
    title, heading = _first_line(text), ""
    for group in runs(list(lines(text))):
        if len(group) == 1 and _RULE.fullmatch(group[0].text):
            continue
        first = group[0]
        body = group
        if _is_heading(group):
            heading = first.text.strip().strip("=*_ ").rstrip(":")
            blocks.append(Block(start=first.start, end=first.end, kind="heading", headings=(heading,)))
            body = [line for line in group[1:] if not _RULE.fullmatch(line.text)]
        if not body:
            continue
        kind = "list" if all(_LIST.match(line.text) or line.text[:1].isspace() for line in body) else "prose"
        headings = (heading,) if heading else ()
        is_list = kind == "list" and _LIST.match(body[0].text) is not None
        blocks.append(
            Block(start=body[0].start, end=body[-1].end, kind="list" if is_list else "prose", headings=headings)
        )
    return title, tuple(blocks)


def _first_line(text: str) -> str:
    """The first line, when it looks like a title and no sentence."""
    first = next((line.text.strip() for line in lines(text) if not line.blank and not _RULE.fullmatch(line.text)), "")
    return first if len(first) <= _HEADING_MAX and not first.endswith((".", ",", ";", ":")) else ""


def _is_heading(group: list[Line]) -> bool:
    first = group[0].text.strip()
    if len(first) > _HEADING_MAX or _LIST.match(group[0].text) or first.endswith((".", ",", ";")):
        return False
    if len(group) > 1 and _UNDERLINE.fullmatch(group[1].text):
        return True
    return len(group) == 1 and first.upper() == first and any(c.isalpha() for c in first)
