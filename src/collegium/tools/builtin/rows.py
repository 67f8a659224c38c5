"""Tables out of text: CSV in its dialects, JSON, JSON lines; and what a cell is worth as a number."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any, Final

import msgspec

from collegium.domain.errors import ToolError

LIMIT_CHARS: Final = 50_000_000
LIMIT_COLUMNS: Final = 1_000
_DELIMITERS: Final = (",", ";", "\t", "|")
# An optional currency sign, digits with or without thousands separators, an optional percent sign.
_NUMBER: Final = re.compile(r"([-+]?)[$€£]?\s?(\d{1,3}(?:,\d{3})+|\d+)?(\.\d+)?([eE][-+]?\d{1,3})?\s?%?")


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of cells as text; every row has a cell for every column. ``notes`` tell what was mended on the way."""

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    notes: tuple[str, ...] = ()


def number(cell: str) -> Decimal | None:
    """The number in ``cell``, or None: ``-3``, ``1,234.50``, ``$12``, ``7 %`` (7), ``1e6``."""
    text = cell.strip()
    match = _NUMBER.fullmatch(text)
    if match is None or (match[2] is None and match[3] is None):
        return None
    return Decimal(f"{match[1]}{(match[2] or '0').replace(',', '')}{match[3] or ''}{match[4] or ''}")


def parse(text: str, *, path: str, member: str = "") -> Table:
    """The table in a file's text; ``member`` names the list inside a JSON object that holds several.

    Raises:
        ToolError: There is no table in it; the text says why and what to ask instead.
    """
    if len(text) > LIMIT_CHARS:
        raise ToolError(f"{path} has {len(text):,} characters, a table at most {LIMIT_CHARS:,}")
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise ToolError(f"{path} is empty: there is no table in it")
    suffix = path.rpartition(".")[2].lower()
    if suffix in ("jsonl", "ndjson"):
        return _from_records(_json_lines(text, path), path)
    if suffix == "json" or (suffix not in ("csv", "tsv") and text.lstrip()[:1] in "[{"):
        return _from_records(_json_records(_json(text, path), path, member), path)
    return _from_csv(text, path, "\t" if suffix == "tsv" else None)


def _from_csv(text: str, path: str, delimiter: str | None) -> Table:
    lines = text.splitlines(keepends=True)
    sign = delimiter or _delimiter(lines[0])
    try:
        cells = [tuple(row) for row in csv.reader(lines, delimiter=sign) if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise ToolError(f"{path} cannot be read as a table: {error}; read it as text instead") from error
    if not cells or (len(cells[0]) < 2 and len(cells) < 2):
        raise ToolError(f"{path} holds no table (one column, no rows): read it as text instead")
    columns = _unique(cells[0])
    width = len(columns)
    rows = [row if len(row) == width else (*row, *[""] * (width - len(row)))[:width] for row in cells[1:]]
    uneven = sum(len(row) != width for row in cells[1:])
    notes = (f"{uneven} rows did not have {width} cells: filled up or cut",) if uneven else ()
    return Table(columns=columns, rows=rows, notes=notes)


def _delimiter(header: str) -> str:
    return max(_DELIMITERS, key=header.count)


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    """Column names without surrounding space, none empty, none twice."""
    taken: set[str] = set()
    unique: list[str] = []
    for position, name in enumerate(names, start=1):
        wanted = base = name.strip() or f"column_{position}"
        again = 2
        while wanted in taken:
            wanted = f"{base}_{again}"
            again += 1
        taken.add(wanted)
        unique.append(wanted)
    if len(unique) > LIMIT_COLUMNS:
        raise ToolError(f"the table has {len(unique):,} columns, at most {LIMIT_COLUMNS:,}")
    return tuple(unique)


def _json(text: str, path: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ToolError(f"{path} is no valid JSON: {error}", path=path) from error


def _json_lines(text: str, path: str) -> Iterator[Any]:
    for count, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield _json(line, f"line {count} of {path}")


def _json_records(value: Any, path: str, member: str) -> list[Any]:
    """The list of rows in a JSON document: the document itself, its one list, or the member that was asked for."""
    lists = _lists(value)
    if member:
        if member not in lists:
            raise ToolError(f"{path} has no list {member!r}; it has {', '.join(lists) or 'none'}")
        return lists[member]
    if isinstance(value, list):
        return value
    if len(lists) == 1:
        return next(iter(lists.values()))
    if isinstance(value, dict) and value and all(isinstance(item, dict) for item in value.values()):
        return [{"key": key, **item} for key, item in value.items()]
    if not lists:
        raise ToolError(f"{path} holds no list of rows: read it as text instead")
    raise ToolError(f"{path} holds several lists: name one with member=..., one of {', '.join(lists)}")


def _lists(value: Any, prefix: str = "", depth: int = 0) -> dict[str, list[Any]]:
    """Lists of objects below ``value``, by dotted path."""
    found: dict[str, list[Any]] = {}
    if isinstance(value, dict) and depth < 8:
        for name, item in value.items():
            place = f"{prefix}.{name}" if prefix else name
            if isinstance(item, list) and item and all(isinstance(row, dict) for row in item):
                found[place] = item
            else:
                found |= _lists(item, place, depth + 1)
    return found


def _from_records(records: Iterable[Any], path: str) -> Table:
    flat: list[dict[str, str]] = []
    for record in records:
        if not isinstance(record, dict):
            raise ToolError(f"{path} is a list of {type(record).__name__}, not of objects: read it as text instead")
        flat.append(dict(_cells(record)))
    if not flat:
        raise ToolError(f"{path} holds no rows")
    columns = _unique(dict.fromkeys(name for row in flat for name in row))
    return Table(columns=columns, rows=[tuple(row.get(name, "") for name in columns) for row in flat])


def _cells(record: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Cells by dotted path; lists of scalars joined by a comma, deeper ones as JSON."""
    for name, value in record.items():
        place = f"{prefix}{name}"
        if isinstance(value, dict) and value:
            yield from _cells(value, f"{place}.")
        elif isinstance(value, list) and not any(isinstance(item, (dict, list)) for item in value):
            yield place, ", ".join(_cell(item) for item in value)
        else:
            yield place, _cell(value)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
