"""The tools every run can be granted: its inputs, its work folder, arithmetic, questions to tables, and colleagues."""

from collections.abc import Mapping
from typing import Final

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


_TAKES: Final[Mapping[str, str]] = {
    "ask": "runs:write",
    "list_files": "runs:write",
    "list_inputs": "knowledge:read",
    "query_table": "knowledge:read",
    "read_file": "runs:write",
    "read_input": "knowledge:read",
    "search_inputs": "knowledge:read",
    "write_file": "runs:write",
}
"""The right that each takes. It stands here, as what stands at the function is part of the version that runs pin."""


def builtin_tools() -> tuple[FunctionTool, ...]:
    """All of them, by name."""
    every = (
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
    return tuple(t.taking(_TAKES.get(t.definition.name, "")) for t in every)
