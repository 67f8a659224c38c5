"""The past of a run: its own events, behind those that a fork shares with its parents."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from collegium.domain.body import RunForked
from collegium.domain.errors import StoreCorrupt
from collegium.domain.event import Event

PAGE = 1_000
MAX_PARENTS = 64
"""Forks of forks of forks: more than this is a circle that somebody has made by hand."""


class Source(Protocol):
    """Where events are read: a journal, or an export of one."""

    async def read(self, run: str, after: int = 0, limit: int = PAGE) -> tuple[Event, ...]:
        """Events of ``run`` with ``seq > after``, in order; empty for an unknown run."""
        ...


async def past(source: Source, run: str) -> AsyncIterator[tuple[Event, ...]]:
    """Pages of everything that happened before now in ``run``: a fork's parents first, each up to where it was forked.

    Every event keeps the run and the seq it was stored under. Raises ``StoreCorrupt`` when a parent has lost what its
    fork shares.
    """
    events = await source.read(run, 0, PAGE)
    if not events:
        return
    async for page in prefix(source, events[0]):
        yield page
    while events:
        yield events
        if len(events) < PAGE:
            return
        events = await source.read(run, events[-1].seq, PAGE)


async def prefix(source: Source, first: Event) -> AsyncIterator[tuple[Event, ...]]:
    """Pages of what the run that begins with ``first`` shares with its parents; nothing unless it is a fork."""
    for parent, shared in reversed(await parents(source, first)):
        after = 0
        while after < shared:
            events = await source.read(parent, after, min(PAGE, shared - after))
            if not events:
                raise _lost(parent, first.run, f"event {after + 1}")
            yield events
            after = events[-1].seq


async def parents(source: Source, first: Event) -> list[tuple[str, int]]:
    """``(run, seq)`` of each parent, the nearest first: its events up to and with ``seq`` are shared."""
    found: list[tuple[str, int]] = []
    while isinstance(first.body, RunForked):
        parent = first.body.parent
        if len(found) == MAX_PARENTS or parent in {run for run, _ in found}:
            raise StoreCorrupt(f"run {first.run} is a fork of itself", run=first.run)
        begin = await source.read(parent, 0, 1)
        if not begin:
            raise _lost(parent, first.run, "its beginning")
        found.append((parent, await _seq_of(source, parent, first)))
        first = begin[0]
    return found


async def later(source: Source, first: Event) -> AsyncIterator[tuple[tuple[Event, ...], int]]:
    """All of each parent's own past, and how many of its own events are shared: ``(pages joined, shared seq)``."""
    for parent, shared in await parents(source, first):
        events: list[Event] = []
        async for page in past(source, parent):
            events += page
        yield tuple(events), shared


async def _seq_of(source: Source, parent: str, first: Event) -> int:
    assert isinstance(first.body, RunForked)  # noqa: S101 - who calls has looked
    after = 0
    while events := await source.read(parent, after, PAGE):
        for event in events:
            if event.id == first.body.at_event:
                return event.seq
        after = events[-1].seq
    raise _lost(parent, first.run, f"the event {first.body.at_event}")


def _lost(parent: str, run: str, what: str) -> StoreCorrupt:
    return StoreCorrupt(
        f"run {run} was forked from {parent}, which has lost {what}: restore the store from a backup",
        run=run,
        parent=parent,
    )
