"""Source code and configuration: the text is the file, cut where definitions begin."""

from __future__ import annotations

import re
from typing import Final

from collegium.adapters.extract.lines import Line, lines
from collegium.domain.document import Block

_DEFINITION: Final = re.compile(
    r"(?:(?:export|public|private|protected|static|abstract|final|async|pub(?:\([a-z]+\))?|default|inline|unsafe)\s+)*"
    r"(?:def|class|function|func|fn|struct|enum|interface|trait|impl|type|module|namespace|object|record"
    r"|message|service"
    r"|resource|const|let|var|CREATE\s+\w+)\s+[`\"']?([\w.:$]+)",
    re.IGNORECASE,
)
_SECTION: Final = re.compile(r"\[+([\w.\"' -]+)\]+\s*")
_KEY: Final = re.compile(r"([\w.-]+):\s*")


def source_blocks(text: str) -> tuple[str, tuple[Block, ...]]:
    """No title, and blocks of lines that begin at the margin after a blank line or with a definition."""
    blocks: list[Block] = []
    group: list[Line] = []
    name = ""
    after_blank = False
    for line in lines(text):
        if line.blank:
            after_blank = True
            continue
        at_margin = not line.text[0].isspace() and line.text[0] not in ")]}"
        begins = _name(line.text) if at_margin else ""
        if group and at_margin and (after_blank or begins):
            blocks.append(_block(group, name))
            group, name = [], ""
        name = name or begins
        group.append(line)
        after_blank = False
    if group:
        blocks.append(_block(group, name))
    return "", tuple(blocks)


def _name(line: str) -> str:
    for pattern in (_DEFINITION, _SECTION, _KEY):
        match = pattern.match(line) if pattern is _DEFINITION else pattern.fullmatch(line)
        if match:
            return match.group(1)
    return ""


def _block(group: list[Line], name: str) -> Block:
    return Block(start=group[0].start, end=group[-1].end, kind="code", headings=(name,) if name else ())
