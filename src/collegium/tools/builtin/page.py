"""A piece of a long text, shown so that a model knows where it is and how to go on."""

from __future__ import annotations

from collegium.domain.errors import ToolError
from collegium.domain.tool import ToolResult

LIMIT_CHARS = 20_000


def page(text: str, *, path: str, start: int, max_chars: int) -> ToolResult:
    """``text[start:start + max_chars]`` under a line that says which part of ``path`` it is.

    ``data`` has ``path``, ``start``, ``end`` and ``total_chars``: characters of the whole text, as citations
    count them.

    Raises:
        ToolError: ``start`` lies outside the text.
    """
    total = len(text)
    if start < 0 or start > total or (start == total and total > 0):
        raise ToolError(
            f"{path} has {total:,} characters; start={start:,} lies outside: use 0 to {max(0, total - 1):,}"
        )
    end = min(total, start + max(1, min(max_chars, LIMIT_CHARS)))
    if total == 0:
        head = f"{path} is empty"
    elif end < total:
        head = f"{path}, characters {start} to {end} of {total} (go on with start={end}):"
    else:
        head = f"{path}, characters {start} to {end} of {total} (the end):"
    data = {"path": path, "start": start, "end": end, "total_chars": total}
    return ToolResult(
        text=f"{head}\n{text[start:end]}".rstrip("\n") if total == 0 else f"{head}\n{text[start:end]}", data=data
    )
