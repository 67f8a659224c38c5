"""The tools every run can be granted: its inputs, its work folder, arithmetic, and questions to tables."""

from collegium.tools.builtin.calculator import calculate
from collegium.tools.builtin.inputs import list_inputs, read_input, search_inputs
from collegium.tools.builtin.table import query_table
from collegium.tools.builtin.work import list_files, read_file, write_file
from collegium.tools.definition import FunctionTool

__all__ = [
    "builtin_tools",
    "calculate",
    "list_files",
    "list_inputs",
    "query_table",
    "read_file",
    "read_input",
    "search_inputs",
    "write_file",
]


def builtin_tools() -> tuple[FunctionTool, ...]:
    """All of them, by name."""
    return (
        calculate,
        list_files,
        list_inputs,
        query_table,
        read_file,
        read_input,
        search_inputs,
        write_file,
    )
