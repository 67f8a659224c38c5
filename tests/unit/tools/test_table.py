"""Questions to tables: the right rows, the right figures, and errors a model can act on."""

import csv
import io
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collegium.domain.errors import ToolError
from collegium.domain.tool import ToolResult
from collegium.tools.builtin import query_table
from collegium.tools.builtin.query import Aggregate, Condition, Query, run
from collegium.tools.builtin.rows import Table, number, parse

ORDERS = """id,customer,amount,status,due
1,Asha,"1,200.50",open,2026-01-31
2,Bo,80,paid,2026-02-01
3,asha,19.50,open,
4,Cy,n/a,void,2025-12-01
"""


@pytest.fixture
def ask(make_context):
    async def ask(path: str = "orders.csv", text: str = ORDERS, **arguments: Any) -> ToolResult:
        return await query_table.call({"path": path, **arguments}, make_context({path: text}))

    return ask


def where(column: str, op: str, value: Any = None) -> list[dict[str, Any]]:
    return [{"column": column, "op": op, "value": value}]


def rows(result: ToolResult) -> list[list[str]]:
    assert result.is_ok, result.text
    assert result.data is not None
    return result.data["rows"]


async def test_only_a_path_shows_what_there_is(ask):
    result = await ask()
    assert result.text.splitlines()[:3] == [
        "orders.csv: 4 result rows (the table has 4)",
        "id | customer | amount | status | due",
        "1 | Asha | 1,200.50 | open | 2026-01-31",
    ]
    assert result.data["columns"] == ["id", "customer", "amount", "status", "due"]


@pytest.mark.parametrize(
    ("conditions", "ids"),
    [
        (where("status", "=", "open"), ["1", "3"]),
        (where("STATUS", "=", "Open"), ["1", "3"]),
        (where("customer", "!=", "asha"), ["2", "4"]),
        (where("amount", "=", 1200.5), ["1"]),
        (where("amount", ">", 50), ["1", "2"]),
        (where("amount", "<=", "80"), ["2", "3"]),
        (where("due", "<", "2026-01-01"), ["4"]),
        (where("due", ">=", "2026-01-31"), ["1", "2"]),
        (where("customer", "contains", "SH"), ["1", "3"]),
        (where("id", "in", [1, "4", True]), ["1", "4"]),
        (where("due", "empty"), ["3"]),
        (where("due", "not empty"), ["1", "2", "4"]),
        (where("status", "=", "open") + where("amount", "<", 100), ["3"]),
        (where("status", "=", "lost"), []),
    ],
)
async def test_filters(ask, conditions: list[dict[str, Any]], ids: list[str]):
    assert [row[0] for row in rows(await ask(where=conditions))] == ids


async def test_groups_and_figures(ask):
    result = await ask(
        where=where("status", "!=", "void"),
        group_by=["status"],
        aggregate=[
            {"function": "count"},
            {"function": "sum", "column": "amount"},
            {"function": "max", "column": "due"},
        ],
        sort=["-sum(amount)"],
    )
    assert result.data["columns"] == ["status", "count()", "sum(amount)", "max(due)"]
    assert rows(result) == [["open", "2", "1220", "2026-01-31"], ["paid", "1", "80", "2026-02-01"]]


async def test_figures_over_all_rows_and_what_they_leave_out(ask):
    result = await ask(aggregate=[{"function": "avg", "column": "amount"}, {"function": "count", "column": "due"}])
    assert rows(result) == [["433.3333333333333333333333333", "3"]]
    assert "leaves out 1 cells that are no numbers, for example 'n/a'" in result.text
    nothing = await ask(
        where=where("id", "=", 9), aggregate=[{"function": "count"}, {"function": "sum", "column": "id"}]
    )
    assert rows(nothing) == [["0", ""]]


async def test_sorting_choosing_and_limiting(ask):
    result = await ask(sort=["status", "-amount"], columns=["id", "status"], limit=2)
    assert rows(result) == [["1", "open"], ["3", "open"]]
    assert "4 result rows, the first 2 are shown" in result.text
    assert [row[0] for row in rows(await ask(sort=["due"]))] == ["4", "1", "2", "3"]
    assert [row[0] for row in rows(await ask(sort=["-due"]))] == ["2", "1", "4", "3"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"where": where("stat", "=", "open")}, "there is no column 'stat'; did you mean status? the columns are id,"),
        ({"where": where("id", "~", 1)}, "where[0].op: invalid enum value '~'"),
        ({"where": where("id", "in", 1)}, "`in` needs a list of values for 'id'"),
        ({"where": where("id", "=")}, "`=` needs one value for 'id'"),
        ({"where": [{"col": "id"}]}, "object contains unknown field col"),
        ({"aggregate": [{"function": "sum", "column": "customer"}]}, "there is no number in column 'customer'"),
        ({"aggregate": [{"function": "sum"}]}, "sum needs a column"),
        ({"aggregate": [{"function": "median", "column": "id"}]}, "invalid enum value 'median'"),
        ({"group_by": ["id"], "columns": ["id"]}, "columns and aggregate exclude each other"),
        ({"sort": ["-nothing"]}, "there is no column 'nothing'"),
        ({"limit": 0}, "limit: expected int >= 1"),
    ],
)
async def test_a_question_that_cannot_be_answered(ask, arguments: dict[str, Any], said: str):
    result = await ask(**arguments)
    assert not result.is_ok
    assert said in result.text


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("t.csv", "\ufeffname;n\nx;1\ny;2\n"),
        ("t.tsv", "name\tn\nx\t1\ny\t2"),
        ("t.txt", "name|n\n\nx|1\ny|2\n"),
        ("t.json", '[{"name": "x", "n": 1}, {"name": "y", "n": 2}]'),
        ("t.json", '{"meta": 1, "rows": [{"name": "x", "n": 1}, {"name": "y", "n": 2}]}'),
        ("t.jsonl", '{"name": "x", "n": 1}\n\n{"name": "y", "n": 2}\n'),
        ("t", ' [{"name": "x", "n": 1}, {"name": "y", "n": 2}]'),
    ],
)
def test_dialects(path: str, text: str):
    table = parse(text, path=path)
    assert (table.columns, table.rows) == (("name", "n"), [("x", "1"), ("y", "2")])


