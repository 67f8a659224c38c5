"""Questions to the tables among the input files, answered by counting instead of guessing."""

from __future__ import annotations

from typing import Annotated

import msgspec

from collegium.domain.tool import ToolResult
from collegium.tools.builtin.inputs import input_text
from collegium.tools.builtin.query import Aggregate, Condition, Found, Query, run
from collegium.tools.builtin.rows import parse
from collegium.tools.context import ToolContext
from collegium.tools.definition import tool
from collegium.tools.thread import in_thread

Limit = Annotated[int, msgspec.Meta(ge=1, le=200)]


@tool(effect="read", capabilities=["research", "operate"])
async def query_table(
    path: str,
    context: ToolContext,
    where: list[Condition] = [],  # noqa: B006  # shown in the schema, never changed
    columns: list[str] = [],  # noqa: B006
    group_by: list[str] = [],  # noqa: B006
    aggregate: list[Aggregate] = [],  # noqa: B006
    sort: list[str] = [],  # noqa: B006
    limit: Limit = 50,
    member: str = "",
) -> ToolResult:
    """Filter, count, sum, average, group and sort the rows of a CSV, TSV, JSON or JSON lines input file.

    With only a path it shows the columns and the first rows. Use it for every question about how many, how
    much, which is largest, or per group.

    Args:
        path: The file's path exactly as list_inputs gives it.
        context: The run whose inputs these are.
        where: Rows must meet all of these, e.g. [{"column": "status", "op": "=", "value": "open"}].
        columns: Which columns to show; all if left out. Not together with aggregate.
        group_by: One result row for each combination of values in these columns.
        aggregate: Figures per group or over all rows, e.g. [{"function": "sum", "column": "amount"}].
        sort: Columns to sort by, - in front for descending, e.g. ["-sum(amount)"].
        limit: How many rows to show at most.
        member: Only for JSON with several lists: the dotted name of the list, e.g. data.orders.
    """
    text = await input_text(context.retriever, path)
    query = Query(where=where, columns=columns, group_by=group_by, aggregate=aggregate, sort=sort, limit=limit)
    # Off the event loop: a large table takes seconds.
    found = await in_thread(lambda: run(query, parse(text, path=path, member=member)), name="query-table")
    return _result(found, path)


def _result(found: Found, path: str) -> ToolResult:
    table = found.table
    shown = f", the first {len(table.rows):,} are shown" if len(table.rows) < found.matched else ""
    rows = f"{found.matched:,} result row{'' if found.matched == 1 else 's'}{shown}"
    lines = [f"{path}: {rows} (the table has {found.total:,})", _line(table.columns)]
    lines += [_line(row) for row in table.rows]
    lines += [f"Note: {note}." for note in table.notes]
    data = {
        "path": path,
        "columns": list(table.columns),
        "rows": [list(row) for row in table.rows],
        "matched": found.matched,
        "total": found.total,
    }
    return ToolResult(text="\n".join(lines), data=data)


def _line(cells: tuple[str, ...]) -> str:
    return " | ".join(" ".join(cell.split()) for cell in cells)
