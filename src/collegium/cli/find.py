"""Runs by what a person types: a whole id, a part of one, or ``last``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from collegium.cli.past import tombstone_of
from collegium.cli.text import short_id
from collegium.domain.errors import NotFound, UnknownName, UsageError
from collegium.domain.head import Head, HeadQuery

if TYPE_CHECKING:
    from collegium.app import Collegium

PAGE = 500
MIN_PART = 4


async def find_run(app: Collegium, text: str, *, may_be_pruned: bool = False) -> str:
    """The id of the run that ``text`` means.

    Raises:
        NotFound: it was pruned, with what is left of it; not where it ``may_be_pruned``.
        UnknownName: no run, with the newest ones.
        UsageError: several runs, or a part too short to mean one.
    """
    run = await _find(app, text.strip())
    if not may_be_pruned and (tombstone := await tombstone_of(app, run)) is not None:
        raise NotFound(str(tombstone), run=run, pruned=True)
    return run


async def _find(app: Collegium, text: str) -> str:
    if await app.stores.journal.head(text) is not None:
        return text
    if text == "last":
        newest = await app.runs(HeadQuery(tenant="default", limit=1))
        if not newest:
            raise UnknownName('there is no run yet: `collegium run "..."` makes one', run=text)
        return newest[0].run
    part = text.removeprefix("run_").lower()
    if len(part) < MIN_PART:
        raise UsageError(
            f"{text!r} is too short to name a run: give at least {MIN_PART} characters of its id", run=text
        )
    found = [head.run async for head in heads(app) if part in head.run.removeprefix("run_")]
    if len(found) > 1:
        shown = ", ".join(short_id(r) for r in found[:5])
        raise UsageError(
            f"{len(found)} runs have {text!r} in their id: {shown}; give more of it", run=text, runs=found[:5]
        )
    if not found:
        newest = await app.runs(HeadQuery(tenant="default", limit=3))
        hint = f"; the newest are {', '.join(short_id(h.run) for h in newest)}" if newest else ""
        raise UnknownName(f"there is no run {text!r}{hint}; `collegium runs ls` lists them", run=text)
    return found[0]


async def heads(app: Collegium, query: HeadQuery | None = None) -> AsyncIterator[Head]:
    """All heads that meet ``query``, newest first, page by page."""
    import msgspec

    query = query or HeadQuery(tenant="default")
    query = msgspec.structs.replace(query, limit=PAGE)
    while page := await app.runs(query):
        for head in page:
            yield head
        if len(page) < PAGE:
            return
        query = msgspec.structs.replace(query, after=page[-1].run)
