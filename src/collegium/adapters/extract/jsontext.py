"""JSON: the text is the file; every record (an object small enough to read at a glance) is a block."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from json.decoder import scanstring  # type: ignore[attr-defined]  # in every CPython; typeshed leaves it out
from typing import Any, Final

from collegium.adapters.extract.lines import lines
from collegium.domain.document import Block

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_DECODER: Final = json.JSONDecoder(strict=False)
_RECORD_MAX: Final = 900
"""Objects and arrays longer than this (characters) are taken apart."""
_SHORT_LIST: Final = 200
_DEEPEST: Final = 40


def json_blocks(text: str) -> tuple[str, tuple[Block, ...]]:
    """Title (a top-level ``title`` or ``name``) and blocks. Raises ValueError when it is not JSON."""
    start = _skip(text, 0)
    value, end = _DECODER.raw_decode(text, start)
    if text[end:].strip():
        raise ValueError(f"there is more after the JSON document, at character {end}")
    title = ""
    if isinstance(value, dict):
        title = next((value[k] for k in ("title", "name") if isinstance(value.get(k), str)), "")
    return title, tuple(_blocks(text, start, end, value, ()))


def jsonl_blocks(text: str) -> tuple[str, tuple[Block, ...]]:
    """One block per line that holds JSON."""
    blocks: list[Block] = []
    for line in lines(text):
        if not line.blank:
            value = json.loads(line.text, strict=False)
            columns = tuple(value) if isinstance(value, dict) else ()
            blocks.append(Block(start=line.start, end=line.end, kind="table", columns=columns))
    return "", tuple(blocks)


def _blocks(text: str, start: int, end: int, value: Any, path: tuple[str, ...]) -> Iterator[Block]:
    is_container = isinstance(value, dict | list)
    small = end - start <= _RECORD_MAX and not _holds_records(value)
    if not is_container or small or len(path) > _DEEPEST:
        columns = tuple(value) if isinstance(value, dict) else ()
        yield Block(start=start, end=end, kind="table", headings=path, columns=columns)
        return
    run: list[tuple[int, int]] = []
    for name, member_start, value_start, value_end, member in _members(text, start, value):
        inside = (*path, name) if name else path
        is_list = isinstance(member, list) and value_end - value_start < _SHORT_LIST and not _holds_records(member)
        if is_list or not isinstance(member, dict | list):
            if run and value_end - run[0][0] > _RECORD_MAX:
                yield Block(start=run[0][0], end=run[-1][1], kind="table", headings=path)
                run = []
            run.append((member_start, value_end))
            continue
        if run:
            yield Block(start=run[0][0], end=run[-1][1], kind="table", headings=path)
            run = []
        first = member_start if value_end - value_start <= _RECORD_MAX else value_start
        yield from _shifted(text, first, value_start, value_end, member, inside)
    if run:
        yield Block(start=run[0][0], end=run[-1][1], kind="table", headings=path)


def _holds_records(value: Any) -> bool:
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(isinstance(m, dict) or (isinstance(m, list) and any(isinstance(x, dict) for x in m)) for m in members)


def _shifted(text: str, first: int, start: int, end: int, value: Any, path: tuple[str, ...]) -> Iterator[Block]:
    """The blocks of a member; when it is one block, the member's key belongs to it."""
    found = list(_blocks(text, start, end, value, path))
    if len(found) == 1 and found[0].start == start:
        only = found[0]
        yield Block(start=first, end=only.end, kind="table", headings=only.headings[:-1], columns=only.columns)
        return
    yield from found


def _members(text: str, start: int, value: Any) -> Iterator[tuple[str, int, int, int, Any]]:
    """Name, start with the name, start and end of the value, and the value, for each member of an object or array."""
    at = _skip(text, start + 1)
    is_object = isinstance(value, dict)
    while at < len(text) and text[at] not in "]}":
        name, begin = "", at
        if is_object:
            name, at = scanstring(text, at + 1, False)
            at = _skip(text, _skip(text, at) + 1)
        member, end = _DECODER.raw_decode(text, at)
        yield name, begin, at, end, member
        at = _skip(text, end)
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at
