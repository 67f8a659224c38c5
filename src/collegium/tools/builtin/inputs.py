"""The run's input files: list, read, search. They are read-only."""

from __future__ import annotations

import difflib
from typing import Annotated

import msgspec

from collegium.domain.document import Passage
from collegium.domain.errors import NotFound, ToolError
from collegium.domain.tool import ToolResult
from collegium.ports import Retriever
from collegium.tools.builtin.page import LIMIT_CHARS, page
from collegium.tools.context import ToolContext
from collegium.tools.definition import tool

LIMIT_PATHS = 500
"""How many paths one call lists."""

Start = Annotated[int, msgspec.Meta(ge=0)]
MaxChars = Annotated[int, msgspec.Meta(ge=1, le=LIMIT_CHARS)]
Limit = Annotated[int, msgspec.Meta(ge=1, le=20)]


@tool(effect="read", capabilities=["research", "operate"])
async def list_inputs(context: ToolContext, containing: str = "") -> ToolResult:
    """List the input files you were given, by path.

    Args:
        context: The run whose inputs these are.
        containing: Only paths that contain this text, in any case. Leave it out for all.
    """
    paths = sorted(p for p in context.retriever.documents if containing.casefold() in p.casefold())
    about = f" with {containing!r} in their path" if containing else ""
    if not paths:
        return ToolResult(text=f"There are no input files{about}.", data={"paths": [], "total": 0})
    shown = paths[:LIMIT_PATHS]
    head = f"{len(paths)} input file{'s' if len(paths) != 1 else ''}{about}:"
    more = [] if len(shown) == len(paths) else [f"... and {len(paths) - len(shown)} more: ask with containing=..."]
    return ToolResult(text="\n".join([head, *shown, *more]), data={"paths": shown, "total": len(paths)})


@tool(effect="read", capabilities=["research", "operate"])
async def read_input(path: str, context: ToolContext, start: Start = 0, max_chars: MaxChars = 6_000) -> ToolResult:
    """Read an input file as text, or a part of it.

    Args:
        path: The file's path exactly as list_inputs or search_inputs gives it.
        context: The run whose inputs these are.
        start: Character to start at; 0 is the beginning.
        max_chars: How many characters to read at most.
    """
    text = await input_text(context.retriever, path)
    return page(text, path=path, start=start, max_chars=max_chars)


@tool(effect="read", capabilities=["research", "operate"])
async def search_inputs(query: str, context: ToolContext, limit: Limit = 5) -> ToolResult:
    """Search the input files by words and meaning; returns the best passages with their place.

    Args:
        query: What to look for: a question or a few key words.
        context: The run whose inputs these are.
        limit: How many passages to return at most.
    """
    if not query.strip():
        raise ToolError("the query is empty: say what to look for")
    passages = await context.retriever.search(query, limit=limit)
    if not passages:
        return ToolResult(text=f"Nothing was found for {query!r}. Try other words.", data={"passages": []})
    shown = [_passage(number, passage) for number, passage in enumerate(passages, start=1)]
    places = [
        {
            "document": p.chunk.document,
            "chunk_id": p.chunk.id,
            "start": p.chunk.start,
            "end": p.chunk.end,
            "score": p.score,
        }
        for p in passages
    ]
    return ToolResult(text="\n\n".join(shown), data={"passages": places})


async def input_text(retriever: Retriever, path: str) -> str:
    """The text of an input file. Raises ``ToolError`` with the nearest paths when there is none."""
    try:
        return await retriever.text(path)
    except NotFound as error:
        near = difflib.get_close_matches(path, retriever.documents, n=3, cutoff=0.5)
        name = path.rpartition("/")[2].casefold()
        same = [p for p in retriever.documents if p.rpartition("/")[2].casefold() == name][:3]
        meant = list(dict.fromkeys([*same, *near]))
        hint = f"did you mean {' or '.join(meant)}?" if meant else "list_inputs shows all paths"
        raise ToolError(f"there is no input file {path!r}; {hint}", path=path) from error


def _passage(number: int, passage: Passage) -> str:
    chunk = passage.chunk
    context = f" ({chunk.context})" if chunk.context else ""
    return f"[{number}] {chunk.document}, characters {chunk.start} to {chunk.end}{context}:\n{chunk.text}"
