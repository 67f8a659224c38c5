"""Questions to a table: filter, group, aggregate, choose columns, sort, limit. Pure functions over text cells."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec

from collegium.domain.errors import ToolError
from collegium.tools.builtin.rows import Table, number

Scalar = str | int | float | bool | None
Operator = Literal["=", "!=", "<", "<=", ">", ">=", "contains", "in", "empty", "not empty"]


class Condition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One test of a cell. ``value`` is a list for ``in``, and left out for ``empty`` and ``not empty``."""

    column: str
    op: Operator = "="
    value: Scalar | list[Scalar] = None


class Aggregate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One figure per group; ``count`` needs no column and then counts rows."""

    function: Literal["count", "sum", "avg", "min", "max"]
    column: str = ""

    @property
    def name(self) -> str:
        """The column it makes, e.g. ``sum(amount)``."""
        return f"{self.function}({self.column})"


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked; rows must meet all of ``where``. ``sort`` names columns, with ``-`` in front for descending."""

    where: Sequence[Condition] = ()
    columns: Sequence[str] = ()
    group_by: Sequence[str] = ()
    aggregate: Sequence[Aggregate] = ()
    sort: Sequence[str] = ()
    limit: int = 50


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """The rows asked for, how many there were before the limit, and what a reader has to know of them."""

    table: Table
    matched: int
    total: int


def run(query: Query, table: Table) -> Found:
    """The answer to ``query``. Raises ``ToolError``: unknown column, no numbers to sum, and so on."""
    notes = list(table.notes)
    tests = [_test(condition, table) for condition in query.where]
    kept = [row for row in table.rows if all(test(row) for test in tests)]
    if query.group_by or query.aggregate:
        if query.columns:
            raise ToolError("columns and aggregate exclude each other: a grouped result has the columns of group_by")
        result = _grouped(query, table, kept, notes)
    else:
        result = Table(columns=table.columns, rows=kept)
    rows = _sorted(query.sort, result)
    if query.columns:
        places = [_place(name, result) for name in query.columns]
        result = Table(columns=tuple(result.columns[p] for p in places), rows=[])
        rows = [tuple(row[p] for p in places) for row in rows]
    shown = Table(columns=result.columns, rows=rows[: query.limit], notes=tuple(notes))
    return Found(table=shown, matched=len(rows), total=len(table.rows))


def _place(name: str, table: Table) -> int:
    """Index of a column, by its name in any case."""
    if name in table.columns:
        return table.columns.index(name)
    folded = [column.casefold() for column in table.columns]
    if folded.count(name.strip().casefold()) == 1:
        return folded.index(name.strip().casefold())
    near = difflib.get_close_matches(name, table.columns, n=2)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise ToolError(f"there is no column {name!r}; {hint}the columns are {', '.join(table.columns)}")


def _test(condition: Condition, table: Table) -> Callable[[tuple[str, ...]], bool]:
    place, value = _place(condition.column, table), condition.value
    match condition.op:
        case "empty":
            return lambda row: not row[place].strip()
        case "not empty":
            return lambda row: bool(row[place].strip())
        case "in":
            if not isinstance(value, list):
                raise ToolError(f"`in` needs a list of values for {condition.column!r}, got {value!r}")
            wanted = [_text(item) for item in value]
            return lambda row: any(_equal(row[place], item) for item in wanted)
    if isinstance(value, list) or value is None:
        raise ToolError(f"`{condition.op}` needs one value for {condition.column!r}, got {value!r}")
    text = _text(value)
    match condition.op:
        case "=":
            return lambda row: _equal(row[place], text)
        case "!=":
            return lambda row: not _equal(row[place], text)
        case "contains":
            return lambda row: text.casefold() in row[place].casefold()
        case ordering:
            return lambda row: _ordered(row[place], text, _ORDERINGS[ordering])


def _equal(cell: str, wanted: str) -> bool:
    left, right = number(cell), number(wanted)
    if left is not None and right is not None:
        return left == right
    return cell.strip().casefold() == wanted.strip().casefold()


def _ordered(cell: str, wanted: str, compare: Callable[[Any, Any], bool]) -> bool:
    """Numbers as numbers, other texts (ISO dates among them) by their characters; a number and a text never compare."""
    left, right = number(cell), number(wanted)
    if (left is None) != (right is None) or not cell.strip():
        return False
    if left is None:
        return compare(cell.strip().casefold(), wanted.strip().casefold())
    return compare(left, right)


def _grouped(query: Query, table: Table, rows: list[tuple[str, ...]], notes: list[str]) -> Table:
    places = [_place(name, table) for name in query.group_by]
    groups: dict[tuple[str, ...], list[tuple[str, ...]]] = {} if places else {(): rows}
    for row in rows if places else ():
        groups.setdefault(tuple(row[p].strip() for p in places), []).append(row)
    aggregates = query.aggregate or (Aggregate(function="count"),)
    figures = [_figure(a, table, rows, notes) for a in aggregates]
    return Table(
        columns=(*(table.columns[p] for p in places), *(a.name for a in aggregates)),
        rows=[(*key, *(figure(members) for figure in figures)) for key, members in groups.items()],
    )


def _figure(
    aggregate: Aggregate, table: Table, rows: list[tuple[str, ...]], notes: list[str]
) -> Callable[[list[tuple[str, ...]]], str]:
    if aggregate.function == "count" and not aggregate.column:
        return lambda members: str(len(members))
    if not aggregate.column:
        raise ToolError(f"{aggregate.function} needs a column; the columns are {', '.join(table.columns)}")
    place = _place(aggregate.column, table)
    if aggregate.function == "count":
        return lambda members: str(sum(bool(row[place].strip()) for row in members))
    filled = [row[place] for row in rows if row[place].strip()]
    others = [cell for cell in filled if number(cell) is None]
    is_text = bool(filled) and len(others) == len(filled)
    if is_text and aggregate.function in ("sum", "avg"):
        raise ToolError(
            f"{aggregate.name}: there is no number in column {aggregate.column!r}, for example {filled[0]!r}"
        )
    if is_text:
        return lambda members: _extreme(
            aggregate.function, [row[place].strip() for row in members if row[place].strip()]
        )
    if others:
        notes.append(f"{aggregate.name} leaves out {len(others)} cells that are no numbers, for example {others[0]!r}")
    return lambda members: _reduce(aggregate.function, [n for row in members if (n := number(row[place])) is not None])


def _extreme(function: str, values: list[str]) -> str:
    if not values:
        return ""
    return min(values) if function == "min" else max(values)


def _reduce(function: str, values: list[Decimal]) -> str:
    if not values:
        return ""
    match function:
        case "sum":
            result = sum(values, Decimal(0))
        case "avg":
            result = sum(values, Decimal(0)) / len(values)
        case "min":
            result = min(values)
        case _:
            result = max(values)
    text = f"{result:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _sorted(sort: Sequence[str], table: Table) -> list[tuple[str, ...]]:
    rows = list(table.rows)
    for name in reversed(sort):  # sorting is stable: the first name counts most
        is_descending = name.startswith("-") and name not in table.columns
        place = _place(name[1:] if is_descending else name, table)
        filled = [row for row in rows if row[place].strip()]
        filled.sort(key=lambda row: _rank(row[place]), reverse=is_descending)  # used at once
        rows = [*filled, *(row for row in rows if not row[place].strip())]  # empty cells always come last
    return rows


def _rank(cell: str) -> tuple[int, Decimal, str]:
    value = number(cell)
    return (1, Decimal(0), cell.strip().casefold()) if value is None else (0, value, "")


def _text(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


_ORDERINGS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
