"""The run's own work folder: write, read, list. What is written there comes back to the user as artifacts."""

from __future__ import annotations

import difflib
import hashlib

from collegium.domain.errors import NotFound, ToolError
from collegium.domain.tool import ToolResult
from collegium.tools.builtin.inputs import MaxChars, Start
from collegium.tools.builtin.page import page
from collegium.tools.context import ToolContext
from collegium.tools.definition import tool
from collegium.tools.path import work_path


@tool(effect="idempotent_write", capabilities=["operate", "write"], timeout_s=5.0)
async def write_file(path: str, text: str, context: ToolContext) -> ToolResult:
    """Create or replace a text file in your work folder. The user receives the files you write.

    Args:
        path: Relative path, for example reports/summary.md. Folders are made as needed.
        text: The whole content of the file.
        context: The run whose folder this is.
    """
    clean = "/".join(work_path(path))
    data = text.encode()
    await context.workspace.write(clean, data)
    written = {"path": clean, "size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return ToolResult(text=f"Wrote {clean} ({len(data):,} bytes).", data=written)


@tool(effect="read", capabilities=["operate", "write"])
async def read_file(path: str, context: ToolContext, start: Start = 0, max_chars: MaxChars = 6_000) -> ToolResult:
    """Read a text file of your work folder, or a part of it. For the files you were given use read_input.

    Args:
        path: The file's path as list_files gives it.
        context: The run whose folder this is.
        start: Character to start at; 0 is the beginning.
        max_chars: How many characters to read at most.
    """
    clean = "/".join(work_path(path))
    try:
        data = await context.workspace.read(clean)
    except NotFound as error:
        near = difflib.get_close_matches(clean, await context.workspace.list(), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "list_files shows what there is"
        raise ToolError(f"there is no file {clean!r} in the work folder; {hint}", path=clean) from error
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ToolError(f"{clean} is no text ({len(data):,} bytes that are not UTF-8)", path=clean) from error
    return page(text, path=clean, start=start, max_chars=max_chars)


@tool(effect="read", capabilities=["operate", "write"])
async def list_files(context: ToolContext) -> ToolResult:
    """List the files of your work folder, by path."""
    paths = list(await context.workspace.list())
    if not paths:
        return ToolResult(text="The work folder is empty.", data={"paths": []})
    return ToolResult(text="\n".join([f"{len(paths)} in the work folder:", *paths]), data={"paths": paths})