def test_json_is_made_flat():
    table = parse('[{"a": {"b": true, "c": null}, "d": [1, 2], "e": [{"f": 1}]}, {"g": 0.5}]', path="x.json")
    assert table.columns == ("a.b", "a.c", "d", "e", "g")
    assert table.rows == [("true", "", "1, 2", '[{"f":1}]', ""), ("", "", "", "", "0.5")]
    keyed = parse('{"x": {"n": 1}, "y": {"n": 2}}', path="x.json")
    assert (keyed.columns, keyed.rows) == (("key", "n"), [("x", "1"), ("y", "2")])


def test_a_list_is_chosen_by_its_name():
    text = '{"a": [{"n": 1}], "b": {"c": [{"n": 2}]}}'
    with pytest.raises(ToolError, match=r"several lists: name one with member=..., one of a, b\.c"):
        parse(text, path="x.json")
    assert parse(text, path="x.json", member="b.c").rows == [("2",)]
    with pytest.raises(ToolError, match=r"no list 'd'; it has a, b\.c"):
        parse(text, path="x.json", member="d")


def test_untidy_csv_is_mended_and_said_so():
    table = parse("a,a, ,b\n1,2,3\n1,2,3,4,5\n", path="x.csv")
    assert table.columns == ("a", "a_2", "column_3", "b")
    assert table.rows == [("1", "2", "3", ""), ("1", "2", "3", "4")]
    assert table.notes == ("2 rows did not have 4 cells: filled up or cut",)


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("x.csv", "  \n", "x.csv is empty"),
        ("x.md", "just prose", "holds no table"),
        ("x.csv", "a,b\n" + "x" * 200_000 + ",1", "cannot be read as a table"),
        ("x.json", "{", "is no valid JSON"),
        ("x.json", '{"a": 1}', "holds no list of rows"),
        ("x.json", "[1, 2]", "is a list of int, not of objects"),
        ("x.json", "[]", "holds no rows"),
        ("x.jsonl", '{"a": 1}\n{', "line 2 of x.jsonl is no valid JSON"),
        ("x.csv", ",".join(map(str, range(1001))) + "\n1", "1,001 columns, at most 1,000"),
    ],
)
def test_what_is_no_table(path: str, text: str, said: str):
    with pytest.raises(ToolError) as caught:
        parse(text, path=path)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("5", "5"), (" -3.50 ", "-3.5"), ("1,234,567.8", "1234567.8"), ("$12", "12"), ("€ 9.99", "9.99"),
        ("7 %", "7"), ("1e3", "1000"), (".5", "0.5"), ("+2", "2"),
        ("", None), ("n/a", None), ("1,23", None), ("1.2.3", None), ("2026-01-01", None), ("-", None), ("12 kg", None),
        ("1e9999", None), ("e5", None), ("%", None), ("$", None),
    ],
)  # fmt: skip
def test_what_counts_as_a_number(cell: str, value: str | None):
    assert number(cell) == (None if value is None else Decimal(value))


cells = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=6) | st.integers(-99, 99).map(str)


@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=12))
def test_csv_reads_what_was_written(table: list[tuple[str, str]]):
    file = io.StringIO(newline="")
    csv.writer(file, lineterminator="\n").writerows([("first", "second"), *table])
    kept = [row for row in table if any(cell.strip() for cell in row)]
    assert parse(file.getvalue(), path="x.csv").rows == kept


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-50, 50)), min_size=1, max_size=30))
def test_groups_add_up(pairs: list[tuple[str, int]]):
    table = Table(columns=("k", "n"), rows=[(k, str(n)) for k, n in pairs])
    total = run(Query(aggregate=[Aggregate(function="sum", column="n")]), table).table.rows[0][0]
    groups = run(Query(group_by=["k"], aggregate=[Aggregate(function="sum", column="n")]), table).table.rows
    assert int(total) == sum(n for _, n in pairs) == sum(int(row[1]) for row in groups)
    positive = run(Query(where=[Condition(column="n", op=">", value=0)], limit=99), table)
    assert [row[1] for row in positive.table.rows] == [str(n) for _, n in pairs if n > 0]


async def test_json_input_through_the_tool(ask):
    text = json.dumps([{"team": "a", "open": True}, {"team": "b", "open": False}])
    assert rows(await ask(path="t.json", text=text, where=where("open", "=", True), columns=["team"])) == [["a"]]


async def test_a_file_that_is_not_there(make_context):
    result = await query_table.call({"path": "order.csv"}, make_context({"data/orders.csv": ORDERS}))
    assert (result.is_ok, result.text) == (False, "there is no input file 'order.csv'; did you mean data/orders.csv?")
