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
    async for events in own(source, run):
        async for page in prefix(source, events[0]):  # nothing but before a run's first event
            yield page
        yield events


async def own(source: Source, run: str) -> AsyncIterator[tuple[Event, ...]]:
    """Pages of the events of ``run`` itself, from its first on; none of its parents', where it is a fork."""
    after = 0
    while events := await source.read(run, after, PAGE):
        yield events
        if len(events) < PAGE:
            return
        after = events[-1].seq


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
    while isinstance(forked := first.body, RunForked):
        parent = forked.parent
        if len(found) == MAX_PARENTS or parent in {run for run, _ in found}:
            raise StoreCorrupt(f"{first.run} is a fork of itself", run=first.run)
        begin = await source.read(parent, 0, 1)
        if not begin:
            raise _lost(parent, first.run, "its beginning")
        found.append((parent, await _seq_of(source, forked, first.run)))
        first = begin[0]
    return found


async def later(source: Source, first: Event) -> AsyncIterator[tuple[tuple[Event, ...], int]]:
    """All of each parent's own past, and how many of its own events are shared: ``(pages joined, shared seq)``."""
    for parent, shared in await parents(source, first):
        events: list[Event] = []
        async for page in past(source, parent):
            events += page
        yield tuple(events), shared


async def _seq_of(source: Source, forked: RunForked, run: str) -> int:
    async for events in own(source, forked.parent):
        for event in events:
            if event.id == forked.at_event:
                return event.seq
    raise _lost(forked.parent, run, f"the event {forked.at_event}")


def _lost(parent: str, run: str, what: str) -> StoreCorrupt:
    return StoreCorrupt(
        f"{run} was forked from {parent}, which has lost {what}: restore the store from a backup",
        run=run,
        parent=parent,
    )
