"""The tools every run can be granted: its inputs, its work folder, arithmetic, questions to tables, and colleagues."""

from collegium.tools.builtin.calculator import calculate
from collegium.tools.builtin.inputs import list_inputs, read_input, search_inputs
from collegium.tools.builtin.table import query_table
from collegium.tools.builtin.team import ask, inbox, share
from collegium.tools.builtin.work import list_files, read_file, write_file
from collegium.tools.definition import FunctionTool

__all__ = [
    "ask",
    "builtin_tools",
    "calculate",
    "inbox",
    "list_files",
    "list_inputs",
    "query_table",
    "read_file",
    "read_input",
    "search_inputs",
    "share",
    "write_file",
]


def builtin_tools() -> tuple[FunctionTool, ...]:
    """All of them, by name."""
    return (
        ask,
        calculate,
        inbox,
        list_files,
        list_inputs,
        query_table,
        read_file,
        read_input,
        search_inputs,
        share,
        write_file,
    )
